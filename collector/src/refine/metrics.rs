//! What refine counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use returnpath_refinery::Counts;
use returnpath_shared::{Lane, Stream, wire::RejectionReason};

/// Label: the lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LaneLabel {
    lane: &'static str,
}

impl From<Lane> for LaneLabel {
    fn from(lane: Lane) -> Self {
        Self { lane: lane.name() }
    }
}

/// Label: the refined stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StreamLabel {
    stream: &'static str,
}

/// Label: why something was rejected.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabel {
    reason: &'static str,
}

/// What refine counts. Cheap to clone: all clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) records: Family<LaneLabel, Counter>,
    refined: Family<StreamLabel, Counter>,
    rejected: Family<ReasonLabel, Counter>,
    batches: Counter,
    duplicate_batches: Counter,
    late_batches: Counter,
    waited: Counter,
    waits_expired: Counter,
    waits_refused: Counter,
    forgotten: Counter,
    pub(super) expired: Family<LaneLabel, Counter>,
    pub(super) oversize: Counter,
    pub(super) transactions_committed: Counter,
    pub(super) transactions_aborted: Counter,
    pub(super) sessions_rebuilt: Counter,
    pub(super) transaction_seconds: Histogram,
    pub(super) commit_seconds: Histogram,
    pub(super) restore_seconds: Histogram,
    pub(super) lag_milliseconds: Family<LaneLabel, Gauge>,
    pub(super) partitions: Gauge,
    pub(super) devices: Gauge,
}

impl Metrics {
    /// Registers every metric; the registry already prefixes
    /// `returnpath_refine_`.
    pub fn register(registry: &mut Registry) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let metrics = Self {
            records: Family::default(),
            refined: Family::default(),
            rejected: Family::default(),
            batches: Counter::default(),
            duplicate_batches: Counter::default(),
            late_batches: Counter::default(),
            waited: Counter::default(),
            waits_expired: Counter::default(),
            waits_refused: Counter::default(),
            forgotten: Counter::default(),
            expired: Family::default(),
            oversize: Counter::default(),
            transactions_committed: Counter::default(),
            transactions_aborted: Counter::default(),
            sessions_rebuilt: Counter::default(),
            transaction_seconds: seconds(),
            commit_seconds: seconds(),
            restore_seconds: seconds(),
            lag_milliseconds: Family::default(),
            partitions: Gauge::default(),
            devices: Gauge::default(),
        };
        metrics.register_all(registry);
        metrics
    }

    fn register_all(&self, registry: &mut Registry) {
        let mut counter = |name, help, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        counter("batches", "Batches refined", &self.batches);
        counter(
            "duplicate_batches",
            "Records whose batch had been taken before",
            &self.duplicate_batches,
        );
        counter(
            "late_batches",
            "Batches taken although the box had released them",
            &self.late_batches,
        );
        counter(
            "waited",
            "Records that waited for the one before",
            &self.waited,
        );
        counter(
            "waits_expired",
            "Records refined without the one before, which did not come",
            &self.waits_expired,
        );
        counter(
            "waits_refused",
            "Records that should have waited and found no room",
            &self.waits_refused,
        );
        counter(
            "forgotten",
            "Holes and epochs forgotten for want of room, all released by the box",
            &self.forgotten,
        );
        counter(
            "oversize",
            "Raw records too large to be copied to the rejected topic",
            &self.oversize,
        );
        counter(
            "transactions_committed",
            "Transactions that Kafka committed",
            &self.transactions_committed,
        );
        counter(
            "transactions_aborted",
            "Transactions undone and read again",
            &self.transactions_aborted,
        );
        counter(
            "sessions_rebuilt",
            "Times that all state was dropped and loaded again",
            &self.sessions_rebuilt,
        );
        registry.register("records", "Raw records read", self.records.clone());
        registry.register(
            "events_refined",
            "Events written to the refined topics, committed",
            self.refined.clone(),
        );
        registry.register(
            "rejected",
            "Batches and events written to the rejected topic, committed",
            self.rejected.clone(),
        );
        registry.register(
            "expired",
            "Raw records that Kafka deleted before they were read",
            self.expired.clone(),
        );
        registry.register_with_unit(
            "transaction",
            "From the first record of a transaction to its end",
            Unit::Seconds,
            self.transaction_seconds.clone(),
        );
        registry.register_with_unit(
            "commit",
            "What committing takes of it",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        registry.register_with_unit(
            "restore",
            "Loading the state of newly assigned partitions",
            Unit::Seconds,
            self.restore_seconds.clone(),
        );
        registry.register(
            "lag_milliseconds",
            "Age of the newest record of the last transaction; 0 when all is read",
            self.lag_milliseconds.clone(),
        );
        registry.register("partitions", "Partitions owned", self.partitions.clone());
        registry.register("devices", "Boxes known", self.devices.clone());
    }

    /// Adds what one committed transaction did to one partition.
    pub(super) fn add(&self, counts: &Counts) {
        self.batches.inc_by(counts.batches);
        self.duplicate_batches.inc_by(counts.duplicate_batches);
        self.late_batches.inc_by(counts.late_batches);
        self.waited.inc_by(counts.waited);
        self.waits_expired.inc_by(counts.waits_expired);
        self.waits_refused.inc_by(counts.waits_refused);
        self.forgotten
            .inc_by(counts.holes_forgotten + counts.epochs_forgotten);
        for stream in Stream::ALL {
            let count = counts.refined(stream);
            if count > 0 {
                let stream = match stream {
                    Stream::Viewing => "viewing",
                    Stream::Ads => "ads",
                    Stream::Health => "health",
                    Stream::Custom => "custom",
                };
                self.refined
                    .get_or_create(&StreamLabel { stream })
                    .inc_by(count);
            }
        }
        for (index, count) in counts.rejected.iter().enumerate() {
            if *count > 0 {
                let reason = i32::try_from(index)
                    .ok()
                    .and_then(|index| RejectionReason::try_from(index).ok())
                    .unwrap_or_default()
                    .as_str_name();
                self.rejected
                    .get_or_create(&ReasonLabel { reason })
                    .inc_by(*count);
            }
        }
    }
}
