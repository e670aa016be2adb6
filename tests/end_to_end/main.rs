//! End to end, with nothing simulated: agent process → Mosquitto (TLS, client
//! certificates, access control) → collector process → Apache Kafka, read back
//! by `kcat`. Needs what `tests/install` installs and the built binaries;
//! `tests/run` sees to both.

mod ad_loop;
mod bounds;
mod box_faults;
mod brokers;
mod certificates;
mod collector_faults;
mod completeness;
mod config_command;
mod decide_faults;
mod decided;
mod decision_box;
mod decision_trust;
mod decision_viewer;
mod delivery;
mod disk_faults;
mod envelope;
mod event;
mod fleet;
mod flow;
mod kafka_cluster;
mod kafka_faults;
mod market;
mod market_faults;
mod network_faults;
mod poison;
mod presence;
mod random_kills;
mod rejection;
mod scene;
mod seed;
mod torn_file;
mod trust;
