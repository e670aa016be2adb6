//! The whole of it: boxes, broker, bridges, Kafka and refine, in virtual time.

use std::fmt;

use returnpath_refinery::Counts;

use crate::{
    climate::Climate, cloud::Bridge, kafka::Kafka, random::Random, reference::Reference,
    refiner::Refiner, schedule::Schedule, set_top_box::SetTopBox, transition::Transition,
};

/// The true wall clock when a world begins: 2026-09-21T16:53:20Z.
pub(crate) const UNIX_AT_START_MS: i64 = 1_790_009_600_000;

/// How long a calm world may take to settle: the longest pauses of the agent
/// several times over.
const SETTLES_MS_MAX: u64 = 6 * 3_600_000;

/// Set to anything to see every transition.
pub(crate) const TRACE_VARIABLE: &str = "RETURNPATH_SIMULATION_TRACE";

pub(crate) struct World {
    pub(crate) climate: Climate,
    pub(crate) random: Random,
    pub(crate) schedule: Schedule,
    pub(crate) boxes: Vec<SetTopBox>,
    pub(crate) bridges: Vec<Bridge>,
    pub(crate) kafka: Kafka,
    pub(crate) refiners: Vec<Refiner>,
    pub(crate) reference: Reference,
    pub(crate) counts: Counts,
    /// Nothing goes wrong any more, and the viewers sleep.
    pub(crate) is_calm: bool,
    traces: bool,
}

/// What a world came to.
#[derive(Default, Debug)]
pub(crate) struct Summary {
    pub(crate) box_ms: u64,
    pub(crate) steps: u64,
    pub(crate) accepted: u64,
    pub(crate) durable: u64,
    pub(crate) declared: u64,
    pub(crate) rejected: u64,
    pub(crate) duplicate_batches: u64,
    pub(crate) opportunities: u64,
    pub(crate) settling: u64,
    pub(crate) busy: u64,
    pub(crate) rebuilds: u64,
    pub(crate) unreadable: u64,
}

impl Summary {
    pub(crate) fn add(&mut self, other: &Self) {
        self.box_ms += other.box_ms;
        self.steps += other.steps;
        self.accepted += other.accepted;
        self.durable += other.durable;
        self.declared += other.declared;
        self.rejected += other.rejected;
        self.duplicate_batches += other.duplicate_batches;
        self.opportunities += other.opportunities;
        self.settling += other.settling;
        self.busy += other.busy;
        self.rebuilds += other.rebuilds;
        self.unreadable += other.unreadable;
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let climate = Climate::drawn(&mut random);
        let bridges = (0..climate.bridges)
            .map(|_| Bridge::new(i64::try_from(random.below(1_000)).unwrap() - 500))
            .collect();
        let mut world = Self {
            boxes: (0..climate.boxes).map(SetTopBox::new).collect(),
            bridges,
            kafka: Kafka::new(climate.partitions),
            refiners: (0..climate.partitions)
                .map(|_| Refiner::default())
                .collect(),
            reference: Reference::default(),
            counts: Counts::default(),
            schedule: Schedule::default(),
            is_calm: false,
            traces: std::env::var_os(TRACE_VARIABLE).is_some(),
            climate,
            random,
        };
        for of in 0..world.boxes.len() {
            let on_ms = world.random.below(10_000);
            world.schedule.after(on_ms, Transition::PowerOn(of));
            world.schedule.after(on_ms, Transition::ViewerActs(of));
        }
        for partition in 0..world.refiners.len() {
            world.schedule.after(0, Transition::Refines { partition });
        }
        world.schedule.after(1, Transition::Misfortune);
        world
    }

    /// Lives through the storm, calms down, and is judged.
    pub(crate) fn run(mut self) -> Summary {
        let mut steps = 0;
        while self.schedule.now_ms() < self.climate.stormy_ms {
            self.step();
            steps += 1;
        }
        self.calm_down();
        let patience_ms = self.schedule.now_ms() + SETTLES_MS_MAX;
        while !self.has_settled() {
            assert!(
                self.schedule.now_ms() < patience_ms,
                "the world does not settle: {}",
                self.unsettled()
            );
            self.step();
            steps += 1;
        }
        self.invariant_everything_arrived_once();
        for log in &mut self.kafka.partitions {
            log.invariant_nothing_is_missing_without_a_reason();
        }
        let totals = self.reference.tally.verdict().totals();
        Summary {
            box_ms: self.schedule.now_ms() * self.boxes.len() as u64,
            steps,
            accepted: self.reference.answers[0],
            durable: self.reference.answers[1],
            declared: totals.iter().map(|class| class.declared_total()).sum(),
            rejected: totals.iter().map(|class| class.rejected_total()).sum(),
            duplicate_batches: self.counts.duplicate_batches,
            opportunities: self.reference.opportunities,
            settling: self.reference.settling,
            busy: self.reference.busy,
            rebuilds: self.reference.rebuilds,
            unreadable: self.reference.unreadable,
        }
    }

    fn calm_down(&mut self) {
        self.is_calm = true;
        self.climate.broker_drops = 0;
        self.climate.broker_refuses = 0;
        self.climate.bridge_refuses = 0;
        self.climate.receipts_lost = 0;
        self.climate.produce_unknown = 0;
        self.climate.answers_lost = 0;
        self.kafka.refuses_until_ms = 0;
    }

    /// Nothing is held, nothing is under way, and no box wants to be woken.
    fn has_settled(&self) -> bool {
        let now_ms = self.schedule.now_ms();
        self.boxes.iter().all(|stb| stb.is_idle(now_ms)) && self.is_refined()
    }

    fn unsettled(&self) -> String {
        let now_ms = self.schedule.now_ms();
        let restless = self.boxes.iter().filter(|stb| !stb.is_idle(now_ms));
        let boxes: Vec<String> = restless
            .map(|stb| match &stb.agent {
                Some(agent) => format!(
                    "{}: {:?}",
                    stb.device,
                    agent.delivery.status(returnpath_delivery::Uptime(0))
                ),
                None => format!("{}: no agent", stb.device),
            })
            .collect();
        format!("refined {}, boxes {boxes:#?}", self.is_refined())
    }

    fn step(&mut self) {
        let Some(transition) = self.schedule.next() else {
            return;
        };
        self.trace(&transition);
        match transition {
            Transition::PowerOn(of) => self.power_on(of),
            Transition::PowerCut(of) => self.power_cut(of),
            Transition::AgentStarts { of, boot } => self.agent_starts(of, boot),
            Transition::AgentKilled(of) => self.agent_killed(of),
            Transition::AgentStops(of) => self.agent_stops(of),
            Transition::ViewerActs(of) => self.viewer_acts(of),
            Transition::Wake { of, run } => self.wake(of, run),
            Transition::Committed { of, run } => self.committed(of, run),
            Transition::Loaded { of, run, id } => self.loaded(of, run, id),
            Transition::Rebuilt { of, run } => self.rebuilt(of, run),
            Transition::ClockSynchronises { of, boot } => self.clock_synchronises(of, boot),
            Transition::ClockSteps(of) => self.clock_steps(of),
            Transition::PageGoesBad(of) => self.page_goes_bad(of),
            Transition::Dials { of, run } => self.dials(of, run),
            Transition::Connected { of, run, link } => self.connected(of, run, link),
            Transition::LinkCut(of) => self.link_cut(of),
            Transition::LinkLost { of, run, link } => self.link_lost(of, run, link),
            Transition::ReachesBroker {
                of,
                link,
                id,
                message,
            } => self.reaches_broker(of, link, id, message),
            Transition::PubAck {
                of,
                link,
                id,
                outcome,
            } => self.pub_ack(of, link, id, outcome),
            Transition::ReceiptReachesBox { of, link, receipt } => {
                self.receipt_reaches_box(of, link, &receipt);
            }
            Transition::BrokerForgets => self.broker_forgets(),
            Transition::ReachesBridge {
                bridge,
                session,
                message,
            } => self.reaches_bridge(bridge, session, message),
            Transition::Produced {
                bridge,
                session,
                message,
            } => self.produced(bridge, session, message),
            Transition::ReceiptsDue { bridge } => self.receipts_due(bridge),
            Transition::BridgeDies { bridge } => self.bridge_dies(bridge),
            Transition::KafkaRefuses => self.kafka_refuses(),
            Transition::Refines { partition } => self.refines(partition),
            Transition::RefineDies { partition } => self.refine_dies(partition),
            Transition::Rebalances { partition } => self.rebalances(partition),
            Transition::Misfortune => self.misfortune(),
        }
    }

    /// Shows what happens, where that was asked for.
    pub(crate) fn trace(&self, what: &impl fmt::Debug) {
        if self.traces {
            eprintln!("{:>9} {what:?}", self.schedule.now_ms());
        }
    }

    /// Something goes wrong somewhere, and the next time is chosen.
    fn misfortune(&mut self) {
        if self.is_calm {
            return;
        }
        let pause_ms = self.random.between(1, self.climate.misfortune_ms_max);
        self.schedule.after(pause_ms, Transition::Misfortune);
        let of = self.random.index(self.boxes.len());
        let bridge = self.random.index(self.bridges.len());
        let partition = self.random.index(self.refiners.len());
        let weights = &self.climate.weights;
        let fates = [
            (weights.power_cut, Transition::PowerCut(of)),
            (weights.agent_killed, Transition::AgentKilled(of)),
            (weights.agent_stops, Transition::AgentStops(of)),
            (weights.link_cut, Transition::LinkCut(of)),
            (weights.clock_steps, Transition::ClockSteps(of)),
            (weights.page_goes_bad, Transition::PageGoesBad(of)),
            (weights.broker_forgets, Transition::BrokerForgets),
            (weights.bridge_dies, Transition::BridgeDies { bridge }),
            (weights.kafka_refuses, Transition::KafkaRefuses),
            (weights.refine_dies, Transition::RefineDies { partition }),
            (weights.rebalances, Transition::Rebalances { partition }),
        ];
        let all: u64 = fates.iter().map(|(weight, _)| weight).sum();
        let mut drawn = self.random.below(all);
        for (weight, fate) in fates {
            if drawn < weight {
                self.schedule.after(0, fate);
                return;
            }
            drawn -= weight;
        }
    }
}
