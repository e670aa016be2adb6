//! The viewers' time: a clock of their own, which may run faster than ours.

use anyhow::Context as _;

/// Milliseconds in a second.
pub const SECOND_MS: u64 = 1_000;
/// Milliseconds in a minute.
pub const MINUTE_MS: u64 = 60 * SECOND_MS;
/// Milliseconds in an hour.
pub const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Milliseconds since midnight of the first simulated day, local time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// Reads a time of day, `HH:MM`.
    ///
    /// # Errors
    /// Says which form is expected.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        text.split_once(':')
            .and_then(|(hours, minutes)| Some((hours.parse().ok()?, minutes.parse().ok()?)))
            .filter(|(hours, minutes)| *hours < 24 && *minutes < 60)
            .map(|(hours, minutes): (u64, u64)| Self(hours * HOUR_MS + minutes * MINUTE_MS))
            .with_context(|| format!("expected a time of day as in 20:15, got {text:?}"))
    }

    /// The moment this much later.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Hour of the day, 0 to 23.
    #[must_use]
    pub fn hour_of_day(self) -> u64 {
        self.0 / HOUR_MS % 24
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day_are_read_and_others_refused() {
        assert_eq!(Moment::parse("00:00").unwrap(), Moment(0));
        assert_eq!(Moment::parse("20:15").unwrap().hour_of_day(), 20);
        for bad in ["", "20", "24:00", "20:60", "a:b", "-1:00"] {
            assert!(Moment::parse(bad).is_err(), "{bad:?}");
        }
    }
}
