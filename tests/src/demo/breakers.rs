//! How often aggregators were left alone: openings of their breakers, seen in
//! the collector's metrics. Pure. What opens and closes between two looks is
//! not seen.

use std::collections::BTreeMap;

const METRIC: &str = "returnpath_decide_breaker_state{aggregator=\"";

/// As the collector says it; 0 is closed, 1 half open.
const OPEN: &str = "2";

/// Breakers by aggregator.
#[derive(Debug, Default)]
pub(super) struct Breakers(BTreeMap<String, Breaker>);

#[derive(Debug, Default)]
struct Breaker {
    is_closed: bool,
    openings: u64,
}

impl Breakers {
    /// Takes in what the collector says just now. Half open and open again is
    /// one opening: it was never closed.
    pub(super) fn look(&mut self, metrics: &str) {
        for line in metrics.lines() {
            let Some((aggregator, state)) = line
                .strip_prefix(METRIC)
                .and_then(|rest| rest.split_once("\"} "))
            else {
                continue;
            };
            let breaker = self.0.entry(aggregator.to_owned()).or_insert(Breaker {
                is_closed: true,
                openings: 0,
            });
            match state {
                OPEN if breaker.is_closed => {
                    breaker.is_closed = false;
                    breaker.openings += 1;
                }
                "0" => breaker.is_closed = true,
                _ => {}
            }
        }
    }

    /// Openings so far, by aggregator.
    pub(super) fn openings(&self) -> BTreeMap<String, u64> {
        self.0
            .iter()
            .map(|(name, breaker)| (name.clone(), breaker.openings))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_is_counted_once_until_the_breaker_has_closed() {
        let mut breakers = Breakers::default();
        for state in [0, 2, 2, 1, 2, 1, 0, 2] {
            breakers.look(&format!(
                "other 1\n{METRIC}west\"}} {state}\n{METRIC}east\"}} 0\n"
            ));
        }
        assert_eq!(
            breakers.openings(),
            BTreeMap::from([("east".to_owned(), 0), ("west".to_owned(), 2)])
        );
    }
}
