//! The pure core of `decide`: an opportunity with its context becomes requests
//! to aggregators, their answers become offers, and the offers of a slot become
//! one decision with a record that explains it.
//!
//! Time, answers and signatures are arguments; requests, records, changes of
//! state and pushes are values that the shell carries out. No clock is read, no
//! socket opened, no secret kept beyond the settings.
#![no_std]
extern crate alloc;

mod ask;
mod call;
mod offer;

pub use ask::Ask;
pub use call::{Adapter, Answer, Method, Request, Response, Unaskable, Unreadable};
pub use offer::OFFERS_MAX;
