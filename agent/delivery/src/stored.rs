//! What the queue file holds, as the core sees it: rows and the operations on
//! them. Owns no file and no SQL; the shell's schema mirrors these types.

use alloc::{string::String, vec::Vec};

use bytes::Bytes;
use returnpath_shared::{BatchId, Class, Epoch, Ordinal, ProofKey, Sequence, wire};

use crate::{Powered, Uptime};

/// A batch as a row, without its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredBatch {
    /// Its id.
    pub id: BatchId,
    /// Boot in which its events happened.
    pub boot_id: u64,
    /// Highest class inside.
    pub class: Class,
    /// How its bytes are packed.
    pub codec: wire::Codec,
    /// Length of its packed bytes.
    pub size_bytes: u32,
    /// Ordinal of its first event.
    pub first_ordinal: Ordinal,
    /// How many events it carries.
    pub events: u16,
    /// Whether it says what was viewed: dropped when consent is withdrawn,
    /// unless it is proof.
    pub viewing: bool,
    /// Powered time of its first event.
    pub opened: Powered,
}

/// Consecutive batches of one epoch, dropped for one reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LedgerRow {
    /// Key of the row among those that are there.
    pub number: u64,
    /// Why they were dropped.
    pub reason: wire::DropReason,
    /// For refused batches, what the collector or the broker said.
    pub refusal: wire::RefusalReason,
    /// Their epoch.
    pub epoch: Epoch,
    /// First and last batch of the run; both 0 for a whole epoch.
    pub first_sequence: Sequence,
    /// See `first_sequence`.
    pub last_sequence: Sequence,
    /// Ordinal of the first event; 0 for a whole epoch.
    pub first_ordinal: Ordinal,
    /// How many events they carried; 0 for a whole epoch.
    pub event_count: u64,
    /// Everything of the epoch that the cloud does not have is lost.
    pub whole_epoch: bool,
}

/// A proof event that was answered, so that its repeat gets the same answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProofId {
    /// Key of the row; later ids have higher numbers.
    pub number: u64,
    /// What a repeat is recognised by.
    pub key: ProofKey,
    /// The answer.
    pub epoch: Epoch,
    /// The answer.
    pub ordinal: Ordinal,
}

/// Everything of an epoch up to here is durable on the box, in the cloud, or
/// in the ledger. 0 where nothing is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Settled {
    /// Highest such ordinal.
    pub ordinal: u64,
    /// Highest such sequence.
    pub sequence: u64,
}

/// A start of the agent that has not ended cleanly, or not yet. The shell
/// inserts one, synced, when it raises the start counter; the core removes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StartRow {
    /// The start.
    pub epoch: Epoch,
    /// What was settled of it at the last commit.
    pub settled: Settled,
}

/// Ties the powered clock to uptime, so that it can go on after a restart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoweredMark {
    /// The boot of the mark.
    pub boot_id: u64,
    /// Uptime at the mark.
    pub uptime: Uptime,
    /// Powered milliseconds at the mark.
    pub powered_ms: u64,
}

/// One change of the queue file. Puts replace the row of the same key.
#[derive(Clone, PartialEq, Debug)]
pub enum Op {
    /// A new batch. Its id is never in the file already.
    InsertBatch {
        /// The row.
        batch: StoredBatch,
        /// Its packed bytes.
        bytes: Bytes,
    },
    /// These batches leave. Some of them may not be in the file.
    DeleteBatches {
        /// Their epoch.
        epoch: Epoch,
        /// The first.
        first: Sequence,
        /// The last.
        last: Sequence,
    },
    /// Key: the number.
    LedgerPut(LedgerRow),
    /// The cloud has this row.
    LedgerDelete {
        /// Its key.
        number: u64,
    },
    /// Key: the number.
    ProofIdPut(ProofId),
    /// Ids that fell out of the window: all numbers up to this one.
    ProofIdsDeleteThrough {
        /// The highest number that leaves.
        number: u64,
    },
    /// Key: the boot.
    AnchorPut(wire::ClockAnchor),
    /// No batch of this boot is held any more.
    AnchorDelete {
        /// The boot.
        boot_id: u64,
    },
    /// Key: the epoch.
    StartPut(StartRow),
    /// This start ended cleanly, or the cloud knows that it did not.
    StartDelete(Epoch),
    /// The only row of its kind.
    PoweredPut(PoweredMark),
}

/// How far a commit must have gone before it is reported as done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Synced to the medium (`synchronous=FULL`).
    Synced,
    /// Handed to the operating system; the tail may die with the power, never
    /// an earlier commit before a later one (`synchronous=NORMAL` in WAL).
    Behind,
}

/// What the agent says of the box in its boot events.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BootFacts {
    /// Model of the box.
    pub model: String,
    /// Its firmware.
    pub firmware: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Version of SQLite in the agent.
    pub sqlite_version: String,
    /// Mount options of the queue's file system.
    pub mount_options: String,
}

/// What a start begins with: what the shell found in the queue file.
#[derive(Clone, PartialEq, Debug)]
pub struct Start {
    /// This run; its start row is in the file, synced.
    pub epoch: Epoch,
    /// Random id of this boot.
    pub boot_id: u64,
    /// For boot events.
    pub facts: BootFacts,
    /// Drops that the cloud has not confirmed.
    pub ledger: Vec<LedgerRow>,
    /// Recent proof events, ascending by number.
    pub proof_ids: Vec<ProofId>,
    /// Clock anchors of earlier boots and this one.
    pub anchors: Vec<wire::ClockAnchor>,
    /// Start rows other than this one's: runs that ended without a clean stop
    /// and have not been declared. Of more than [`UNCLEAN_MAX`](crate::UNCLEAN_MAX)
    /// the rest is asked for when those are.
    pub unclean: Vec<StartRow>,
    /// The powered clock as last committed.
    pub powered: Option<PoweredMark>,
    /// Randomness for jitter.
    pub seed: u64,
}
