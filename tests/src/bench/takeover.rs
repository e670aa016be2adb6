//! How long another node takes to stand in for one that was killed, with the
//! state of many boxes in its changelogs.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{
    boxes::{Boxes, EVENTS},
    metrics,
    process_usage::memory,
    scene::Scene,
};
use crate::wait::wait_until;

const FILLED_LIMIT: Duration = Duration::from_secs(300);
const TAKEN_LIMIT: Duration = Duration::from_secs(120);

/// Counts events in committed transactions.
const REFINED: &str = "returnpath_refine_events_refined_total";

/// Boxes whose state the node has.
const DEVICES: &str = "returnpath_refine_devices";

/// What loading the state took, of all its partitions together.
const RESTORE: &str = "returnpath_refine_restore_seconds_sum";

/// What one takeover came to.
#[derive(Clone, Copy, Debug)]
pub struct Takeover {
    /// From the kill of the one node, and the start of the other, until the
    /// other has all partitions and refines: Kafka's notice that a member is
    /// gone is in it.
    pub taken: Duration,
    /// Loading the state, of that.
    pub restoring: Duration,
    /// Resident memory of the node that took over, in KiB.
    pub resident_kib: u64,
}

/// Lets one node refine a batch of each of `boxes` boxes, kills it, and has
/// another take its place.
///
/// # Errors
/// When a part does not start, or the state does not come.
pub async fn takeover(scene: &mut Scene, boxes: usize, run: u64) -> anyhow::Result<Takeover> {
    let mut other = scene.another_collector("collector-b")?;
    scene.collector.start_roles("bridge,refine").await?;
    let mut load = scene.load().await?;
    let batches = u64::try_from(boxes)?;
    load.flood(&mut Boxes::new("takeover", boxes, run)?, batches)
        .await?;
    let events = (batches * EVENTS as u64) as f64;
    wait_until(
        "every box's batch to be refined",
        FILLED_LIMIT,
        async || {
            let refined = scene.counter(REFINED).await?;
            ensure!(refined >= events, "{refined} of {events}");
            Ok(())
        },
    )
    .await?;

    scene.collector.kill()?;
    let killed = Instant::now();
    other.start_roles("refine").await?;
    let taken = wait_until("every box to be known", TAKEN_LIMIT, async || {
        let known = metrics::sum(&other.metrics().await?, DEVICES)?;
        ensure!(known >= batches as f64, "{known} of {batches}");
        Ok(killed.elapsed())
    })
    .await?;
    let said = other.metrics().await?;
    let outcome = Takeover {
        taken,
        restoring: Duration::from_secs_f64(metrics::sum(&said, RESTORE)?),
        resident_kib: memory(other.process_id()?)?.resident_kib,
    };
    other.terminate(TAKEN_LIMIT).await?;
    Ok(outcome)
}
