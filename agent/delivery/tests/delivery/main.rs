//! The core from outside: the rules of delivery one by one, and generated
//! lives of a box against models of its disk and of the cloud.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "all of it is tests: what is not expected fails them"
)]

mod action;
mod bench;
mod cloud;
mod disk;
mod properties;
mod rules;
mod world;
