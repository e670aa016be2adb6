//! A partition that is ours: its state, and how far both of its inputs were
//! read.
//!
//! Asks nothing of Kafka, and does not know how a transaction ends.

use crate::exactly_once::{Input, Stand, Work, source::Positions};

/// A partition that is ours.
pub(super) struct Owned<P> {
    pub(super) state: P,
    /// What is read next.
    pub(super) next: Positions,
    /// What Kafka has of it.
    pub(super) committed: Positions,
    /// Whether the open transaction concerns it.
    pub(super) is_touched: bool,
    /// Whether the one that Kafka is committing does.
    is_sealed: bool,
}

impl<P> Owned<P> {
    /// One that is just ours, and read from here on.
    pub(super) fn new(state: P, start: Positions) -> Self {
        Self {
            state,
            next: start,
            committed: start,
            is_touched: false,
            is_sealed: false,
        }
    }

    /// Something was done in it.
    pub(super) fn touch(&mut self, stand: Stand) {
        self.is_touched |= stand == Stand::Done;
    }

    /// What is not finished has to be read again by the next owner.
    pub(super) fn to_commit<W: Work<Partition = P>>(&self, work: &W) -> Positions {
        let mut positions = self.next;
        for input in Input::ALL {
            if let Some(offset) = work.lowest_unfinished(&self.state, input) {
                positions.set(input, offset);
            }
        }
        positions
    }

    /// What was done in it is about to be committed.
    pub(super) fn seal(&mut self) {
        self.is_sealed = self.is_touched;
        self.is_touched = false;
    }

    /// What was sealed is committed, up to here.
    pub(super) fn commit(&mut self, positions: Positions) {
        self.committed = positions;
        self.is_sealed = false;
    }

    /// Whether something was done in it that Kafka may not have.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.is_touched || self.is_sealed
    }

    /// What was done in it has never been.
    pub(super) fn abort(&mut self) {
        self.next = self.committed;
        self.is_touched = false;
        self.is_sealed = false;
    }
}
