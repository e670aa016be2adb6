//! Everything that can happen in the world, one small step each.
//!
//! What names a run, a link or a session is stale once that is over: packets,
//! answers and timers of the dead reach nobody.

use bytes::Bytes;
use returnpath_decision::Push;
use returnpath_delivery::PubAckOutcome;
use returnpath_shared::{BatchId, Class, Lane, wire};

use crate::{
    aggregators::Asked,
    kafka::{Marker, Role},
    set_top_box::Play,
};

/// Which box.
pub(crate) type BoxIndex = usize;

#[derive(Clone, Debug)]
pub(crate) enum Transition {
    // ── a box ──
    /// Mains power comes, after a cut.
    PowerOn(BoxIndex),
    /// Mains power goes: memory and unsynced writes are lost.
    PowerCut(BoxIndex),
    /// Power goes everywhere for a month, once this box holds what Kafka has.
    GoesDark(BoxIndex),
    /// The month begins.
    MonthBegins,
    /// The supervisor starts the agent.
    AgentStarts { of: BoxIndex, boot: u64 },
    /// The agent's process dies; what it handed to the system survives.
    AgentKilled(BoxIndex),
    /// The agent is told to stop cleanly.
    AgentStops(BoxIndex),
    /// The middleware reports something.
    ViewerActs(BoxIndex),
    /// The time that the core asked for.
    Wake { of: BoxIndex, run: u64 },
    /// SQLite's thread reports.
    Committed { of: BoxIndex, run: u64 },
    /// SQLite's thread has read a batch.
    Loaded { of: BoxIndex, run: u64, id: BatchId },
    /// SQLite's thread has copied what reads to a new file.
    Rebuilt { of: BoxIndex, run: u64 },
    /// SQLite's thread has put a bound slot to flash, or failed to.
    Bound { of: BoxIndex, run: u64 },
    /// The wall clock becomes trusted.
    ClockSynchronises { of: BoxIndex, boot: u64 },
    /// An untrusted wall clock jumps.
    ClockSteps(BoxIndex),
    /// A stored batch cannot be read any more.
    PageGoesBad(BoxIndex),

    // ── its player ──
    /// A break with slots for ads is announced.
    BreakComes(BoxIndex),
    /// The player connects to the agent.
    PlayerFollows { of: BoxIndex, run: u64 },
    /// An ad begins, or ends.
    Plays {
        of: BoxIndex,
        boot: u64,
        play: Box<Play>,
    },

    // ── its link ──
    /// Time to connect.
    Dials { of: BoxIndex, run: u64 },
    /// CONNACK and SUBACK have come.
    Connected { of: BoxIndex, run: u64, link: u64 },
    /// TCP breaks; nobody knows yet.
    LinkCut(BoxIndex),
    /// The agent notices.
    LinkLost { of: BoxIndex, run: u64, link: u64 },
    /// A PUBLISH arrives.
    ReachesBroker {
        of: BoxIndex,
        link: u64,
        message: Message,
    },
    /// Its PUBACK arrives.
    PubAck {
        of: BoxIndex,
        link: u64,
        id: BatchId,
        outcome: PubAckOutcome,
    },
    /// A receipt arrives.
    ReceiptReachesBox {
        of: BoxIndex,
        link: u64,
        receipt: wire::Receipt,
    },

    /// A decision arrives.
    PushReachesBox {
        of: BoxIndex,
        link: u64,
        payload: Bytes,
    },
    /// Somebody publishes to the box who should not.
    StrangerPublishes(BoxIndex),

    // ── broker and bridges ──
    /// The MQTT broker restarts with an empty memory.
    BrokerForgets,
    /// A message arrives at a bridge.
    ReachesBridge {
        bridge: usize,
        session: u64,
        message: Message,
    },
    /// A receipt may be due.
    ReceiptsDue { bridge: usize },
    /// A bridge dies, and is started again at once.
    BridgeDies { bridge: usize },

    // ── Kafka ──
    /// A produce reaches Kafka.
    Produced {
        bridge: usize,
        session: u64,
        message: Message,
        /// Whether the bridge still waits to hear of it.
        is_awaited: bool,
    },
    /// Kafka takes nothing for a while.
    KafkaRefuses,
    /// A lane of a partition is between two leaders.
    LeaderChanges { partition: usize, lane: Lane },
    /// A lane of a partition can be neither written nor read for a while.
    LanesPart { partition: usize, lane: Lane },
    /// A marker of a former owner's transaction arrives.
    MarkerArrives {
        role: Role,
        partition: usize,
        marker: Marker,
    },
    /// A node learns what became of its commit.
    CommitLearned {
        role: Role,
        partition: usize,
        generation: u64,
    },

    // ── refine ──
    /// The refine node of a partition polls.
    Refines { partition: usize },
    /// The refine node of a partition dies, and another takes over.
    RefineDies { partition: usize },
    /// The partition is handed over in order.
    HandedOver { partition: usize },
    /// The partition is given to another in mid-transaction.
    TakenAway { partition: usize },
    /// The refine node of a partition stands still, and another takes over.
    RefineStalls { partition: usize },
    /// It goes on.
    RefineZombieWakes { partition: usize },

    // ── decide ──
    /// The decide node of a partition polls.
    Decides { partition: usize },
    /// A call to an aggregator ends.
    AggregatorAnswers {
        partition: usize,
        generation: u64,
        asked: Box<Asked>,
    },
    /// Kafka has ended a transaction of decide.
    DecideCommitEnds { partition: usize, generation: u64 },
    /// The broker has a decision.
    PushConfirmed {
        partition: usize,
        generation: u64,
        push: Box<Push>,
    },
    /// The decide node of a partition dies, and another takes over.
    DecideDies { partition: usize },
    /// The partition is handed over in order.
    DecideHandedOver { partition: usize },
    /// The decide node of a partition stands still, and another takes over.
    DecideStalls { partition: usize },
    /// It goes on.
    DecideZombieWakes { partition: usize, generation: u64 },

    // ── fate ──
    /// Something goes wrong somewhere.
    Misfortune,
}

/// A payload on its way up, and what a bridge reads of it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) from: BoxIndex,
    pub(crate) id: BatchId,
    pub(crate) class: Class,
    pub(crate) lane: Lane,
    pub(crate) payload: Bytes,
}
