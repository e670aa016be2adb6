//! What is sent to a box once its decision is committed.

use alloc::sync::Arc;

use bytes::Bytes;

/// One decision to be published to its box.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Push {
    /// The box.
    pub device: Arc<str>,
    /// The decision.
    pub decision_id: Arc<str>,
    /// An encoded `SignedDecision`.
    pub payload: Bytes,
    /// When it expires, by the collector's clock, in milliseconds since
    /// 1970-01-01T00:00:00Z: the message needs to live no longer.
    pub expiry_unix_ms: i64,
    /// Of a decision just made; `None` when it is pushed again.
    pub timing: Option<Timing>,
}

/// Where the time of a decision went, for measuring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// When the opportunity was taken, by the monotonic clock.
    pub taken_us: u64,
    /// When it was decided, likewise.
    pub decided_us: u64,
    /// Of the time between, spent waiting for aggregators.
    pub waited_us: u64,
}
