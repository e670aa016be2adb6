//! How fast an aggregator that only fails is left alone, and asked again.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use super::LIMIT;
use crate::{
    bench::{opportunities::Feed, scene::Scene},
    market::{Behaviour, Market},
    wait::wait_until,
};

/// Boxes that take turns.
const BOXES: u64 = 5_000;

/// Good time before it fails: as long as the breaker's window, which then
/// speaks for the aggregator.
const GOOD_SPAN: Duration = Duration::from_secs(12);

/// Left alone means no call for this long: less than the breaker stays open
/// before it probes, and far longer than the pause between calls before.
const QUIET: Duration = Duration::from_millis(500);

/// Opportunities a second, at least: else [`QUIET`] says nothing.
const RATE_MIN: u32 = 20;

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// In what way it fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It answers 500 after its usual time.
    Status,
    /// It takes requests and never answers.
    Silence,
}

impl Fault {
    /// Every way.
    pub const ALL: [Self; 2] = [Self::Status, Self::Silence];

    fn behaviour(self) -> Behaviour {
        match self {
            Self::Status => Behaviour::Status(500),
            Self::Silence => Behaviour::Dead,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Status => "answers 500",
            Self::Silence => "never answers",
        })
    }
}

/// How an aggregator that only fails was left alone, and asked again.
#[derive(Debug)]
pub struct Broken {
    /// Calls to it that failed, from the first failure until it was left alone.
    pub failures: u64,
    /// From the first of these calls to the last.
    pub stopped_after: Duration,
    /// From its recovery to its next offer.
    pub resumed_after: Duration,
}

/// Has one of the aggregators fail while `rate` opportunities a second are
/// fed, until it is left alone; then lets it recover.
///
/// # Errors
/// When a part does not start, it is never left alone, or never asked again.
pub async fn breaker(
    scene: &mut Scene,
    market: &Market,
    rate: u32,
    fault: Fault,
) -> anyhow::Result<Broken> {
    ensure!(rate >= RATE_MIN, "the rate must be at least {RATE_MIN}/s");
    scene.collector.start_roles("decide").await?;
    let mut feed = Feed::open(&scene.kafka.address(), BOXES)?;
    let failing = market
        .aggregators()
        .first()
        .context("the market has no aggregator")?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let feeding = tokio::spawn(async move {
        while !*stopped.borrow() {
            feed.hold(rate, Duration::from_millis(200)).await?;
        }
        anyhow::Ok(())
    });
    let good = u64::from(rate) * GOOD_SPAN.as_secs();
    wait_until("offers of an aggregator", LIMIT, async || {
        let offered = failing.counts().offered;
        ensure!(offered >= good, "{offered} of {good}");
        Ok(())
    })
    .await?;

    let failed_before = failing.counts().faulty;
    failing.behave(fault.behaviour()).await?;
    let mut last = (failing.counts().faulty, Instant::now());
    let deadline = Instant::now() + LIMIT;
    while last.0 == failed_before || last.1.elapsed() < QUIET {
        ensure!(Instant::now() < deadline, "it is never left alone");
        tokio::time::sleep(LOOK_EVERY).await;
        let faulty = failing.counts().faulty;
        if faulty != last.0 {
            last = (faulty, Instant::now());
        }
    }
    let failures = last.0 - failed_before;
    let calls = failing.asked();
    let mut faulty = calls.iter().rev().take(usize::try_from(failures)?);
    let stopped_after = match (faulty.next(), faulty.next_back()) {
        (Some(last), Some(first)) => last.at.saturating_duration_since(first.at),
        (Some(_), None) => Duration::ZERO,
        (None, _) => bail!("no call failed"),
    };

    let offered = failing.counts().offered;
    failing.behave(Behaviour::Fine).await?;
    let recovered = Instant::now();
    let resumed_after = wait_until("it to be asked again", LIMIT, async || {
        ensure!(failing.counts().offered > offered, "it is left alone");
        Ok(recovered.elapsed())
    })
    .await?;
    stop.send_replace(true);
    feeding.await??;
    scene.collector.terminate(LIMIT).await?;
    Ok(Broken {
        failures,
        stopped_after,
        resumed_after,
    })
}
