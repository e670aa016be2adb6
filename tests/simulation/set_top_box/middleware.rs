//! The clients of a box's agent: what the viewer does is reported, and answered.

use returnpath_delivery::{Acceptance, ClientToken, FirstAnswer};
use returnpath_shared::{Class, Epoch, Ordinal, wire::event};
use returnpath_slots::Asked;

use crate::{
    faults::Fault,
    reference::Promise,
    transition::{BoxIndex, Transition},
    viewer::{Report, is_valid},
    world::World,
};

impl World {
    /// The viewer does something, and comes again.
    pub(crate) fn viewer_acts(&mut self, of: BoxIndex) {
        if !self.is_calm {
            let pause_ms = self.random.between(1, self.climate.act_ms_max);
            let next_ms = self.light_again_ms() + pause_ms;
            self.schedule.at(next_ms, Transition::ViewerActs(of));
        }
        let now_ms = self.schedule.now_ms();
        let stb = &mut self.boxes[of];
        let uptime = stb.uptime(now_ms);
        if stb.agent.is_none() {
            return;
        }
        let invalid = self.climate.invalid_events;
        let (number, report) = stb
            .viewer
            .report(now_ms, uptime.0, invalid, &mut self.random);
        if !is_valid(&report.event) {
            self.faults.count(Fault::InvalidEvent);
        }
        self.report(of, number, &report);
    }

    /// Something is reported, if the agent is there.
    pub(super) fn report(&mut self, of: BoxIndex, number: u64, report: &Report) {
        let now_ms = self.schedule.now_ms();
        if let Some(event::Kind::AdEvent(told)) = &report.event.kind
            && report.happened_ms < now_ms
        {
            self.decisions.is_told_late(&told.decision_id);
        }
        let stb = &mut self.boxes[of];
        let uptime = stb.uptime(now_ms);
        let Some(agent) = &mut stb.agent else { return };
        agent.tokens += 1;
        let token = ClientToken(agent.tokens);
        let acceptance = agent.delivery.accept(report.event.clone(), token, uptime);
        self.accepted(of, number, report, token, acceptance);
        self.settle(of);
    }

    fn accepted(
        &mut self,
        of: BoxIndex,
        number: u64,
        report: &Report,
        token: ClientToken,
        acceptance: Acceptance,
    ) {
        let first = |epoch: Epoch, ordinal: Ordinal| (of, epoch, ordinal.0);
        match acceptance {
            Acceptance::Accepted { epoch, ordinal } => {
                let class = Class::of(&report.event);
                assert_eq!(class, Class::Ordinary, "proof is not answered at once");
                self.reference.happened(first(epoch, ordinal), report);
                self.answer(of, number, epoch, ordinal, Promise::Accepted);
                self.is_asked(of, report);
            }
            Acceptance::Pending { epoch, ordinal } => {
                assert_eq!(Class::of(&report.event), Class::Proof);
                self.reference.happened(first(epoch, ordinal), report);
                if let Some(agent) = &mut self.boxes[of].agent {
                    agent.waiting.insert(token, number);
                }
            }
            Acceptance::Repeated {
                epoch,
                ordinal,
                answer,
            } => {
                self.reference
                    .invariant_a_repeat_gets_the_first_answer(first(epoch, ordinal), report);
                let promise = match answer {
                    FirstAnswer::Accepted => Promise::Accepted,
                    FirstAnswer::Durable => Promise::Durable,
                };
                self.answer(of, number, epoch, ordinal, promise);
            }
            Acceptance::Busy => self.reference.busy += 1,
            Acceptance::TooLarge { length, length_max } => {
                assert!(length > length_max, "{length} bytes are not too large");
            }
        }
    }

    /// The agent remembers what a player asks for.
    fn is_asked(&mut self, of: BoxIndex, report: &Report) {
        let uptime = self.boxes[of].uptime(self.schedule.now_ms());
        if let Some(agent) = &mut self.boxes[of].agent
            && let Some(event::Kind::AdOpportunity(opportunity)) = &report.event.kind
        {
            let asked = Asked {
                uptime_ms: report.event.uptime_ms,
                opportunity: opportunity.clone(),
            };
            agent.slots.asked(asked, uptime.0);
        }
    }

    /// The agent answers a client, which may have gone.
    pub(super) fn answer(
        &mut self,
        of: BoxIndex,
        number: u64,
        epoch: Epoch,
        ordinal: Ordinal,
        promise: Promise,
    ) {
        if self.random.chance(self.climate.answers_lost) {
            self.faults.count(Fault::AnswerLost);
            return;
        }
        let stb = &mut self.boxes[of];
        stb.viewer.answered(number);
        self.reference
            .answered(of, &stb.device, epoch, ordinal, promise);
        if promise == Promise::Durable {
            self.invariant_it_stands_somewhere((of, epoch, ordinal.0));
        }
    }
}
