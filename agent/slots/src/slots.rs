//! The state of all slots, and what moves it.
//!
//! Every call ends in one pass that tells what is owed and forgets what is
//! over. A decision goes through: arrived, *binding* (its row is on its way to
//! flash), *bound* (handed over, acknowledged), *expired* (forgotten once its
//! acknowledgement is safe).

mod telling;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    string::String,
    vec::Vec,
};

use bytes::Bytes;
use returnpath_shared::{
    DeviceId,
    wire::{self, AdEvent, ad_event},
};

use self::telling::{Owed, Refusals};
use crate::{
    BindOutcome, Follower, HandOver, Output, Refusal, Refused, Row, Slot, Tell, TellOutcome, To,
    Verify, last_ids::LastIds, message,
};

/// Slots bound at once: four breaks of 16 slots, where a box has one break
/// before it and the next one asked for ahead. At the bound a new decision is
/// refused as unstored; a bound one is never given up for it.
pub const HELD_MAX: usize = 64;

/// What a start begins with.
#[derive(Clone, Debug)]
pub struct Start {
    /// This box.
    pub device: DeviceId,
    /// This boot.
    pub boot_id: u64,
    /// The rows of the queue file, at most [`HELD_MAX`].
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
    held: BTreeMap<Slot, Held>,
    /// Handed over and expired since.
    finished: LastIds,
    refusals: Refusals,
    next_number: u64,
    outputs: VecDeque<Output>,
    /// `open` is filled in by `status`.
    totals: Status,
}

/// A slot that is bound, or about to be.
#[derive(Debug)]
struct Held {
    decision_id: String,
    expiry_uptime_ms: u64,
    signed: Bytes,
    /// `None` where the file does not hold what was signed by a key that is
    /// still trusted: nobody gets it, and the slot stays bound.
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
    fn row(&self, slot: &Slot) -> Row {
        Row {
            slot: slot.clone(),
            decision_id: self.decision_id.clone(),
            expiry_uptime_ms: self.expiry_uptime_ms,
            signed: self.signed.clone(),
        }
    }

    fn acknowledgement(&self, slot: &Slot) -> AdEvent {
        let creative = self.decision.as_ref().and_then(|it| it.creative.as_ref());
        AdEvent {
            kind: ad_event::Kind::DecisionAcknowledged as i32,
            decision_id: self.decision_id.clone(),
            break_id: slot.break_id.clone(),
            slot: slot.index,
            creative_id: creative
                .map(|creative| creative.creative_id.clone())
                .unwrap_or_default(),
            ..AdEvent::default()
        }
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
            let held = Held {
                decision: decision
                    .filter(|it| slot_of(it) == row.slot && it.decision_id == row.decision_id),
                decision_id: row.decision_id,
                expiry_uptime_ms: row.expiry_uptime_ms,
                signed: row.signed,
                stage: Stage::Bound,
                handed_over: false,
                acknowledgement: Owed::From(now_ms),
            };
            (row.slot, held)
        });
        let mut slots = Self {
            held: held.collect(),
            device,
            boot_id,
            now_ms,
            finished: LastIds::default(),
            refusals: Refusals::default(),
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
        match message::open(message, &self.device, verify) {
            Ok(decision) => self.opened(decision, message),
            Err(refused) => self.refuse(refused),
        }
        self.advance(now_ms);
    }

    /// An authentic decision for this box, with all fields as they must be.
    fn opened(&mut self, decision: wire::Decision, message: &[u8]) {
        let slot = slot_of(&decision);
        let refusal = if self.is_expired(&slot, decision.expiry_uptime_ms) {
            if self.was_handed_over(&decision.decision_id) {
                Some((Refusal::Replayed, "nothing: it was handed over before"))
            } else {
                Some((Refusal::Expired, "an expiry ahead, in this boot"))
            }
        } else if let Some(held) = self.held.get(&slot) {
            match &held.decision {
                Some(bound) if *bound == decision => {
                    self.totals.repeated += 1;
                    return;
                }
                Some(_) => Some((Refusal::Superseded, "a slot that is not bound yet")),
                None => Some((Refusal::Unstored, "a readable row of its slot")),
            }
        } else if self.holds(&decision.decision_id) {
            // Both would be acknowledged under one name.
            Some((Refusal::Malformed, "decision_id: not that of another slot"))
        } else if self.held.len() >= HELD_MAX {
            Some((Refusal::Unstored, "fewer than 64 slots bound"))
        } else {
            None
        };
        match refusal {
            Some((reason, expected)) => self.refuse_known(&decision, reason, expected),
            None => self.bind(slot, decision, message),
        }
    }

    fn bind(&mut self, slot: Slot, decision: wire::Decision, message: &[u8]) {
        let number = self.take_number();
        let held = Held {
            decision_id: decision.decision_id.clone(),
            expiry_uptime_ms: decision.expiry_uptime_ms,
            signed: Bytes::copy_from_slice(message),
            decision: Some(decision),
            stage: Stage::Binding(number),
            handed_over: false,
            acknowledgement: Owed::From(self.now_ms),
        };
        let row = held.row(&slot);
        self.held.insert(slot, held);
        self.outputs.push_back(Output::Bind { number, row });
    }

    /// The answer to [`Output::Bind`].
    pub fn bound(&mut self, number: u64, outcome: BindOutcome, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        let (now_ms, boot_id) = (self.now_ms, self.boot_id);
        let mut binding = self.held.iter_mut();
        let Some((slot, held)) = binding.find(|(_, it)| it.stage == Stage::Binding(number)) else {
            // One that was bound before and is put into a new file.
            return;
        };
        match outcome {
            BindOutcome::Done => {
                held.stage = Stage::Bound;
                self.totals.bound += 1;
                let open = slot.boot_id == boot_id && now_ms < held.expiry_uptime_ms;
                if let Some(decision) = held.decision.clone().filter(|_| open) {
                    let to = To::All;
                    let hand_over = Box::new(HandOver { to, decision });
                    self.outputs.push_back(Output::HandOver(hand_over));
                }
            }
            BindOutcome::Failed => {
                // Should the row stand nevertheless, the next start finds it
                // bound, or bound to what took its place: never both.
                let slot = slot.clone();
                if let Some(held) = self.held.remove(&slot) {
                    self.refuse(Refused {
                        reason: Refusal::Unstored,
                        decision_id: held.decision_id,
                        expected: "a queue file that takes its row",
                    });
                }
            }
        }
        self.advance(now_ms);
    }

    /// The queue file was replaced: what could not be copied is put in again.
    /// Until that is done, those slots are bound in memory only.
    pub fn file_replaced(&mut self) {
        let bound = self.held.iter();
        let bound = bound.filter(|(_, held)| held.stage == Stage::Bound);
        let rows: Vec<Row> = bound.map(|(slot, held)| held.row(slot)).collect();
        for row in rows {
            let number = self.take_number();
            self.outputs.push_back(Output::Bind { number, row });
        }
    }

    /// A client begins to follow: it gets what is open.
    pub fn followed(&mut self, follower: Follower, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        for (slot, held) in &self.held {
            let open = held.stage == Stage::Bound && !self.is_expired(slot, held.expiry_uptime_ms);
            if let Some(decision) = held.decision.clone().filter(|_| open) {
                let to = To::One(follower);
                let hand_over = Box::new(HandOver { to, decision });
                self.outputs.push_back(Output::HandOver(hand_over));
            }
        }
        self.advance(now_ms);
    }

    /// A player got this decision.
    pub fn handed_over(&mut self, decision_id: &str) {
        let mut held = self.held.values_mut();
        if let Some(held) = held.find(|held| held.decision_id == decision_id)
            && !held.handed_over
        {
            held.handed_over = true;
            self.totals.handed_over += 1;
        }
    }

    /// The answer to [`Output::Tell`].
    pub fn told(&mut self, number: u64, outcome: TellOutcome, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        let mut held = self.held.values_mut();
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

    /// When [`Self::tick`] is wanted; `None` while nothing is pending.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        let held = self
            .held
            .values()
            .filter_map(|held| match (held.stage, held.acknowledgement) {
                (Stage::Binding(_), _) | (_, Owed::Asked(_)) => None,
                (Stage::Bound, Owed::From(at_ms)) => Some(at_ms),
                (Stage::Bound, Owed::Settled) => Some(held.expiry_uptime_ms),
            });
        held.chain(self.refusals.due()).min()
    }

    /// Counts, for people and health events.
    #[must_use]
    pub fn status(&self, now_ms: u64) -> Status {
        let now_ms = self.now_ms.max(now_ms);
        let open = self.held.iter().filter(|(slot, held)| {
            let bound = held.stage == Stage::Bound;
            bound && slot.boot_id == self.boot_id && now_ms < held.expiry_uptime_ms
        });
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
        self.forget();
    }

    /// Tells what is bound and not acknowledged yet.
    fn acknowledge(&mut self) {
        for (slot, held) in &mut self.held {
            if held.stage == Stage::Bound && held.acknowledgement.is_due(self.now_ms) {
                let number = self.next_number;
                self.next_number += 1;
                held.acknowledgement = Owed::Asked(number);
                let event = held.acknowledgement(slot);
                self.outputs.push_back(Output::Tell(Tell { number, event }));
            }
        }
    }

    /// Lets go of what has expired and is acknowledged.
    fn forget(&mut self) {
        let over: Vec<Slot> = self
            .held
            .iter()
            .filter(|(slot, held)| {
                held.acknowledgement == Owed::Settled
                    && self.is_expired(slot, held.expiry_uptime_ms)
            })
            .map(|(slot, _)| slot.clone())
            .collect();
        for slot in over {
            if let Some(held) = self.held.remove(&slot)
                && held.handed_over
            {
                self.finished.insert(&held.decision_id);
            }
            self.outputs.push_back(Output::Forget(slot));
        }
    }

    fn refuse_known(&mut self, decision: &wire::Decision, reason: Refusal, expected: &'static str) {
        if reason.is_told() {
            self.refusals.owe(decision, reason, self.now_ms);
        }
        self.refuse(Refused {
            reason,
            decision_id: decision.decision_id.clone(),
            expected,
        });
    }

    fn refuse(&mut self, refused: Refused) {
        if let Some(count) = self.totals.refused.get_mut(refused.reason as usize) {
            *count += 1;
        }
        self.outputs.push_back(Output::Refused(refused));
    }

    fn is_expired(&self, slot: &Slot, expiry_uptime_ms: u64) -> bool {
        slot.boot_id != self.boot_id || self.now_ms >= expiry_uptime_ms
    }

    fn was_handed_over(&self, decision_id: &str) -> bool {
        let mut held = self.held.values();
        self.finished.contains(decision_id)
            || held.any(|held| held.handed_over && held.decision_id == decision_id)
    }

    fn holds(&self, decision_id: &str) -> bool {
        let mut held = self.held.values();
        held.any(|held| held.decision_id == decision_id)
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
