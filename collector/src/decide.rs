//! The role `decide`: opportunities in, one signed decision for each slot out.
//!
//! A consumer group over `rp.opportunities`; whoever is assigned a partition
//! of it also reads the same partition of `rp.ads`, whose events close
//! decisions. What is decided, and how, is `returnpath_decision`'s; how records,
//! state and offsets become one transaction is `exactly_once`'s; here
//! the two are joined to the world:
//!
//! ```text
//! rp.opportunities ─┐                     ┌─ rp.decisions ────┐
//! rp.ads ───────────┴─► session ──────────┼─ rp.decide.state ─┤ one transaction
//!                       │ ▲   │           └─ both offsets ────┘
//!                 calls ▼ │   ▼ pushes, once it is committed
//!                     http     push ──► boxes
//! ```
//!
//! The order that keeps two ads off one slot: the record of a decision and the
//! state that remembers it are committed first, then it is pushed. What is
//! read again is recognised by its slot and pushed again as it was. An
//! opportunity that is still being asked for is not committed: whoever owns the
//! partition next asks again.

mod config;
mod http;
mod metrics;
mod pseudonym;
mod push;
mod secret;
mod sign;

pub use config::{Config, ConfigError, check, complete};
pub use http::{ClientError, TrustError};
pub use metrics::Metrics;
pub use secret::{SecretError, SecretSource};
pub use sign::SigningKeyError;

/// Lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
