//! The collector against librdkafka's mock of a Kafka cluster: fast, and able
//! to fail on purpose. It has no transactions worth the name (aborted records
//! are delivered) and keeps little; what depends on those is tested end to end
//! against the real one, in the tests crate.

#![expect(
    clippy::unwrap_used,
    reason = "a test whose setting cannot be built fails by it"
)]

mod audit;
mod cluster;
mod refine;
mod tail;
