//! A run of the agent: its start and end, its timer, and what its core wants
//! done.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU32,
    time::Duration,
};

use returnpath_delivery::{
    Answer, BootFacts, ClientToken, Commit, Delivery, Effect, Input, Reconnect, ReconnectConfig,
    Start,
};
use returnpath_slots::{Row, Slots};

use crate::{
    faults::Fault,
    reference::Promise,
    signing::OPERATORS,
    transition::{BoxIndex, Transition},
    world::World,
};

pub(crate) struct Agent {
    pub(crate) delivery: Delivery,
    pub(super) reconnect: Reconnect,
    pub(super) commit: Option<Commit>,
    /// Reports that wait for `durable`.
    pub(super) waiting: BTreeMap<ClientToken, u64>,
    pub(super) tokens: u64,
    /// The queue's thread carries out requests in their order; it has work
    /// until then.
    pub(super) file_busy_until_ms: u64,
    /// The way back.
    pub(super) slots: Slots,
    /// When these want to be woken, in uptime.
    pub(super) slots_due_ms: Option<u64>,
    /// Rows on their way to flash, and the numbers of their requests.
    pub(super) binding: VecDeque<(u64, Row)>,
    /// What the agent itself told, and is not durable yet.
    pub(super) telling: Vec<(ClientToken, u64)>,
    /// Whether its player is there.
    pub(super) is_followed: bool,
    wake_at_ms: Option<u64>,
    /// Wakes at one moment, and that moment.
    spins: (u64, u32),
}

impl World {
    pub(crate) fn agent_killed(&mut self, of: BoxIndex) {
        if self.boxes[of].agent.is_none() {
            return;
        }
        self.faults.count(Fault::AgentKilled);
        self.end_run(of);
        self.start_agent_later(of);
        self.invariant_what_is_durable_stands_somewhere(of);
    }

    /// What was in the agent's memory is gone. A commit that was under way has
    /// been made, or not.
    pub(super) fn end_run(&mut self, of: BoxIndex) {
        let stb = &mut self.boxes[of];
        if let Some(agent) = stb.agent.take() {
            if let Some(commit) = agent.commit {
                self.faults.count(Fault::DiesWhileCommitting);
                if self.random.chance(500) {
                    stb.file.commit(&commit);
                }
            }
            if let Some((_, row)) = agent.binding.into_iter().next() {
                self.faults.count(Fault::DiesWhileBinding);
                if self.random.chance(500) {
                    stb.file.bind_unsaid(row);
                }
            }
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
        let way_back = returnpath_slots::Start {
            device: stb.device.clone(),
            boot_id: power.boot_id,
            rows: held.slots.values().cloned().collect(),
        };
        let trace = self.traces.then(|| (of, start.clone()));
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
            slots: Slots::new(way_back, &OPERATORS, now.0),
            slots_due_ms: None,
            binding: VecDeque::new(),
            telling: Vec::new(),
            is_followed: false,
            wake_at_ms: None,
            spins: (0, 0),
        });
        self.trace(&trace);
        let stb = &self.boxes[of];
        let (run, delay_ms) = (stb.run, dial.at.since(now));
        self.dials_after(of, run, delay_ms);
        if self.has_breaks() {
            let follows_ms = self.random.between(10, 5_000);
            self.schedule
                .after(follows_ms, Transition::PlayerFollows { of, run });
        }
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
        if agent.slots_due_ms.is_some_and(|due_ms| due_ms <= now.0) {
            agent.slots.tick(now.0);
        }
        self.settle(of);
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
    pub(super) fn settle(&mut self, of: BoxIndex) {
        while let Some(agent) = &mut self.boxes[of].agent {
            if let Some(output) = agent.slots.poll_output() {
                self.carry_out_way_back(of, output);
            } else if let Some(effect) = agent.delivery.poll_effect() {
                self.carry_out(of, effect);
            } else {
                break;
            }
        }
        let now_ms = self.schedule.now_ms();
        let stb = &mut self.boxes[of];
        let Some(agent) = &mut stb.agent else { return };
        agent.invariant_it_stays_within_its_bounds(&self.climate.config);
        let Some(power) = &stb.power else { return };
        agent.slots_due_ms = agent.slots.poll_timeout();
        let due_ms = agent.delivery.poll_timeout().map(|due| due.0);
        let due_ms = due_ms.into_iter().chain(agent.slots_due_ms).min();
        let wake_at_ms = due_ms.map(|due_ms| (power.since_ms + due_ms).max(now_ms));
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
            Effect::ReadStarts => {
                let starts = self.boxes[of].file.current.starts.values();
                let rows = starts.copied().collect();
                self.tell(of, &Input::Starts(rows));
            }
            Effect::Answer { token, answer } => {
                let now_ms = self.schedule.now_ms();
                if self.boxes[of].is_told(token, now_ms) {
                    return;
                }
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
                self.faults.count(Fault::AgentStopped);
                self.boxes[of].file.sync();
                self.end_run(of);
                self.start_agent_later(of);
            }
        }
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
