//! The whole of it: boxes, broker, bridges, Kafka, refine and decide, in virtual
//! time.

use std::{fmt, sync::Arc};

use returnpath_decision::Settings;
use returnpath_refinery::{Counts, Limits};

use crate::{
    aggregators,
    bridge::Bridge,
    climate::{self, Climate, Zone},
    darkness::Darkness,
    decider::Decider,
    decisions::Decisions,
    faults::Faults,
    kafka::{Kafka, Log, Role},
    pushes::Stranger,
    random::Random,
    reference::Reference,
    refiner::Refiner,
    schedule::Schedule,
    set_top_box::SetTopBox,
    summary::Summary,
    transition::Transition,
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
    /// Of what refiners remember of a box.
    pub(crate) limits: Limits,
    pub(crate) deciders: Vec<Decider>,
    /// What they are configured with.
    pub(crate) settings: Arc<Settings>,
    /// Of what they remember of a box.
    pub(crate) decide_limits: returnpath_decision::Limits,
    pub(crate) stranger: Stranger,
    pub(crate) decisions: Decisions,
    pub(crate) reference: Reference,
    pub(crate) counts: Counts,
    pub(crate) faults: Faults,
    pub(crate) darkness: Darkness,
    /// Nothing goes wrong any more, and the viewers sleep.
    pub(crate) is_calm: bool,
    pub(crate) traces: bool,
}

impl World {
    pub(crate) fn new(seed: u64, zone: Zone) -> Self {
        let mut random = Random::new(seed);
        let climate = Climate::of(zone, &mut random);
        let bridges = (0..climate.bridges)
            .map(|_| Bridge::new(i64::try_from(random.below(1_000)).unwrap() - 500))
            .collect();
        let deciders = (0..climate.partitions)
            .map(|_| Decider::new(i64::try_from(random.below(1_000)).unwrap() - 500))
            .collect();
        let mut world = Self {
            deciders,
            settings: aggregators::settings(&climate.way_back),
            decide_limits: climate.way_back.limits,
            stranger: Stranger::new(climate.boxes),
            decisions: Decisions::new(climate.way_back.clone()),
            boxes: (0..climate.boxes).map(SetTopBox::new).collect(),
            bridges,
            kafka: Kafka::new(climate.partitions),
            refiners: (0..climate.partitions)
                .map(|_| Refiner::default())
                .collect(),
            limits: climate::limits(seed),
            reference: Reference::default(),
            counts: Counts::default(),
            faults: Faults::default(),
            darkness: Darkness::default(),
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
            if world.has_breaks() {
                world.schedule.after(on_ms + 1, Transition::BreakComes(of));
            }
        }
        for partition in 0..world.deciders.len() {
            world.decide_polls_again(partition);
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
        let now_ms = self.schedule.now_ms();
        let lived_ms = self.boxes.iter().map(|stb| stb.powered_ms(now_ms)).sum();
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
        self.decisions.invariant_every_opportunity_is_answered();
        self.decisions.invariant_every_ad_comes_to_an_end();
        let logs = self.kafka.partitions.iter_mut();
        let forgotten = logs.map(Log::invariant_nothing_is_missing_without_a_reason);
        let missing_forgotten = forgotten.sum();
        Summary {
            lived_ms,
            steps,
            missing_forgotten,
            ..Summary::of(&self)
        }
    }

    fn calm_down(&mut self) {
        self.is_calm = true;
        // What was about to be lost for a month is not.
        self.darkness = Darkness::Over;
        self.climate.broker_drops = 0;
        self.climate.broker_delays = 0;
        self.climate.broker_refuses = 0;
        self.climate.bridge_refuses = 0;
        self.climate.receipts_lost = 0;
        self.climate.produce_unknown = 0;
        self.climate.answers_lost = 0;
        self.kafka.all_is_well();
    }

    /// Nothing is held, nothing is under way, and no box wants to be woken.
    fn has_settled(&self) -> bool {
        let now_ms = self.schedule.now_ms();
        self.boxes.iter().all(|stb| stb.is_idle(now_ms)) && self.is_refined() && self.is_decided()
    }

    fn unsettled(&self) -> String {
        let now_ms = self.schedule.now_ms();
        let restless = self.boxes.iter().filter(|stb| !stb.is_idle(now_ms));
        let boxes: Vec<String> = restless.map(|stb| stb.status(now_ms)).collect();
        let (refined, decided) = (self.is_refined(), self.is_decided());
        format!("refined {refined}, decided {decided}, boxes {boxes:#?}")
    }

    fn step(&mut self) {
        let Some(transition) = self.schedule.next() else {
            return;
        };
        self.trace(&transition);
        match transition {
            Transition::PowerOn(of) => self.power_on(of),
            Transition::PowerCut(of) => self.power_cut(of),
            Transition::GoesDark(of) => self.goes_dark(of),
            Transition::MonthBegins => self.month_begins(),
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
            Transition::ReachesBroker { of, link, message } => {
                self.reaches_broker(of, link, message);
            }
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
            Transition::ReceiptsDue { bridge } => self.receipts_due(bridge),
            Transition::BridgeDies { bridge } => self.bridge_dies(bridge),
            Transition::Produced {
                bridge,
                session,
                message,
                is_awaited,
            } => self.produced(bridge, session, message, is_awaited),
            Transition::KafkaRefuses => self.kafka_refuses(),
            Transition::LeaderChanges { partition, lane } => self.leader_changes(partition, lane),
            Transition::LanesPart { partition, lane } => self.lanes_part(partition, lane),
            Transition::MarkerArrives {
                role,
                partition,
                marker,
            } => self.marker_arrives(role, partition, marker),
            Transition::Refines { partition } => self.refines(partition),
            Transition::CommitLearned {
                role,
                partition,
                generation,
            } => match role {
                Role::Refine => self.refine_commit_learned(partition, generation),
                Role::Decide => self.decide_commit_learned(partition, generation),
            },
            Transition::RefineDies { partition } => self.refine_dies(partition),
            Transition::HandedOver { partition } => self.handed_over(partition),
            Transition::TakenAway { partition } => self.taken_away(partition),
            Transition::RefineStalls { partition } => self.refine_stalls(partition),
            Transition::RefineZombieWakes { partition } => self.refine_zombie_wakes(partition),
            Transition::Decides { partition } => self.decides(partition),
            Transition::AggregatorAnswers {
                partition,
                generation,
                asked,
            } => self.aggregator_answers(partition, generation, asked),
            Transition::DecideCommitEnds {
                partition,
                generation,
            } => self.decide_commit_ends(partition, generation),
            Transition::PushConfirmed {
                partition,
                generation,
                push,
            } => self.push_confirmed(partition, generation, &push),
            Transition::DecideDies { partition } => self.decide_dies(partition),
            Transition::DecideHandedOver { partition } => self.decide_handed_over(partition),
            Transition::DecideStalls { partition } => self.decide_stalls(partition),
            Transition::DecideZombieWakes {
                partition,
                generation,
            } => self.decide_zombie_wakes(partition, generation),
            Transition::Bound { of, run } => self.bound(of, run),
            Transition::BreakComes(of) => self.break_comes(of),
            Transition::PlayerFollows { of, run } => self.player_follows(of, run),
            Transition::Plays { of, boot, play } => self.plays(of, boot, *play),
            Transition::PushReachesBox { of, link, payload } => {
                self.push_reaches_box(of, link, &payload);
            }
            Transition::StrangerPublishes(of) => self.stranger_publishes(of),
            Transition::Misfortune => self.misfortune(),
        }
    }

    /// Shows what happens, where that was asked for.
    pub(crate) fn trace(&self, what: &impl fmt::Debug) {
        if self.traces {
            eprintln!("{:>9} {what:?}", self.schedule.now_ms());
        }
    }
}
