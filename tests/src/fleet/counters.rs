//! What a fleet counts as it goes: totals of all boxes, readable at any time
//! from any thread.

use std::sync::atomic::{AtomicU64, Ordering};

use returnpath_delivery::Status;

use super::latency::{Latency, Percentiles};

/// Totals, changed by the boxes.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connected: AtomicU64,
    pub(super) connections_lost: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) durable: AtomicU64,
    pub(super) not_durable: AtomicU64,
    pub(super) busy: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) batches_sent: AtomicU64,
    pub(super) batches_resent: AtomicU64,
    pub(super) batches_receipted: AtomicU64,
    /// Boxes that take nothing more and owe no answer.
    pub(super) settled: AtomicU64,
    /// Boxes that take nothing more and hold nothing.
    pub(super) drained: AtomicU64,
    /// From handing in urgent proof to its answer.
    pub(super) proof_latency: Latency,
    pub(super) opportunities: AtomicU64,
    pub(super) decisions_filled: AtomicU64,
    pub(super) decisions_unfilled: AtomicU64,
    pub(super) decisions_refused: AtomicU64,
    /// From handing in an opportunity to the decision of one of its slots,
    /// verified and bound.
    pub(super) loop_latency: Latency,
}

impl Counters {
    /// Adds what a box's core counted since `before`.
    pub(super) fn add(&self, before: &Status, now: &Status) {
        for (total, before, now) in [
            (&self.batches_sent, before.batches_sent, now.batches_sent),
            (
                &self.batches_resent,
                before.batches_resent,
                now.batches_resent,
            ),
            (
                &self.batches_receipted,
                before.batches_receipted,
                now.batches_receipted,
            ),
        ] {
            total.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
        }
    }
}

/// Totals at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetCounts {
    /// Boxes whose link is up.
    pub boxes_connected: u64,
    /// Links that ended, attempts included.
    pub connections_lost: u64,
    /// Ordinary events answered `accepted`.
    pub events_accepted: u64,
    /// Proof events answered `durable`.
    pub events_durable: u64,
    /// Proof events answered without being durable; 0 on a memory that works.
    pub events_not_durable: u64,
    /// Events answered `busy`, which a household does not hand in again.
    pub events_busy: u64,
    /// Events refused as too large; 0 unless the model is wrong.
    pub events_refused: u64,
    /// Events that the core had seen before; 0 unless the model is wrong.
    pub events_repeated: u64,
    /// Batches published, resends included.
    pub batches_sent: u64,
    /// Batches published again.
    pub batches_resent: u64,
    /// Batches receipted.
    pub batches_receipted: u64,
    /// From handing in an urgent proof event to its answer.
    pub proof_answered: Percentiles,
    /// Ad opportunities handed in by boxes that follow decisions.
    pub opportunities: u64,
    /// Decisions handed to a player, with something to show.
    pub decisions_filled: u64,
    /// Decisions handed to a player, with nothing to show.
    pub decisions_unfilled: u64,
    /// Decisions that a box refused; 0 unless somebody forges or delays them.
    pub decisions_refused: u64,
    /// From handing in an opportunity to the decision of a slot of it.
    pub decided: Percentiles,
}

impl FleetCounts {
    pub(super) fn of(counters: &Counters) -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            boxes_connected: read(&counters.connected),
            connections_lost: read(&counters.connections_lost),
            events_accepted: read(&counters.accepted),
            events_durable: read(&counters.durable),
            events_not_durable: read(&counters.not_durable),
            events_busy: read(&counters.busy),
            events_refused: read(&counters.refused),
            events_repeated: read(&counters.repeated),
            batches_sent: read(&counters.batches_sent),
            batches_resent: read(&counters.batches_resent),
            batches_receipted: read(&counters.batches_receipted),
            proof_answered: counters.proof_latency.percentiles(),
            opportunities: read(&counters.opportunities),
            decisions_filled: read(&counters.decisions_filled),
            decisions_unfilled: read(&counters.decisions_unfilled),
            decisions_refused: read(&counters.decisions_refused),
            decided: counters.loop_latency.percentiles(),
        }
    }
}
