//! Which input the next record is taken from: the assigned one first, and the
//! followed one at a bounded share, so that (in refine) a fleet that comes back
//! neither delays what happens now nor waits for ever. Pure.

use super::Input;

/// While both inputs have records, one in this many is taken from the followed
/// one. With the headroom of a live fleet at half of a role's capacity, the
/// followed input gets the idle half as well: it is only bounded where it would
/// hurt.
pub(super) const FOLLOWED_ONE_IN: u32 = 5;

/// Counts the turns.
#[derive(Debug, Default)]
pub(super) struct Share {
    assigned_in_a_row: u32,
}

impl Share {
    /// The input that is asked first; the other one is asked when it is empty.
    pub(super) fn first(&self) -> Input {
        if self.assigned_in_a_row + 1 >= FOLLOWED_ONE_IN {
            Input::Followed
        } else {
            Input::Assigned
        }
    }

    /// A record was taken from this input; or the followed one had its turn and
    /// nothing to give.
    pub(super) fn took(&mut self, input: Input) {
        match input {
            Input::Assigned => self.assigned_in_a_row = self.assigned_in_a_row.saturating_add(1),
            Input::Followed => self.assigned_in_a_row = 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(assigned: impl Fn(u32) -> bool, followed: impl Fn(u32) -> bool) -> (u32, u32) {
        let mut share = Share::default();
        let mut taken = (0, 0);
        for turn in 0..1_000 {
            let order = match share.first() {
                Input::Assigned => [Input::Assigned, Input::Followed],
                Input::Followed => [Input::Followed, Input::Assigned],
            };
            for input in order {
                let has = match input {
                    Input::Assigned => assigned(turn),
                    Input::Followed => followed(turn),
                };
                if input == Input::Followed || has {
                    share.took(input);
                }
                if has {
                    match input {
                        Input::Assigned => taken.0 += 1,
                        Input::Followed => taken.1 += 1,
                    }
                    break;
                }
            }
        }
        taken
    }

    #[test]
    fn the_followed_input_gets_its_share_beside_a_full_assigned_one() {
        assert_eq!(shares(|_| true, |_| true), (800, 200));
    }

    #[test]
    fn an_empty_input_leaves_everything_to_the_other() {
        assert_eq!(shares(|_| true, |_| false), (1_000, 0));
        assert_eq!(shares(|_| false, |_| true), (0, 1_000));
    }

    #[test]
    fn the_followed_input_takes_what_a_half_full_assigned_one_leaves() {
        let (assigned, followed) = shares(|turn| turn % 2 == 0, |_| true);
        assert!(assigned >= 400 && followed <= 600, "{assigned} {followed}");
    }
}
