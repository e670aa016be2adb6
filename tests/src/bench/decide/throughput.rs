//! Opportunities at a rate to one collector that decides and does nothing else.
//!
//! The figure counts all of its process: reading opportunities from Kafka, the
//! requests to three aggregators over TLS and their answers, signing, records
//! and state in transactions, pushes to the broker over TLS, and recording that
//! the broker has them. Boxes are stood in for by one subscriber to all
//! decisions. They prove nothing unless told to show what they get: then each
//! impression is read from `rp.ads` and recorded too.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::ensure;

use super::{Broke, LIMIT, OWN_TIME};
use crate::{
    bench::{
        metrics::{Histogram, sum},
        opportunities::{Decisions, Feed},
        process_usage::{Memory, cpu_by_thread, cpu_time, memory},
        scene::Scene,
        shown::Shown,
    },
    market::Market,
    pushes::Pushes,
    wait::wait_until,
};

const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Before it is measured: connections, caches and the first allocations are no
/// part of the rate.
const WARM_UP: (u32, Duration) = (50, Duration::from_secs(2));

const COMMIT_TIME: &str = "returnpath_decide_commit_seconds";
const TRANSACTIONS: &str = "returnpath_decide_transactions_committed_total";

/// What deciding at a rate came to.
#[derive(Debug)]
pub struct Throughput {
    /// Opportunities fed.
    pub fed: u64,
    /// Slots decided.
    pub decided: u64,
    /// Slots that got an ad.
    pub filled: u64,
    /// Decisions that the broker was sent.
    pub pushed: u64,
    /// What must be none.
    pub broke: Broke,
    /// Requests that the aggregators took.
    pub asked: u64,
    /// Connections that they took.
    pub connections: u64,
    /// CPU time of the collector from the first opportunity to the last push.
    pub cpu: Duration,
    /// The same by the names of its threads.
    pub cpu_by_thread: BTreeMap<String, Duration>,
    /// From the first opportunity to the last push.
    pub wall: Duration,
    /// Memory of the collector, every second.
    pub samples: Vec<Memory>,
    /// Own time of a decision, by decide's own histogram.
    pub own: Histogram,
    /// Time of commits, likewise.
    pub commits: Histogram,
    /// Transactions committed.
    pub transactions: f64,
}

impl Throughput {
    /// CPU of one decision, in microseconds.
    #[must_use]
    pub fn us_per_decision(&self) -> f64 {
        self.us(self.cpu)
    }

    /// A part of the CPU time for one decision, in microseconds.
    #[must_use]
    pub fn us(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.decided.max(1) as f64
    }

    /// How much resident memory grew from the second third of the time to the
    /// last one, by their largest samples, in KiB.
    #[must_use]
    pub fn growth_kib(&self) -> u64 {
        self.growth_of(|third| third.last().copied())
    }

    /// The same by their medians: without the peaks.
    #[must_use]
    pub fn median_growth_kib(&self) -> u64 {
        self.growth_of(|third| third.get(third.len() / 2).copied())
    }

    fn growth_of(&self, pick: impl Fn(&[u64]) -> Option<u64>) -> u64 {
        let third = self.samples.len() / 3;
        let of = |samples: &[Memory]| {
            let mut resident: Vec<u64> = samples.iter().map(|it| it.resident_kib).collect();
            resident.sort_unstable();
            pick(&resident).unwrap_or_default()
        };
        let middle = of(&self.samples[third..2 * third]);
        of(&self.samples[2 * third..]).saturating_sub(middle)
    }

    /// Largest resident memory, in KiB.
    #[must_use]
    pub fn resident_kib_max(&self) -> u64 {
        let resident = self.samples.iter().map(|sample| sample.resident_kib);
        resident.max().unwrap_or_default()
    }
}

/// What is fed.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Boxes that take turns.
    pub boxes: u64,
    /// Opportunities a second.
    pub rate: u32,
    /// How long.
    pub span: Duration,
    /// Whether the boxes show what they get, within seconds.
    pub is_shown: bool,
}

/// Feeds opportunities.
///
/// # Errors
/// When a part does not start, or decisions stay away.
pub async fn throughput(
    scene: &mut Scene,
    market: &Market,
    load: Load,
) -> anyhow::Result<Throughput> {
    let Load {
        boxes, rate, span, ..
    } = load;
    let pushes = Pushes::watch(&scene.mosquitto, &scene.pki).await?;
    scene.collector.start_roles("decide").await?;
    let process = scene.collector.process_id()?;
    let kafka = scene.kafka.address();
    let mut decisions = Decisions::read(&kafka)?;
    let mut feed = Feed::open(&kafka, boxes)?;
    let mut shown = Shown::open(&kafka)?;
    let (warm_rate, warm_span) = WARM_UP;
    let warm = feed.hold(warm_rate, warm_span).await?;
    decided(&mut decisions, &pushes, warm).await?;

    let before = scene.collector.metrics().await?;
    let threads_before = cpu_by_thread(process)?;
    let cpu_before = cpu_time(process)?;
    let asked_before = total(market, |counts| counts.asked);
    let filled_before = decisions.so_far().filled;
    let started = Instant::now();
    let feeding = tokio::spawn(async move {
        let fed = feed.hold(rate, span).await;
        (feed, fed)
    });
    let mut samples = Vec::new();
    while !feeding.is_finished() {
        tokio::time::sleep(SAMPLE_EVERY).await;
        samples.push(memory(process)?);
        let filled = decisions.take_filled();
        if load.is_shown {
            shown.tell(&filled)?;
        }
    }
    let (_feed, fed) = feeding.await?;
    let fed = fed?;
    decided(&mut decisions, &pushes, warm + fed).await?;
    let wall = started.elapsed();
    let cpu = cpu_time(process)?.saturating_sub(cpu_before);
    let mut cpu_by_thread = cpu_by_thread(process)?;
    for (thread, before) in threads_before {
        if let Some(all) = cpu_by_thread.get_mut(&thread) {
            *all = all.saturating_sub(before);
        }
    }
    samples.push(memory(process)?);
    let after = scene.collector.metrics().await?;
    let histogram = |name| -> anyhow::Result<Histogram> {
        Ok(Histogram::read(&after, name)?.since(&Histogram::read(&before, name)?))
    };
    let all = decisions.so_far();
    let sent = pushes.since(0);
    let outcome = Throughput {
        fed,
        decided: all.slots.len() as u64 - warm,
        filled: all.filled - filled_before,
        pushed: sent.len() as u64 - warm,
        broke: Broke::count(sent.iter().map(|one| &one.decision), all),
        asked: total(market, |counts| counts.asked) - asked_before,
        connections: total(market, |counts| counts.connections),
        cpu,
        cpu_by_thread,
        wall,
        samples,
        own: histogram(OWN_TIME)?,
        commits: histogram(COMMIT_TIME)?,
        transactions: sum(&after, TRANSACTIONS)? - sum(&before, TRANSACTIONS)?,
    };
    scene.collector.terminate(LIMIT).await?;
    Ok(outcome)
}

/// Waits until `count` slots are decided, and boxes were sent as many.
async fn decided(decisions: &mut Decisions, pushes: &Pushes, count: u64) -> anyhow::Result<()> {
    wait_until("every slot to be decided", LIMIT, async || {
        let decided = decisions.so_far().slots.len() as u64;
        let pushed = pushes.count() as u64;
        ensure!(
            decided >= count && pushed >= count,
            "{decided} decided and {pushed} pushed of {count}"
        );
        Ok(())
    })
    .await
}

fn total(market: &Market, of: impl Fn(crate::market::Counts) -> u64) -> u64 {
    let aggregators = market.aggregators().iter();
    aggregators.map(|one| of(one.counts())).sum()
}
