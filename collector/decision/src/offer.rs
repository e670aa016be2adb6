//! What every offer must keep to, whoever makes it: bounds, and the forms of
//! its texts. Whether it suits a slot is said by [`Rules`](crate::Rules).

mod advertiser;
mod host;

use alloc::{
    format,
    string::{String, ToString as _},
};

pub use self::advertiser::Advertiser;
pub use self::host::HostRule;
use returnpath_shared::{
    CLIENT_ID_BYTES_MAX, CREATIVE_URL_BYTES_MAX, MEDIA_TYPE_BYTES_MAX, wire::Offer,
};
use url::Url;

use crate::limit::DETAIL_BYTES_MAX;

/// Offers of one answer that are looked at; what lies beyond is not. A slot
/// takes one, and a record holds them all.
pub const OFFERS_MAX: usize = 16;

/// Bytes of an offer's own id.
pub(crate) const OFFER_ID_BYTES_MAX: usize = 128;

/// Bytes of a creative's id: what the box can name in its proof of play.
pub(crate) const CREATIVE_ID_BYTES_MAX: usize = CLIENT_ID_BYTES_MAX;

/// Bytes of a media type with its parameters, which are cut off: as much again
/// as a box takes.
pub(crate) const MEDIA_TYPE_TEXT_BYTES_MAX: usize = 2 * MEDIA_TYPE_BYTES_MAX;

/// Bytes of a domain name.
/// Source: RFC 1035, section 2.3.4.
pub(crate) const DOMAIN_BYTES_MAX: usize = 253;

/// Highest price that is believed, in millionths for 1,000 impressions: a
/// million units. What lies above is a mistake of units.
pub(crate) const PRICE_MICROS_MAX: i64 = 1_000_000_000_000;

/// A text of an offer that cannot be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TextFault {
    /// Which, as the message names it.
    pub(crate) name: &'static str,
    /// What was expected.
    pub(crate) expected: String,
}

/// Empties each text that is longer than it may be or holds control
/// characters, so that no record carries it, and says which was the first.
pub(crate) fn bound_texts(offer: &mut Offer) -> Result<(), TextFault> {
    let mut first = Ok(());
    for (name, text, bytes_max) in [
        ("offer_id", &mut offer.offer_id, OFFER_ID_BYTES_MAX),
        ("creative_id", &mut offer.creative_id, CREATIVE_ID_BYTES_MAX),
        ("url", &mut offer.url, CREATIVE_URL_BYTES_MAX),
        (
            "media_type",
            &mut offer.media_type,
            MEDIA_TYPE_TEXT_BYTES_MAX,
        ),
        ("currency", &mut offer.currency, 3),
        ("advertiser", &mut offer.advertiser, DOMAIN_BYTES_MAX),
    ] {
        let is_good = text.len() <= bytes_max && !text.chars().any(char::is_control);
        if !is_good {
            text.clear();
            let expected = format!("at most {bytes_max} bytes without control characters");
            first = first.and(Err(TextFault { name, expected }));
        }
    }
    first
}

/// The URL as the box gets it: parsed and written again, so that the player
/// cannot read it otherwise than it was checked; and no longer than a box takes.
pub(crate) fn creative_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "an absolute https URL")?;
    if url.scheme() != "https" {
        return Err("an https URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL without user name or password");
    }
    if url.as_str().len() > CREATIVE_URL_BYTES_MAX {
        return Err("a URL of at most 2048 bytes");
    }
    Ok(url)
}

/// A media type without its parameters, in lower case.
/// Source: RFC 9110, section 8.3.1 (case-insensitive).
pub(crate) fn essence(media_type: &str) -> String {
    let essence = media_type.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// A currency's code in upper case; `None` when it is no code.
/// Source: ISO 4217 (three letters).
pub(crate) fn currency_code(text: &str) -> Option<String> {
    let is_code = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_code.then(|| text.to_string().to_ascii_uppercase())
}

/// What is said for people, cut where it would be too long for the record.
pub(crate) fn bound_detail(mut detail: String) -> String {
    detail.truncate(detail.floor_char_boundary(DETAIL_BYTES_MAX));
    detail
}
