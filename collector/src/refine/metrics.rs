//! What refine counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use returnpath_refinery::Counts;
use returnpath_shared::{Stream, wire::RejectionReason};

use super::completeness::Completeness;
use crate::exactly_once;

/// What the inputs are called, the assigned one first.
pub(super) const LANES: [&str; 2] = ["live", "backlog"];

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
    pub(super) engine: exactly_once::Metrics,
    refined: Family<StreamLabel, Counter>,
    rejected: Family<ReasonLabel, Counter>,
    batches: Counter,
    duplicate_batches: Counter,
    late_batches: Counter,
    waited: Counter,
    waits_expired: Counter,
    waits_refused: Counter,
    forgotten: Counter,
    declarations_forgotten: Counter,
    pub(super) oversize: Counter,
    pub(super) completeness: Completeness,
}

impl Metrics {
    /// Registers every metric; the registry already prefixes
    /// `returnpath_refine_`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            engine: exactly_once::Metrics::register(registry, "lane", LANES),
            refined: Family::default(),
            rejected: Family::default(),
            batches: Counter::default(),
            duplicate_batches: Counter::default(),
            late_batches: Counter::default(),
            waited: Counter::default(),
            waits_expired: Counter::default(),
            waits_refused: Counter::default(),
            forgotten: Counter::default(),
            declarations_forgotten: Counter::default(),
            oversize: Counter::default(),
            completeness: Completeness::default(),
        };
        metrics.register_all(registry);
        registry.register_collector(Box::new(metrics.completeness.clone()));
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
            "declarations_forgotten",
            "Declared ranges and epochs forgotten for want of room",
            &self.declarations_forgotten,
        );
        counter(
            "oversize",
            "Raw records too large to be copied to the rejected topic",
            &self.oversize,
        );
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
        self.declarations_forgotten
            .inc_by(counts.declared_ranges_forgotten + counts.declared_epochs_forgotten);
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
