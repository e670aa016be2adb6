//! One opportunity while it is being decided: what each aggregator was asked
//! and answered for each of its slots, and how long that took.

use alloc::vec::Vec;

use returnpath_shared::wire::{
    AggregatorRecord, Exclusion, NoFill, OfferRecord, Outcome, Policy, PolicyKind,
};

use super::DeviceIndex;
use crate::{
    answered::Answered,
    opportunity::{Read, Slot},
    policy::stands,
};

/// An opportunity being decided.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) device: DeviceIndex,
    pub(super) read: Read,
    /// When it was taken, by the monotonic clock.
    pub(super) taken_us: u64,
    /// In the order of the break; those that are decided elsewhere are not here.
    pub(super) slots: Vec<SlotAsking>,
    pub(super) waiting: Waiting,
}

/// One slot of it.
#[derive(Debug)]
pub(super) struct SlotAsking {
    pub(super) slot: Slot,
    /// Every aggregator, in the order of the settings.
    pub(super) parts: Vec<Part>,
    /// Asking ends here, by the monotonic clock.
    pub(super) deadline_us: u64,
    /// Why nobody is asked, where that is known from the beginning.
    pub(super) verdict: Option<NoFill>,
    pub(super) is_decided: bool,
}

/// One aggregator's part in a slot.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) record: AggregatorRecord,
    pub(super) state: PartState,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PartState {
    Untried,
    UnderWay {
        /// Of the call.
        number: u64,
        asked_us: u64,
    },
    Done,
}

impl Asking {
    /// When it must go on, with or without answers.
    pub(super) fn deadline_us(&self) -> Option<u64> {
        let open = self.slots.iter();
        let open = open.filter(|slot| !slot.is_decided && !slot.is_unsent());
        open.map(|slot| slot.deadline_us).min()
    }
}

/// What a slot needs next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// To ask an aggregator.
    Ask(usize),
    /// Answers.
    Wait,
    /// To be decided.
    Decide,
}

impl SlotAsking {
    /// Whether nothing will be sent, and so perhaps nothing remembered.
    pub(super) fn is_unsent(&self) -> bool {
        matches!(self.verdict, Some(NoFill::Expired | NoFill::StateBound))
    }

    /// What it needs next. `is_capped` says whether the box may see no more of
    /// an advertiser.
    pub(super) fn step(
        &self,
        policy: &Policy,
        now_us: u64,
        is_capped: impl Fn(&str) -> bool,
    ) -> Step {
        if self.verdict.is_some() || now_us >= self.deadline_us {
            return Step::Decide;
        }
        let untried = self
            .parts
            .iter()
            .position(|part| part.state == PartState::Untried);
        let is_waiting = self
            .parts
            .iter()
            .any(|part| matches!(part.state, PartState::UnderWay { .. }));
        let is_taken = |record: &OfferRecord| {
            let advertiser = record.offer.as_ref().map_or("", |offer| &offer.advertiser);
            stands(record) && !is_capped(advertiser)
        };
        let has_offer = || {
            let mut offers = self.parts.iter().flat_map(|part| &part.record.offers);
            offers.any(is_taken)
        };
        let is_first_enough = policy.kind() != PolicyKind::HighestPrice;
        match untried {
            _ if is_first_enough && is_waiting => Step::Wait,
            Some(_) if is_first_enough && has_offer() => Step::Decide,
            Some(place) => Step::Ask(place),
            None if is_waiting => Step::Wait,
            None => Step::Decide,
        }
    }

    /// Says of everyone who did not answer why, before the slot is decided.
    pub(super) fn close(&mut self, taken_us: u64, now_us: u64, waiting: &mut Waiting) {
        let is_time_up = now_us >= self.deadline_us;
        for part in &mut self.parts {
            match part.state {
                PartState::Done => {}
                PartState::Untried => part.exclude(match self.verdict {
                    Some(NoFill::Expired) => Exclusion::TooLate,
                    Some(_) => Exclusion::Busy,
                    None if is_time_up => Exclusion::TooLate,
                    None => Exclusion::NotNeeded,
                }),
                PartState::UnderWay { asked_us, .. } => {
                    waiting.add(asked_us, now_us);
                    part.record.asked_after_us = asked_us.saturating_sub(taken_us);
                    part.record.latency_us = now_us.saturating_sub(asked_us);
                    part.end(Outcome::Timeout);
                }
            }
        }
    }
}

impl Part {
    pub(super) fn new(name: &str) -> Self {
        Self {
            record: AggregatorRecord {
                name: name.into(),
                ..AggregatorRecord::default()
            },
            state: PartState::Untried,
        }
    }

    pub(super) fn exclude(&mut self, exclusion: Exclusion) {
        self.record.set_exclusion(exclusion);
        self.state = PartState::Done;
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        self.record.set_outcome(outcome);
        self.state = PartState::Done;
    }

    pub(super) fn answered(&mut self, answered: Answered) {
        let outcome = answered.record(&mut self.record);
        self.end(outcome);
    }
}

/// How long at least one call was on its way, in microseconds of the monotonic
/// clock: what of the time was not ours.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Waiting {
    /// Counted up to here.
    to_us: u64,
    waited_us: u64,
}

impl Waiting {
    /// A call was on its way from one time to the other. To be told in the
    /// order in which they ended; where it is not, too little is counted, never
    /// too much.
    pub(super) fn add(&mut self, sent_us: u64, ended_us: u64) {
        self.waited_us += ended_us.saturating_sub(sent_us.max(self.to_us));
        self.to_us = self.to_us.max(ended_us);
    }

    pub(super) fn waited_us(&self) -> u64 {
        self.waited_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_calls_are_waited_for_once() {
        let mut waiting = Waiting::default();
        for (sent_us, ended_us, waited_us) in [
            (10, 40, 30),
            (12, 50, 40),
            // Within what was counted.
            (20, 30, 40),
            (70, 75, 45),
            // A clock that is read in another order.
            (90, 80, 45),
        ] {
            waiting.add(sent_us, ended_us);
            assert_eq!(waiting.waited_us(), waited_us);
        }
    }
}
