//! A batch's way through the bridge, and what is answered for it. Changes
//! state and never waits.
//!
//! Order: a batch is receipted only after Kafka's report on it, and
//! acknowledged to MQTT then, at its deadline, or at once where it goes no
//! further. Whatever goes no further is counted with its reason and costs its
//! box a resend. Kafka slow or away fills `in_flight` to its bounds and
//! nothing else; the boxes' own windows close by the missing receipts.

use std::{
    num::NonZeroU16,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use prost::Message as _;
use rdkafka::error::RDKafkaErrorCode;
use returnpath_shared::{BatchId, DeviceId, Downlink, Lane, wire::RefusalReason};
use rumqttc::mqttbytes::{
    QoS,
    v5::{Packet, Publish},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{debug, warn};

use super::{
    Config, Metrics,
    acknowledgements::{Acknowledged, Acknowledgements, Ticket},
    in_flight::InFlight,
    metrics::Unreceipted,
    producer::{Producer, Report, SendError},
    quota::{Admission, Quotas},
    receipts::{Patience, Receipts},
    triage::{Triage, triage},
};
use crate::mqtt::{PacketError, Socket};

/// Boxes that may be owed a receipt: the largest planned fleet of 300,000 with
/// room, some 100 MB when all are.
const OWED_BOXES_MAX: usize = 524_288;

/// Unsent bytes past which no receipt is encoded: what is owed waits, merged,
/// until the broker takes what was said.
const UNSENT_BYTES_MAX: usize = 1024 * 1024;

/// How long Kafka may confirm nothing of what is under way before the bridge
/// calls itself not ready: longer than an election of leaders.
const CONFIRMATION_SILENCE_MAX: Duration = Duration::from_secs(10);

/// A batch under way.
struct Batch {
    device: DeviceId,
    id: Option<BatchId>,
    patience: Patience,
    ticket: Option<Ticket>,
    arrived: Instant,
}

/// Everything between the MQTT connection and Kafka.
pub(super) struct Passage {
    producer: Producer,
    in_flight: InFlight<Batch>,
    acknowledgements: Acknowledgements,
    acknowledge_after: Duration,
    receive_maximum: NonZeroU16,
    connections: u64,
    receipts: Receipts,
    quotas: Quotas,
    metrics: Metrics,
    reports: Vec<Report>,
    /// When Kafka last confirmed something, or had nothing to confirm.
    confirmed_at: Instant,
    /// Whether Kafka took something not since the producer was last asked for
    /// a fatal error: asking in each turn is not free.
    suspicious: bool,
}

impl Passage {
    pub(super) fn new(config: &Config, producer: Producer, metrics: Metrics, now: Instant) -> Self {
        metrics.producers.inc();
        Self {
            producer,
            in_flight: InFlight::new(config.in_flight),
            acknowledgements: Acknowledgements::new(
                0,
                config.acknowledge_after,
                config.receive_maximum,
            ),
            acknowledge_after: config.acknowledge_after,
            receive_maximum: config.receive_maximum,
            connections: 0,
            receipts: Receipts::new(OWED_BOXES_MAX),
            quotas: Quotas::new(config.quota, now),
            metrics,
            reports: Vec::new(),
            confirmed_at: now,
            suspicious: false,
        }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Forgets what the last connection is owed.
    pub(super) fn reconnected(&mut self) {
        self.connections += 1;
        self.acknowledgements = Acknowledgements::new(
            self.connections,
            self.acknowledge_after,
            self.receive_maximum,
        );
    }

    /// Replaces the producer, giving up what the old one had under way.
    pub(super) fn replace_producer(&mut self, producer: Producer, now: Instant) {
        self.metrics.producers.inc();
        self.abandon();
        std::mem::replace(&mut self.producer, producer).abandon();
        self.confirmed_at = now;
    }

    /// Gives up what is under way: no receipts for it.
    fn abandon(&mut self) {
        for batch in self.in_flight.drain() {
            self.left_unreceipted(batch.ticket, Unreceipted::Kafka);
        }
    }

    /// Why the producer must be replaced, if it must.
    pub(super) fn producer_fault(&mut self) -> Option<String> {
        std::mem::take(&mut self.suspicious)
            .then(|| self.producer.fatal())
            .flatten()
    }

    /// A batch has arrived.
    pub(super) fn publish(&mut self, publish: &Publish, now: Instant) {
        let ticket = match publish.qos {
            QoS::AtMostOnce => None,
            // The subscription grants QoS 1 at most.
            QoS::AtLeastOnce | QoS::ExactlyOnce => {
                Some(self.acknowledgements.received(publish.pkid, now))
            }
        };
        let bytes = publish.payload.len();
        self.metrics.received_bytes.inc_by(bytes as u64);
        let (device, lane, id, class) = match triage(&publish.topic, &publish.payload) {
            Triage::Keep {
                device,
                lane,
                id,
                class,
            } => (device, lane, id, class),
            Triage::Refuse { device, id, reason } => {
                self.refuse(&device, id, reason, bytes, ticket, now);
                return;
            }
            Triage::Stray => {
                self.metrics.stray.inc();
                self.settle(ticket);
                return;
            }
        };
        self.metrics.received(lane).inc();
        if let Err(reason) = self.admit(&device, lane, bytes, now) {
            self.left_unreceipted(ticket, reason);
            return;
        }
        let batch = Batch {
            device: device.clone(),
            id,
            patience: Patience::of(class, lane),
            ticket,
            arrived: now,
        };
        let Ok(key) = self.in_flight.admit(batch, bytes) else {
            self.left_unreceipted(ticket, Unreceipted::InFlight);
            return;
        };
        let sent = self
            .producer
            .send(&device, lane, &publish.payload, unix_ms(), key);
        if let Err(error) = sent {
            self.in_flight.release(key);
            let reason = match error {
                SendError::Full => Unreceipted::InFlight,
                SendError::Kafka(error) => {
                    self.suspicious = true;
                    warn!(%device, "Kafka client does not take a batch: {error}");
                    Unreceipted::Kafka
                }
            };
            self.left_unreceipted(ticket, reason);
        }
    }

    /// Takes in what Kafka reports.
    pub(super) fn serve_kafka(&mut self, now: Instant) {
        let mut reports = std::mem::take(&mut self.reports);
        self.producer.reports(&mut reports);
        let mut sampled = false;
        for report in reports.drain(..) {
            let Some(batch) = self.in_flight.release(report.key) else {
                continue;
            };
            match report.outcome {
                Ok(()) => {
                    self.confirmed_at = now;
                    if !sampled {
                        sampled = true;
                        let took = now.saturating_duration_since(batch.arrived);
                        self.metrics.confirmation.observe(took.as_secs_f64());
                    }
                    self.confirm(batch, now);
                }
                Err(error) => self.give_up(&batch, error),
            }
        }
        self.reports = reports;
        if self.in_flight.entries() == 0 {
            self.confirmed_at = now;
        }
    }

    /// Says what is due on this connection.
    pub(super) fn answer<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        socket: &mut Socket<S>,
        now: Instant,
        receipts_due_by: Instant,
    ) -> Result<(), PacketError> {
        while let Some((packet_id, acknowledged)) = self.acknowledgements.take(now) {
            if acknowledged == Acknowledged::AtDeadline {
                self.metrics.acknowledged_at_deadline.inc();
            }
            socket.send_puback(packet_id, now);
        }
        while socket.unsent_bytes() < UNSENT_BYTES_MAX
            && let Some((device, receipt)) = self.receipts.take(receipts_due_by)
        {
            let topic = Downlink::Receipts.topic(&device);
            let publish = Publish::new(topic, QoS::AtMostOnce, receipt.encode_to_vec(), None);
            socket.send(&Packet::Publish(publish), now)?;
            self.metrics.receipts.inc();
        }
        self.observe();
        Ok(())
    }

    /// When there is something to do without anything coming in.
    pub(super) fn next_due(&self) -> Option<Instant> {
        [
            self.receipts.next_due(),
            self.acknowledgements.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether nothing more should be read for the moment.
    pub(super) fn is_full(&self) -> bool {
        self.acknowledgements.is_full()
    }

    /// Whether Kafka has reports to give some time.
    pub(super) fn awaits_kafka(&self) -> bool {
        self.in_flight.entries() > 0
    }

    /// Whether nothing is under way and nothing unacknowledged.
    pub(super) fn is_drained(&self) -> bool {
        self.in_flight.entries() == 0 && self.acknowledgements.is_empty()
    }

    /// Whether Kafka confirms what it is given.
    pub(super) fn kafka_answers(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.confirmed_at) < CONFIRMATION_SILENCE_MAX
    }

    /// Shows the gauges.
    pub(super) fn observe(&self) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let metrics = &self.metrics;
        metrics
            .in_flight_batches
            .set(gauge(self.in_flight.entries()));
        let bytes = i64::try_from(self.in_flight.bytes()).unwrap_or(i64::MAX);
        metrics.in_flight_bytes.set(bytes);
        metrics.owed_boxes.set(gauge(self.receipts.boxes()));
    }

    fn admit(
        &mut self,
        device: &DeviceId,
        lane: Lane,
        bytes: usize,
        now: Instant,
    ) -> Result<(), Unreceipted> {
        match self.quotas.admit(device, lane, bytes, now) {
            Admission::Admitted => Ok(()),
            Admission::TooManyBatches => Err(Unreceipted::QuotaBatches),
            Admission::TooManyBytes => Err(Unreceipted::QuotaBytes),
            Admission::TooManyDevices => Err(Unreceipted::QuotaDevices),
        }
    }

    fn refuse(
        &mut self,
        device: &DeviceId,
        id: BatchId,
        reason: RefusalReason,
        bytes: usize,
        ticket: Option<Ticket>,
        now: Instant,
    ) {
        // Not with what is kept for batches that are worth it.
        let admitted = self.admit(device, Lane::Backlog, bytes, now);
        let owed = admitted.and_then(|()| {
            self.receipts
                .refused(device, id, reason, now)
                .map_err(|_| Unreceipted::Forgotten)
        });
        match owed {
            Ok(()) => {
                debug!(%device, %id, reason = reason.as_str_name(), "refused");
                self.metrics.refused(reason);
                self.settle(ticket);
            }
            Err(reason) => self.left_unreceipted(ticket, reason),
        }
    }

    fn confirm(&mut self, batch: Batch, now: Instant) {
        let owed = match batch.id {
            None => Err(Unreceipted::NoId),
            Some(id) => self
                .receipts
                .confirmed(&batch.device, id, batch.patience, now)
                .map_err(|_| Unreceipted::Forgotten),
        };
        match owed {
            Ok(()) => {
                self.metrics.confirmed.inc();
                self.settle(batch.ticket);
            }
            Err(reason) => self.left_unreceipted(batch.ticket, reason),
        }
    }

    fn give_up(&mut self, batch: &Batch, error: RDKafkaErrorCode) {
        self.suspicious = true;
        debug!(device = %batch.device, %error, "Kafka did not take a batch");
        self.left_unreceipted(batch.ticket, Unreceipted::Kafka);
    }

    fn left_unreceipted(&mut self, ticket: Option<Ticket>, reason: Unreceipted) {
        self.metrics.unreceipted(reason);
        self.settle(ticket);
    }

    fn settle(&mut self, ticket: Option<Ticket>) {
        if let Some(ticket) = ticket {
            self.acknowledgements.settled(ticket);
        }
    }
}

/// Collector time, for Kafka's timestamps.
fn unix_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or_default()
}
