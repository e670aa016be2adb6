//! Percentiles of measured times.

use std::{fmt, time::Duration};

/// Measured times, kept whole: a benchmark makes thousands, not millions.
#[derive(Debug, Default)]
pub struct Spread {
    times: Vec<Duration>,
}

impl Spread {
    /// Adds one.
    pub fn push(&mut self, time: Duration) {
        self.times.push(time);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.times.len()
    }

    /// The time within which `percent` of all lie (nearest rank); zero when
    /// nothing was measured.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.times.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |percent| self.percentile(percent).as_secs_f64() * 1e3;
        write!(
            formatter,
            "n {}, p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            self.count(),
            ms(50),
            ms(90),
            ms(99),
            ms(100)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut spread = Spread::default();
        assert_eq!(spread.percentile(99), Duration::ZERO);
        for ms in (1..=200).rev() {
            spread.push(Duration::from_millis(ms));
        }
        for (percent, ms) in [(50, 100), (99, 198), (100, 200)] {
            assert_eq!(spread.percentile(percent), Duration::from_millis(ms));
        }
    }
}
