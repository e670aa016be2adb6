//! Which of two events of a box is the later one, for those who keep "the
//! last" of something: a batch of Monday that comes on Wednesday moves nothing.

use core::cmp::Ordering;

use returnpath_shared::{Epoch, Ordinal};

use crate::arrivals::Arrivals;

/// Where an event stands in the life of its box.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The run of the agent that accepted it.
    pub epoch: Epoch,
    /// Its place in that run.
    pub ordinal: Ordinal,
}

impl Moment {
    /// Compares two events of one box: by start and ordinal, and between queue
    /// files by the arrival of their first batches. `None` where a queue file
    /// is no longer remembered.
    pub(crate) fn compare(self, other: Self, arrivals: &Arrivals) -> Option<Ordering> {
        let rank = |epoch: Epoch| {
            arrivals
                .incarnations()
                .position(|incarnation| incarnation == epoch.incarnation)
        };
        let order = if self.epoch.incarnation == other.epoch.incarnation {
            Ordering::Equal
        } else {
            rank(self.epoch)?.cmp(&rank(other.epoch)?)
        };
        Some(
            order
                .then(self.epoch.start.cmp(&other.epoch.start))
                .then(self.ordinal.cmp(&other.ordinal)),
        )
    }
}
