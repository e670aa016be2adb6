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
}

impl<P> Owned<P> {
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
}
