//! Faults on real parts: processes killed in random order and timing, networks
//! that cut, swallow, crawl and lose, brokers that hang. Each run ends with the
//! audit.
//!
//! Owns how faults are made and what is counted while they last. What must hold
//! afterwards is said by `returnpath-collector audit`, which knows nothing of
//! this.

pub mod audited;
pub mod boxes;
pub mod kills;
pub mod loss;
pub mod middleware;
pub mod namespace;
pub mod outage;
pub mod page;
pub mod peak_memory;
pub mod plan;
pub mod reconnects;
pub mod stage;
pub mod storm;
