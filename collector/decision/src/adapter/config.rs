//! The configuration of an aggregator's API, read to final types. What
//! concerns one key alone is refused here, by the key that the reader knows;
//! what concerns several by [`ParametersAdapter::new`](super::ParametersAdapter).

mod constant;
mod parameter;
mod place;

use alloc::{collections::BTreeMap, format, string::String, vec, vec::Vec};

use serde::{Deserialize, Deserializer, de};
use url::Url;

pub(super) use self::{
    parameter::{Parameter, Source},
    place::{DurationPlace, PricePlace, TextPlace},
};
use super::pointer::Pointer;
use crate::{call::Method, field::Field};

/// How one aggregator is asked and how its answer is read: what stands under
/// its adapter's key in the configuration. A complete one:
///
/// ```toml
#[doc = include_str!("../../tests/fixtures/aggregators/north/adapter.toml")]
/// ```
///
/// Everything but `method`, `url`, `sees` and `response` may be left out.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParametersConfig {
    pub(super) method: Method,
    #[serde(deserialize_with = "endpoint")]
    pub(super) url: Url,
    pub(super) sees: Vec<Field>,
    #[serde(default)]
    pub(super) query: BTreeMap<String, Parameter>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Parameter>,
    #[serde(default)]
    pub(super) body: BTreeMap<Pointer, Parameter>,
    pub(super) response: ResponseConfig,
}

/// How an answer is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResponseConfig {
    #[serde(default = "ok")]
    pub(super) offer_statuses: Vec<u16>,
    #[serde(default = "no_content")]
    pub(super) no_bid_statuses: Vec<u16>,
    pub(super) offers: Pointer,
    #[serde(default)]
    pub(super) absent_is_no_bid: bool,
    pub(super) offer: OfferConfig,
}

/// Where the parts of an offer stand, from the offer itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfferConfig {
    pub(super) creative_id: TextPlace,
    pub(super) url: TextPlace,
    pub(super) media_type: TextPlace,
    pub(super) duration: DurationPlace,
    pub(super) price: Option<PricePlace>,
    pub(super) currency: Option<TextPlace>,
    pub(super) advertiser: Option<TextPlace>,
    pub(super) offer_id: Option<TextPlace>,
}

/// Parts that an offer has at most: the fields of [`OfferConfig`].
pub(super) const OFFER_PARTS: usize = 8;

impl OfferConfig {
    /// Where its parts are read.
    pub(super) fn pointers(&self) -> impl Iterator<Item = &Pointer> {
        let Self {
            creative_id,
            url,
            media_type,
            duration,
            price,
            currency,
            advertiser,
            offer_id,
        } = self;
        let texts = [Some(creative_id), Some(url), Some(media_type)];
        let optional = [currency, advertiser, offer_id].map(Option::as_ref);
        let texts = texts.into_iter().chain(optional).flatten();
        let texts = texts.filter_map(|text| text.pointer.as_ref());
        let price = price.as_ref().and_then(|price| price.pointer.as_ref());
        texts.chain(duration.pointer.as_ref()).chain(price)
    }
}

impl ParametersConfig {
    /// Names of the secrets that it needs, each once.
    pub fn secrets(&self) -> Vec<&str> {
        let parameters = (self.query.values())
            .chain(self.headers.values())
            .chain(self.body.values());
        let mut names: Vec<&str> = parameters
            .filter_map(|parameter| match &parameter.source {
                Source::Secret(name) => Some(name.as_str()),
                Source::Field(_) | Source::Constant(_) => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Fields that it may see.
    pub fn sees(&self) -> &[Field] {
        &self.sees
    }
}

fn ok() -> Vec<u16> {
    vec![200]
}

fn no_content() -> Vec<u16> {
    vec![204]
}

/// What is told of a household travels encrypted, and no credential stands
/// where addresses are logged.
fn endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = |expected: &str| de::Error::custom(format!("expected {expected}"));
    let url = Url::parse(&text).map_err(|_| wrong("a URL such as https://ads.example/v1"))?;
    if url.scheme() != "https" {
        return Err(wrong("an https URL"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("a URL without user name or password; name a secret"));
    }
    if url.fragment().is_some() {
        return Err(wrong("a URL without fragment"));
    }
    Ok(url)
}
