//! What an aggregator answers: which adapter, status and headers in the first
//! three bytes, then the body.

use prost::Message as _;
use returnpath_decision::{Adapter as _, OFFERS_MAX, Response, Unreadable};
use returnpath_shared::{
    CLIENT_ID_BYTES_MAX, CREATIVE_URL_BYTES_MAX,
    wire::{Offer, OfferFault, OfferRecord, Outcome},
};
use serde::de::IgnoredAny;
use url::Url;

use crate::{aggregator, seed};

/// Statuses that a first byte can name.
const STATUSES: [u16; 6] = [200, 204, 404, 302, 500, 599];

/// Content types and encodings likewise.
const HEADERS: [(Option<&str>, Option<&str>); 6] = [
    (Some("application/json"), None),
    (
        Some("application/vnd.ads+json; charset=utf-8"),
        Some("identity"),
    ),
    (Some("Application/JSON"), Some("")),
    (Some("application/json"), Some("gzip")),
    (Some("text/html"), None),
    (None, None),
];

/// What is said for people in a record.
const DETAIL_BYTES_MAX: usize = 256;

/// A price that is believed, in millionths: a million units.
const PRICE_MICROS_MAX: i64 = 1_000_000_000_000;

const SLOT_MS: u32 = 30_000;

/// An answer becomes bounded offers or a reason; an offer that stands can be
/// shown, and judging twice changes nothing.
pub fn run(input: &[u8]) {
    let [adapter, status, headers, body @ ..] = input else {
        return;
    };
    let adapter = aggregator::adapter(*adapter);
    let (content_type, content_encoding) = HEADERS[usize::from(*headers) % HEADERS.len()];
    let response = Response {
        status: STATUSES[usize::from(*status) % STATUSES.len()],
        content_type: content_type.map(str::to_owned),
        content_encoding: content_encoding.map(str::to_owned),
        body: body.to_vec().into(),
    };
    match adapter.offers(&response) {
        Ok(offers) => {
            if !offers.is_empty() {
                let json = serde_json::from_slice::<IgnoredAny>(body);
                assert!(json.is_ok(), "offers were found in what is no JSON");
            }
            judged(offers);
        }
        Err(unreadable) => named(&unreadable, response.status),
    }
}

fn named(unreadable: &Unreadable, came: u16) {
    let text = unreadable.to_string();
    assert!(text.len() <= DETAIL_BYTES_MAX, "{} bytes", text.len());
    match unreadable {
        Unreadable::Status { status, expected } => {
            assert_eq!((*status, unreadable.outcome()), (came, Outcome::Error));
            assert!(!expected.is_empty());
        }
        Unreadable::Form { place, expected } => {
            assert_eq!(unreadable.outcome(), Outcome::Invalid);
            assert!(!place.is_empty() && !expected.is_empty());
        }
    }
}

fn judged(offers: Vec<OfferRecord>) {
    assert!(offers.len() <= OFFERS_MAX);
    for record in &offers {
        bounded(record);
        assert!([OfferFault::Unspecified, OfferFault::Field].contains(&record.fault()));
        assert_eq!(
            record.fault() == OfferFault::Field,
            !record.detail.is_empty()
        );
    }
    let (rules, policy) = (aggregator::rules(), aggregator::policy());
    let is_capped = |advertiser: &str| advertiser == "brand.example";
    let once = rules.judge(offers, SLOT_MS, &policy, Some(&is_capped));
    for record in &once {
        bounded(record);
        let offer = record.offer.as_ref().expect("every offer is recorded");
        if record.fault() == OfferFault::Unspecified {
            stands(offer);
            assert!(!is_capped(&offer.advertiser) && !offer.advertiser.is_empty());
        } else {
            assert!(
                !record.detail.is_empty(),
                "{:?} says nothing",
                record.fault()
            );
        }
    }
    let twice = rules.judge(once.clone(), SLOT_MS, &policy, Some(&is_capped));
    assert_eq!(once, twice);
}

/// As it stands in the record of the decision.
fn bounded(record: &OfferRecord) {
    assert!(record.detail.len() <= DETAIL_BYTES_MAX);
    let Offer {
        offer_id,
        creative_id,
        url,
        media_type,
        currency,
        advertiser,
        ..
    } = record.offer.as_ref().expect("every offer is recorded");
    for (text, bytes_max) in [
        (offer_id, 128),
        (creative_id, CLIENT_ID_BYTES_MAX),
        (url, CREATIVE_URL_BYTES_MAX),
        (media_type, 255),
        (currency, 3),
        (advertiser, 253),
    ] {
        assert!(text.len() <= bytes_max, "{} bytes: {text:?}", text.len());
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    let encoded = record.encode_to_vec();
    assert_eq!(OfferRecord::decode(&encoded[..]).as_ref(), Ok(record));
}

/// A box can show it, and it pays.
fn stands(offer: &Offer) {
    let url = Url::parse(&offer.url).expect("a URL");
    assert_eq!(url.as_str(), offer.url, "written in its one form");
    assert_eq!(url.scheme(), "https");
    assert!(url.username().is_empty() && url.password().is_none());
    assert!(
        url.host_str()
            .is_some_and(|host| host.ends_with(".example"))
    );
    assert_eq!(offer.media_type, "video/mp4");
    assert!((SLOT_MS - 500..=SLOT_MS + 500).contains(&offer.duration_ms));
    assert!(!offer.creative_id.is_empty());
    assert!(["", "EUR"].contains(&offer.currency.as_str()));
    let price = offer.price_micros.expect("unpriced is not taken");
    assert!((1..=PRICE_MICROS_MAX).contains(&price));
    assert_ne!(offer.advertiser, "betting.example");
    assert!(!offer.advertiser.ends_with(".betting.example"));
}

/// The answers of the adapter's own cases.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let answers = aggregator::answers();
    let mut seeds: Vec<_> = answers
        .map(|(adapter, body)| [&[adapter, 0, 0], &body[..]].concat())
        .collect();
    seeds.push(vec![0, 1, 0]);
    seeds.push([&[0, 0, 3], seed::EVENTS[0].as_bytes()].concat());
    seeds
}
