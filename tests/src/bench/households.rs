//! CPU of the whole collector for what simulated households send, through the
//! agent's own core and link: batches as viewers make them, not as a load does.

use std::{thread, time::Duration};

use super::{bridge::Outcome, process_usage::cpu_time, scene::Scene};
use crate::fleet::{AdSource, Fleet, FleetSettings, Load, moment::Moment};

/// Evening, when most households watch.
const FROM: &str = "20:05";

const CONNECT_LIMIT: Duration = Duration::from_secs(120);

/// Receipts of ordinary batches wait up to 30 s to be coalesced.
const DRAIN_LIMIT: Duration = Duration::from_secs(180);

const STOP_LIMIT: Duration = Duration::from_secs(60);

/// `boxes` households live `speed` times faster than real for `span`; all
/// that they sent is receipted. Both roles run.
///
/// # Errors
/// When a part does not start, or a batch is not receipted.
pub async fn watch(
    scene: &mut Scene,
    boxes: u32,
    speed: u32,
    span: Duration,
) -> anyhow::Result<Outcome> {
    scene.collector.start().await?;
    let settings = FleetSettings {
        broker: format!("localhost:{}", scene.mosquitto.port()).parse()?,
        boxes,
        prefix: "household-".into(),
        seed: 1,
        load: Load::Viewers {
            from: Moment::parse(FROM)?,
            speed,
            ads: AdSource::MadeUp,
        },
    };
    let (answers, mut answered) = tokio::sync::mpsc::channel(1_024);
    // Nobody audits here; boxes would wait if nobody took the answers.
    let taker = thread::spawn(move || while answered.blocking_recv().is_some() {});
    let mut fleet = Fleet::start(&settings, &scene.pki, &answers)?;
    drop(answers);
    fleet.connected(CONNECT_LIMIT).await?;
    let process = scene.collector.process_id()?;
    let cpu_before = cpu_time(process)?;
    let batches_before = fleet.counts().batches_receipted;
    tokio::time::sleep(span).await;
    fleet.drain(DRAIN_LIMIT).await?;
    let outcome = Outcome {
        batches: fleet.counts().batches_receipted - batches_before,
        cpu: cpu_time(process)? - cpu_before,
        wall: span,
    };
    fleet.stop().await;
    taker
        .join()
        .map_err(|_| anyhow::anyhow!("the taker of answers panicked"))?;
    scene.collector.terminate(STOP_LIMIT).await?;
    Ok(outcome)
}
