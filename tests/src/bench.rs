//! Benchmarks on real parts: each starts a real Kafka and a real Mosquitto
//! with TLS, the processes under test in this build profile, and a load, and
//! reports what the operating system counted for the process alone.
//!
//! Figures go with machine, command, input and variation; `tests/bench` runs
//! them in the release profile.

pub mod boxes;
pub mod bridge;
pub mod decide;
pub mod drain;
pub mod households;
pub mod intake;
pub mod load;
pub mod memory;
pub mod metrics;
pub mod opportunities;
pub mod outage;
pub mod process_usage;
pub mod refine;
pub mod scene;
pub mod shown;
pub mod spread;
pub mod takeover;
pub mod urgent;
pub mod week;
