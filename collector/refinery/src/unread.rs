//! How far records without a readable batch id have been rejected, per lane:
//! when they are read again, nothing else tells that they are the same.

use returnpath_shared::{Lane, wire::UnreadState};

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Unread {
    live: Through,
    backlog: Through,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Through {
    next_offset: i64,
    received_unix_ms: i64,
}

impl Unread {
    /// Whether this record has been rejected before. A later timestamp tells
    /// that the topic has been made anew and its offsets start again.
    pub(crate) fn contains(&self, lane: Lane, offset: i64, received_unix_ms: i64) -> bool {
        let through = self.lane(lane);
        offset < through.next_offset && received_unix_ms <= through.received_unix_ms
    }

    pub(crate) fn insert(&mut self, lane: Lane, offset: i64, received_unix_ms: i64) {
        let through = match lane {
            Lane::Live => &mut self.live,
            Lane::Backlog => &mut self.backlog,
        };
        through.next_offset = offset.saturating_add(1);
        through.received_unix_ms = through.received_unix_ms.max(received_unix_ms);
    }

    fn lane(&self, lane: Lane) -> Through {
        match lane {
            Lane::Live => self.live,
            Lane::Backlog => self.backlog,
        }
    }

    pub(crate) fn to_wire(self) -> UnreadState {
        UnreadState {
            live_next_offset: self.live.next_offset,
            live_received_unix_ms: self.live.received_unix_ms,
            backlog_next_offset: self.backlog.next_offset,
            backlog_received_unix_ms: self.backlog.received_unix_ms,
        }
    }

    pub(crate) fn from_wire(state: &UnreadState) -> Self {
        Self {
            live: Through {
                next_offset: state.live_next_offset,
                received_unix_ms: state.live_received_unix_ms,
            },
            backlog: Through {
                next_offset: state.backlog_next_offset,
                received_unix_ms: state.backlog_received_unix_ms,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_read_again_is_known_and_one_of_a_new_topic_is_not() {
        let mut unread = Unread::default();
        assert!(!unread.contains(Lane::Live, 0, 0));
        unread.insert(Lane::Live, 7, 1_000);
        unread.insert(Lane::Live, 9, 900);
        for offset in [7, 9] {
            assert!(unread.contains(Lane::Live, offset, 1_000));
            assert!(!unread.contains(Lane::Backlog, offset, 1_000));
            assert!(!unread.contains(Lane::Live, offset, 1_001));
        }
        assert!(!unread.contains(Lane::Live, 10, 900));
        assert_eq!(Unread::from_wire(&unread.to_wire()), unread);
    }
}
