//! CPU of refine for each batch, with its transactions.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{
    boxes::EVENTS,
    bridge::{self, Outcome},
    process_usage::cpu_time,
    scene::Scene,
};
use crate::wait::wait_until;

const REFINED_LIMIT: Duration = Duration::from_secs(180);

/// Counts events in committed transactions.
const REFINED: &str = "returnpath_refine_events_refined_total";

/// Fills `rp.raw` through the bridge, then lets a collector with this role
/// alone refine it. Its start is part of the figure.
///
/// # Errors
/// When a part does not start or an event is not refined.
pub async fn drain(scene: &mut Scene, batches: u64, run: u64) -> anyhow::Result<Outcome> {
    bridge::drain(scene, batches, run).await?;
    let started = Instant::now();
    scene.collector.start_roles("refine").await?;
    let process = scene.collector.process_id()?;
    let events = (batches * EVENTS as u64) as f64;
    let wall = wait_until("all events refined", REFINED_LIMIT, async || {
        let refined = scene.counter(REFINED).await?;
        ensure!(refined >= events, "{refined} of {events}");
        Ok(started.elapsed())
    })
    .await?;
    let outcome = Outcome {
        batches,
        cpu: cpu_time(process)?,
        wall,
    };
    scene.collector.terminate(REFINED_LIMIT).await?;
    Ok(outcome)
}
