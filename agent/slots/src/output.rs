//! What comes out of the core, and how the shell answers.

use alloc::boxed::Box;

use returnpath_shared::wire;

use crate::{Asked, Refused, Row, Slot};

/// A client that follows decisions. The shell chooses the number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Follower(pub u64);

/// What the shell is to do, in order.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Put this row into the queue file, synced to the medium, in place of one
    /// with the same key, and report by [`crate::Slots::bound`].
    Bind {
        /// Names the request.
        number: u64,
        /// The row.
        row: Row,
    },
    /// Hand a decision to players at once, and report by
    /// [`crate::Slots::handed_over`] if there was one.
    HandOver(Box<HandOver>),
    /// Take this event into the queue, and report by [`crate::Slots::told`].
    Tell(Tell),
    /// Take this opportunity into the queue once more; where that has no room
    /// the next connection asks for it.
    AskAgain(Box<Asked>),
    /// This row is not needed any more; it may stay until the next commit.
    Forget(Slot),
    /// Log it.
    Refused(Refused),
}

/// A decision for players.
#[derive(Clone, PartialEq, Debug)]
pub struct HandOver {
    /// Who gets it.
    pub to: To,
    /// What they get.
    pub decision: wire::Decision,
}

/// Who gets a decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    /// Everyone who follows.
    All,
    /// One who has just begun to.
    One(Follower),
}

/// What the cloud is to know.
#[derive(Clone, PartialEq, Debug)]
pub struct Tell {
    /// Names the request.
    pub number: u64,
    /// Acknowledged or refused.
    pub event: wire::AdEvent,
}

/// How a commit went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BindOutcome {
    /// The row is on the medium.
    Done,
    /// It is not known to be.
    Failed,
}

/// What came of a [`Tell`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TellOutcome {
    /// Nothing was taken; it is asked again later.
    Busy,
    /// Taken, not durable yet; [`Self::Settled`] follows.
    Taken,
    /// Durable, or as safe as this box can make it.
    Settled,
}
