//! The collector's two clocks, read together.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use returnpath_decision::Now;

/// A monotonic clock that began with the role, beside the wall clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    /// Since the role began, in microseconds.
    pub(super) fn now_us(self) -> u64 {
        self.us_at(Instant::now())
    }

    /// Until then, since the role began, in microseconds.
    pub(super) fn us_at(self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.0);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// Both clocks.
    pub(super) fn now(self) -> Now {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Now {
            monotonic_us: self.now_us(),
            // A collector that lives before 1970 decides nothing useful, and
            // harms nobody: every opportunity is long before its expiry.
            unix_ms: since.map_or(0, |since| {
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }),
        }
    }
}
