//! The way back in a simulated box: the agent's own core and keys bind each
//! slot to its decision; memory stands in for flash. Carries nothing out
//! itself: what is to be shown and told is handed to the box.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use returnpath_agent::trust::Keys;
use returnpath_delivery::{ClientToken, Uptime};
use returnpath_shared::{
    DeviceId,
    wire::{AdOpportunity, Decision, Event, event},
};
use returnpath_slots::{BindOutcome, Output, Refusal, Slots, Start, Status, TellOutcome};

use super::counters::Counters;

/// Opportunities of which it is remembered when they were handed in; a
/// household has one break before it and one ahead.
const OPPORTUNITIES_MAX: usize = 8;

/// What the box is to do.
#[derive(Debug)]
pub(super) enum Step {
    /// Show this when its slot is reached.
    Show(Box<Decision>),
    /// Take this event, and report by [`WayBack::told`].
    Tell { number: u64, event: Box<Event> },
}

/// Slots, decisions and what was told of them.
pub(super) struct WayBack {
    slots: Slots,
    keys: Arc<Keys>,
    /// Told, and not answered yet.
    told: HashMap<ClientToken, u64>,
    /// Breaks that decisions are waited for, and since when.
    asked: VecDeque<(String, Uptime)>,
    counted: Status,
    counters: Arc<Counters>,
}

impl WayBack {
    pub(super) fn new(
        device: DeviceId,
        boot_id: u64,
        keys: Arc<Keys>,
        counters: Arc<Counters>,
        now: Uptime,
    ) -> Self {
        let start = Start {
            device,
            boot_id,
            rows: Vec::new(),
        };
        Self {
            slots: Slots::new(start, &*keys, now.0),
            keys,
            told: HashMap::new(),
            asked: VecDeque::new(),
            counted: Status::default(),
            counters,
        }
    }

    /// An opportunity is handed in: the loop begins.
    pub(super) fn asks(&mut self, ad: &AdOpportunity, now: Uptime) {
        self.counters.opportunities.fetch_add(1, Ordering::Relaxed);
        if self.asked.len() == OPPORTUNITIES_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back((ad.break_id.clone(), now));
    }

    /// Something came on the topic for decisions.
    pub(super) fn arrived(&mut self, message: &Bytes, now: Uptime) {
        self.slots.arrived(message, &*self.keys, now.0);
    }

    pub(super) fn tick(&mut self, now: Uptime) {
        if self.next_at().is_some_and(|at| at <= now) {
            self.slots.tick(now.0);
        }
    }

    pub(super) fn next_at(&self) -> Option<Uptime> {
        self.slots.poll_timeout().map(Uptime)
    }

    /// The next thing to do; to be called until there is none.
    pub(super) fn next_step(&mut self, now: Uptime) -> Option<Step> {
        while let Some(output) = self.slots.poll_output() {
            match output {
                Output::Bind { number, .. } => self.slots.bound(number, BindOutcome::Done, now.0),
                Output::HandOver(hand_over) => {
                    let decision = hand_over.decision;
                    self.slots.handed_over(&decision.decision_id);
                    self.measure(&decision, now);
                    return Some(Step::Show(Box::new(decision)));
                }
                Output::Tell(tell) => {
                    let event = Box::new(Event {
                        uptime_ms: now.0,
                        kind: Some(event::Kind::AdEvent(tell.event)),
                        ..Event::default()
                    });
                    return Some(Step::Tell {
                        number: tell.number,
                        event,
                    });
                }
                Output::Refused(refused) => {
                    tracing::warn!(reason = refused.reason.name(), "decision refused");
                }
                // Its core is not told of opportunities and connections.
                Output::AskAgain(_) | Output::Forget(_) => {}
            }
        }
        self.count(now);
        None
    }

    /// The queue has taken what was to be told and will answer `token`, or has
    /// answered already.
    pub(super) fn told(&mut self, number: u64, taken: Taken, now: Uptime) {
        let outcome = match taken {
            Taken::Waits(token) => {
                self.told.insert(token, number);
                TellOutcome::Taken
            }
            Taken::Not => TellOutcome::Busy,
            Taken::Settled => TellOutcome::Settled,
        };
        self.slots.told(number, outcome, now.0);
    }

    /// An event was answered; whether it was one of these.
    pub(super) fn answered(&mut self, token: ClientToken, now: Uptime) {
        if let Some(number) = self.told.remove(&token) {
            self.slots.told(number, TellOutcome::Settled, now.0);
        }
    }

    fn measure(&self, decision: &Decision, now: Uptime) {
        let counter = if decision.creative.is_some() {
            &self.counters.decisions_filled
        } else {
            &self.counters.decisions_unfilled
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut asked = self.asked.iter().rev();
        if let Some((_, since)) = asked.find(|(break_id, _)| *break_id == decision.break_id) {
            let after = now.since(*since).as_millis();
            let after_ms = u64::try_from(after).unwrap_or(u64::MAX);
            self.counters.loop_latency.record(after_ms);
        }
    }

    fn count(&mut self, now: Uptime) {
        let status = self.slots.status(now.0);
        let refused = |status: &Status| -> u64 {
            let all = Refusal::ALL.into_iter();
            all.map(|reason| status.refused(reason)).sum()
        };
        let more = refused(&status) - refused(&self.counted);
        self.counters
            .decisions_refused
            .fetch_add(more, Ordering::Relaxed);
        self.counted = status;
    }
}

/// What became of an event that was to be told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Taken {
    /// It is answered later.
    Waits(ClientToken),
    /// There was no room.
    Not,
    /// It was told before, or can never be.
    Settled,
}
