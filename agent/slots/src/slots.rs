//! The state of all slots, and what moves it.
//!
//! Every call ends in one pass that tells what is owed and forgets what is
//! over. A decision goes through: arrived, *binding* (its row is on its way to
//! flash), *bound* (handed over, acknowledged), *over* (expired; its slot stays
//! bound while there is room).

mod asking;
mod telling;

use alloc::{boxed::Box, collections::VecDeque, string::String, vec::Vec};

use bytes::Bytes;
use returnpath_shared::{
    DeviceId,
    wire::{self, AdEvent, ad_event},
};

pub use self::asking::{ASK_AGAIN_MS, Asked, OPPORTUNITIES_MAX};
use self::{
    asking::Opportunities,
    telling::{Owed, Refusals},
};
use crate::{
    BindOutcome, Bucket, Follower, HandOver, Output, Refusal, Refused, Row, Slot, Tell,
    TellOutcome, To, Verify, message,
};

/// Slots known at once, in RAM and in the file: four breaks of 16 slots, where a
/// box has one break before it and the next one asked for ahead. At the bound
/// the slot that expired first makes room; where none has expired, the new
/// decision is refused as unstored.
pub const HELD_MAX: usize = 64;

/// Messages looked into at once: everything that may be open, pushed by two
/// collectors, of which one takes over from the other.
const LOOKS_MAX: u32 = 128;

/// Beyond these, one message is looked into after each interval of this many
/// ms. To verify a signature takes a box's processor up to 1 ms: a flood of
/// forged decisions gets less than a hundredth of it.
const LOOK_EVERY_MS: u64 = 125;

/// What a start begins with.
#[derive(Clone, Debug)]
pub struct Start {
    /// This box.
    pub device: DeviceId,
    /// This boot.
    pub boot_id: u64,
    /// The rows of the queue file: [`HELD_MAX`], and such as stood although their
    /// commits were said to have failed.
    pub rows: Vec<Row>,
}

/// Counts since the start, for people and health events. Every message is
/// counted once: as bound, repeated or refused; one on its way to flash not
/// yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Decisions bound to their slot.
    pub bound: u64,
    /// Of bound ones, also those of earlier runs: handed to a player.
    pub handed_over: u64,
    /// Came again while bound and open: nothing to do.
    pub repeated: u64,
    /// Refusals that the cloud was not told of, because too many were owed;
    /// they are counted by reason like the others.
    pub untold: u64,
    /// Opportunities that the box told again after a new connection.
    pub asked_again: u64,
    /// Bound and not expired, now.
    pub open: usize,
    refused: [u64; Refusal::ALL.len()],
}

impl Status {
    /// How many were refused for a reason.
    #[must_use]
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refused.get(reason as usize).copied().unwrap_or(0)
    }
}

/// Which decision each slot is bound to.
///
/// What it promises, each checked in `tests/slots` after every step of a
/// generated life: no slot is handed two decisions, whatever arrives and
/// wherever the agent is killed; nothing is handed over before it is on flash
/// or after it has expired; every bound decision is acknowledged; every message
/// is counted once.
#[derive(Debug)]
pub struct Slots {
    device: DeviceId,
    boot_id: u64,
    now_ms: u64,
    held: Vec<Held>,
    refusals: Refusals,
    opportunities: Opportunities,
    looks: Bucket,
    next_number: u64,
    outputs: VecDeque<Output>,
    /// `open` is filled in by `status`.
    totals: Status,
}

/// A slot that is bound, or about to be.
#[derive(Debug)]
struct Held {
    /// Without its message once it is over.
    row: Row,
    /// `None` when it is over, and where the file does not hold what was signed
    /// by a key that is still trusted: nobody gets it, and the slot stays bound.
    decision: Option<wire::Decision>,
    stage: Stage,
    handed_over: bool,
    acknowledgement: Owed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The commit with this number is under way.
    Binding(u64),
    Bound,
}

impl Held {
    fn acknowledgement(&self) -> AdEvent {
        let creative = self.decision.as_ref().and_then(|it| it.creative.as_ref());
        AdEvent {
            kind: ad_event::Kind::DecisionAcknowledged as i32,
            decision_id: self.row.decision_id.clone(),
            break_id: self.row.slot.break_id.clone(),
            slot: self.row.slot.index,
            creative_id: creative
                .map(|creative| creative.creative_id.clone())
                .unwrap_or_default(),
            ..AdEvent::default()
        }
    }

    /// For players, while it is bound and open.
    fn open_decision(&self, boot_id: u64, now_ms: u64) -> Option<&wire::Decision> {
        let open = self.stage == Stage::Bound && !self.row.is_over(boot_id, now_ms);
        self.decision.as_ref().filter(|_| open)
    }
}

impl Slots {
    /// Starts a run with what the queue file holds. All of it is acknowledged
    /// again: whether the last run's word got out is not known, and who hears
    /// it twice recognises it.
    #[must_use]
    pub fn new(start: Start, verify: &dyn Verify, now_ms: u64) -> Self {
        let Start {
            device,
            boot_id,
            rows,
        } = start;
        let held = rows.into_iter().map(|row| {
            let decision = message::open(&row.signed, &device, verify).ok();
            Held {
                decision: decision
                    .filter(|it| slot_of(it) == row.slot && it.decision_id == row.decision_id),
                row,
                stage: Stage::Bound,
                handed_over: false,
                acknowledgement: Owed::From(now_ms),
            }
        });
        let mut slots = Self {
            held: held.collect(),
            device,
            boot_id,
            now_ms,
            refusals: Refusals::default(),
            opportunities: Opportunities::default(),
            looks: Bucket::new(LOOKS_MAX, LOOK_EVERY_MS),
            next_number: 1,
            outputs: VecDeque::new(),
            totals: Status::default(),
        };
        slots.advance(now_ms);
        slots
    }

    /// A message came on the box's topic for decisions.
    pub fn arrived(&mut self, message: &[u8], verify: &dyn Verify, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        if self.is_repeated(message) {
            self.totals.repeated += 1;
        } else if !self.looks.take(self.now_ms) {
            self.refuse(Refused {
                reason: Refusal::TooMany,
                decision_id: String::new(),
                expected: "fewer messages at a time",
                is_told: false,
            });
        } else {
            match message::open(message, &self.device, verify) {
                Ok(decision) => self.opened(decision, message),
                Err(refused) => self.refuse(refused),
            }
        }
        self.advance(now_ms);
    }

    /// Whether this is, to the byte, what an open slot is bound to: verified
    /// before.
    fn is_repeated(&self, message: &[u8]) -> bool {
        self.held.iter().any(|held| {
            held.row.signed == message
                && held.decision.is_some()
                && !held.row.is_over(self.boot_id, self.now_ms)
        })
    }

    /// An authentic decision for this box, with all fields as they must be.
    fn opened(&mut self, decision: wire::Decision, message: &[u8]) {
        let row = Row {
            slot: slot_of(&decision),
            decision_id: decision.decision_id.clone(),
            expiry_uptime_ms: decision.expiry_uptime_ms,
            signed: Bytes::copy_from_slice(message),
        };
        let known = self.held.iter().find(|held| held.row.slot == row.slot);
        let known_id = |held: &&Held| held.row.decision_id == row.decision_id;
        let refusal = if row.is_over(self.boot_id, self.now_ms) {
            match known.filter(known_id) {
                Some(held) if held.handed_over => {
                    (Refusal::Replayed, "nothing: it was handed over before")
                }
                Some(_) | None => (Refusal::Expired, "an expiry ahead, in this boot"),
            }
        } else if let Some(held) = known {
            match &held.decision {
                Some(bound) if *bound == decision => {
                    self.totals.repeated += 1;
                    return;
                }
                None if !held.row.is_over(self.boot_id, self.now_ms) => {
                    (Refusal::Unstored, "a readable row of its slot")
                }
                Some(_) | None => (Refusal::Superseded, "a slot that is not bound yet"),
            }
        } else if self.held.iter().any(|held| known_id(&held)) {
            // Both would be acknowledged under one name.
            (Refusal::Malformed, "decision_id: not that of another slot")
        } else if !self.make_room() {
            (Refusal::Unstored, "fewer than 64 slots bound")
        } else {
            self.bind(row, decision);
            return;
        };
        let (reason, expected) = refusal;
        let is_told = reason.is_told() && self.refusals.owe(&decision, reason, self.now_ms);
        self.refuse(Refused {
            reason,
            decision_id: decision.decision_id,
            expected,
            is_told,
        });
    }

    fn bind(&mut self, row: Row, decision: wire::Decision) {
        let number = self.take_number();
        self.held.push(Held {
            row: row.clone(),
            decision: Some(decision),
            stage: Stage::Binding(number),
            handed_over: false,
            acknowledgement: Owed::From(self.now_ms),
        });
        self.outputs.push_back(Output::Bind { number, row });
    }

    /// The answer to [`Output::Bind`].
    pub fn bound(&mut self, number: u64, outcome: BindOutcome, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        let mut stages = self.held.iter();
        let Some(index) = stages.position(|held| held.stage == Stage::Binding(number)) else {
            // One that was bound before and is put into a new file.
            return;
        };
        match outcome {
            BindOutcome::Done => {
                self.totals.bound += 1;
                if let Some(held) = self.held.get_mut(index) {
                    held.stage = Stage::Bound;
                }
                let held = self.held.get(index);
                let open = held.and_then(|held| held.open_decision(self.boot_id, self.now_ms));
                if let Some(decision) = open.cloned() {
                    self.hand_over(To::All, decision);
                }
            }
            BindOutcome::Failed => {
                // Should the row stand nevertheless, the next start finds it
                // bound, or bound to what took its place: never both.
                let held = self.held.remove(index);
                self.refuse(Refused {
                    reason: Refusal::Unstored,
                    decision_id: held.row.decision_id,
                    expected: "a queue file that takes its row",
                    is_told: false,
                });
            }
        }
        self.advance(now_ms);
    }

    /// The queue file was replaced: what is open is put in again, in case it
    /// could not be copied. Until that is done, those slots are bound in memory
    /// only.
    pub fn file_replaced(&mut self) {
        for index in 0..self.held.len() {
            let number = self.next_number;
            let held = self.held.get(index);
            let open = held.filter(|held| {
                held.stage == Stage::Bound && !held.row.is_over(self.boot_id, self.now_ms)
            });
            if let Some(held) = open {
                let row = held.row.clone();
                self.next_number += 1;
                self.outputs.push_back(Output::Bind { number, row });
            }
        }
    }

    /// A client begins to follow: it gets what is open.
    pub fn followed(&mut self, follower: Follower, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        let open = self.held.iter();
        let open = open.filter_map(|held| held.open_decision(self.boot_id, self.now_ms));
        let open: Vec<_> = open.cloned().collect();
        for decision in open {
            self.hand_over(To::One(follower), decision);
        }
        self.advance(now_ms);
    }

    fn hand_over(&mut self, to: To, decision: wire::Decision) {
        let hand_over = Box::new(HandOver { to, decision });
        self.outputs.push_back(Output::HandOver(hand_over));
    }

    /// A player got this decision.
    pub fn handed_over(&mut self, decision_id: &str) {
        let mut held = self.held.iter_mut();
        if let Some(held) = held.find(|held| held.row.decision_id == decision_id)
            && !held.handed_over
        {
            held.handed_over = true;
            self.totals.handed_over += 1;
        }
    }

    /// The answer to [`Output::Tell`].
    pub fn told(&mut self, number: u64, outcome: TellOutcome, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        let mut held = self.held.iter_mut();
        match held.find(|held| held.acknowledgement == Owed::Asked(number)) {
            Some(held) => held.acknowledgement.told(outcome, self.now_ms),
            None => self.refusals.told(number, outcome, self.now_ms),
        }
        self.advance(now_ms);
    }

    /// Does what is due; to be called when [`Self::poll_timeout`] has passed.
    pub fn tick(&mut self, now_ms: u64) {
        self.advance(now_ms);
    }

    /// The next thing to do; to be called until `None` after every call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::tick`] is wanted; `None` while nothing is pending. What
    /// expires wakes nobody: it is looked at when something else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        let held = self.held.iter();
        let held = held.filter_map(|held| match (held.stage, held.acknowledgement) {
            (Stage::Bound, Owed::From(at_ms)) => Some(at_ms),
            (Stage::Binding(_), _) | (Stage::Bound, Owed::Asked(_) | Owed::Settled) => None,
        });
        let refusals = self.refusals.due();
        held.chain(refusals).chain(self.ask_again_due()).min()
    }

    /// Counts, for people and health events.
    #[must_use]
    pub fn status(&self, now_ms: u64) -> Status {
        let now_ms = self.now_ms.max(now_ms);
        let open = self
            .held
            .iter()
            .filter(|held| held.stage == Stage::Bound && !held.row.is_over(self.boot_id, now_ms));
        Status {
            open: open.count(),
            untold: self.refusals.untold(),
            ..self.totals
        }
    }

    fn advance(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        self.acknowledge();
        while let Some(event) = self.refusals.next(self.next_number, self.now_ms) {
            let number = self.take_number();
            self.outputs.push_back(Output::Tell(Tell { number, event }));
        }
        self.ask_again();
        self.let_go();
    }

    /// Tells what is bound and not acknowledged yet.
    fn acknowledge(&mut self) {
        for held in &mut self.held {
            if held.stage == Stage::Bound && held.acknowledgement.is_due(self.now_ms) {
                let number = self.next_number;
                self.next_number += 1;
                held.acknowledgement = Owed::Asked(number);
                let event = held.acknowledgement();
                self.outputs.push_back(Output::Tell(Tell { number, event }));
            }
        }
    }

    /// Lets go of what is over and acknowledged: of another boot's slots, which
    /// cannot bind in this one, and of the messages of this one's.
    fn let_go(&mut self) {
        let (boot_id, now_ms) = (self.boot_id, self.now_ms);
        let outputs = &mut self.outputs;
        self.held.retain_mut(|held| {
            if held.acknowledgement != Owed::Settled || !held.row.is_over(boot_id, now_ms) {
                return true;
            }
            if held.row.slot.boot_id != boot_id {
                outputs.push_back(Output::Forget(held.row.slot.clone()));
                return false;
            }
            held.decision = None;
            held.row.signed = Bytes::new();
            true
        });
    }

    /// Whether another slot can be bound; forgets those that expired first where
    /// it must. A start may find more than [`HELD_MAX`]: rows of commits that
    /// were said to have failed, and stood.
    fn make_room(&mut self) -> bool {
        while self.held.len() >= HELD_MAX {
            let over = self.held.iter().enumerate().filter(|(_, held)| {
                held.acknowledgement == Owed::Settled && held.row.is_over(self.boot_id, self.now_ms)
            });
            let Some((index, _)) = over.min_by_key(|(_, held)| held.row.expiry_uptime_ms) else {
                return false;
            };
            let held = self.held.swap_remove(index);
            self.outputs.push_back(Output::Forget(held.row.slot));
        }
        true
    }

    fn refuse(&mut self, refused: Refused) {
        if let Some(count) = self.totals.refused.get_mut(refused.reason as usize) {
            *count += 1;
        }
        self.outputs.push_back(Output::Refused(refused));
    }

    fn take_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }
}

fn slot_of(decision: &wire::Decision) -> Slot {
    Slot {
        boot_id: decision.expiry_boot_id,
        break_id: decision.break_id.clone(),
        index: decision.slot,
    }
}
