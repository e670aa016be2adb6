//! Tests of deciding through the public interface, as the shell uses it.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "what cannot fail in a test fails it loudly, in its helpers too"
)]

mod asking;
mod bounds;
mod closing;
mod properties;
mod replaying;
mod running;
mod transactions;
