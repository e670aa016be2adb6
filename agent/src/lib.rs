//! The agent on the box: takes events on a Unix socket, keeps them in SQLite,
//! sends them to the broker, and deletes them when the collector's receipt
//! says that Kafka has them.
//!
//! What to store, send, resend and drop is decided in `returnpath_delivery`;
//! this crate is the thin shell around it. `link` and `identity` also serve
//! the simulated fleet, which holds many boxes in one process.

pub mod allocator;
pub mod cli;
pub mod clock;
pub mod config;
pub mod exit;
pub mod identity;
pub mod intake;
pub mod link;
pub mod process;
pub mod queue;
pub mod run;
pub mod steering;
pub mod trust;
