//! Whether an offer stands: what it must be like for the slot, for the boxes
//! and for the operator. Chooses nothing, remembers nothing; how often a box
//! has seen an advertiser is asked of whoever knows.

use alloc::{
    borrow::ToOwned as _,
    format,
    string::{String, ToString as _},
    vec::Vec,
};

use returnpath_shared::{
    MEDIA_TYPE_BYTES_MAX,
    wire::{Offer, OfferFault, OfferRecord, Policy},
};
use serde::Deserialize;

use crate::offer::{
    Advertiser, HostRule, OFFERS_MAX, PRICE_MICROS_MAX, bound_detail, bound_texts, creative_url,
    currency_code, essence,
};

/// What offers must be like, as configured.
///
/// ```toml
/// [decide.rules]
/// duration_tolerance_ms = 500
/// media_types = ["video/mp4"]
/// hosts = ["*.cdn.example", "ads.example:8443"]
/// blocked_advertisers = ["betting.example"]
/// advertiser_required = true
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesConfig {
    /// How much longer or shorter than its slot an ad may be, in ms.
    pub duration_tolerance_ms: u32,
    /// What the boxes play, such as `video/mp4`.
    #[serde(deserialize_with = "media_types")]
    pub media_types: Vec<String>,
    /// Where creatives may come from.
    #[serde(deserialize_with = "hosts")]
    pub hosts: Vec<HostRule>,
    /// Advertisers whose ads are not shown, by any domain of theirs; one that
    /// lets others use names below its own (`github.io`) stands for all of
    /// them.
    pub blocked_advertisers: Vec<Advertiser>,
    /// Whether an offer must name its advertiser even where no cap applies:
    /// otherwise the blocked get around by not saying who they are.
    pub advertiser_required: bool,
}

fn media_types<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let list = Vec::<String>::deserialize(deserializer)?;
    let is_type = |text: &String| {
        let names = essence(text);
        names == *text
            && names.len() <= MEDIA_TYPE_BYTES_MAX
            && names.split('/').filter(|name| !name.is_empty()).count() == 2
    };
    if list.is_empty() || !list.iter().all(is_type) {
        let expected = "expected at least one media type in lower case, such as video/mp4, each of \
                        at most 127 bytes";
        return Err(serde::de::Error::custom(expected));
    }
    Ok(list)
}

fn hosts<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<HostRule>, D::Error> {
    let list = Vec::deserialize(deserializer)?;
    if list.is_empty() {
        let expected = "expected at least one host, such as *.cdn.example";
        return Err(serde::de::Error::custom(expected));
    }
    Ok(list)
}

/// Whether this box has seen an advertiser as often as it may: asked with the
/// advertiser's domain as [`Rules::judge`] records it.
pub type IsCapped<'a> = &'a dyn Fn(&str) -> bool;

/// Judges offers. Pure: the same offers, slot, policy and caps give the same
/// records.
#[derive(Clone, Debug)]
pub struct Rules(RulesConfig);

/// Why an offer does not stand, and what was expected, for people.
type Judged = Result<(), (OfferFault, String)>;

impl Rules {
    /// Rules as configured.
    pub fn new(config: RulesConfig) -> Self {
        Self(config)
    }

    /// Says of each offer whether it stands for a slot of `slot_duration_ms`,
    /// and writes its texts in their one form. What an adapter faulted stays
    /// faulted. `is_capped` is absent where no cap is configured; where one is,
    /// an advertiser must be named.
    pub fn judge(
        &self,
        offers: Vec<OfferRecord>,
        slot_duration_ms: u32,
        policy: &Policy,
        is_capped: Option<IsCapped<'_>>,
    ) -> Vec<OfferRecord> {
        let mut offers = offers;
        offers.truncate(OFFERS_MAX);
        for record in &mut offers {
            let is_faulted = record.fault() != OfferFault::Unspecified;
            let offer = record.offer.get_or_insert_default();
            let bounded = bound_texts(offer)
                .map_err(|fault| field(format!("{}: expected {}", fault.name, fault.expected)));
            if is_faulted {
                continue;
            }
            let judged =
                bounded.and_then(|()| self.check(offer, slot_duration_ms, policy, is_capped));
            if let Err((fault, detail)) = judged {
                record.set_fault(fault);
                record.detail = bound_detail(detail);
            }
        }
        offers
    }

    fn check(
        &self,
        offer: &mut Offer,
        slot_duration_ms: u32,
        policy: &Policy,
        is_capped: Option<IsCapped<'_>>,
    ) -> Judged {
        if offer.creative_id.is_empty() {
            return Err(field("creative_id: expected an id".to_owned()));
        }
        self.check_url(offer)?;
        self.check_media_type(offer)?;
        self.check_duration(offer.duration_ms, slot_duration_ms)?;
        check_price(offer, policy)?;
        self.check_advertiser(offer, is_capped)
    }

    fn check_url(&self, offer: &mut Offer) -> Judged {
        let wrong = |expected: &str| (OfferFault::Url, format!("expected {expected}"));
        if offer.url.is_empty() {
            return Err(wrong("a URL"));
        }
        let url = creative_url(&offer.url).map_err(wrong)?;
        if !self.0.hosts.iter().any(|host| host.allows(&url)) {
            let host = url.host_str().unwrap_or_default();
            let port = url.port_or_known_default().unwrap_or_default();
            return Err(wrong(&format!("an allowed host, not {host}:{port}")));
        }
        offer.url = url.to_string();
        Ok(())
    }

    fn check_media_type(&self, offer: &mut Offer) -> Judged {
        offer.media_type = essence(&offer.media_type);
        if self.0.media_types.contains(&offer.media_type) {
            return Ok(());
        }
        let expected = self.0.media_types.iter().take(4).map(String::as_str);
        let expected: Vec<&str> = expected.collect();
        let detail = format!("expected {}", expected.join(", "));
        Err((OfferFault::MediaType, detail))
    }

    fn check_duration(&self, duration_ms: u32, slot_duration_ms: u32) -> Judged {
        let tolerance_ms = self.0.duration_tolerance_ms;
        if duration_ms != 0 && duration_ms.abs_diff(slot_duration_ms) <= tolerance_ms {
            return Ok(());
        }
        Err((
            OfferFault::Duration,
            format!("expected {slot_duration_ms} ms, {tolerance_ms} ms more or less"),
        ))
    }

    fn check_advertiser(&self, offer: &mut Offer, is_capped: Option<IsCapped<'_>>) -> Judged {
        let wrong = |expected: &str| (OfferFault::Advertiser, format!("expected {expected}"));
        if offer.advertiser.is_empty() {
            if self.0.advertiser_required || is_capped.is_some() {
                return Err(wrong("the domain of the advertiser"));
            }
            return Ok(());
        }
        let advertiser = Advertiser::parse(&offer.advertiser)
            .ok_or_else(|| wrong("a domain that can be registered, such as brand.example"))?;
        offer.advertiser = advertiser.to_string();
        let mut blocked = self.0.blocked_advertisers.iter();
        if let Some(blocked) = blocked.find(|blocked| advertiser.is_within(blocked)) {
            return Err(wrong(&format!("an advertiser other than {blocked}")));
        }
        if is_capped.is_some_and(|is_capped| is_capped(advertiser.as_str())) {
            let detail = "expected an advertiser that this box has not seen as often as it may";
            return Err((OfferFault::Capped, detail.to_owned()));
        }
        Ok(())
    }
}

/// The currency is that of the policy, or is not said and then counts as it.
fn check_price(offer: &mut Offer, policy: &Policy) -> Judged {
    let wrong = |expected: String| (OfferFault::Price, format!("expected {expected}"));
    if !offer.currency.is_empty() {
        offer.currency = currency_code(&offer.currency)
            .ok_or_else(|| wrong("a currency of three letters".to_owned()))?;
        if offer.price_micros.is_some() && offer.currency != policy.currency {
            return Err(wrong(format!("a price in {}", policy.currency)));
        }
    }
    let Some(price_micros) = offer.price_micros else {
        if policy.takes_unpriced {
            return Ok(());
        }
        return Err(wrong("a price".to_owned()));
    };
    if !(0..=PRICE_MICROS_MAX).contains(&price_micros) {
        return Err(wrong(format!("0 to {PRICE_MICROS_MAX} millionths")));
    }
    if price_micros < policy.floor_price_micros {
        return Err((
            OfferFault::BelowFloor,
            format!("expected at least {} millionths", policy.floor_price_micros),
        ));
    }
    Ok(())
}

fn field(detail: String) -> (OfferFault, String) {
    (OfferFault::Field, detail)
}

#[cfg(test)]
mod tests;
