//! Markets for tests: a few aggregators with a role each.

use std::time::Duration;

use returnpath_tests::market::{AggregatorSettings, Api, Latency, Stock};

/// Answers at once.
pub(crate) const FAST: &str = "northstar";

/// Answers after a moment.
pub(crate) const MIDDLING: &str = "meridian";

/// The one that tests make slow, dead or mad.
pub(crate) const TROUBLED: &str = "polar";

/// One aggregator of each kind; all of them fill.
pub(crate) fn three() -> Vec<AggregatorSettings> {
    market(1.0)
}

/// Aggregators that never have anything.
pub(crate) fn empty() -> Vec<AggregatorSettings> {
    market(0.0)
}

fn market(fill: f64) -> Vec<AggregatorSettings> {
    [
        (FAST, Api::Query, 1),
        (MIDDLING, Api::Json, 30),
        (TROUBLED, Api::Keyed, 5),
    ]
    .into_iter()
    .map(|(name, api, ms)| AggregatorSettings {
        name: name.to_owned(),
        api,
        stock: Stock {
            fill,
            price_micros: 2_000_000..=9_000_000,
            latency: Latency::fixed(Duration::from_millis(ms)),
        },
    })
    .collect()
}
