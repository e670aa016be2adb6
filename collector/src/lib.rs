//! The collector: one binary, several roles, all shared state in Kafka.
//!
//! Data flows one way: `bridge` (MQTT to `rp.raw`) → `refine` (`rp.raw` to the
//! refined topics) → `decide` (`rp.opportunities` to `rp.decisions`, and down
//! to the boxes) → `audit`, `tail` and `decisions`, which only read. Beside it
//! stands `steering`: what people tell boxes, signed as decisions are (`signing`).
//! `exactly_once` is the engine of `refine` and `decide`. `kafka` holds what
//! every role needs of Kafka, `mqtt` of MQTT; `topics` creates and checks; `run`
//! starts the roles and stops them in order; `admin` answers health and metrics.

pub mod admin;
pub mod audit;
pub mod bridge;
pub mod cli;
pub mod completeness;
pub mod config;
pub mod decide;
pub mod decisions;
mod exactly_once;
pub mod exit;
pub mod kafka;
pub mod mqtt;
pub mod node_id;
pub mod refine;
pub mod run;
mod section;
pub mod signing;
pub mod steering;
pub mod tail;
pub mod topics;
