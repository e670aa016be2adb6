//! The two clocks of the core. Neither is a wall clock, so that nothing here
//! can be moved by one.

use core::time::Duration;

use crate::PoweredMark;

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

/// Turns uptime of this boot into powered time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoweredClock {
    boot_id: u64,
    /// Powered milliseconds at uptime 0; below zero when the queue file is
    /// younger than the boot.
    offset_ms: i64,
}

impl PoweredClock {
    pub(crate) fn new(mark: Option<PoweredMark>, boot_id: u64) -> Self {
        let offset_ms = mark.map_or(0, |mark| {
            let uptime_ms = if mark.boot_id == boot_id {
                mark.uptime.0
            } else {
                0
            };
            0_i64
                .saturating_add_unsigned(mark.powered_ms)
                .saturating_sub_unsigned(uptime_ms)
        });
        Self { boot_id, offset_ms }
    }

    fn ms(self, now: Uptime) -> u64 {
        now.0.saturating_add_signed(self.offset_ms)
    }

    pub(crate) fn at(self, now: Uptime) -> Powered {
        Powered {
            seconds: u32::try_from(self.ms(now) / 1_000).unwrap_or(u32::MAX),
        }
    }

    /// The uptime at which `powered` is reached; 0 if that was in an earlier
    /// boot.
    pub(crate) fn uptime_of(self, powered: Powered) -> Uptime {
        let powered_ms = u64::from(powered.seconds) * 1_000;
        Uptime(powered_ms.saturating_sub_signed(self.offset_ms))
    }

    pub(crate) fn mark(self, now: Uptime) -> PoweredMark {
        PoweredMark {
            boot_id: self.boot_id,
            uptime: now,
            powered_ms: self.ms(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powered_time_goes_on_in_the_same_boot_and_across_boots() {
        let first = PoweredClock::new(None, 1);
        let mark = first.mark(Uptime(90_000));
        for (boot_id, uptime_ms, seconds) in [(1, 100_000, 100), (2, 10_000, 100), (2, 0, 90)] {
            let clock = PoweredClock::new(Some(mark), boot_id);
            let now = Uptime(uptime_ms);
            assert_eq!(clock.at(now), Powered { seconds });
            assert_eq!(clock.uptime_of(clock.at(now)), now);
        }
    }

    #[test]
    fn a_file_younger_than_its_boot_starts_low() {
        let mark = PoweredMark {
            boot_id: 1,
            uptime: Uptime(500_000),
            powered_ms: 7_000,
        };
        let clock = PoweredClock::new(Some(mark), 1);
        assert_eq!(clock.at(Uptime(503_000)), Powered { seconds: 10 });
    }
}
