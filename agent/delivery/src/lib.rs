//! Decides what a box stores, sends, sends again and drops, and when.
//!
//! [`Delivery`] owns the life of every event between the client's answer and
//! the collector's receipt. It does no I/O, reads no clock and draws no
//! randomness of its own: `now` is an argument of every call, the seed is one
//! of the constructor, and what is to be done comes out as [`Effect`]s. The
//! shell around it owns the socket, the queue file and the link.
//!
//! How a shell drives it:
//!
//! 1. open the queue file, make the start counter durable, then
//!    [`Delivery::new`] with what the file holds;
//! 2. after every call, carry out [`Delivery::poll_effect`] until it is empty,
//!    *in order*;
//! 3. wait for a client, a result, or [`Delivery::poll_timeout`], and report
//!    it through [`Delivery::accept`], [`Delivery::handle`] or
//!    [`Delivery::tick`].
//!
//! What the shell owes it: effects carried out in order, each commit and each
//! load answered once and in the order asked, receipts and acknowledgements
//! passed on whenever they come (late and repeated ones are harmless). Every
//! timer is in [`Delivery::poll_timeout`]; waking late costs delay and nothing
//! else. A simulated box needs no file: `tests/delivery/world.rs` drives the
//! core against a model of a disk that loses what was not synced.
//!
//! [`Reconnect`] stands beside it and says when to dial which broker.
#![no_std]

extern crate alloc;

mod anchors;
mod budget;
mod config;
mod delivery;
mod effect;
mod held;
mod jitter;
mod leaving;
mod ledger;
mod open;
mod own;
mod reconnect;
mod repeat;
mod share;
mod status;
mod storage;
mod stored;
mod time;
mod unwritten;
mod waiting;
mod window;

pub use config::{Config, Pace, SyncPolicy};
pub use delivery::Delivery;
pub use effect::{
    Acceptance, Answer, ClientToken, Commit, CommitOutcome, Effect, FirstAnswer, Input,
    PubAckOutcome, Publish, SendingClock, Unreadable,
};
pub use own::UNCLEAN_MAX;
pub use reconnect::{Dial, Loss, Reconnect, ReconnectConfig};
pub use status::{Dropped, Held, Status};
pub use stored::{
    BootFacts, Durability, LedgerRow, Op, PoweredMark, ProofId, Settled, Start, StartRow,
    StoredBatch,
};
pub use time::{Powered, Uptime};
