//! A box around the core: a queue file that keeps what was committed, players
//! that come and go, a cloud that keeps what became durable, and the power.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use returnpath_shared::wire::{AdOpportunity, Decision, ad_event};
use returnpath_slots::{
    ASK_AGAIN_MS, Asked, BindOutcome, Follower, HELD_MAX, Output, Refusal, Row, Slot, Slots, Start,
    Tell, TellOutcome, To,
};

use crate::messages::{DEVICE, Signed};

/// An event that waited for longer goes out as a late one.
pub(crate) const LIVE_AGE_MS: u64 = 4_000;

/// How a commit that is under way comes out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Commit {
    Done,
    /// Rolled back.
    Failed,
    /// Reported as failed, and the row stands nevertheless.
    FailedButStands,
}

/// A commit that is under way.
struct Binding {
    number: u64,
    row: Row,
    /// Whether the core has not bound it before.
    is_new: bool,
}

pub(crate) struct World {
    pub(crate) boot_id: u64,
    pub(crate) now_ms: u64,
    pub(crate) slots: Slots,
    file: BTreeMap<Slot, Row>,
    binding: VecDeque<Binding>,
    /// Leave with the next commit.
    forgotten: Vec<Slot>,
    followers: BTreeSet<Follower>,
    next_follower: u64,
    /// Asked to be told and not settled.
    telling: VecDeque<Tell>,
    /// What players got, ever.
    handed: BTreeMap<Slot, Decision>,
    /// Slots whose row was lost with a file, and not put again yet.
    lost: BTreeSet<Slot>,
    /// Ids that the core was told are bound, or found so.
    bound: BTreeSet<String>,
    acknowledged: BTreeSet<String>,
    /// Messages in this run.
    arrived: u64,
    is_linked: bool,
    /// When a break was last asked for.
    asked: BTreeMap<String, u64>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            boot_id: 1,
            now_ms: 1_000,
            slots: start(1, Vec::new(), 1_000),
            file: BTreeMap::new(),
            binding: VecDeque::new(),
            forgotten: Vec::new(),
            followers: BTreeSet::new(),
            next_follower: 1,
            telling: VecDeque::new(),
            handed: BTreeMap::new(),
            lost: BTreeSet::new(),
            bound: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            arrived: 0,
            is_linked: false,
            asked: BTreeMap::new(),
        }
    }

    /// A client asks for a break that begins in `lead_ms`.
    pub(crate) fn ask(&mut self, break_number: u8, lead_ms: u64) {
        let opportunity = opportunity(break_number, self.now_ms + lead_ms);
        self.asked.insert(opportunity.break_id.clone(), self.now_ms);
        let asked = Asked {
            uptime_ms: self.now_ms,
            opportunity,
        };
        self.slots.asked(asked, self.now_ms);
        self.carry_out(true);
    }

    pub(crate) fn link(&mut self, is_up: bool) {
        self.is_linked = is_up;
        if is_up {
            self.slots.linked(LIVE_AGE_MS, self.now_ms);
        } else {
            self.slots.unlinked();
        }
        self.carry_out(true);
    }

    pub(crate) fn arrive(&mut self, message: &[u8]) {
        self.arrived += 1;
        self.slots.arrived(message, &Signed, self.now_ms);
        self.carry_out(true);
    }

    pub(crate) fn follow(&mut self) {
        let follower = Follower(self.next_follower);
        self.next_follower += 1;
        self.followers.insert(follower);
        self.slots.followed(follower, self.now_ms);
        self.carry_out(true);
    }

    pub(crate) fn leave(&mut self) {
        self.followers.pop_first();
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.slots.tick(self.now_ms);
        self.carry_out(true);
    }

    /// The oldest commit under way ends.
    pub(crate) fn commit(&mut self, how: Commit) {
        let Some(binding) = self.binding.pop_front() else {
            return;
        };
        let Binding {
            number,
            row,
            is_new: _,
        } = binding;
        let outcome = match how {
            Commit::Done => {
                self.write(row.clone());
                self.bound.insert(row.decision_id);
                BindOutcome::Done
            }
            Commit::FailedButStands => {
                self.write(row);
                BindOutcome::Failed
            }
            Commit::Failed => BindOutcome::Failed,
        };
        self.slots.bound(number, outcome, self.now_ms);
        self.carry_out(true);
    }

    fn write(&mut self, row: Row) {
        for slot in self.forgotten.drain(..) {
            self.file.remove(&slot);
        }
        self.lost.remove(&row.slot);
        self.file.insert(row.slot.clone(), row);
        assert!(self.file.len() <= HELD_MAX, "the file grows");
    }

    /// The queue answers the oldest event that it was asked to take.
    pub(crate) fn tell(&mut self, outcome: TellOutcome) {
        let Some(told) = self.telling.pop_front() else {
            return;
        };
        let number = told.number;
        match outcome {
            TellOutcome::Busy => {}
            TellOutcome::Taken => {
                if told.event.kind() == ad_event::Kind::DecisionAcknowledged {
                    self.telling.push_back(told);
                }
            }
            TellOutcome::Settled => {
                if told.event.kind() == ad_event::Kind::DecisionAcknowledged {
                    self.acknowledged.insert(told.event.decision_id);
                }
            }
        }
        self.slots.told(number, outcome, self.now_ms);
        self.carry_out(true);
    }

    /// The queue file is replaced, with its rows copied or lost.
    pub(crate) fn replace_file(&mut self, copied: bool) {
        self.forgotten.clear();
        if !copied {
            self.lost.extend(std::mem::take(&mut self.file).into_keys());
        }
        self.slots.file_replaced();
        self.carry_out(false);
    }

    /// The agent is killed, or the power cut. Of the commits under way the
    /// first `stand` stood.
    pub(crate) fn crash(&mut self, stand: usize, reboot: bool) {
        for binding in self.binding.drain(..).take(stand).collect::<Vec<_>>() {
            self.write(binding.row);
        }
        self.binding.clear();
        self.forgotten.clear();
        self.telling.clear();
        self.followers.clear();
        // The one exception that the core states: what a lost file held.
        for slot in std::mem::take(&mut self.lost) {
            if !self.file.contains_key(&slot)
                && let Some(decision) = self.handed.remove(&slot)
            {
                self.bound.remove(&decision.decision_id);
            }
        }
        let rows = &self.file;
        let in_file: BTreeSet<&String> = rows.values().map(|row| &row.decision_id).collect();
        let acknowledged = &self.acknowledged;
        self.bound
            .retain(|id| in_file.contains(id) || acknowledged.contains(id));
        if reboot {
            self.boot_id += 1;
            self.now_ms = 1_000;
        }
        let rows: Vec<Row> = self.file.values().cloned().collect();
        self.bound
            .extend(rows.iter().map(|row| row.decision_id.clone()));
        self.slots = start(self.boot_id, rows, self.now_ms);
        self.arrived = 0;
        self.is_linked = false;
        self.asked.clear();
        self.carry_out(true);
    }

    /// Carries out what the core wants. Bindings are of new decisions, or put
    /// again into a new file.
    fn carry_out(&mut self, is_new: bool) {
        while let Some(output) = self.slots.poll_output() {
            match output {
                Output::Bind { number, row } => self.binding.push_back(Binding {
                    number,
                    row,
                    is_new,
                }),
                Output::HandOver(hand_over) => {
                    let decision = hand_over.decision;
                    self.handed_to_players(&decision);
                    let present = match hand_over.to {
                        To::All => !self.followers.is_empty(),
                        To::One(follower) => self.followers.contains(&follower),
                    };
                    if present {
                        self.slots.handed_over(&decision.decision_id);
                    }
                }
                Output::Tell(tell) => {
                    let kind = tell.event.kind();
                    if kind == ad_event::Kind::DecisionAcknowledged {
                        assert!(
                            self.bound.contains(&tell.event.decision_id),
                            "acknowledged before it was bound: {tell:?}"
                        );
                    } else {
                        assert_eq!(kind, ad_event::Kind::DecisionRefused);
                        let told = ["expired", "replayed", "superseded"];
                        assert!(told.contains(&tell.event.refusal.as_str()), "{tell:?}");
                    }
                    self.telling.push_back(tell);
                }
                Output::AskAgain(asked) => self.asked_again(&asked),
                Output::Forget(slot) => {
                    if let Some(row) = self.file.get(&slot) {
                        let over =
                            slot.boot_id != self.boot_id || self.now_ms >= row.expiry_uptime_ms;
                        assert!(over, "{slot:?} is forgotten while it could bind again");
                        assert!(
                            self.acknowledged.contains(&row.decision_id),
                            "{slot:?} is forgotten before its acknowledgement is safe"
                        );
                    }
                    self.forgotten.push(slot);
                }
                Output::Refused(_) => {}
            }
        }
    }

    fn asked_again(&mut self, asked: &Asked) {
        assert!(self.is_linked, "asked for while nobody hears it");
        let ad = &asked.opportunity;
        let before_ms = self.asked.insert(ad.break_id.clone(), self.now_ms);
        let before_ms = before_ms.expect("asked for by nobody before");
        assert!(self.now_ms >= before_ms + ASK_AGAIN_MS, "asked too often");
        let last_ms: u32 = ad.slot_durations_ms.iter().rev().skip(1).sum();
        let last_begins_ms = ad.start_uptime_ms + u64::from(last_ms);
        assert!(last_begins_ms > self.now_ms, "asked for what is over");
    }

    fn handed_to_players(&mut self, decision: &Decision) {
        let slot = Slot {
            boot_id: decision.expiry_boot_id,
            break_id: decision.break_id.clone(),
            index: decision.slot,
        };
        assert_eq!(decision.device_id, DEVICE, "a foreign decision");
        assert_eq!(slot.boot_id, self.boot_id, "of another boot");
        assert!(self.now_ms < decision.expiry_uptime_ms, "expired");
        if !self.lost.contains(&slot) {
            let row = self.file.get(&slot).expect("handed over before its commit");
            assert_eq!(row.decision_id, decision.decision_id);
        }
        let first = self.handed.entry(slot).or_insert_with(|| decision.clone());
        assert_eq!(first, decision, "two decisions for one slot");
    }

    /// Holds after every step.
    pub(crate) fn counts_add_up(&self) {
        let status = self.slots.status(self.now_ms);
        let refused: u64 = Refusal::ALL
            .map(|reason| status.refused(reason))
            .iter()
            .sum();
        let binding = self.binding.iter().filter(|it| it.is_new).count() as u64;
        assert_eq!(
            self.arrived,
            status.bound + status.repeated + refused + binding,
            "{status:?}"
        );
        assert!(status.open <= HELD_MAX);
    }

    /// All commits stand and everything told is taken: in the end every bound
    /// decision is acknowledged, and in the next boot nothing is left.
    pub(crate) fn come_to_rest(&mut self) {
        self.settle();
        let missing: Vec<_> = self.bound.difference(&self.acknowledged).collect();
        assert!(missing.is_empty(), "never acknowledged: {missing:?}");
        self.crash(0, true);
        self.settle();
        for slot in self.forgotten.drain(..) {
            self.file.remove(&slot);
        }
        assert!(self.file.is_empty(), "{:?}", self.file);
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            while !self.binding.is_empty() {
                self.commit(Commit::Done);
            }
            while !self.telling.is_empty() {
                self.tell(TellOutcome::Settled);
            }
            let Some(due) = self.slots.poll_timeout() else {
                return;
            };
            self.pass(due.saturating_sub(self.now_ms));
        }
        panic!("it never comes to rest");
    }
}

/// A break of three slots.
pub(crate) fn opportunity(break_number: u8, start_uptime_ms: u64) -> AdOpportunity {
    AdOpportunity {
        break_id: format!("break-{break_number}"),
        start_uptime_ms,
        duration_ms: 3_000,
        slot_durations_ms: vec![1_000; 3],
        ..AdOpportunity::default()
    }
}

fn start(boot_id: u64, rows: Vec<Row>, now_ms: u64) -> Slots {
    let start = Start {
        device: DEVICE.parse().unwrap(),
        boot_id,
        rows,
    };
    Slots::new(start, &Signed, now_ms)
}
