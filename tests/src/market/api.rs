//! The APIs of the market, one unlike the other, as those of real aggregators
//! are: what each wants to be told, and the form of its answers. Pure.
//!
//! | | asked | secret | offers | nothing to offer |
//! |---|---|---|---|---|
//! | `Query` | GET, query | parameter `key` | one, nested, price in currency, length in s | 204 |
//! | `Json` | POST, JSON | `authorization: Bearer` | a list, price in micros, length in ms | an empty list |
//! | `Keyed` | GET, headers | `x-api-key` | one, flat, price in cents, length in ms | 404 |

use serde_json::{Value, json};

use super::{memory::Asked, stock::Content};

/// How an aggregator is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Api {
    /// Parameters of a GET.
    Query,
    /// A JSON object, posted.
    Json,
    /// Headers of a GET.
    Keyed,
}

/// An answer before it is sent.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Option<Value>,
}

impl Api {
    /// Where it is asked.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Query => "/ad",
            Self::Json => "/v2/offers",
            Self::Keyed => "/content",
        }
    }

    /// The length of the slot that is asked for, in ms.
    ///
    /// # Errors
    /// The status that says what was wrong.
    pub(super) fn read(self, asked: &Asked, secret: &str) -> Result<u32, u16> {
        let path = asked.target.split('?').next();
        if path != Some(self.path()) {
            return Err(404);
        }
        if asked.method != self.method() {
            return Err(405);
        }
        let shown = match self {
            Self::Query => asked.parameter("key"),
            Self::Json => asked
                .header("authorization")
                .and_then(|value| value.strip_prefix("Bearer ")),
            Self::Keyed => asked.header("x-api-key"),
        };
        if shown != Some(secret) {
            return Err(401);
        }
        let duration_ms = match self {
            Self::Query => asked
                .parameter("seconds")
                .and_then(|text| text.parse::<u32>().ok())
                .and_then(|seconds| seconds.checked_mul(1_000)),
            Self::Json => asked
                .pointed("/slot/duration_ms")
                .and_then(|value| u32::try_from(value.as_u64()?).ok()),
            Self::Keyed => asked.header("x-slot-ms").and_then(|text| text.parse().ok()),
        };
        duration_ms.ok_or(400)
    }

    /// Offers in this API's form, of those that it can carry.
    pub(super) fn reply(self, contents: &[Content]) -> Reply {
        let first = contents.first();
        match (self, first) {
            (Self::Query, Some(content)) => Reply {
                status: 200,
                body: Some(json!({ "ad": query_form(content) })),
            },
            (Self::Query, None) => Reply {
                status: 204,
                body: None,
            },
            (Self::Json, _) => {
                let offers: Vec<_> = contents.iter().map(json_form).collect();
                Reply {
                    status: 200,
                    body: Some(json!({ "offers": offers })),
                }
            }
            (Self::Keyed, Some(content)) => Reply {
                status: 200,
                body: Some(keyed_form(content)),
            },
            (Self::Keyed, None) => Reply {
                status: 404,
                body: None,
            },
        }
    }

    fn method(self) -> &'static str {
        match self {
            Self::Query | Self::Keyed => "GET",
            Self::Json => "POST",
        }
    }
}

fn query_form(content: &Content) -> Value {
    json!({
        "id": content.offer_id,
        "creative": { "id": content.creative_id, "url": content.url, "type": content.media_type },
        "seconds": f64::from(content.duration_ms) / 1_000.0,
        "cpm": { "amount": in_units(content.price_micros, 1_000_000), "currency": content.currency },
        "brand": content.advertiser,
    })
}

fn json_form(content: &Content) -> Value {
    json!({
        "offer_id": content.offer_id,
        "creative_id": content.creative_id,
        "media_url": content.url,
        "media_type": content.media_type,
        "duration_ms": content.duration_ms,
        "price_micros": content.price_micros,
        "currency": content.currency,
        "advertiser": content.advertiser,
    })
}

fn keyed_form(content: &Content) -> Value {
    json!({
        "ref": content.offer_id,
        "content": content.creative_id,
        "src": content.url,
        "mime": content.media_type,
        "length": content.duration_ms,
        "cents": in_units(content.price_micros, 10_000),
        "domain": content.advertiser,
    })
}

/// Prices of a market are small: no digit is lost.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn in_units(micros: i64, unit: i64) -> f64 {
    micros as f64 / unit as f64
}
