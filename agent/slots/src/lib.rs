//! The pure core of the way back on the box: which decision each ad slot is
//! bound to, what is refused and why, what is handed to players, what is told
//! to the cloud.
//!
//! [`Slots`] owns the life of a decision between its arrival and the end of
//! its slot. Time, stored rows and the verdict on a signature are arguments;
//! commits, hand-overs and events are [`Output`]s that the shell carries out.
//! Neither SQLite, MQTT, cryptography nor a clock is known here.
//!
//! How a shell drives it:
//!
//! 1. [`Slots::new`] with the rows that the queue file holds;
//! 2. after every call, carry out [`Slots::poll_output`] until it is empty, in
//!    order;
//! 3. wait for a message, a result, a follower, or [`Slots::poll_timeout`], and
//!    report it.
//!
//! # What keeps two ads off one slot
//!
//! The first valid decision binds its slot; nothing supersedes it after that.
//! It is handed over only once its row is on flash, so that an agent that is
//! killed at any moment finds it again and takes no other for the same slot.
//!
//! A row is forgotten when it has expired and its acknowledgement is safe. The
//! expiry, in uptime of one boot, is what a replay then meets: it is `expired`
//! in this boot from that uptime on, and in every other boot always. Uptime
//! never goes back and a boot's random id never returns, so no replay binds
//! again. Where the queue file itself was lost, a decision that was handed over
//! before may bind a second time until it expires: the same ad for the same
//! slot. Another ad for that slot would need another decision signed by the
//! operator, who makes one for each slot.
#![no_std]

extern crate alloc;

mod last_ids;
mod message;
mod output;
mod refusal;
mod slot;
mod slots;

pub use message::{PURPOSE, Verify};
pub use output::{BindOutcome, Follower, HandOver, Output, Tell, TellOutcome, To};
pub use refusal::{Refusal, Refused};
pub use slot::{Row, Slot};
pub use slots::{HELD_MAX, Slots, Start, Status};
