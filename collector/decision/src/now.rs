//! The two clocks, as the shell read them just then.

/// One moment by both clocks of the collector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// A monotonic clock of the caller's choice, in microseconds: for
    /// deadlines and for what is measured.
    pub monotonic_us: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z: for what is recorded, and for
    /// what must be compared between collectors.
    pub unix_ms: i64,
}
