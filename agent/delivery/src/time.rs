//! The two clocks of the core. Neither is a wall clock, so that nothing here
//! can be moved by one.

use core::time::Duration;

/// Milliseconds of `CLOCK_BOOTTIME` in this boot: counts through standby,
/// never steps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Uptime(pub u64);

impl Uptime {
    /// The moment `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(ms(duration)))
    }

    /// How long it is since `earlier`; zero when that is still to come.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Seconds that the box has been powered since its queue file was made,
/// summed over boots. The age of what is held is measured in it: a box that
/// lay in a cupboard for a month has not aged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Powered {
    /// Whole seconds; enough for 136 years.
    pub seconds: u32,
}

/// Whole milliseconds of a duration, at most `u64::MAX`.
pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
