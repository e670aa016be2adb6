//! CPU of the bridge for each batch: draining a broker that is full, and live.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{boxes::Boxes, process_usage::cpu_time, scene::Scene};
use crate::wait::wait_until;

/// Batches of each box in one run. In the field an ordinary batch comes every
/// 5 s and a receipt every 30 s: one receipt for six.
const BATCHES_PER_BOX: u64 = 6;

/// Receipts of ordinary batches wait up to 30 s to be coalesced.
const RECEIPTED_LIMIT: Duration = Duration::from_secs(120);

/// Counts batches that Kafka has and that a receipt names.
const CONFIRMED: &str = "returnpath_bridge_confirmed_total";

/// Boxes whose receipts have not been published yet.
const OWED_BOXES: &str = "returnpath_bridge_owed_boxes";

/// What one run gave.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Batches received, produced, confirmed and receipted.
    pub batches: u64,
    /// User and system time of the collector for them.
    pub cpu: Duration,
    /// From the first to the last batch in Kafka, receipts not waited for.
    pub wall: Duration,
}

impl Outcome {
    /// Microseconds of CPU for each batch.
    #[must_use]
    pub fn us_per_batch(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.batches as f64
    }
}

/// The collector stands still while `batches` fill the broker, then takes them
/// all.
///
/// # Errors
/// When a part does not start or a batch is not receipted.
pub async fn drain(scene: &mut Scene, batches: u64, run: u64) -> anyhow::Result<Outcome> {
    let boxes = usize::try_from(batches.div_ceil(BATCHES_PER_BOX))?;
    let mut boxes = Boxes::new("drain", boxes, run)?;
    scene.collector.start_roles("bridge").await?;
    let mut load = scene.load().await?;
    let before = scene.counter(CONFIRMED).await?;
    scene.collector.freeze();
    load.flood(&mut boxes, batches).await?;
    let process = scene.collector.process_id()?;
    let cpu_before = cpu_time(process)?;
    let started = Instant::now();
    scene.collector.thaw();
    let wall = confirmed(scene, batches, started).await?;
    receipted(scene, before, batches).await?;
    let outcome = Outcome {
        batches,
        cpu: cpu_time(process)? - cpu_before,
        wall,
    };
    scene.collector.terminate(RECEIPTED_LIMIT).await?;
    Ok(outcome)
}

/// The collector takes batches as they come, at `rate` a second for `span`.
///
/// # Errors
/// When a part does not start, cannot hold the rate, or a batch is not
/// receipted.
pub async fn live(
    scene: &mut Scene,
    rate: u32,
    span: Duration,
    run: u64,
) -> anyhow::Result<Outcome> {
    // Each box sends one batch in 5 s.
    let mut boxes = Boxes::new("live", usize::try_from(rate)? * 5, run)?;
    scene.collector.start_roles("bridge").await?;
    let mut load = scene.load().await?;
    let before = scene.counter(CONFIRMED).await?;
    let process = scene.collector.process_id()?;
    let cpu_before = cpu_time(process)?;
    let started = Instant::now();
    load.hold(&mut boxes, rate, span).await?;
    let wall = started.elapsed();
    let batches = load.published();
    receipted(scene, before, batches).await?;
    let outcome = Outcome {
        batches,
        cpu: cpu_time(process)? - cpu_before,
        wall,
    };
    scene.collector.terminate(RECEIPTED_LIMIT).await?;
    Ok(outcome)
}

async fn confirmed(scene: &Scene, batches: u64, started: Instant) -> anyhow::Result<Duration> {
    let topic = "rp.raw";
    wait_until("all batches in Kafka", RECEIPTED_LIMIT, async || {
        let records = scene.kafka.record_count(topic).await?;
        ensure!(records >= batches, "{records} of {batches}");
        Ok(started.elapsed())
    })
    .await
}

async fn receipted(scene: &Scene, before: f64, batches: u64) -> anyhow::Result<()> {
    wait_until("all receipts", RECEIPTED_LIMIT, async || {
        let confirmed = scene.counter(CONFIRMED).await? - before;
        ensure!(confirmed >= batches as f64, "{confirmed} of {batches}");
        let owed = scene.counter(OWED_BOXES).await?;
        ensure!(owed < 1.0, "{owed} boxes are owed a receipt");
        Ok(())
    })
    .await
}
