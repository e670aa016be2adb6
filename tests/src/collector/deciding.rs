//! How a collector under test decides: its section `[decide]`.

use std::{fmt::Write as _, path::Path};

use crate::{
    market::{CREATIVES_HOST, Market, Terms},
    pki::{DevelopmentPki, Identity, SigningKey},
};

/// How a collector decides; what is not said here is as its defaults say.
#[derive(Clone, Debug)]
pub struct Deciding {
    /// How the choice among offers is made.
    pub policy: Policy,
    /// Least price for 1,000 impressions, in EUR.
    pub floor_price: String,
    /// How often a box may see one advertiser, and within how long, in ms.
    pub cap: Option<(u32, u64)>,
    /// How long a whole asking may take, in ms.
    pub budget_ms: u32,
    /// What decisions are signed with.
    pub signing_key: SigningKey,
    /// Sections of `[[decide.aggregators]]`, in their order.
    pub aggregators: Vec<String>,
}

/// How the choice among offers is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// One aggregator after another.
    Waterfall,
    /// All at once, the highest price wins.
    HighestPrice,
}

impl Deciding {
    /// Asks all aggregators of `market` on the same terms, for the highest
    /// price.
    #[must_use]
    pub fn of(market: &Market, pki: &DevelopmentPki, terms: &Terms) -> Self {
        let authority = pki.authority();
        let aggregators = market.aggregators().iter();
        Self {
            policy: Policy::HighestPrice,
            floor_price: "0.50".into(),
            cap: None,
            budget_ms: 1_000,
            signing_key: pki.signing_key("decision-a"),
            aggregators: aggregators
                .map(|it| it.section(&authority, terms))
                .collect(),
        }
    }

    /// The section, for a collector that shows `identity` to the broker.
    pub(super) fn section(
        &self,
        group: &str,
        mqtt_port: u16,
        authority: &Path,
        identity: &Identity,
    ) -> String {
        let kind = match self.policy {
            Policy::Waterfall => "waterfall",
            Policy::HighestPrice => "highest_price",
        };
        let mut text = format!(
            "
[decide]
group = \"{group}\"
signing_key = \"{signing_key}\"
budget_ms = {budget_ms}

[decide.mqtt]
brokers = [\"localhost:{mqtt_port}\"]

[decide.mqtt.tls]
ca = \"{authority}\"
certificate = \"{certificate}\"
key = \"{key}\"

[decide.policy]
kind = \"{kind}\"
floor_price = \"{floor_price}\"
currency = \"EUR\"

[decide.rules]
media_types = [\"video/mp4\"]
hosts = [\"{CREATIVES_HOST}\"]
",
            signing_key = self.signing_key.private.display(),
            budget_ms = self.budget_ms,
            authority = authority.display(),
            certificate = identity.certificate.display(),
            key = identity.key.display(),
            floor_price = self.floor_price,
        );
        if let Some((impressions_max, window_ms)) = self.cap {
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "\n[decide.cap]\nimpressions_max = {impressions_max}\nwindow_ms = {window_ms}\n"
            );
        }
        for aggregator in &self.aggregators {
            text.push('\n');
            text.push_str(aggregator);
        }
        text
    }
}
