//! Kafka hangs: it takes connections and answers nothing, for longer than every
//! timeout of those who wait for it, and then goes on.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::{
    audited::Audited, boxes::Boxes, middleware::Handed, peak_memory::PeakMemory, stage::Stage,
};
use crate::{collector::Collector, kafka::Kafka, wait::wait_until};

/// How often the supervisor looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// From Kafka's return to receipts: a probe of a box is at most
/// `resend_after_max_s` away (10 min), but after an outage of ten minutes much
/// nearer.
const RECOVERY_LIMIT: Duration = Duration::from_secs(660);

const AUDIT_LIMIT: Duration = Duration::from_secs(300);

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long Kafka hangs.
    pub span: Duration,
    /// How many boxes with real agents.
    pub boxes: u64,
    /// After this long the bridge gives a batch up, in seconds, in place of its
    /// default.
    pub deliver_within_s: Option<u32>,
}

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How long Kafka hung, in seconds.
    pub outage_s: f64,
    /// Boxes with real agents.
    pub boxes: u64,
    /// Events answered `accepted` and `durable` during the whole run.
    pub handed: Handed,
    /// Batches sent during the outage, first sendings and probes.
    pub sent_during: u64,
    /// Of these in its second half: what boxes do once they have understood.
    pub sent_in_second_half: u64,
    /// How often a collector ended by itself and was started again.
    pub collector_restarts: u64,
    /// From Kafka's return to the first receipt, in seconds.
    pub first_receipt_s: f64,
    /// From Kafka's return until the boxes held nothing of before, in seconds.
    pub drained_s: f64,
    /// What the audit says.
    pub audited: Audited,
    /// Places where one of our programs panicked.
    pub panics: Vec<String>,
    /// The highest peaks, by process.
    pub peak_memory: PeakMemory,
}

impl Report {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        // Nobody lost power: there is nothing to declare.
        self.audited.is_clean()
            && self.audited.ordinary.declared_total() == 0
            && self.panics.is_empty()
    }

    /// Its section of the page of numbers.
    #[must_use]
    pub fn section(&self) -> String {
        let mut text = format!(
            "{boxes} boxes with real agents, one collector, Kafka frozen for {outage:.0} s: it \
             takes connections and answers nothing. The collector's timeouts are the \
             defaults; the agents' links have those of the tests, which are shorter.\n\n\
             | what | figure |\n|---|---|\n\
             | batches that the boxes sent meanwhile | {sent} |\n\
             | of these in its second half | {second} |\n\
             | collectors that ended by themselves and were started again | {restarts} |\n\
             | from Kafka's return to the first receipt | {first:.1} s |\n\
             | from Kafka's return to empty queues | {drained:.1} s |\n",
            boxes = self.boxes,
            outage = self.outage_s,
            sent = self.sent_during,
            second = self.sent_in_second_half,
            restarts = self.collector_restarts,
            first = self.first_receipt_s,
            drained = self.drained_s,
        );
        let _ = write!(
            text,
            "\n{}\n{}",
            self.audited.table(),
            self.peak_memory.table()
        );
        text
    }
}

/// Has `kafka` hang and come back, with boxes on the stage and everything else
/// in order. `tell` is told what happens.
///
/// # Errors
/// When something does not start, or does not recover.
pub async fn hang(
    kafka: &Kafka,
    stage: &Stage,
    settings: Settings,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<Report> {
    let mut collector = stage.collector("collector-a")?;
    if let Some(seconds) = settings.deliver_within_s {
        let by = format!("[bridge]\ndeliver_within_seconds = {seconds}");
        collector.change("[bridge]", &by)?;
    }
    collector.start().await?;
    let mut boxes = Boxes::start(stage, settings.boxes, stage.mosquitto.port()).await?;
    wait_until("receipts before", RECOVERY_LIMIT, async || {
        let count = boxes.sum("/batches/receipted").await?;
        ensure!(count >= 3 * settings.boxes, "{count} receipts");
        Ok(())
    })
    .await?;

    let mut peak_memory = PeakMemory::default();
    let mut collector_restarts = 0;
    tell("Kafka hangs");
    let begun = Instant::now();
    kafka.freeze();
    let sent_before = boxes.sum("/batches/sent").await?;
    let mut sent_at_half = None;
    while begun.elapsed() < settings.span {
        for agent in &mut boxes.agents {
            agent.check_running()?;
            peak_memory.look(agent.device().as_str(), agent.process_id());
        }
        peak_memory.look("collector", collector.process_id());
        peak_memory.look("Mosquitto", stage.mosquitto.process_id());
        collector_restarts += start_again(&mut collector)?;
        if sent_at_half.is_none() && begun.elapsed() >= settings.span / 2 {
            sent_at_half = Some(boxes.sum("/batches/sent").await?);
        }
        sleep(LOOK_EVERY).await;
    }
    let sent = boxes.sum("/batches/sent").await?;
    let receipted = boxes.sum("/batches/receipted").await?;
    kafka.thaw();
    let outage_s = begun.elapsed().as_secs_f64();
    tell("Kafka goes on");

    let back = Instant::now();
    wait_until("receipts afterwards", RECOVERY_LIMIT, async || {
        collector_restarts += start_again(&mut collector)?;
        let count = boxes.sum("/batches/receipted").await?;
        ensure!(count > receipted, "{count} receipts");
        Ok(())
    })
    .await?;
    let first_receipt_s = back.elapsed().as_secs_f64();
    let handed = boxes.stop_handing_in().await?;
    wait_until("the boxes to hold nothing", RECOVERY_LIMIT, async || {
        collector_restarts += start_again(&mut collector)?;
        let held = boxes.held().await?;
        ensure!(held == 0, "{held} batches");
        Ok(())
    })
    .await?;
    let drained_s = back.elapsed().as_secs_f64();
    peak_memory.look("collector", collector.process_id());
    peak_memory.look("Kafka", kafka.process_id());
    tell("auditing");
    Ok(Report {
        outage_s,
        boxes: settings.boxes,
        handed,
        sent_during: sent - sent_before,
        sent_in_second_half: sent - sent_at_half.context("the outage has a half")?,
        collector_restarts,
        first_receipt_s,
        drained_s,
        audited: stage.audit(&[stage.answers()], AUDIT_LIMIT).await?,
        panics: stage.panics()?,
        peak_memory,
    })
}

/// Is the supervisor: how many were started, 0 or 1.
fn start_again(collector: &mut Collector) -> anyhow::Result<u64> {
    if collector.check_running().is_ok() {
        return Ok(0);
    }
    collector.spawn()?;
    Ok(1)
}
