//! What the cloud is still to be told, and the refusals among it.

use alloc::{string::ToString as _, vec::Vec};

use returnpath_shared::wire::{AdEvent, Decision, ad_event};

use crate::{Bucket, Refusal, TellOutcome, last_ids::LastIds};

/// A busy queue is asked again after this long.
const RETRY_MS: u64 = 1_000;

/// Refusals owed at once. They are for people who look into a decision; the
/// counts by reason, which health events carry, are complete without them.
const REFUSALS_MAX: usize = 64;

/// Refusals told at once; each is proof, which the queue gives up last.
const TELLS_MAX: u32 = 64;

/// Beyond these, one is told after each interval of this many ms: who plays a
/// box's old decisions back to it fills its queue with no more than that.
const TELL_EVERY_MS: u64 = 60_000;

/// How far telling has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owed {
    /// To be told from this uptime on.
    From(u64),
    /// On its way under this number.
    Asked(u64),
    /// Safe.
    Settled,
}

impl Owed {
    pub(super) fn is_due(self, now_ms: u64) -> bool {
        matches!(self, Self::From(at_ms) if at_ms <= now_ms)
    }

    pub(super) fn told(&mut self, outcome: TellOutcome, now_ms: u64) {
        *self = match outcome {
            TellOutcome::Busy => Self::From(now_ms.saturating_add(RETRY_MS)),
            TellOutcome::Taken => *self,
            TellOutcome::Settled => Self::Settled,
        };
    }
}

/// Refusals that are not told yet. They do not survive a restart: what was
/// refused is refused again when it comes again.
#[derive(Debug)]
pub(super) struct Refusals {
    owed: Vec<(Owed, AdEvent)>,
    /// Ids of which a refusal was owed: one of a decision is enough, and more
    /// of them would be taken for repeats.
    told: LastIds,
    tells: Bucket,
    untold: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            owed: Vec::new(),
            told: LastIds::default(),
            tells: Bucket::new(TELLS_MAX, TELL_EVERY_MS),
            untold: 0,
        }
    }
}

impl Refusals {
    /// Says whether it is told; not when it was told before.
    pub(super) fn owe(&mut self, decision: &Decision, reason: Refusal, now_ms: u64) -> bool {
        if self.told.contains(&decision.decision_id) {
            return false;
        }
        if self.owed.len() >= REFUSALS_MAX || !self.tells.take(now_ms) {
            self.untold += 1;
            return false;
        }
        self.told.insert(&decision.decision_id);
        let event = AdEvent {
            kind: ad_event::Kind::DecisionRefused as i32,
            decision_id: decision.decision_id.clone(),
            break_id: decision.break_id.clone(),
            slot: decision.slot,
            refusal: reason.name().to_string(),
            ..AdEvent::default()
        };
        self.owed.push((Owed::From(now_ms), event));
        true
    }

    /// The next one that is due, asked for under `number` from now on.
    pub(super) fn next(&mut self, number: u64, now_ms: u64) -> Option<AdEvent> {
        let mut owed = self.owed.iter_mut();
        let (owed, event) = owed.find(|(owed, _)| owed.is_due(now_ms))?;
        *owed = Owed::Asked(number);
        Some(event.clone())
    }

    /// One that is taken is in the queue's hands.
    pub(super) fn told(&mut self, number: u64, outcome: TellOutcome, now_ms: u64) {
        let mut asked = self.owed.iter();
        let Some(index) = asked.position(|(owed, _)| *owed == Owed::Asked(number)) else {
            return;
        };
        match outcome {
            TellOutcome::Busy => {
                if let Some((owed, _)) = self.owed.get_mut(index) {
                    owed.told(outcome, now_ms);
                }
            }
            TellOutcome::Taken | TellOutcome::Settled => {
                self.owed.remove(index);
            }
        }
    }

    pub(super) fn due(&self) -> impl Iterator<Item = u64> {
        self.owed.iter().filter_map(|(owed, _)| match owed {
            Owed::From(at_ms) => Some(*at_ms),
            Owed::Asked(_) | Owed::Settled => None,
        })
    }

    pub(super) fn untold(&self) -> u64 {
        self.untold
    }
}
