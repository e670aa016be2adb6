//! The adapter as its users have it: configured by text, asked with whole
//! opportunities, answered with whole answers.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "what cannot fail in a test fails it loudly, in its helpers too"
)]

mod cases;
mod opportunity;
mod properties;
