//! Latencies counted by class: fixed memory however many there are, and
//! percentiles that are at most one class too high.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the classes in ms; above the last is one more.
const CLASSES_MS: [u64; 20] = [
    5, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 250, 300, 400, 500, 750, 1_000, 2_000, 5_000,
    10_000,
];

/// Counts by class; shared between threads without a lock.
#[derive(Debug, Default)]
pub struct Latency([AtomicU64; CLASSES_MS.len() + 1]);

/// How many, and two percentiles of a [`Latency`] in ms: each the upper bound of the class
/// in which it lies. 0 without values; `u64::MAX` above the last class.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Percentiles {
    /// How many were counted.
    pub count: u64,
    /// Half were not slower.
    pub p50_ms_max: u64,
    /// 99 of 100 were not slower.
    pub p99_ms_max: u64,
}

impl Latency {
    /// Counts one.
    pub fn record(&self, ms: u64) {
        let class = CLASSES_MS.partition_point(|bound| *bound < ms);
        if let Some(count) = self.0.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Percentiles of all that was counted.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let counts: Vec<u64> = self
            .0
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect();
        Percentiles {
            count: counts.iter().sum(),
            p50_ms_max: percentile_ms(&counts, 50),
            p99_ms_max: percentile_ms(&counts, 99),
        }
    }
}

fn percentile_ms(counts: &[u64], percent: u64) -> u64 {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return 0;
    }
    let wanted = (total * percent).div_ceil(100);
    let mut seen = 0;
    let class = counts.iter().position(|count| {
        seen += count;
        seen >= wanted
    });
    class
        .and_then(|class| CLASSES_MS.get(class))
        .copied()
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_bounds_of_their_classes() {
        let latency = Latency::default();
        assert_eq!(latency.percentiles(), Percentiles::default());
        for _ in 0..98 {
            latency.record(20);
        }
        latency.record(21);
        latency.record(60_000);
        let Percentiles {
            count,
            p50_ms_max,
            p99_ms_max,
        } = latency.percentiles();
        assert_eq!((count, p50_ms_max, p99_ms_max), (100, 20, 30));
        latency.record(60_000);
        assert_eq!(latency.percentiles().p99_ms_max, u64::MAX);
    }
}
