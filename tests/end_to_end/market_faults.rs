//! Aggregators on their worst days: each comes out as a coded outcome on the
//! record, the others still fill, and the collector stays as it was.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use returnpath_shared::wire::{AggregatorRecord, Exclusion, Outcome};
use returnpath_tests::{
    agent::Agent,
    bench::process_usage::memory,
    client::Client,
    collector::Collector,
    market::{Behaviour, Terms},
    pki::Flaw,
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

/// How long aggregators have to answer, in ms: more than those that are well
/// take on a loaded machine.
const DEADLINE_MS: u32 = 3_000;

/// What a collector may grow by while an aggregator is mad, in KiB: far less
/// than what it is sent, more than caches and pools take.
const GROWTH_KIB_MAX: u64 = 64 * 1_024;

/// What may be taken of a body without end: what is in flight on a connection
/// when it is given up, windows and socket buffers included.
const ENDLESS_BYTES_MAX: u64 = 16 * 1_024 * 1_024;

/// What a decision may come later than its budget ends: a loaded machine.
const LATE_MAX: Duration = Duration::from_secs(15);

const LIMIT: Duration = Duration::from_secs(60);

/// One box that asks again and again.
struct Asking {
    client: Client,
    player: Player,
    breaks: u32,
}

impl Asking {
    /// Has one break decided, and returns its record.
    async fn next(&mut self, scene: &Scene) -> anyhow::Result<Story> {
        let mut stories = self.burst(scene, 1).await?;
        stories.pop().context("one was asked for")
    }

    /// Has so many breaks decided at once, and returns their records.
    async fn burst(&mut self, scene: &Scene, count: u32) -> anyhow::Result<Vec<Story>> {
        let breaks = self.breaks + 1..=self.breaks + count;
        self.breaks += count;
        let name = |number| format!("break-{number}");
        for number in breaks.clone() {
            let opportunity = event::ad_break(&name(number), LEAD_MS, &[30_000]);
            self.client.expect("accepted", &opportunity).await?;
        }
        let mut stories = Vec::new();
        for number in breaks {
            let decision = self.player.decision(&name(number), 0).await?.decision;
            stories.push(reached(scene, &decision.decision_id, &[]).await?);
        }
        Ok(stories)
    }

    /// Goes on until a record of the troubled aggregator is as it must be.
    async fn until(
        &mut self,
        scene: &Scene,
        what: &str,
        is_so: impl Fn(&AggregatorRecord) -> bool,
    ) -> anyhow::Result<Story> {
        wait_until(what, LIMIT, async || {
            let story = self.next(scene).await?;
            let record = story.aggregator(TROUBLED)?;
            ensure!(is_so(record), "{record:?}");
            Ok(story)
        })
        .await
    }

    /// Goes on until the troubled aggregator is asked and offers.
    async fn until_it_offers(&mut self, scene: &Scene) -> anyhow::Result<()> {
        let offers = |record: &AggregatorRecord| record.outcome() == Outcome::Offered;
        self.until(scene, "the aggregator to be itself again", offers)
            .await?;
        Ok(())
    }
}

/// Where aggregators may be; those of a test are on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    Private,
    Public,
}

/// A market with three aggregators, a collector that asks them, and a box.
async fn open(scene: &mut Scene, reach: Reach) -> anyhow::Result<(Collector, Agent, Asking)> {
    let terms = Terms {
        deadline_ms: DEADLINE_MS,
        allow_private_addresses: reach == Reach::Private,
        ..Terms::default()
    };
    scene.open_market_on(&market::three(), &terms).await?;
    let collector = scene.running_collector().await?;
    let agent = scene.running_agent("box-1").await?;
    let asking = Asking {
        client: scene.client(&agent).await?,
        player: Player::follow(&agent).await?,
        breaks: 0,
    };
    Ok((collector, agent, asking))
}

/// The others fill whatever becomes of the troubled one.
fn others_fill(story: &Story) -> anyhow::Result<()> {
    for other in [FAST, MIDDLING] {
        let record = story.aggregator(other)?;
        assert_eq!(record.outcome(), Outcome::Offered, "{record:?}");
    }
    let filled = story.filled_by().context("not filled")?;
    assert!([FAST, MIDDLING].contains(&filled), "{filled}");
    Ok(())
}

#[tokio::test]
async fn whatever_an_aggregator_does_is_recorded_and_the_others_fill() -> anyhow::Result<()> {
    play("market-faults", async |scene| {
        let (collector, _agent, mut asking) = open(scene, Reach::Private).await?;
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
            let story = asking.next(scene).await?;
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
            others_fill(&story)?;
            // Nobody waits for it beyond its deadline, nor for all together
            // beyond the same budget.
            let waited = Duration::from_micros(story.decided.waited_us);
            let late = waited.saturating_sub(Duration::from_millis(DEADLINE_MS.into()));
            assert!(late < LATE_MAX, "{behaviour:?}: waited {waited:?}");
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
async fn an_aggregator_that_cannot_prove_who_it_is_is_told_nothing() -> anyhow::Result<()> {
    play("market-tls", async |scene| {
        let (_collector, _agent, mut asking) = open(scene, Reach::Private).await?;
        asking.until_it_offers(scene).await?;
        for (behaviour, why) in [
            (Behaviour::Shows(Flaw::Expired), "certificate"),
            (Behaviour::Shows(Flaw::OtherName), "certificate"),
            (Behaviour::Shows(Flaw::OtherAuthority), "certificate"),
            (Behaviour::NoTls, "cannot connect"),
        ] {
            let troubled = scene.market()?.aggregator(TROUBLED)?;
            let asked = troubled.counts().asked;
            troubled.behave(behaviour).await?;
            // The first may still be asked on the connection that was cut.
            let story = asking
                .until(scene, &format!("{behaviour:?} to be met"), |record| {
                    assert_eq!(record.outcome(), Outcome::Unreachable, "{record:?}");
                    record.detail.contains(why)
                })
                .await?;
            others_fill(&story)?;
            assert_eq!(troubled.counts().asked, asked, "{behaviour:?}: it was told");
            troubled.behave(Behaviour::Fine).await?;
            asking.until_it_offers(scene).await?;
        }
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn an_aggregator_that_only_fails_is_left_alone_and_comes_back() -> anyhow::Result<()> {
    /// Breaks that are decided at once: however slowly one burst follows the
    /// other, an open breaker lets one call of each through.
    const BURST: u32 = 5;

    play("market-breaker", async |scene| {
        let (_collector, _agent, mut asking) = open(scene, Reach::Private).await?;
        asking.until_it_offers(scene).await?;
        let troubled = scene.market()?.aggregator(TROUBLED)?;
        let asked_well = troubled.counts().asked;
        troubled.behave(Behaviour::Status(503)).await?;
        let left_alone = loop {
            let stories = asking.burst(scene, BURST).await?;
            for story in &stories {
                others_fill(story)?;
            }
            let failures = troubled.counts().asked - asked_well;
            assert!(failures <= 20, "{failures} calls, and it is still asked");
            let is_left_alone = |story: &&Story| {
                let record = story.aggregator(TROUBLED);
                record.is_ok_and(|record| record.exclusion() == Exclusion::BreakerOpen)
            };
            if let Some(story) = stories.iter().find(is_left_alone) {
                break story.decision()?.decision_id;
            }
        };
        let text = show(scene, &[&left_alone]).await?;
        assert!(text.contains("its breaker is open"), "{text}");

        troubled.behave(Behaviour::Fine).await?;
        wait_until("all calls to go through again", LIMIT, async || {
            for story in asking.burst(scene, BURST).await? {
                let record = story.aggregator(TROUBLED)?;
                ensure!(record.outcome() == Outcome::Offered, "{record:?}");
            }
            Ok(())
        })
        .await?;
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn an_aggregator_on_a_private_address_is_reached_only_where_that_is_allowed()
-> anyhow::Result<()> {
    play("market-private", async |scene| {
        let (_collector, _agent, mut asking) = open(scene, Reach::Public).await?;
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
