//! What goes into the core and what comes out of it.

use alloc::vec::Vec;

use bytes::Bytes;
use returnpath_shared::{BatchId, Class, Epoch, Lane, Ordinal, wire};

use crate::{
    Pace, Uptime,
    stored::{Durability, Op, StartRow},
};

/// Names a request of a client until it is answered. The shell chooses it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientToken(pub u64);

/// What a client is told at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acceptance {
    /// Ordinary: taken, may die with the power.
    Accepted {
        /// The event's epoch.
        epoch: Epoch,
        /// Its ordinal.
        ordinal: Ordinal,
    },
    /// Proof: taken; an [`Effect::Answer`] with the client's token follows.
    /// Also for a repeat of proof that is not durable yet.
    Pending {
        /// The event's epoch.
        epoch: Epoch,
        /// Its ordinal.
        ordinal: Ordinal,
    },
    /// Known by its id: this is the answer that the first one got.
    Repeated {
        /// The first event's epoch.
        epoch: Epoch,
        /// Its ordinal.
        ordinal: Ordinal,
        /// How it was answered.
        answer: FirstAnswer,
    },
    /// A bound is reached, or the agent is stopping; nothing was taken.
    Busy,
    /// Larger than a batch may be; nothing was taken.
    TooLarge {
        /// Encoded length of the event in bytes.
        length: usize,
        /// The longest that is taken.
        length_max: usize,
    },
}

/// The first answer to an event that came again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FirstAnswer {
    /// It was accepted.
    Accepted,
    /// It is durable.
    Durable,
}

/// The later answer to a proof event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Kafka has it, or a full sync has committed it.
    Durable {
        /// The event's epoch.
        epoch: Epoch,
        /// Its ordinal.
        ordinal: Ordinal,
    },
    /// Storage failed and no receipt came: it is held in RAM, and sent when
    /// the link allows.
    AcceptedOnly {
        /// The event's epoch.
        epoch: Epoch,
        /// Its ordinal.
        ordinal: Ordinal,
    },
}

/// What the shell reports.
#[derive(Clone, PartialEq, Debug)]
pub enum Input<'a> {
    /// CONNACK has come and the subscription to receipts stands.
    LinkUp,
    /// The link is gone; nothing published before is under way for certain.
    LinkDown,
    /// The broker answered a publish, or the link gave it back.
    PubAck {
        /// The batch.
        id: BatchId,
        /// What it said.
        outcome: PubAckOutcome,
    },
    /// The collector's receipt.
    Receipt(&'a wire::Receipt),
    /// The answer to an [`Effect::Commit`].
    Committed {
        /// Its number.
        number: u64,
        /// How it went.
        outcome: CommitOutcome,
    },
    /// The answer to an [`Effect::Load`].
    Loaded {
        /// The batch.
        id: BatchId,
        /// Its packed bytes.
        bytes: Result<Bytes, Unreadable>,
    },
    /// The answer to an [`Effect::ReadStarts`].
    Starts(Vec<StartRow>),
    /// The wall clock is synchronised, and showed this at `now`.
    ClockSynchronised {
        /// Milliseconds since 1970-01-01T00:00:00Z.
        unix_ms: i64,
    },
    /// The cloud sets the pace.
    Pace(Pace),
    /// The answer to an [`Effect::Rebuild`] that did not work: there is no
    /// queue file. [`crate::Delivery::rebuilt`] may still follow later.
    RebuildFailed,
    /// Stop cleanly: [`Effect::Stopped`] follows.
    Stop,
}

/// How the broker took a publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PubAckOutcome {
    /// Taken by the broker; only a receipt says more.
    Ok,
    /// Will never be taken (not authorised, too large, malformed).
    Refused(wire::RefusalReason),
    /// Not taken this time (quota, internal error, given back by the link).
    Retry,
}

/// How a commit went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitOutcome {
    /// As durable as it was asked to be.
    Done,
    /// Rolled back cleanly, for instance for want of space; the file is good
    /// and the same will be tried again.
    RolledBack,
    /// A write or sync failed: what the file holds is not known any more.
    /// [`Effect::Rebuild`] follows.
    Failed,
}

/// The bytes of a batch cannot be had: checksum, or the row is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unreadable;

/// What the shell is to do, in order.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Send a batch.
    Publish(Publish),
    /// Change the queue file in one transaction. At most one is under way.
    Commit(Commit),
    /// Read the bytes of a batch. Answers come in the order of the requests:
    /// batches leave in the order in which they are read.
    Load(BatchId),
    /// Read start rows, and report them by [`Input::Starts`]: as many as the file
    /// has, or at least [`UNCLEAN_MAX`](crate::UNCLEAN_MAX) and two. What the
    /// file cannot give is not reported; after a rebuild it is asked for again.
    ReadStarts,
    /// Answer a client that waits.
    Answer {
        /// The request.
        token: ClientToken,
        /// The answer.
        answer: Answer,
    },
    /// Do not trust the file any more: copy what reads to a new one, with a
    /// new incarnation and its first start row, and report by
    /// [`crate::Delivery::rebuilt`] or [`Input::RebuildFailed`]. Start rows,
    /// ledger, proof ids and anchors of the old file are copied too. Before
    /// the new file takes the old one's place it must declare each epoch of
    /// which something could not be copied ([`crate::LedgerRow::corrupt_epoch`]).
    Rebuild {
        /// Epochs of which the old file held batches, in case it cannot even
        /// name them.
        epochs: Vec<Epoch>,
    },
    /// Everything is in the file; the agent may exit. Nothing follows.
    Stopped,
}

/// One transaction.
#[derive(Clone, PartialEq, Debug)]
pub struct Commit {
    /// Names it in [`Input::Committed`].
    pub number: u64,
    /// How far it must have gone before it is reported.
    pub durability: Durability,
    /// The changes, to be made in this order.
    pub ops: Vec<Op>,
}

/// One batch on its way out.
#[derive(Clone, PartialEq, Debug)]
pub struct Publish {
    /// The batch.
    pub id: BatchId,
    /// The lane, hence the topic.
    pub lane: Lane,
    /// Highest class inside.
    pub class: Class,
    /// How the bytes are packed.
    pub codec: wire::Codec,
    /// The packed batch.
    pub bytes: Bytes,
    /// The run that sends it.
    pub sender: Epoch,
    /// The boot that sends it.
    pub boot_id: u64,
    /// Oldest batch held of each incarnation.
    pub oldest_held: Vec<BatchId>,
}

/// The clocks at sending, read together by the shell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendingClock {
    /// Uptime at sending.
    pub uptime: Uptime,
    /// Wall clock at sending, milliseconds since 1970-01-01T00:00:00Z.
    pub unix_ms: i64,
    /// Whether the box trusts that clock.
    pub synchronised: bool,
}

impl Publish {
    /// The envelope as it travels.
    #[must_use]
    pub fn into_envelope(self, clock: SendingClock) -> wire::Envelope {
        let class = match self.class {
            Class::Ordinary => wire::Class::Ordinary,
            Class::Proof => wire::Class::Proof,
        };
        wire::Envelope {
            id: Some(self.id.into()),
            class: class as i32,
            codec: self.codec as i32,
            batch: self.bytes,
            boot_id: self.boot_id,
            uptime_ms: clock.uptime.0,
            unix_ms: clock.unix_ms,
            clock_synchronised: clock.synchronised,
            sender: Some(self.sender.into()),
            oldest_held: self.oldest_held.into_iter().map(Into::into).collect(),
        }
    }
}
