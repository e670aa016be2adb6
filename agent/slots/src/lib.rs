//! The pure core of the way back on the box: which decision each ad slot is
//! bound to, what is refused and why, what is handed to players, what is told
//! to the cloud.
//!
//! [`Slots`] owns the life of a decision between its arrival and the end of
//! its slot, and asks again for opportunities whose decision may have passed
//! the box by. Time, stored rows and the verdict on a signature are arguments;
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
//! What a replay meets is the expiry, in uptime of one boot: the same decision
//! is `expired` in this boot from that uptime on, and in every other boot
//! always. Uptime never goes back and a boot's random id never returns, so no
//! replay binds again, whether its row is still there or not.
//!
//! Rows outlive their expiry nevertheless, until room is needed ([`HELD_MAX`])
//! or the boot ends: another decision for a slot that is over, with a later
//! expiry, meets the row and is `superseded`. Beyond these bounds, and where
//! the queue file itself was lost, two things are left to stand on: the cloud
//! signs one decision for each slot and no other, and what it has signed
//! expires. So after such a loss a slot can be bound a second time only to the
//! same ad, and only until its expiry.
#![no_std]

extern crate alloc;

mod bucket;
mod last_ids;
mod message;
mod output;
mod refusal;
mod slot;
mod slots;

pub use bucket::Bucket;
pub use message::{PURPOSE, Verify};
pub use output::{BindOutcome, Follower, HandOver, Output, Tell, TellOutcome, To};
pub use refusal::{Refusal, Refused};
pub use slot::{Row, Slot};
pub use slots::{ASK_AGAIN_MS, Asked, HELD_MAX, OPPORTUNITIES_MAX, Slots, Start, Status};
