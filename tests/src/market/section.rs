//! How a collector is told to speak to an aggregator of the market: its section
//! of `[[decide.aggregators]]`, by configuration alone. What is not said here
//! is as the collector's defaults say.

use std::{fmt::Write as _, path::Path};

use super::{Aggregator, Api};

/// What a test sets differently from aggregator to aggregator; `None` leaves
/// the collector's default.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How long one call may take, in ms.
    pub deadline_ms: u32,
    /// Largest body that is read.
    pub body_bytes_max: Option<u32>,
    /// Calls a second, and at once.
    pub rate: Option<(u32, u32)>,
    /// Calls under way at a time.
    pub calls_max: Option<u32>,
    /// Whether it is asked for boxes without consent.
    pub without_consent: bool,
    /// How long the breaker stays open before it probes, in ms.
    pub breaker_open_ms: Option<u32>,
    /// The market is on loopback; without this it must not be reached.
    pub allow_private_addresses: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            deadline_ms: 500,
            body_bytes_max: None,
            rate: None,
            calls_max: None,
            without_consent: true,
            breaker_open_ms: None,
            allow_private_addresses: true,
        }
    }
}

impl Aggregator {
    /// Its section. `authority` signed the market's certificate.
    #[must_use]
    pub fn section(&self, authority: &Path, terms: &Terms) -> String {
        let secret = self.secret_file.display();
        let mut text = format!(
            "\
[[decide.aggregators]]
name = \"{name}\"
deadline_ms = {deadline_ms}
without_consent = {without_consent}
allow_private_addresses = {allow_private_addresses}
ca = \"{authority}\"
pseudonym_secret = {{ file = \"{secret}\" }}
secrets = {{ key = {{ file = \"{secret}\" }} }}
",
            name = self.name,
            deadline_ms = terms.deadline_ms,
            without_consent = terms.without_consent,
            allow_private_addresses = terms.allow_private_addresses,
            authority = authority.display(),
        );
        // Writing to a string does not fail.
        for (key, value) in [
            ("body_bytes_max", terms.body_bytes_max),
            ("calls_max", terms.calls_max),
        ] {
            if let Some(value) = value {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        if let Some((per_second, burst)) = terms.rate {
            let _ = writeln!(
                text,
                "rate = {{ per_second = {per_second}, burst = {burst} }}"
            );
        }
        if let Some(open_ms) = terms.breaker_open_ms {
            let _ = writeln!(text, "breaker = {{ open_ms = {open_ms} }}");
        }
        let _ = write!(
            text,
            "\n[decide.aggregators.parameters]\nurl = \"{}\"\n{}",
            self.url(),
            self.api.parameters()
        );
        text
    }
}

impl Api {
    /// What is told, and how the answer is read.
    fn parameters(self) -> &'static str {
        match self {
            Self::Query => QUERY,
            Self::Json => JSON,
            Self::Keyed => KEYED,
        }
    }
}

const QUERY: &str = r#"method = "GET"
sees = [
    "channel.service_id", "last_channel.service_id", "last_ad.creative_id",
    "slot.duration_s", "box.pseudonym",
]

[decide.aggregators.parameters.query]
key = { secret = "key" }
seconds = { field = "slot.duration_s", required = true }
channel = { field = "channel.service_id" }
last_channel = { field = "last_channel.service_id" }
last_ad = { field = "last_ad.creative_id" }
viewer = { field = "box.pseudonym" }

[decide.aggregators.parameters.response]
offers = "/ad"

[decide.aggregators.parameters.response.offer]
offer_id = "/id"
creative_id = "/creative/id"
url = "/creative/url"
media_type = "/creative/type"
duration = { pointer = "/seconds", unit = "s" }
price = { pointer = "/cpm/amount", unit = "cpm" }
currency = "/cpm/currency"
advertiser = "/brand"
"#;

const JSON: &str = r#"method = "POST"
sees = [
    "channel.service_id", "last_channel.service_id", "last_ad.creative_id",
    "slot.duration_ms", "slot.index", "box.pseudonym", "consent.personalised",
]

[decide.aggregators.parameters.headers]
authorization = { secret = "key", prefix = "Bearer " }

[decide.aggregators.parameters.body]
"/slot/duration_ms" = { field = "slot.duration_ms", required = true }
"/slot/index" = { field = "slot.index" }
"/context/channel" = { field = "channel.service_id" }
"/context/last_channel" = { field = "last_channel.service_id" }
"/context/last_ad" = { field = "last_ad.creative_id" }
"/viewer/id" = { field = "box.pseudonym" }
"/viewer/personalised" = { field = "consent.personalised" }

[decide.aggregators.parameters.response]
offers = "/offers"

[decide.aggregators.parameters.response.offer]
offer_id = "/offer_id"
creative_id = "/creative_id"
url = "/media_url"
media_type = "/media_type"
duration = { pointer = "/duration_ms", unit = "ms" }
price = { pointer = "/price_micros", unit = "cpm_micros" }
currency = "/currency"
advertiser = "/advertiser"
"#;

const KEYED: &str = r#"method = "GET"
sees = ["channel.service_id", "last_channel.service_id", "slot.duration_ms", "box.pseudonym"]

[decide.aggregators.parameters.headers]
x-api-key = { secret = "key" }
x-slot-ms = { field = "slot.duration_ms", required = true }
x-channel = { field = "channel.service_id" }
x-last-channel = { field = "last_channel.service_id" }
x-viewer = { field = "box.pseudonym" }

[decide.aggregators.parameters.response]
no_bid_statuses = [404]
offers = ""

[decide.aggregators.parameters.response.offer]
offer_id = "/ref"
creative_id = "/content"
url = "/src"
media_type = "/mime"
duration = { pointer = "/length", unit = "ms" }
price = { pointer = "/cents", unit = "cpm_cents" }
currency = { otherwise = "EUR" }
advertiser = "/domain"
"#;
