//! Which lane the next record is taken from: live first, and the backlog at a
//! bounded share, so that a fleet that comes back neither delays what happens
//! now nor waits for ever. Pure.

use returnpath_shared::Lane;

/// While both lanes have records, one in this many is taken from the backlog.
/// With the headroom of a live fleet at half of refine's capacity, the backlog
/// gets the idle half as well: it is only bounded where it would hurt.
pub(super) const BACKLOG_ONE_IN: u32 = 5;

/// Counts the turns.
#[derive(Debug, Default)]
pub(super) struct Share {
    live_in_a_row: u32,
}

impl Share {
    /// The lane that is asked first; the other one is asked when it is empty.
    pub(super) fn first(&self) -> Lane {
        if self.live_in_a_row + 1 >= BACKLOG_ONE_IN {
            Lane::Backlog
        } else {
            Lane::Live
        }
    }

    /// A record was taken from this lane; or the backlog had its turn and
    /// nothing to give.
    pub(super) fn took(&mut self, lane: Lane) {
        match lane {
            Lane::Live => self.live_in_a_row = self.live_in_a_row.saturating_add(1),
            Lane::Backlog => self.live_in_a_row = 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(live: impl Fn(u32) -> bool, backlog: impl Fn(u32) -> bool) -> (u32, u32) {
        let mut share = Share::default();
        let mut taken = (0, 0);
        for turn in 0..1_000 {
            let order = match share.first() {
                Lane::Live => [Lane::Live, Lane::Backlog],
                Lane::Backlog => [Lane::Backlog, Lane::Live],
            };
            for lane in order {
                let has = match lane {
                    Lane::Live => live(turn),
                    Lane::Backlog => backlog(turn),
                };
                if lane == Lane::Backlog || has {
                    share.took(lane);
                }
                if has {
                    match lane {
                        Lane::Live => taken.0 += 1,
                        Lane::Backlog => taken.1 += 1,
                    }
                    break;
                }
            }
        }
        taken
    }

    #[test]
    fn the_backlog_gets_its_share_beside_a_full_live_lane() {
        assert_eq!(shares(|_| true, |_| true), (800, 200));
    }

    #[test]
    fn an_empty_lane_leaves_everything_to_the_other() {
        assert_eq!(shares(|_| true, |_| false), (1_000, 0));
        assert_eq!(shares(|_| false, |_| true), (0, 1_000));
    }

    #[test]
    fn the_backlog_takes_what_a_half_full_live_lane_leaves() {
        let (live, backlog) = shares(|turn| turn % 2 == 0, |_| true);
        assert!(live >= 400 && backlog <= 600, "{live} {backlog}");
    }
}
