//! Packets between boxes and broker, and broker and collector, are lost. Runs
//! in a network namespace of its own.

use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;
use tokio::time::sleep;

use super::{
    audited::Audited,
    boxes::Boxes,
    middleware::Handed,
    namespace::{Loss, Packets},
    stage::Stage,
};
use crate::{kafka::Kafka, wait::wait_until};

/// From the first loss to a packet count, and to an answer of each box.
const LIMIT: Duration = Duration::from_secs(120);

const AUDIT_LIMIT: Duration = Duration::from_secs(180);

/// Below so many packets a share says nothing: at 1,000 and 30 % one standard
/// deviation is 1.4 percentage points.
const PACKETS_MIN: u64 = 1_000;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long packets are lost, at least.
    pub span: Duration,
    /// Boxes with real agents.
    pub boxes: u64,
    /// How many of 100 packets.
    pub percent: u32,
}

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    percent: u32,
    packets_seen: u64,
    packets_lost: u64,
    boxes: u64,
    handed: Handed,
    receipted_during: u64,
    audited: Audited,
    panics: Vec<String>,
}

impl Report {
    /// Whether packets were lost as asked, things went on meanwhile, and every
    /// promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let lost = self.percent_lost();
        let asked = f64::from(self.percent);
        (asked - 5.0..asked + 5.0).contains(&lost)
            && self.receipted_during > 0
            && self.audited.is_clean()
            && self.audited.ordinary.declared_total() == 0
            && self.panics.is_empty()
    }

    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    fn percent_lost(&self) -> f64 {
        100.0 * self.packets_lost as f64 / self.packets_seen.max(1) as f64
    }

    /// Its section of the page of numbers.
    #[must_use]
    pub fn section(&self) -> String {
        format!(
            "{boxes} boxes with real agents; nftables drops packets from and to the MQTT broker \
             at random, counted by the kernel: {lost} of {seen} ({percent:.1} %). {receipted} \
             batches were receipted meanwhile.\n\n{table}",
            boxes = self.boxes,
            lost = self.packets_lost,
            seen = self.packets_seen,
            percent = self.percent_lost(),
            receipted = self.receipted_during,
            table = self.audited.table(),
        )
    }
}

/// Loses packets, audits, and says what came of it. In a fresh namespace.
///
/// # Errors
/// When something does not start, or nftables refuses.
pub async fn run(settings: Settings, mut tell: impl FnMut(&str)) -> anyhow::Result<Report> {
    Loss::loopback_up().await?;
    let kafka = Kafka::start().await?;
    let stage = Stage::set("loss", &[kafka.address()]).await?;
    let mut collector = stage.collector("collector-a")?;
    collector.start().await?;
    let mut boxes = Boxes::start(&stage, settings.boxes, stage.mosquitto.port()).await?;
    wait_until("receipts before", LIMIT, async || {
        let count = boxes.sum("/batches/receipted").await?;
        ensure!(count >= settings.boxes, "{count} receipts");
        Ok(())
    })
    .await?;

    tell("packets are lost");
    let receipted = boxes.sum("/batches/receipted").await?;
    let port = stage.mosquitto.port();
    let loss = Loss::begin(&stage.directory, port, settings.percent).await?;
    sleep(settings.span).await;
    let Packets { seen, lost } = wait_until("packets to count", LIMIT, async || {
        let packets = loss.packets().await?;
        ensure!(packets.seen >= PACKETS_MIN, "{packets:?}");
        Ok(packets)
    })
    .await?;
    let receipted_during = boxes.sum("/batches/receipted").await? - receipted;
    loss.end().await?;
    tell("no packet is lost any more");
    let handed = boxes.stop_handing_in().await?;
    Ok(Report {
        percent: settings.percent,
        packets_seen: seen,
        packets_lost: lost,
        boxes: settings.boxes,
        handed,
        receipted_during,
        audited: stage.audit(&[stage.answers()], AUDIT_LIMIT).await?,
        panics: stage.panics()?,
    })
}
