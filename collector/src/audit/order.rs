//! Whether the events of an epoch stand in the order in which the box made
//! them: promised within a lane, as sent for the first time. A batch that had
//! to be sent again comes behind later ones and is told here.
//!
//! Streams are topics of their own, which nobody reads in step, so order is
//! judged within each.

use returnpath_shared::{Stream, wire::Lane};

/// The lanes as records name them, and those that a later version adds.
const LANES: usize = 3;

/// The highest ordinal that has stood in each lane and stream.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Order {
    highest: [[u64; Stream::ALL.len()]; LANES],
}

impl Order {
    /// Takes the next event of a lane and stream; says whether it stands behind
    /// a later one.
    pub(super) fn take(&mut self, lane: Lane, stream: Stream, ordinal: u64) -> bool {
        let lane = match lane {
            Lane::Live => 0,
            Lane::Backlog => 1,
            Lane::Unspecified => 2,
        };
        let highest = &mut self.highest[lane][stream as usize];
        let is_late = ordinal < *highest;
        *highest = (*highest).max(ordinal);
        is_late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_judged_within_a_lane_and_stream() {
        let mut order = Order::default();
        for (lane, stream, ordinal, is_late) in [
            (Lane::Live, Stream::Viewing, 5, false),
            (Lane::Live, Stream::Viewing, 9, false),
            (Lane::Live, Stream::Ads, 7, false),
            (Lane::Backlog, Stream::Viewing, 1, false),
            (Lane::Backlog, Stream::Viewing, 3, false),
            (Lane::Live, Stream::Viewing, 8, true),
            (Lane::Live, Stream::Viewing, 10, false),
            (Lane::Backlog, Stream::Viewing, 2, true),
        ] {
            assert_eq!(order.take(lane, stream, ordinal), is_late, "{ordinal}");
        }
    }
}
