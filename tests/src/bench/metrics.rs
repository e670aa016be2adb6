//! Figures read off a collector's `/metrics` (`OpenMetrics` text).

use anyhow::{Context as _, ensure};

/// Sums the samples of `name` over all its labels; a counter that has not
/// counted yet may be absent.
///
/// # Errors
/// When a sample of it is no number.
pub fn sum(metrics: &str, name: &str) -> anyhow::Result<f64> {
    samples(metrics, name)
        .map(|(_, value)| value)
        .sum::<anyhow::Result<f64>>()
}

/// A histogram, over all its labels.
#[derive(Clone, PartialEq, Debug)]
pub struct Histogram {
    /// Upper bounds with how many lie within, by rising bound; the last bound
    /// is infinite.
    buckets: Vec<(f64, f64)>,
    sum: f64,
}

impl Histogram {
    /// Reads the histogram `name`.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn read(metrics: &str, name: &str) -> anyhow::Result<Self> {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (labels, count) in samples(metrics, &format!("{name}_bucket")) {
            let bound = labels
                .split("le=\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next())
                .with_context(|| format!("a bucket of {name} without bound: {labels}"))?;
            let bound = match bound {
                "+Inf" => f64::INFINITY,
                number => number.parse()?,
            };
            let count = count?;
            match buckets
                .iter_mut()
                .find(|(of, _)| of.total_cmp(&bound).is_eq())
            {
                Some((_, all)) => *all += count,
                None => buckets.push((bound, count)),
            }
        }
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        ensure!(!buckets.is_empty(), "there is no histogram {name}");
        Ok(Self {
            buckets,
            sum: sum(metrics, &format!("{name}_sum"))?,
        })
    }

    /// What was observed after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let buckets = self.buckets.iter().zip(&earlier.buckets);
        Self {
            buckets: buckets
                .map(|((bound, count), (_, before))| (*bound, count - before))
                .collect(),
            sum: self.sum - earlier.sum,
        }
    }

    /// How many were observed.
    #[must_use]
    pub fn count(&self) -> f64 {
        self.buckets.last().map_or(0.0, |(_, count)| *count)
    }

    /// Mean of what was observed; not a number where nothing was.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum / self.count()
    }

    /// The bound within which this part (0 to 1) of all lies; `None` when
    /// nothing was observed.
    #[must_use]
    pub fn within(&self, part: f64) -> Option<f64> {
        let wanted = self.count() * part;
        let found = self.buckets.iter().find(|(_, count)| *count >= wanted);
        found
            .map(|(bound, _)| *bound)
            .filter(|_| self.count() > 0.0)
    }
}

/// Labels and value of every sample that is called exactly `name`.
fn samples<'m>(
    metrics: &'m str,
    name: &str,
) -> impl Iterator<Item = (&'m str, anyhow::Result<f64>)> {
    metrics.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        if !rest.starts_with(['{', ' ']) {
            return None;
        }
        let (labels, value) = rest.rsplit_once(' ')?;
        let value = value.parse().with_context(|| format!("metric {line:?}"));
        Some((labels, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_their_labels() {
        let text = "# TYPE a counter\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3\na_total_other 9\nb_total 7\n";
        for (name, expected) in [("a_total", 5.0), ("b_total", 7.0), ("c_total", 0.0)] {
            let sum = sum(text, name).unwrap();
            assert!((sum - expected).abs() < f64::EPSILON, "{name}: {sum}");
        }
    }

    const TEXT: &str = "\
own_bucket{le=\"0.001\"} 90
own_bucket{le=\"0.005\"} 99
own_bucket{le=\"+Inf\"} 100
own_sum 1
own_count 100
";

    #[test]
    fn a_quantile_is_the_bound_of_its_bucket() {
        let histogram = Histogram::read(TEXT, "own").unwrap();
        for (part, expected) in [
            (0.5, 0.001),
            (0.95, 0.005),
            (0.99, 0.005),
            (1.0, f64::INFINITY),
        ] {
            assert_eq!(histogram.within(part), Some(expected), "{part}");
        }
        assert!((histogram.mean() - 0.01).abs() < 1e-9);
        Histogram::read("", "own").unwrap_err();
    }

    #[test]
    fn what_was_observed_before_does_not_count() {
        let before = Histogram::read(TEXT, "own").unwrap();
        assert_eq!(before.since(&before).within(0.5), None);
        let after = TEXT.replace("} 99", "} 100").replace("} 100", "} 110");
        let after = Histogram::read(&after, "own").unwrap().since(&before);
        assert!((after.count() - 10.0).abs() < f64::EPSILON);
        assert_eq!(after.within(0.5), Some(0.005));
    }
}
