//! The core from outside: its rules one by one, and generated lives of a box
//! against models of its queue file, its players and the cloud.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "all of it is tests: what is not expected fails them"
)]

mod asking;
mod drive;
mod floods;
mod messages;
mod properties;
mod rules;
mod world;
