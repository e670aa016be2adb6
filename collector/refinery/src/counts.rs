//! What became of what came in, for metrics. Counted with the transaction, so
//! that an aborted one is not counted twice.

use core::ops::AddAssign;

use returnpath_shared::{Stream, wire::RejectionReason};

/// Outcomes of one transaction. Add them up over transactions.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Batches of which at least one event was refined, rejected alone or
    /// recognised as a repeat.
    pub batches: u64,
    /// Events refined, by the order of [`Stream::ALL`].
    pub refined: [u64; Stream::ALL.len()],
    /// Records whose batch had been taken before: resends, and records read
    /// again after a rebalance.
    pub duplicate_batches: u64,
    /// Batches taken although the box had released them: they came by the
    /// slower lane.
    pub late_batches: u64,
    /// Batches and single events rejected, by [`RejectionReason`] as index.
    pub rejected: [u64; Self::REASONS],
    /// Records that waited for the one before them.
    pub waited: u64,
    /// Of these, refined without it, because the wait was over.
    pub waits_expired: u64,
    /// Records that should have waited and found no room.
    pub waits_refused: u64,
    /// Holes forgotten: the box had released them and room was needed.
    pub holes_forgotten: u64,
    /// Epochs forgotten, likewise.
    pub epochs_forgotten: u64,
    /// Ranges of batches of which it was forgotten that they were declared lost.
    pub declared_ranges_forgotten: u64,
    /// Epochs of which it was forgotten that something was declared lost.
    pub declared_epochs_forgotten: u64,
    /// Envelopes that say `clock_synchronised` with an impossible clock.
    pub clocks_refused: u64,
    /// Envelopes whose sender or oldest-held batches are missing or
    /// contradict themselves; their batches are taken, nothing is released.
    pub declarations_refused: u64,
}

impl Counts {
    /// Length of [`Self::rejected`].
    pub const REASONS: usize = RejectionReason::Repeated as usize + 1;

    /// Events refined into one stream.
    #[must_use]
    pub fn refined(&self, stream: Stream) -> u64 {
        self.refined[stream as usize]
    }

    /// Rejections for one reason.
    #[must_use]
    pub fn rejected(&self, reason: RejectionReason) -> u64 {
        self.rejected.get(reason as usize).copied().unwrap_or(0)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for (sum, add) in self.refined.iter_mut().zip(other.refined) {
            *sum += add;
        }
        for (sum, add) in self.rejected.iter_mut().zip(other.rejected) {
            *sum += add;
        }
        self.batches += other.batches;
        self.duplicate_batches += other.duplicate_batches;
        self.late_batches += other.late_batches;
        self.waited += other.waited;
        self.waits_expired += other.waits_expired;
        self.waits_refused += other.waits_refused;
        self.holes_forgotten += other.holes_forgotten;
        self.epochs_forgotten += other.epochs_forgotten;
        self.declared_ranges_forgotten += other.declared_ranges_forgotten;
        self.declared_epochs_forgotten += other.declared_epochs_forgotten;
        self.clocks_refused += other.clocks_refused;
        self.declarations_refused += other.declarations_refused;
    }
}
