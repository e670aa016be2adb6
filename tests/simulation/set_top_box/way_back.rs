//! The way back on a box: the shell around the real core of its slots. A
//! decision arrives, its row goes to flash, then a player gets it.

use bytes::Bytes;
use returnpath_delivery::{Acceptance, ClientToken, FirstAnswer};
use returnpath_shared::wire::{self, Decision, event};
use returnpath_slots::{
    Asked, BindOutcome, Follower, HandOver, Output, Refusal, Slot, Tell, TellOutcome, To,
};

use super::{SetTopBox, unix_ms};
use crate::{
    faults::Fault,
    signing::OPERATORS,
    transition::{BoxIndex, Transition},
    world::World,
};

/// The one player of a box.
const PLAYER: Follower = Follower(1);

/// A clock that reads less than this lives in the seventies.
const SEVENTIES_END_UNIX_MS: i64 = 10 * 365 * 86_400_000;

impl World {
    /// A message reaches a box on its topic for decisions.
    pub(crate) fn decision_arrives(&mut self, of: BoxIndex, message: &Bytes) {
        let now_ms = self.schedule.now_ms();
        let stb = &mut self.boxes[of];
        let uptime = stb.uptime(now_ms);
        let Some(agent) = &mut stb.agent else { return };
        agent.slots.arrived(message, &OPERATORS, uptime.0);
        self.settle(of);
    }

    /// The player connects, gets what is open, and asks again where its break
    /// is not over: what it asked for before may be gone.
    pub(crate) fn player_follows(&mut self, of: BoxIndex, run: u64) {
        let now_ms = self.schedule.now_ms();
        let stb = &mut self.boxes[of];
        let uptime = stb.uptime(now_ms);
        let (true, Some(agent)) = (stb.run == run, &mut stb.agent) else {
            return;
        };
        agent.is_followed = true;
        agent.slots.followed(PLAYER, uptime.0);
        self.settle(of);
        self.player_asks_again(of);
    }

    pub(super) fn carry_out_way_back(&mut self, of: BoxIndex, output: Output) {
        self.trace(&(of, &output));
        match output {
            Output::Bind { number, row } => {
                let takes_ms = self.random.between(1, 60);
                let stb = &mut self.boxes[of];
                let run = stb.run;
                if let Some(agent) = &mut stb.agent {
                    agent.binding.push_back((number, row));
                }
                let at_ms = self.file_done_at_ms(of, takes_ms);
                self.schedule.at(at_ms, Transition::Bound { of, run });
            }
            Output::HandOver(hand_over) => self.hand_over(of, *hand_over),
            Output::Tell(tell) => self.tell_of_decision(of, tell),
            Output::AskAgain(asked) => self.ask_again(of, *asked),
            Output::Forget(slot) => self.boxes[of].file.forget(slot),
            Output::Refused(refused) => match refused.reason {
                Refusal::Forged => self.faults.count(Fault::ForgedPush),
                Refusal::Foreign => self.faults.count(Fault::ForeignPush),
                Refusal::Expired => self.faults.count(Fault::ExpiredPush),
                Refusal::Replayed => self.faults.count(Fault::ReplayedPush),
                Refusal::Superseded => self.faults.count(Fault::SupersedingPush),
                Refusal::Unstored => {}
                Refusal::Malformed | Refusal::TooMany => {
                    panic!("nobody sends such: {refused:?}")
                }
            },
        }
    }

    /// The queue's thread puts a row to flash, or fails to.
    pub(crate) fn bound(&mut self, of: BoxIndex, run: u64) {
        let now_ms = self.schedule.now_ms();
        let stb = &mut self.boxes[of];
        let uptime = stb.uptime(now_ms);
        let (true, Some(agent)) = (stb.run == run, &mut stb.agent) else {
            return;
        };
        let Some((number, row)) = agent.binding.pop_front() else {
            return;
        };
        let fails = self.climate.commit_rolls_back + self.climate.commit_fails;
        if !self.is_calm && self.random.chance(fails) {
            self.faults.count(Fault::BindFailed);
            // It may stand nevertheless.
            if self.random.chance(300) {
                self.boxes[of].file.bind_unsaid(row);
            }
            self.is_bound(of, number, BindOutcome::Failed, uptime.0);
            return;
        }
        self.boxes[of].file.bind(row);
        self.invariant_what_left_the_file_stands_somewhere(of);
        if !self.is_calm && self.random.chance(self.climate.way_back.killed_when_bound) {
            self.faults.count(Fault::KilledBetweenBindAndHandOver);
            if self.random.chance(500) {
                self.agent_killed(of);
            } else {
                self.power_cut(of);
            }
            return;
        }
        self.is_bound(of, number, BindOutcome::Done, uptime.0);
    }

    fn is_bound(&mut self, of: BoxIndex, number: u64, outcome: BindOutcome, uptime_ms: u64) {
        if let Some(agent) = &mut self.boxes[of].agent {
            agent
                .delivery
                .written_beside(returnpath_delivery::Uptime(uptime_ms));
            agent.slots.bound(number, outcome, uptime_ms);
            self.settle(of);
        }
    }

    /// Its player gets a decision, if it is there.
    fn hand_over(&mut self, of: BoxIndex, HandOver { to, decision }: HandOver) {
        let now_ms = self.schedule.now_ms();
        let stb = &mut self.boxes[of];
        let uptime_ms = stb.uptime(now_ms).0;
        let (Some(agent), Some(power)) = (&mut stb.agent, &stb.power) else {
            return;
        };
        let slot = slot_of(&decision);
        assert!(
            stb.file.holds(&slot, &decision.decision_id),
            "box {of} hands over what is not on flash: {decision:?}"
        );
        if !agent.is_followed {
            return;
        }
        assert!(matches!(to, To::All | To::One(PLAYER)));
        let now = (power.boot_id, uptime_ms);
        if !power.synchronised && unix_ms(now_ms) + power.clock_off_ms < SEVENTIES_END_UNIX_MS {
            self.faults.count(Fault::HandedOverIn1970);
        }
        agent.slots.handed_over(&decision.decision_id);
        self.decisions
            .invariant_a_slot_gets_one_ad(of, slot, now, &decision);
        self.player_gets(of, decision);
    }

    /// Acknowledges or refuses: an event of the agent's own.
    fn tell_of_decision(&mut self, of: BoxIndex, Tell { number, event }: Tell) {
        let uptime = self.boxes[of].uptime(self.schedule.now_ms());
        let Some(agent) = &mut self.boxes[of].agent else {
            return;
        };
        let event = wire::Event {
            uptime_ms: uptime.0,
            client_id: String::new(),
            kind: Some(event::Kind::AdEvent(event)),
        };
        agent.tokens += 1;
        let token = ClientToken(agent.tokens);
        let outcome = match agent.delivery.accept(event, token, uptime) {
            Acceptance::Pending { .. } => {
                agent.telling.push((token, number));
                TellOutcome::Taken
            }
            Acceptance::Busy => TellOutcome::Busy,
            Acceptance::Repeated {
                answer: FirstAnswer::Durable | FirstAnswer::Accepted,
                ..
            } => TellOutcome::Settled,
            other @ (Acceptance::Accepted { .. } | Acceptance::TooLarge { .. }) => {
                panic!("an ad event is proof and small: {other:?}")
            }
        };
        agent.slots.told(number, outcome, uptime.0);
    }

    /// An opportunity is taken into the queue once more, without the client's
    /// id: by that it would be taken for a repeat.
    fn ask_again(&mut self, of: BoxIndex, asked: Asked) {
        self.faults.count(Fault::AskedAgainAfterLink);
        let uptime = self.boxes[of].uptime(self.schedule.now_ms());
        if let Some(agent) = &mut self.boxes[of].agent {
            let event = wire::Event {
                uptime_ms: asked.uptime_ms,
                client_id: String::new(),
                kind: Some(event::Kind::AdOpportunity(asked.opportunity)),
            };
            agent.tokens += 1;
            agent
                .delivery
                .accept(event, ClientToken(agent.tokens), uptime);
        }
    }
}

impl SetTopBox {
    /// Something that the agent itself told is durable. `false` where it was a
    /// client.
    pub(super) fn is_told(&mut self, token: ClientToken, now_ms: u64) -> bool {
        let uptime = self.uptime(now_ms);
        let Some(agent) = &mut self.agent else {
            return false;
        };
        let mut telling = agent.telling.iter();
        let Some(place) = telling.position(|(asked, _)| *asked == token) else {
            return false;
        };
        let (_, number) = agent.telling.swap_remove(place);
        agent.slots.told(number, TellOutcome::Settled, uptime.0);
        true
    }
}

fn slot_of(decision: &Decision) -> Slot {
    Slot {
        boot_id: decision.expiry_boot_id,
        break_id: decision.break_id.clone(),
        index: decision.slot,
    }
}
