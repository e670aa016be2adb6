//! Carries out what the slots' core wants: binds by the queue, hands over by
//! the socket, tells by the delivery core.

use std::time::Duration;

use bytes::Bytes;
use returnpath_delivery::{Acceptance, ClientToken, FirstAnswer, Uptime};
use returnpath_shared::wire::{self, event};
use returnpath_slots::{
    Asked, BindOutcome, Follower, HandOver, Output, Slots, Start, Status, Tell, TellOutcome, To,
    Verify,
};
use serde::Serialize;
use tracing::{debug, info, warn};

use super::{Agent, report::stands_for_others};
use crate::{
    intake::{Following, Reply},
    queue::{Found, Request},
    trust::Keys,
};

/// The decisions of this box, and who follows them.
#[derive(Debug)]
pub(super) struct Decisions {
    pub(super) slots: Slots,
    /// `None` while the box takes no decisions.
    keys: Option<Keys>,
    /// Bounded by the clients that may be connected.
    followers: Vec<(Follower, Following)>,
    next_follower: u64,
    /// Told, and not durable yet; bounded by what the core tells at once.
    telling: Vec<(ClientToken, u64)>,
    /// The longest that the queue file took to bind a slot.
    bind_time_max: Duration,
}

/// What the status shows beside the core's counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) status: Status,
    pub(super) followers: usize,
    pub(super) bind_time_max: Duration,
}

/// Trusts nobody.
struct Nobody;

impl Verify for Nobody {
    fn is_signed(&self, _key_id: &str, _decision: &[u8], _signature: &[u8]) -> bool {
        false
    }
}

/// A line for followers.
#[derive(Serialize)]
struct Line<'a> {
    decision: &'a wire::Decision,
}

impl Decisions {
    pub(super) fn new(
        device: &returnpath_shared::DeviceId,
        boot_id: u64,
        found: &Found,
        keys: Option<Keys>,
        now: Uptime,
    ) -> Self {
        let start = Start {
            device: device.clone(),
            boot_id,
            rows: found.slots.clone(),
        };
        Self {
            slots: Slots::new(start, verify(keys.as_ref()), now.0),
            keys,
            followers: Vec::new(),
            next_follower: 1,
            telling: Vec::new(),
            bind_time_max: Duration::ZERO,
        }
    }

    pub(super) fn trust(&mut self, keys: Option<Keys>) {
        self.keys = keys;
    }

    pub(super) fn due(&self) -> Option<Uptime> {
        self.slots.poll_timeout().map(Uptime)
    }

    pub(super) fn facts(&self, now: Uptime) -> Facts {
        let gone = self.followers.iter().filter(|(_, it)| it.is_gone()).count();
        Facts {
            status: self.slots.status(now.0),
            followers: self.followers.len() - gone,
            bind_time_max: self.bind_time_max,
        }
    }

    pub(super) fn arrived(&mut self, message: &Bytes, now: Uptime) {
        self.slots
            .arrived(message, verify(self.keys.as_ref()), now.0);
    }

    pub(super) fn bound(&mut self, number: u64, outcome: BindOutcome, took: Duration, now: Uptime) {
        self.bind_time_max = self.bind_time_max.max(took);
        debug!(number, ?outcome, ?took, "slot bound");
        self.slots.bound(number, outcome, now.0);
    }

    pub(super) fn follow(&mut self, reply: Reply, now: Uptime) {
        self.followers.retain(|(_, following)| !following.is_gone());
        let Some(following) = reply.follow() else {
            return;
        };
        let follower = Follower(self.next_follower);
        self.next_follower += 1;
        self.followers.push((follower, following));
        self.slots.followed(follower, now.0);
    }

    /// What a client asks for with this event, if the box takes decisions.
    pub(super) fn asked(&self, event: &wire::Event) -> Option<Asked> {
        self.keys.as_ref()?;
        match &event.kind {
            Some(event::Kind::AdOpportunity(opportunity)) => Some(Asked {
                uptime_ms: event.uptime_ms,
                opportunity: opportunity.clone(),
            }),
            _ => None,
        }
    }

    fn hand_over(&mut self, HandOver { to, decision }: &HandOver) {
        let line = Line { decision };
        // A message of text and numbers can always be written.
        let mut line = serde_json::to_string(&line).unwrap_or_default();
        line.push('\n');
        let mut taken = false;
        self.followers.retain(|(follower, following)| {
            if *to != To::All && *to != To::One(*follower) {
                return true;
            }
            let takes = following.send(line.clone());
            taken |= takes;
            takes
        });
        if taken {
            self.slots.handed_over(&decision.decision_id);
        }
    }
}

fn verify(keys: Option<&Keys>) -> &dyn Verify {
    match keys {
        Some(keys) => keys,
        None => &Nobody,
    }
}

impl Agent {
    /// Carries out what the slots' core wants, in order. What it tells may make
    /// the delivery core want something in turn.
    pub(super) fn carry_out_decisions(&mut self, now: Uptime) {
        while let Some(output) = self.decisions.slots.poll_output() {
            match output {
                Output::Bind { number, row } => {
                    self.queue.request(Request::Bind { number, row });
                }
                Output::HandOver(hand_over) => {
                    info!(decision = %hand_over.decision.decision_id, "decision for players");
                    self.decisions.hand_over(&hand_over);
                }
                Output::Tell(Tell { number, event }) => self.tell(number, event, now),
                Output::Forget(slot) => self.queue.request(Request::Forget(slot)),
                Output::AskAgain(asked) => self.ask_again(*asked, now),
                Output::Refused(refused) => {
                    let (reason, expected) = (refused.reason.name(), refused.expected);
                    let id = &refused.decision_id;
                    let status = self.decisions.slots.status(now.0);
                    let count = status.refused(refused.reason);
                    if refused.is_told || stands_for_others(count) {
                        warn!(reason, count, expected, decision = %id, "decision refused");
                    } else {
                        debug!(reason, count, expected, decision = %id, "decision refused");
                    }
                }
            }
        }
    }

    fn tell(&mut self, number: u64, event: wire::AdEvent, now: Uptime) {
        let event = wire::Event {
            uptime_ms: now.0,
            client_id: String::new(),
            kind: Some(event::Kind::AdEvent(event)),
        };
        let token = self.token();
        let outcome = match self.delivery.accept(event, token, now) {
            Acceptance::Pending { .. } => {
                self.decisions.telling.push((token, number));
                TellOutcome::Taken
            }
            Acceptance::Busy => TellOutcome::Busy,
            // Told before, and as safe as this box could make it.
            Acceptance::Repeated {
                answer: FirstAnswer::Durable | FirstAnswer::Accepted,
                ..
            } => TellOutcome::Settled,
            // Ad events are proof and small: neither occurs.
            Acceptance::Accepted { .. } | Acceptance::TooLarge { .. } => TellOutcome::Settled,
        };
        self.decisions.slots.told(number, outcome, now.0);
    }

    /// Takes an opportunity into the queue once more. Without the client's own
    /// id: by that it would be taken for a repeat.
    fn ask_again(&mut self, asked: Asked, now: Uptime) {
        let Asked {
            uptime_ms,
            opportunity,
        } = asked;
        let break_id = opportunity.break_id.clone();
        let event = wire::Event {
            uptime_ms,
            client_id: String::new(),
            kind: Some(event::Kind::AdOpportunity(opportunity)),
        };
        let token = self.token();
        let acceptance = self.delivery.accept(event, token, now);
        info!(%break_id, ?acceptance, "asking again for a break after a new connection");
    }

    /// The later answer to something told: durable, or kept in RAM where
    /// storage fails, which is as safe as it gets. `false` where the token is a
    /// client's.
    pub(super) fn told(&mut self, token: ClientToken, now: Uptime) -> bool {
        let telling = &mut self.decisions.telling;
        let Some(index) = telling.iter().position(|(asked, _)| *asked == token) else {
            return false;
        };
        let (_, number) = telling.swap_remove(index);
        self.decisions
            .slots
            .told(number, TellOutcome::Settled, now.0);
        true
    }
}
