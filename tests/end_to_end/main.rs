//! End to end, with nothing simulated: agent process → Mosquitto (TLS, client
//! certificates, access control) → collector process → Apache Kafka, read back
//! by `kcat`. Needs what `tests/install` installs and the built binaries;
//! `tests/run` sees to both.

mod box_faults;
mod brokers;
mod collector_faults;
mod delivery;
mod envelope;
mod event;
mod fleet;
mod flow;
mod kafka_faults;
mod presence;
mod rejection;
mod scene;
mod trust;
