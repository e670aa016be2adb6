//! The aggregators of the decision core's own test cases: adapters as their
//! configuration makes them, and answers that they know.

use std::sync::{Arc, LazyLock};

use returnpath_decision::{ParametersAdapter, ParametersConfig, Response, Rules, RulesConfig};
use returnpath_shared::wire::{Policy, PolicyKind};
use serde_json::Value;

/// One adapter for each way in which answers are written.
const CONFIGURATIONS: [&str; 6] = [
    include_str!("../../../collector/decision/tests/fixtures/aggregators/north/adapter.toml"),
    include_str!("../../../collector/decision/tests/fixtures/aggregators/quick/adapter.toml"),
    include_str!("../../../collector/decision/tests/fixtures/aggregators/barter/adapter.toml"),
    include_str!("../../../collector/decision/tests/fixtures/aggregators/clockwork/adapter.toml"),
    include_str!("../../../collector/decision/tests/fixtures/aggregators/household/adapter.toml"),
    include_str!("../../../collector/decision/tests/fixtures/aggregators/keyed/adapter.toml"),
];

/// Cases with an answer each: its aggregator, by place, and its file.
const CASES: [(u8, &str); 15] = [
    (
        0,
        include_str!("../../../collector/decision/tests/fixtures/aggregators/north/offers.json"),
    ),
    (
        0,
        include_str!(
            "../../../collector/decision/tests/fixtures/aggregators/north/exact_prices.json"
        ),
    ),
    (
        0,
        include_str!(
            "../../../collector/decision/tests/fixtures/aggregators/north/absurd_prices.json"
        ),
    ),
    (
        0,
        include_str!(
            "../../../collector/decision/tests/fixtures/aggregators/north/absurd_durations.json"
        ),
    ),
    (
        0,
        include_str!(
            "../../../collector/decision/tests/fixtures/aggregators/north/one_bad_beside_good.json"
        ),
    ),
    (
        0,
        include_str!(
            "../../../collector/decision/tests/fixtures/aggregators/north/seventeen_offers.json"
        ),
    ),
    (
        0,
        include_str!(
            "../../../collector/decision/tests/fixtures/aggregators/north/two_documents.json"
        ),
    ),
    (
        1,
        include_str!(
            "../../../collector/decision/tests/fixtures/aggregators/quick/list_at_root.json"
        ),
    ),
    (
        1,
        include_str!(
            "../../../collector/decision/tests/fixtures/aggregators/quick/members_twice.json"
        ),
    ),
    (
        2,
        include_str!("../../../collector/decision/tests/fixtures/aggregators/barter/offer.json"),
    ),
    (
        2,
        include_str!(
            "../../../collector/decision/tests/fixtures/aggregators/barter/lone_surrogate.json"
        ),
    ),
    (
        3,
        include_str!(
            "../../../collector/decision/tests/fixtures/aggregators/clockwork/offers.json"
        ),
    ),
    (
        4,
        include_str!(
            "../../../collector/decision/tests/fixtures/aggregators/household/fractions_of_micros.json"
        ),
    ),
    (
        5,
        include_str!(
            "../../../collector/decision/tests/fixtures/aggregators/keyed/numbers_as_texts.json"
        ),
    ),
    (
        5,
        include_str!("../../../collector/decision/tests/fixtures/aggregators/keyed/not_found.json"),
    ),
];

static ADAPTERS: LazyLock<Vec<Arc<ParametersAdapter>>> = LazyLock::new(|| {
    let adapter = |text: &str| {
        let config: ParametersConfig = toml::from_str(text).unwrap();
        Arc::new(ParametersAdapter::new(config, |_| Some("secret")).unwrap())
    };
    CONFIGURATIONS.into_iter().map(adapter).collect()
});

/// The adapter at a place, which any number names.
pub(crate) fn adapter(place: u8) -> Arc<ParametersAdapter> {
    Arc::clone(&ADAPTERS[usize::from(place) % ADAPTERS.len()])
}

/// Answers in the forms that the cases show: place of the adapter, body.
pub(crate) fn answers() -> impl Iterator<Item = (u8, Vec<u8>)> {
    CASES.into_iter().map(|(place, text)| {
        let case: Value = serde_json::from_str(text).unwrap();
        let answer = &case["answer"];
        let text = answer["text"].as_str().map(str::to_owned);
        let body = text.unwrap_or_else(|| answer["body"].to_string());
        (place, body.into_bytes())
    })
}

/// An answer as HTTP brings it.
pub(crate) fn json(body: &[u8]) -> Response {
    Response {
        status: 200,
        content_type: Some("application/json".into()),
        content_encoding: None,
        body: body.to_vec().into(),
    }
}

pub(crate) fn rules() -> Rules {
    let config = r#"{"duration_tolerance_ms": 500, "media_types": ["video/mp4"],
        "hosts": ["*.north.example", "*.example"], "blocked_advertisers": ["betting.example"],
        "advertiser_required": false}"#;
    Rules::new(serde_json::from_str::<RulesConfig>(config).unwrap())
}

pub(crate) fn policy() -> Policy {
    Policy {
        version: "1".into(),
        kind: PolicyKind::HighestPrice.into(),
        floor_price_micros: 1,
        currency: "EUR".into(),
        takes_unpriced: false,
    }
}
