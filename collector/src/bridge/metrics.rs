//! What the bridge counts. Every batch ends in exactly one of `confirmed`,
//! `unreceipted` and `refused`; `stray` are packets that are no batch of ours.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use returnpath_shared::{Lane, wire::RefusalReason};

/// Upper bounds of the confirmation time, in seconds: from a good Kafka (a few
/// milliseconds) over the acknowledgement's deadline to giving up.
const CONFIRMATION_SECONDS: [f64; 9] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Why a batch got no receipt; its box sends it again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
pub(super) enum Unreceipted {
    /// The bound of batches or bytes under way was reached.
    InFlight,
    /// The box sent more batches than its quota.
    QuotaBatches,
    /// The box sent more bytes than its quota.
    QuotaBytes,
    /// More boxes than quotas are kept for.
    QuotaDevices,
    /// Kafka did not confirm in time or refused, or its client was rebuilt.
    Kafka,
    /// Kafka has it, but its envelope has no id to receipt.
    NoId,
    /// Kafka has it, but the bound of pending receipts was reached.
    Forgotten,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct UnreceiptedLabels {
    reason: Unreceipted,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RefusedLabels {
    reason: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct LaneLabels {
    lane: &'static str,
}

/// What the bridge counts.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) received_live: Counter,
    pub(super) received_backlog: Counter,
    pub(super) received_bytes: Counter,
    pub(super) confirmed: Counter,
    unreceipted: Family<UnreceiptedLabels, Counter>,
    refused: Family<RefusedLabels, Counter>,
    pub(super) stray: Counter,
    pub(super) receipts: Counter,
    pub(super) acknowledged_at_deadline: Counter,
    pub(super) in_flight_batches: Gauge,
    pub(super) in_flight_bytes: Gauge,
    pub(super) owed_boxes: Gauge,
    pub(super) confirmation: Histogram,
    pub(super) connected: Gauge,
    pub(super) connections: Counter,
    pub(super) connections_lost: Counter,
    pub(super) producers: Counter,
}

impl Metrics {
    /// Registers every metric; the registry already prefixes
    /// `returnpath_bridge_`.
    pub fn register(registry: &mut Registry) -> Self {
        let received: Family<LaneLabels, Counter> = Family::default();
        registry.register("received", "Batches received over MQTT", received.clone());
        let lane = |lane: Lane| {
            let labels = LaneLabels { lane: lane.name() };
            received.get_or_create(&labels).clone()
        };
        let metrics = Self {
            received_live: lane(Lane::Live),
            received_backlog: lane(Lane::Backlog),
            received_bytes: Counter::default(),
            confirmed: Counter::default(),
            unreceipted: Family::default(),
            refused: Family::default(),
            stray: Counter::default(),
            receipts: Counter::default(),
            acknowledged_at_deadline: Counter::default(),
            in_flight_batches: Gauge::default(),
            in_flight_bytes: Gauge::default(),
            owed_boxes: Gauge::default(),
            confirmation: Histogram::new(CONFIRMATION_SECONDS),
            connected: Gauge::default(),
            connections: Counter::default(),
            connections_lost: Counter::default(),
            producers: Counter::default(),
        };
        let counters = [
            (
                "confirmed",
                "Batches confirmed by Kafka and entered in a receipt",
                &metrics.confirmed,
            ),
            (
                "stray",
                "PUBLISH packets on topics that are not ours",
                &metrics.stray,
            ),
            ("receipts", "Receipts published to boxes", &metrics.receipts),
            (
                "acknowledged_at_deadline",
                "Batches acknowledged to the MQTT broker before Kafka confirmed them",
                &metrics.acknowledged_at_deadline,
            ),
            ("connections", "MQTT connections made", &metrics.connections),
            (
                "connections_lost",
                "MQTT connections lost, and attempts that failed",
                &metrics.connections_lost,
            ),
            (
                "producers",
                "Kafka producers made: above 1, after a fatal error",
                &metrics.producers,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let gauges = [
            (
                "in_flight_batches",
                "Batches on their way into Kafka",
                &metrics.in_flight_batches,
            ),
            (
                "owed_boxes",
                "Boxes that are owed a receipt",
                &metrics.owed_boxes,
            ),
            (
                "connected",
                "1 while subscribed at an MQTT broker",
                &metrics.connected,
            ),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        registry.register(
            "unreceipted",
            "Batches left without a receipt; their boxes send them again",
            metrics.unreceipted.clone(),
        );
        registry.register(
            "refused",
            "Batches refused by a receipt",
            metrics.refused.clone(),
        );
        registry.register_with_unit(
            "received",
            "MQTT payload received",
            Unit::Bytes,
            metrics.received_bytes.clone(),
        );
        registry.register_with_unit(
            "in_flight",
            "MQTT payload on its way into Kafka",
            Unit::Bytes,
            metrics.in_flight_bytes.clone(),
        );
        registry.register_with_unit(
            "confirmation",
            "From arrival to Kafka's confirmation, of one batch in each turn of the loop",
            Unit::Seconds,
            metrics.confirmation.clone(),
        );
        metrics
    }

    pub(super) fn received(&self, lane: Lane) -> &Counter {
        match lane {
            Lane::Live => &self.received_live,
            Lane::Backlog => &self.received_backlog,
        }
    }

    pub(super) fn unreceipted(&self, reason: Unreceipted) {
        self.unreceipted
            .get_or_create(&UnreceiptedLabels { reason })
            .inc();
    }

    pub(super) fn refused(&self, reason: RefusalReason) {
        self.refused
            .get_or_create(&RefusedLabels {
                reason: reason.as_str_name(),
            })
            .inc();
    }
}
