//! What goes wrong in the worlds, by name, and how often it did: a fault that
//! no world had would prove nothing, however green the run.

use std::fmt;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counted where it takes effect, not where it is drawn.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

faults! {
    // ── a box ──
    /// Mains power goes; nothing was unsynced.
    PowerCut,
    /// The same, and it took commits that were not synced.
    PowerCutLosesWrites,
    /// The agent's process dies; its file keeps what the system has.
    AgentKilled,
    /// The same, or the power went, while a commit was under way.
    DiesWhileCommitting,
    /// The agent stops in order; nothing is lost.
    AgentStopped,
    /// A whole town is without power for a month.
    Unplugged30Days,
    /// Of its boxes, one that holds what Kafka has, as its receipt was lost.
    UnpluggedHoldingReceipted,
    /// A box boots in 1970.
    BootIn1970,
    /// A clock that nobody trusts yet jumps.
    ClockStepped,
    /// A clock that its box calls synchronised jumps by hours or years.
    SynchronisedClockStepped,
    /// A page of the queue file cannot be read any more.
    PageWentBad,
    /// A commit of the queue file is rolled back.
    CommitRolledBack,
    /// A commit fails, after which the file is not to be trusted.
    CommitFailed,
    /// No new queue file can be made either.
    RebuildFailed,
    /// A client is answered, and does not hear it.
    AnswerLost,
    /// The middleware reports what no event may be.
    InvalidEvent,

    // ── its link ──
    /// TCP breaks, and the agent notices later.
    LinkCut,
    /// A PUBLISH dies with its link.
    PublishLost,
    /// A PUBACK dies with its link.
    PubAckLost,
    /// The broker answers a PUBLISH by a refusal.
    PublishRefused,

    // ── broker and bridges ──
    /// A message that the broker took is never delivered.
    MessageDropped,
    /// A message is delivered twice.
    MessageDoubled,
    /// A message is delivered minutes late.
    MessageDelayed,
    /// A message arrives after a later one of its box.
    MessageReordered,
    /// The broker restarts with an empty memory.
    BrokerForgot,
    /// Of what it forgot, a message that a bridge was still to get.
    MessageForgotten,
    /// A bridge dies with the receipts that it owes.
    BridgeDied,
    /// A bridge refuses a batch.
    BatchRefused,
    /// A receipt does not reach its box.
    ReceiptLost,

    // ── Kafka ──
    /// Kafka takes nothing from the bridges.
    KafkaRefused,
    /// A lane of a partition changes its leader.
    LeaderChanged,
    /// A produce whose outcome the bridge never learns: it stands in Kafka.
    ProduceLandedUnknown,
    /// The same, and it lands long after the bridge has given it up.
    ProduceLandedLate,
    /// The same, and it never does.
    ProduceNeverLanded,
    /// Live and backlog are parted: one lane stands still, the other flows.
    LanesParted,

    // ── refine ──
    /// A transaction is aborted.
    TransactionAborted,
    /// The outcome of a commit is not known; later it turns out as made.
    CommitUnknownMade,
    /// The same; later it turns out as aborted.
    CommitUnknownAborted,
    /// The same, and never learned: everything is loaded again.
    CommitUnknownGivenUp,
    /// A node dies between two transactions.
    RefineDied,
    /// A node dies within a transaction.
    RefineDiedMidTransaction,
    /// A partition is handed over in order.
    RebalancedInOrder,
    /// A partition is taken away in mid-transaction.
    RebalancedMidTransaction,
    /// Its new owner sees the offsets of its predecessor's transaction before
    /// the state that belongs to them.
    MarkerLate,
    /// A partition is loaded from compacted topics.
    LoadedCompacted,
    /// A former node that stood still goes on, refines, and is refused.
    RefineFenced,

    // ── decide ──
    /// An aggregator does not answer.
    AggregatorSilent,
    /// One answers when its slot is decided.
    AggregatorLate,
    /// One answers what is no answer, or cannot be reached.
    AggregatorErred,
    /// A transaction is aborted, and the next one with it.
    DecideTransactionAborted,
    /// The outcome of a commit is not known; later it turns out as made.
    DecideCommitUnknownMade,
    /// The same; later it turns out as aborted.
    DecideCommitUnknownAborted,
    /// The same, and never learned: everything is loaded again.
    DecideCommitUnknownGivenUp,
    /// A node dies between two transactions.
    DecideDied,
    /// A node dies while it asks, or has decided and not committed.
    DecideDiedMidTransaction,
    /// A node dies while Kafka commits.
    DecideDiedWhileCommitting,
    /// A node dies when Kafka has committed, before it pushes.
    DecideDiedBeforePush,
    /// A partition is handed over in order.
    DecideHandedOver,
    /// Its new owner sees the offsets before the state.
    DecideMarkerLate,
    /// A partition is loaded from a compacted topic.
    DecideLoadedCompacted,
    /// A former node that stood still goes on, decides, and is refused.
    DecideFenced,
    /// One pushes what was committed for it before another took over.
    DecideZombiePushed,

    // ── pushes ──
    /// A push that the broker took is never delivered.
    PushLost,
    /// A push is delivered twice.
    PushDoubled,
    /// A push is delivered seconds or minutes late.
    PushDelayed,
    /// A push arrives after one of a later opportunity.
    PushReordered,
    /// A push dies with the link of its box, or with the broker's memory.
    PushDiedWithItsLink,
    /// The box of a push is not connected.
    PushFoundNobody,
    /// The same, as it has no power while its break goes on.
    DarkDuringItsBreak,
    /// A node does not hear that the broker has its push.
    PushConfirmationLost,
    /// A box gets a decision that the operator did not sign.
    ForgedPush,
    /// A box gets a decision for another box.
    ForeignPush,
    /// A box gets a decision after its expiry.
    ExpiredPush,
    /// The same, of one that its player had.
    ReplayedPush,
    /// A box gets another decision for a slot that is bound.
    SupersedingPush,

    // ── decisions on a box ──
    /// A bound slot does not get to flash, as far as is known.
    BindFailed,
    /// The agent dies, or the power goes, while a slot is being bound.
    DiesWhileBinding,
    /// The same when the slot is bound, before a player has the ad.
    KilledBetweenBindAndHandOver,
    /// The agent asks again on a new connection.
    AskedAgainAfterLink,
    /// The player asks again when the agent was restarted in its break.
    AskedAgainAfterRestart,
    /// The same when its box was.
    AskedAgainAfterReboot,
    /// A box in 1970 hands a decision over.
    HandedOverIn1970,
}

/// How often each happened.
#[derive(Clone)]
pub(crate) struct Faults(Vec<u64>);

impl Default for Faults {
    fn default() -> Self {
        Self(vec![0; Fault::ALL.len()])
    }
}

impl Faults {
    pub(crate) fn count(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (here, there) in self.0.iter_mut().zip(&other.0) {
            *here += there;
        }
    }

    /// Those that never happened.
    pub(crate) fn missing(&self) -> Vec<Fault> {
        let of = Fault::ALL.iter().zip(&self.0);
        of.filter(|(_, times)| **times == 0)
            .map(|(fault, _)| *fault)
            .collect()
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(Fault::ALL.iter().zip(&self.0))
            .finish()
    }
}
