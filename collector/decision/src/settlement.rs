//! When what a box has told is known to be all, so that a decision that was not
//! shown by then never will be.
//!
//! An opportunity says how far its box has told everything. That is true of
//! what refine has written, and its proofs come by the other input, `rp.ads`,
//! which may lag. The same opportunity stands in `rp.ads` too, behind those
//! proofs: only when both have been read does it count.

use alloc::collections::VecDeque;

use returnpath_shared::wire::{BatchId, OpenDecision, Opportunity, Refined};

use crate::limit::{BOOT_ORDER_MS, PLAY_GRACE_MS, UNMATCHED_MAX};

/// How far a box has told everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Settled {
    boot_id: u64,
    uptime_ms: u64,
    received_unix_ms: i64,
}

impl Settled {
    /// What an opportunity says; `None` where it says nothing.
    pub(crate) fn of(opportunity: &Opportunity, refined: &Refined) -> Option<Self> {
        (opportunity.settled_uptime_ms != 0).then_some(Self {
            boot_id: opportunity.sent_boot_id,
            uptime_ms: opportunity.settled_uptime_ms,
            received_unix_ms: refined.received_unix_ms,
        })
    }

    /// Whether everything is told that could say that a decision was shown.
    pub(crate) fn covers(&self, open: &OpenDecision) -> bool {
        if self.boot_id == open.boot_id {
            self.uptime_ms > open.expiry_uptime_ms.saturating_add(PLAY_GRACE_MS)
        } else {
            // Boot ids are random: another boot is a later one when it is heard
            // long after.
            self.received_unix_ms > open.expiry_unix_ms.saturating_add(BOOT_ORDER_MS)
        }
    }
}

/// Names an event: its batch and its place in it.
type EventName = (Option<BatchId>, u32);

/// What was read of one input and not yet of the other.
#[derive(Clone, Default, Debug)]
pub(crate) struct Settlement {
    /// In the order of `rp.opportunities`.
    said: VecDeque<(EventName, Settled)>,
    /// Opportunities read in `rp.ads`, in its order.
    told: VecDeque<EventName>,
}

impl Settlement {
    /// An opportunity was read, and says how far its box is settled; returns
    /// what counts now.
    pub(crate) fn say(&mut self, refined: &Refined, settled: Settled) -> Option<Settled> {
        let name = name(refined);
        if let Some(place) = self.told.iter().position(|told| *told == name) {
            // What was told before it is behind it in the other input too.
            self.told.drain(..=place);
            return Some(settled);
        }
        if self.said.len() >= UNMATCHED_MAX {
            self.said.pop_front();
        }
        self.said.push_back((name, settled));
        None
    }

    /// The same opportunity was read in `rp.ads`; returns what counts now.
    pub(crate) fn tell(&mut self, refined: &Refined) -> Option<Settled> {
        let name = name(refined);
        if let Some(place) = self.said.iter().position(|(said, _)| *said == name) {
            return self
                .said
                .drain(..=place)
                .next_back()
                .map(|(_, settled)| settled);
        }
        if self.told.len() >= UNMATCHED_MAX {
            self.told.pop_front();
        }
        self.told.push_back(name);
        None
    }
}

fn name(refined: &Refined) -> EventName {
    (refined.batch, refined.index)
}

#[cfg(test)]
mod tests {
    use returnpath_shared::wire::Epoch;

    use super::*;

    fn refined(sequence: u64) -> Refined {
        Refined {
            batch: Some(BatchId {
                epoch: Some(Epoch {
                    incarnation: 1,
                    start: 1,
                }),
                sequence,
            }),
            ..Refined::default()
        }
    }

    fn settled(uptime_ms: u64) -> Settled {
        Settled {
            boot_id: 1,
            uptime_ms,
            received_unix_ms: 0,
        }
    }

    #[test]
    fn what_is_settled_counts_once_both_inputs_have_it() {
        let mut settlement = Settlement::default();
        assert_eq!(settlement.say(&refined(1), settled(10)), None);
        assert_eq!(settlement.say(&refined(2), settled(20)), None);
        assert_eq!(settlement.tell(&refined(2)), Some(settled(20)));
        assert_eq!(settlement.tell(&refined(3)), None);
        assert_eq!(settlement.say(&refined(3), settled(30)), Some(settled(30)));
        assert_eq!(settlement.say(&refined(3), settled(30)), None, "read again");
    }

    #[test]
    fn an_input_that_lags_far_behind_costs_the_oldest() {
        let mut settlement = Settlement::default();
        for sequence in 0..=UNMATCHED_MAX as u64 {
            assert_eq!(settlement.tell(&refined(sequence)), None);
        }
        assert_eq!(settlement.say(&refined(0), settled(1)), None);
        assert_eq!(settlement.say(&refined(1), settled(2)), Some(settled(2)));
    }

    #[test]
    fn a_decision_is_settled_by_its_own_boot_or_by_a_later_one() {
        let open = OpenDecision {
            boot_id: 1,
            expiry_uptime_ms: 1_000,
            expiry_unix_ms: 50_000,
            ..OpenDecision::default()
        };
        for (boot_id, uptime_ms, received_unix_ms, covers) in [
            (1, 1_000 + PLAY_GRACE_MS, 60_000, false),
            (1, 1_001 + PLAY_GRACE_MS, 60_000, true),
            (2, u64::MAX, 50_000 + BOOT_ORDER_MS, false),
            (2, 1, 50_001 + BOOT_ORDER_MS, true),
        ] {
            let settled = Settled {
                boot_id,
                uptime_ms,
                received_unix_ms,
            };
            assert_eq!(settled.covers(&open), covers, "{settled:?}");
        }
    }
}
