//! A box: power, queue file, viewer, and the shell around the real core of the
//! agent, which carries out effects in their order as the real one does.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use prost::Message as _;
use returnpath_delivery::{
    Acceptance, Answer, BootFacts, ClientToken, Commit, CommitOutcome, Delivery, Effect,
    FirstAnswer, Input, Loss, Op, Publish, Reconnect, ReconnectConfig, SendingClock, Start,
    Unreadable, Uptime,
};
use returnpath_shared::{BatchId, Class, DeviceId, Epoch, Ordinal};

use crate::{
    queue_file::QueueFile,
    reference::Promise,
    transition::{BoxIndex, Message, Transition},
    viewer::{Report, Viewer},
    world::{UNIX_AT_START_MS, World},
};

pub(crate) struct SetTopBox {
    pub(crate) device: DeviceId,
    pub(crate) file: QueueFile,
    pub(crate) viewer: Viewer,
    pub(crate) power: Option<Power>,
    pub(crate) agent: Option<Agent>,
    /// Boots, runs of the agent and links, counted: names what is not stale.
    boot: u64,
    run: u64,
    link: u64,
    /// Whether TCP stands, which the agent may not know yet.
    link_stands: bool,
}

pub(crate) struct Power {
    boot_id: u64,
    since_ms: u64,
    /// What the untrusted clock is off by.
    clock_off_ms: i64,
    synchronised: bool,
}

pub(crate) struct Agent {
    pub(crate) delivery: Delivery,
    reconnect: Reconnect,
    commit: Option<Commit>,
    /// Reports that wait for `durable`.
    waiting: BTreeMap<ClientToken, u64>,
    tokens: u64,
    /// The queue's thread carries out requests in their order; it has work
    /// until then.
    file_busy_until_ms: u64,
    wake_at_ms: Option<u64>,
    /// Wakes at one moment, and that moment.
    spins: (u64, u32),
}

impl SetTopBox {
    pub(crate) fn new(index: BoxIndex) -> Self {
        Self {
            device: format!("box-{index}").parse().unwrap(),
            file: QueueFile::default(),
            viewer: Viewer::default(),
            power: None,
            agent: None,
            boot: 0,
            run: 0,
            link: 0,
            link_stands: false,
        }
    }

    fn uptime(&self, now_ms: u64) -> Uptime {
        Uptime(
            self.power
                .as_ref()
                .map_or(0, |power| now_ms - power.since_ms),
        )
    }

    fn clock(&self, now_ms: u64) -> SendingClock {
        let power = self.power.as_ref().unwrap();
        SendingClock {
            uptime: self.uptime(now_ms),
            unix_ms: unix_ms(now_ms) + power.clock_off_ms,
            synchronised: power.synchronised,
        }
    }
}

/// The true wall clock.
pub(crate) fn unix_ms(now_ms: u64) -> i64 {
    UNIX_AT_START_MS + i64::try_from(now_ms).unwrap()
}

impl World {
    pub(crate) fn power_on(&mut self, of: BoxIndex) {
        let in_1970 = self.random.chance(self.climate.boots_in_1970);
        let now_ms = self.schedule.now_ms();
        let stb = &mut self.boxes[of];
        if stb.power.is_some() {
            return;
        }
        stb.boot += 1;
        let clock_off_ms = if in_1970 { -unix_ms(now_ms) } else { 0 };
        stb.power = Some(Power {
            boot_id: self.random.next() | 1,
            since_ms: now_ms,
            clock_off_ms,
            synchronised: false,
        });
        let boot = stb.boot;
        let starts_ms = self.random.between(100, 5_000);
        let synchronises_ms = self.random.between(10, 120_000);
        self.schedule
            .after(starts_ms, Transition::AgentStarts { of, boot });
        self.schedule
            .after(synchronises_ms, Transition::ClockSynchronises { of, boot });
    }

    pub(crate) fn power_cut(&mut self, of: BoxIndex) {
        if self.boxes[of].power.is_none() {
            return;
        }
        self.end_run(of);
        let stb = &mut self.boxes[of];
        stb.power = None;
        stb.file.power_cut(&mut self.random);
        stb.viewer.power_cut();
        let off_ms = self.random.between(10, 120_000);
        self.schedule.after(off_ms, Transition::PowerOn(of));
        self.invariant_what_is_durable_stands_somewhere(of);
    }

    pub(crate) fn agent_killed(&mut self, of: BoxIndex) {
        if self.boxes[of].agent.is_none() {
            return;
        }
        self.end_run(of);
        self.start_agent_later(of);
        self.invariant_what_is_durable_stands_somewhere(of);
    }

    /// What was in the agent's memory is gone. A commit that was under way has
    /// been made, or not.
    fn end_run(&mut self, of: BoxIndex) {
        let stb = &mut self.boxes[of];
        if let Some(agent) = stb.agent.take()
            && let Some(commit) = agent.commit
            && self.random.chance(500)
        {
            stb.file.commit(&commit);
        }
        stb.run += 1;
        stb.link += 1;
        stb.link_stands = false;
    }

    fn start_agent_later(&mut self, of: BoxIndex) {
        let boot = self.boxes[of].boot;
        let delay_ms = self.random.between(100, 10_000);
        self.schedule
            .after(delay_ms, Transition::AgentStarts { of, boot });
    }

    pub(crate) fn agent_starts(&mut self, of: BoxIndex, boot: u64) {
        let now_ms = self.schedule.now_ms();
        let stb = &mut self.boxes[of];
        let Some(power) = &stb.power else { return };
        if stb.agent.is_some() || stb.boot != boot {
            return;
        }
        stb.run += 1;
        let epoch = stb.file.open(&mut self.random);
        let held = &stb.file.current;
        let start = Start {
            epoch,
            boot_id: power.boot_id,
            facts: BootFacts::default(),
            ledger: held.ledger.values().copied().collect(),
            proof_ids: held.proof_ids.values().copied().collect(),
            anchors: held.anchors.values().copied().collect(),
            unclean: held
                .starts
                .values()
                .filter(|row| row.epoch != epoch)
                .copied()
                .collect(),
            powered: held.powered,
            seed: self.random.next(),
        };
        let trace = (of, start.clone());
        let config = self.climate.config.clone();
        let now = stb.uptime(now_ms);
        let delivery = Delivery::new(config, start, held.batches_in_order(), now);
        let reconnect_config = ReconnectConfig {
            base: Duration::from_secs(5),
            cap: Duration::from_secs(120),
            spread: Duration::from_secs(60),
            stable_after: Duration::from_secs(60),
        };
        let mut reconnect = Reconnect::new(
            reconnect_config,
            &stb.device,
            NonZeroU32::MIN,
            self.random.next(),
        );
        let dial = reconnect.first(now);
        stb.agent = Some(Agent {
            delivery,
            reconnect,
            commit: None,
            waiting: BTreeMap::new(),
            tokens: 0,
            file_busy_until_ms: 0,
            wake_at_ms: None,
            spins: (0, 0),
        });
        self.trace(&trace);
        let stb = &self.boxes[of];
        let (run, delay_ms) = (stb.run, dial.at.since(now));
        self.dials_after(of, run, delay_ms);
        if self.boxes[of]
            .power
            .as_ref()
            .is_some_and(|power| power.synchronised)
        {
            let unix_ms = self.boxes[of].clock(now_ms).unix_ms;
            self.tell(of, &Input::ClockSynchronised { unix_ms });
        }
        self.settle(of);
        self.invariant_what_is_durable_stands_somewhere(of);
    }

    pub(crate) fn agent_stops(&mut self, of: BoxIndex) {
        self.tell(of, &Input::Stop);
    }

    pub(crate) fn clock_synchronises(&mut self, of: BoxIndex, boot: u64) {
        let now_ms = self.schedule.now_ms();
        let stb = &mut self.boxes[of];
        let (true, Some(power)) = (stb.boot == boot, &mut stb.power) else {
            return;
        };
        power.synchronised = true;
        power.clock_off_ms = i64::try_from(self.random.below(200)).unwrap() - 100;
        let unix_ms = stb.clock(now_ms).unix_ms;
        self.tell(of, &Input::ClockSynchronised { unix_ms });
    }

    pub(crate) fn clock_steps(&mut self, of: BoxIndex) {
        let hours = i64::try_from(self.random.below(20_000)).unwrap() - 10_000;
        if let Some(power) = &mut self.boxes[of].power
            && !power.synchronised
        {
            power.clock_off_ms = hours * 3_600_000;
        }
    }

    pub(crate) fn page_goes_bad(&mut self, of: BoxIndex) {
        self.boxes[of].file.page_goes_bad(&mut self.random);
    }

    /// The viewer does something, and comes again.
    pub(crate) fn viewer_acts(&mut self, of: BoxIndex) {
        if !self.is_calm {
            let pause_ms = self.random.between(1, self.climate.act_ms_max);
            self.schedule.after(pause_ms, Transition::ViewerActs(of));
        }
        let now_ms = self.schedule.now_ms();
        let stb = &mut self.boxes[of];
        let uptime = stb.uptime(now_ms);
        let Some(agent) = &mut stb.agent else { return };
        let invalid = self.climate.invalid_events;
        let (number, report) = stb
            .viewer
            .report(now_ms, uptime.0, invalid, &mut self.random);
        agent.tokens += 1;
        let token = ClientToken(agent.tokens);
        let acceptance = agent.delivery.accept(report.event.clone(), token, uptime);
        self.accepted(of, number, &report, token, acceptance);
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

    /// The agent answers a client, which may have gone.
    fn answer(
        &mut self,
        of: BoxIndex,
        number: u64,
        epoch: Epoch,
        ordinal: Ordinal,
        promise: Promise,
    ) {
        if self.random.chance(self.climate.answers_lost) {
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

    pub(crate) fn wake(&mut self, of: BoxIndex, run: u64) {
        let now_ms = self.schedule.now_ms();
        let stb = &mut self.boxes[of];
        let now = stb.uptime(now_ms);
        let (true, Some(agent)) = (stb.run == run, &mut stb.agent) else {
            return;
        };
        // A timer that was moved.
        if agent.wake_at_ms.is_none_or(|at_ms| at_ms > now_ms) {
            return;
        }
        agent.wake_at_ms = None;
        agent.invariant_it_does_not_spin(now_ms);
        agent.delivery.tick(now);
        self.settle(of);
    }

    pub(crate) fn committed(&mut self, of: BoxIndex, run: u64) {
        let rolls_back = self.random.chance(self.climate.commit_rolls_back);
        let fails = self.random.chance(self.climate.commit_fails);
        let is_calm = self.is_calm;
        let stb = &mut self.boxes[of];
        let (true, Some(agent)) = (stb.run == run, &mut stb.agent) else {
            return;
        };
        let Some(commit) = agent.commit.take() else {
            return;
        };
        let outcome = if is_calm || (!rolls_back && !fails) {
            stb.file.commit(&commit);
            CommitOutcome::Done
        } else if rolls_back {
            CommitOutcome::RolledBack
        } else {
            if self.random.chance(500) {
                stb.file.commit(&commit);
            }
            CommitOutcome::Failed
        };
        let number = commit.number;
        self.tell(of, &Input::Committed { number, outcome });
        let takes_away = |op: &Op| matches!(op, Op::DeleteBatches { .. } | Op::LedgerDelete { .. });
        if commit.ops.iter().any(takes_away) {
            self.invariant_what_is_durable_stands_somewhere(of);
        }
    }

    pub(crate) fn loaded(&mut self, of: BoxIndex, run: u64, id: BatchId) {
        if self.boxes[of].run != run {
            return;
        }
        let bytes = self.boxes[of].file.load(id).ok_or(Unreadable);
        if bytes.is_err() {
            self.reference.unreadable += 1;
        }
        self.tell(of, &Input::Loaded { id, bytes });
    }

    pub(crate) fn rebuilt(&mut self, of: BoxIndex, run: u64) {
        let now_ms = self.schedule.now_ms();
        let fails = !self.is_calm && self.random.chance(200);
        let stb = &mut self.boxes[of];
        let now = stb.uptime(now_ms);
        let (true, Some(agent)) = (stb.run == run, &mut stb.agent) else {
            return;
        };
        if fails {
            agent.delivery.handle(Input::RebuildFailed, now);
        } else {
            let (epoch, copied, declared) = stb.file.rebuild(&mut self.random);
            let trace = (of, epoch, copied.clone(), declared.clone());
            agent.delivery.rebuilt(epoch, copied, declared, now);
            self.trace(&trace);
            self.reference.rebuilds += 1;
        }
        self.settle(of);
        self.invariant_what_is_durable_stands_somewhere(of);
    }

    fn dials_after(&mut self, of: BoxIndex, run: u64, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap();
        self.schedule.after(delay_ms, Transition::Dials { of, run });
    }

    pub(crate) fn dials(&mut self, of: BoxIndex, run: u64) {
        if self.boxes[of].run != run {
            return;
        }
        let latency_ms = self.random.between(20, 2_000);
        let stb = &mut self.boxes[of];
        stb.link += 1;
        stb.link_stands = true;
        let link = stb.link;
        self.schedule
            .after(latency_ms, Transition::Connected { of, run, link });
    }

    pub(crate) fn connected(&mut self, of: BoxIndex, run: u64, link: u64) {
        let now = self.boxes[of].uptime(self.schedule.now_ms());
        let stb = &mut self.boxes[of];
        if stb.run != run || stb.link != link || !stb.link_stands {
            return;
        }
        if let Some(agent) = &mut stb.agent {
            agent.reconnect.connected(now);
        }
        self.tell(of, &Input::LinkUp);
    }

    /// TCP breaks. The agent notices within its keep-alive.
    pub(crate) fn link_cut(&mut self, of: BoxIndex) {
        let notices_ms = self.random.between(0, 30_000);
        let stb = &mut self.boxes[of];
        if !stb.link_stands {
            return;
        }
        stb.link_stands = false;
        let (run, link) = (stb.run, stb.link);
        self.schedule
            .after(notices_ms, Transition::LinkLost { of, run, link });
    }

    pub(crate) fn link_lost(&mut self, of: BoxIndex, run: u64, link: u64) {
        let now = self.boxes[of].uptime(self.schedule.now_ms());
        let by_broker = self.random.chance(500);
        let stb = &mut self.boxes[of];
        if stb.run != run || stb.link != link {
            return;
        }
        let Some(agent) = &mut stb.agent else { return };
        let loss = if by_broker {
            Loss::ByBroker
        } else {
            Loss::Other
        };
        let dial = agent.reconnect.lost(loss, now);
        self.dials_after(of, run, dial.at.since(now));
        self.tell(of, &Input::LinkDown);
    }

    /// Whether packets of a link still pass.
    pub(crate) fn passes(&self, of: BoxIndex, link: u64) -> bool {
        let stb = &self.boxes[of];
        stb.link == link && stb.link_stands
    }

    /// The link over which the broker reaches a box.
    pub(crate) fn link_of(&self, of: BoxIndex) -> Option<u64> {
        let stb = &self.boxes[of];
        stb.link_stands.then_some(stb.link)
    }

    /// Reports something to the core and carries out what it wants.
    pub(crate) fn tell(&mut self, of: BoxIndex, input: &Input<'_>) {
        let now = self.boxes[of].uptime(self.schedule.now_ms());
        if let Some(agent) = &mut self.boxes[of].agent {
            agent.delivery.handle(input.clone(), now);
            self.settle(of);
        }
    }

    /// Carries out effects until there is none, then sets the timer.
    fn settle(&mut self, of: BoxIndex) {
        while let Some(agent) = &mut self.boxes[of].agent
            && let Some(effect) = agent.delivery.poll_effect()
        {
            self.carry_out(of, effect);
        }
        let now_ms = self.schedule.now_ms();
        let stb = &mut self.boxes[of];
        let Some(agent) = &mut stb.agent else { return };
        agent.invariant_it_stays_within_its_bounds(&self.climate.config);
        let Some(power) = &stb.power else { return };
        let wake_at_ms = agent
            .delivery
            .poll_timeout()
            .map(|at| (power.since_ms + at.0).max(now_ms));
        if wake_at_ms != agent.wake_at_ms {
            agent.wake_at_ms = wake_at_ms;
            if let Some(at_ms) = wake_at_ms {
                let run = stb.run;
                self.schedule.at(at_ms, Transition::Wake { of, run });
            }
        }
    }

    fn carry_out(&mut self, of: BoxIndex, effect: Effect) {
        let run = self.boxes[of].run;
        self.trace(&(of, &effect));
        match effect {
            Effect::Publish(publish) => self.publish(of, publish),
            Effect::Commit(commit) => {
                let takes_ms = self.random.between(1, 60);
                let Some(agent) = &mut self.boxes[of].agent else {
                    return;
                };
                assert!(agent.commit.is_none(), "two commits under way");
                agent.commit = Some(commit);
                let at_ms = self.file_done_at_ms(of, takes_ms);
                self.schedule.at(at_ms, Transition::Committed { of, run });
            }
            Effect::Load(id) => {
                let takes_ms = self.random.between(1, 20);
                let at_ms = self.file_done_at_ms(of, takes_ms);
                self.schedule.at(at_ms, Transition::Loaded { of, run, id });
            }
            Effect::Answer { token, answer } => {
                let Some(agent) = &mut self.boxes[of].agent else {
                    return;
                };
                let number = agent
                    .waiting
                    .remove(&token)
                    .expect("only waiting clients are answered");
                let (epoch, ordinal, promise) = match answer {
                    Answer::Durable { epoch, ordinal } => (epoch, ordinal, Promise::Durable),
                    Answer::AcceptedOnly { epoch, ordinal } => (epoch, ordinal, Promise::Accepted),
                };
                self.answer(of, number, epoch, ordinal, promise);
            }
            Effect::Rebuild { .. } => {
                let takes_ms = self.random.between(10, 2_000);
                let at_ms = self.file_done_at_ms(of, takes_ms);
                self.schedule.at(at_ms, Transition::Rebuilt { of, run });
            }
            Effect::Stopped => {
                let stb = &mut self.boxes[of];
                stb.file.sync();
                self.end_run(of);
                self.start_agent_later(of);
            }
        }
    }

    /// When the queue's thread has done one more thing.
    fn file_done_at_ms(&mut self, of: BoxIndex, takes_ms: u64) -> u64 {
        let now_ms = self.schedule.now_ms();
        let Some(agent) = &mut self.boxes[of].agent else {
            return now_ms;
        };
        agent.file_busy_until_ms = agent.file_busy_until_ms.max(now_ms) + takes_ms;
        agent.file_busy_until_ms
    }

    fn publish(&mut self, of: BoxIndex, publish: Publish) {
        let (id, lane) = (publish.id, publish.lane);
        self.reference
            .invariant_an_id_names_one_batch(of, id, &publish.bytes);
        let stb = &self.boxes[of];
        let clock = stb.clock(self.schedule.now_ms());
        let payload = publish.into_envelope(clock).encode_to_vec().into();
        let link = stb.link;
        let latency_ms = self.random.between(5, 300);
        let message = Message {
            from: of,
            lane,
            payload,
        };
        self.schedule.after(
            latency_ms,
            Transition::ReachesBroker {
                of,
                link,
                id,
                message,
            },
        );
    }
}

impl Agent {
    /// A timer that is due and stays due would burn the box's processor.
    fn invariant_it_does_not_spin(&mut self, now_ms: u64) {
        const WAKES_MAX: u32 = 20;
        let (at_ms, wakes) = self.spins;
        self.spins = if at_ms == now_ms {
            (now_ms, wakes + 1)
        } else {
            (now_ms, 1)
        };
        assert!(
            self.spins.1 <= WAKES_MAX,
            "the agent was woken {WAKES_MAX} times within one millisecond"
        );
    }
}

/// For the harness, which decides when everything has settled.
impl SetTopBox {
    pub(crate) fn is_idle(&self, now_ms: u64) -> bool {
        self.agent.as_ref().is_some_and(|agent| {
            let status = agent.delivery.status(self.uptime(now_ms));
            agent.commit.is_none()
                && agent.delivery.poll_timeout().is_none()
                && status.ordinary.batches + status.proof.batches == 0
                && status.open_events == 0
                && status.ledger_rows == 0
        })
    }
}
