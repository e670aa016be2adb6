//! Aggregators on their worst days: each comes out as a coded outcome on the
//! record, the others still fill, and the collector stays as it was.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use returnpath_shared::wire::{Exclusion, Outcome, Stage};
use returnpath_tests::{
    bench::process_usage::memory,
    client::Client,
    market::{Behaviour, Terms},
    player::Player,
    wait::wait_until,
};

use crate::{
    decided::{Story, reached, replay, show, stories},
    event,
    market::{self, FAST, MIDDLING, TROUBLED},
    scene::{Losses, Scene, play},
};

const LEAD_MS: u64 = 120_000;

/// How long aggregators have to answer.
const DEADLINE_MS: u32 = 1_000;

/// What a collector may grow by while an aggregator is mad, in KiB: far less
/// than what it is sent, more than caches and pools take.
const GROWTH_KIB_MAX: u64 = 64 * 1_024;

/// What may be taken of a body without end: what is in flight on a connection
/// when it is given up, windows and socket buffers included.
const ENDLESS_BYTES_MAX: u64 = 16 * 1_024 * 1_024;

const LIMIT: Duration = Duration::from_secs(60);

/// One box that asks again and again.
struct Asking {
    client: Client,
    player: Player,
    breaks: u32,
}

impl Asking {
    /// Has the next break decided, and returns its record.
    async fn next(&mut self, scene: &Scene) -> anyhow::Result<Story> {
        self.breaks += 1;
        let break_id = format!("break-{}", self.breaks);
        let opportunity = event::ad_break(&break_id, LEAD_MS, &[30_000]);
        self.client.expect("accepted", &opportunity).await?;
        let decision = self.player.decision(&break_id, 0).await?.decision;
        reached(scene, &decision.decision_id, &[Stage::Pushed]).await
    }

    /// Id of the latest decision.
    fn latest(&self) -> String {
        let handed = self.player.handed();
        let last = handed.last().map(|one| one.decision.decision_id.clone());
        last.unwrap_or_default()
    }

    /// Goes on until the troubled aggregator is asked and offers.
    async fn until_it_offers(&mut self, scene: &Scene) -> anyhow::Result<()> {
        wait_until("the aggregator to be itself again", LIMIT, async || {
            let story = self.next(scene).await?;
            let record = story.aggregator(TROUBLED)?;
            ensure!(record.outcome() == Outcome::Offered, "{record:?}");
            Ok(())
        })
        .await
    }
}

#[tokio::test]
async fn whatever_an_aggregator_does_is_recorded_and_the_others_fill() -> anyhow::Result<()> {
    play("market-faults", async |scene| {
        let terms = Terms {
            deadline_ms: DEADLINE_MS,
            ..Terms::default()
        };
        scene.open_market_on(&market::three(), &terms).await?;
        let collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut asking = Asking {
            client: scene.client(&agent).await?,
            player: Player::follow(&agent).await?,
            breaks: 0,
        };
        asking.until_it_offers(scene).await?;
        let process = collector.process_id()?;
        let before = memory(process)?;

        let slow = Behaviour::Slow(Duration::from_secs(20));
        for (behaviour, outcomes) in [
            (slow, &[Outcome::Timeout][..]),
            (Behaviour::Dead, &[Outcome::Timeout]),
            // The open connection is cut before it is asked, or while.
            (Behaviour::Refuses, &[Outcome::Unreachable]),
            (Behaviour::Status(500), &[Outcome::Error]),
            (Behaviour::RedirectLoop, &[Outcome::Error]),
            (Behaviour::Garbage, &[Outcome::Invalid]),
            (Behaviour::Huge, &[Outcome::TooLarge]),
            // It was told to send nothing packed, and is not unpacked.
            (
                Behaviour::CompressionBomb,
                &[Outcome::Invalid, Outcome::TooLarge],
            ),
            // What can be read of it is an offer that does not stand.
            (Behaviour::WrongTypes, &[Outcome::Invalid, Outcome::Offered]),
            (
                Behaviour::AbsurdNumbers,
                &[Outcome::Invalid, Outcome::Offered],
            ),
        ] {
            let troubled = scene.market()?.aggregator(TROUBLED)?;
            let asked = troubled.counts().asked;
            troubled.behave(behaviour).await?;
            let started = Instant::now();
            let story = asking.next(scene).await?;
            let took = started.elapsed();
            let record = story.aggregator(TROUBLED)?;
            assert!(
                outcomes.contains(&record.outcome()),
                "{behaviour:?}: {record:?}"
            );
            let stands = record.offers.iter().filter(|offer| offer.fault == 0);
            assert_eq!(stands.count(), 0, "{behaviour:?}: {record:?}");
            if behaviour == Behaviour::Status(500) {
                assert_eq!(record.http_status, 500, "{record:?}");
            }
            if behaviour == Behaviour::RedirectLoop {
                assert_eq!(record.http_status, 302, "{record:?}");
                let now = troubled.counts().asked;
                assert_eq!(now, asked + 1, "a redirect was followed");
            }
            for other in [FAST, MIDDLING] {
                let record = story.aggregator(other)?;
                assert_eq!(record.outcome(), Outcome::Offered, "{record:?}");
            }
            let filled = story.filled_by().context("not filled")?;
            assert!([FAST, MIDDLING].contains(&filled), "{filled}");
            // Beyond the deadline: what a loaded machine takes.
            assert!(took < Duration::from_secs(15), "{behaviour:?}: {took:?}");
            let grown = memory(process)?
                .resident_kib
                .saturating_sub(before.resident_kib);
            assert!(grown < GROWTH_KIB_MAX, "{behaviour:?}: grew by {grown} KiB");

            troubled.behave(Behaviour::Fine).await?;
            asking.until_it_offers(scene).await?;
        }
        let counts = scene.market()?.aggregator(TROUBLED)?.counts();
        assert!(counts.endless_bytes < ENDLESS_BYTES_MAX, "{counts:?}");
        let all = stories(scene).await?.len();
        assert_eq!(replay(scene).await?, all as u64);
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn an_aggregator_that_only_fails_is_left_alone_and_comes_back() -> anyhow::Result<()> {
    play("market-breaker", async |scene| {
        scene.open_market(&market::three()).await?;
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut asking = Asking {
            client: scene.client(&agent).await?,
            player: Player::follow(&agent).await?,
            breaks: 0,
        };
        asking.until_it_offers(scene).await?;
        let troubled = scene.market()?.aggregator(TROUBLED)?;
        troubled.behave(Behaviour::Status(503)).await?;
        let started = Instant::now();
        let mut failures = 0;
        let took = loop {
            let story = asking.next(scene).await?;
            let record = story.aggregator(TROUBLED)?;
            if record.exclusion() == Exclusion::BreakerOpen {
                break started.elapsed();
            }
            assert_eq!(record.outcome(), Outcome::Error, "{record:?}");
            assert!(story.filled_by().is_some());
            failures += 1;
            ensure!(failures < 100, "its breaker does not open");
        };
        // The limit is 20 failures or 2 s, whichever is later at this pace: one
        // break after another, each of which may take a while here.
        assert!(
            failures <= 20 || took <= Duration::from_secs(2),
            "{failures} failures in {took:?}"
        );
        let text = show(scene, &[&asking.latest()]).await?;
        assert!(text.contains("its breaker is open"), "{text}");

        troubled.behave(Behaviour::Fine).await?;
        asking.until_it_offers(scene).await?;
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn an_aggregator_on_a_private_address_is_reached_only_where_that_is_allowed()
-> anyhow::Result<()> {
    play("market-private", async |scene| {
        let terms = Terms {
            allow_private_addresses: false,
            ..Terms::default()
        };
        scene.open_market_on(&market::three(), &terms).await?;
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut asking = Asking {
            client: scene.client(&agent).await?,
            player: Player::follow(&agent).await?,
            breaks: 0,
        };
        let story = asking.next(scene).await?;
        for aggregator in scene.market()?.aggregators() {
            let record = story.aggregator(aggregator.name())?;
            assert_eq!(record.outcome(), Outcome::Unreachable, "{record:?}");
            assert_eq!(aggregator.counts().connections, 0);
        }
        assert_eq!(story.filled_by(), None);
        scene.settle(Losses::None).await
    })
    .await
}
