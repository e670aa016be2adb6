//! The section `[decide]`, parsed to final types; and what the files and
//! variables that it names hold.
//!
//! `complete` fills in what one key takes from another before the section is
//! parsed; `money` reads prices. What the core must know is checked by the core
//! ([`Settings::check`]), what an adapter must know by the adapter.

mod complete;
mod money;

use std::{
    collections::BTreeMap, fmt, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration,
};

use prometheus_client::registry::Registry;
use returnpath_decision::{
    BreakerSettings, Cap, ParametersAdapter, ParametersConfig, Pseudonyms, Rate, Rules,
    RulesConfig, SettingError, Settings, UnknownConsent, WithoutConsent,
};
use returnpath_shared::wire;
use serde::Deserialize;
use thiserror::Error;

use super::{
    http::{Caller, ClientError, Endpoint, PrivateAddresses},
    metrics::Metrics,
    pseudonym::PseudonymKey,
    secret::{Secret, SecretError, SecretSource},
};
use crate::{
    exactly_once::GroupId,
    mqtt::{self, Broker, Tls, TlsError},
    section::value::{milliseconds, non_empty},
    signing::{SigningKey, SigningKeyError},
};

pub use complete::complete;

/// The field that is the box's name towards an aggregator.
const PSEUDONYM_FIELD: &str = "box.pseudonym";

/// From `rp.opportunities` to the boxes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Kafka consumer group; its members share the partitions.
    pub group: GroupId,
    /// Transactions that are not finished this long after they began are
    /// aborted by Kafka; readers of committed records wait as long for a
    /// collector that died.
    #[serde(rename = "transaction_timeout_ms", deserialize_with = "milliseconds")]
    pub transaction_timeout: Duration,
    /// File with the private key that decisions are signed with.
    pub signing_key: PathBuf,
    /// How long a whole asking may take, in ms.
    pub budget_ms: u32,
    /// How long after the start of its slot an ad may begin, in ms.
    pub late_ms: u32,
    /// What a box counts as that never told its consent.
    pub unknown_consent: Consent,
    /// How decisions get to the boxes.
    pub mqtt: Mqtt,
    /// How the choice among offers is made.
    pub policy: Policy,
    /// How often a box may see one advertiser; as often as may be where absent.
    pub cap: Option<CapConfig>,
    /// What offers must be like.
    pub rules: RulesConfig,
    /// Whom to ask, in the order in which they are asked and preferred.
    #[serde(deserialize_with = "non_empty")]
    pub aggregators: Vec<Aggregator>,
}

/// The connection that decisions are published on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mqtt {
    /// Brokers of the cluster; tried in turn, from a random one.
    #[serde(deserialize_with = "non_empty")]
    pub brokers: Vec<Broker>,
    /// Who we are and whom we trust. Another certificate than the bridge's.
    pub tls: Tls,
}

impl Mqtt {
    /// Where its files are named, for errors.
    pub(super) const TLS_SECTION: &str = "decide.mqtt.tls";
}

/// What unknown consent counts as.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// It is not known to agree.
    OptedOut,
    /// The operator knows by contract that it agrees.
    OptedIn,
}

/// How the choice among offers is made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What is compared.
    pub kind: PolicyKind,
    /// Least price for 1,000 impressions, in millionths of `currency`.
    #[serde(rename = "floor_price", deserialize_with = "money::micros")]
    pub floor_price_micros: i64,
    /// ISO 4217.
    pub currency: String,
    /// Whether offers without a price are taken; by waterfall alone.
    pub takes_unpriced: bool,
    /// Names these settings in every record of a decision.
    pub version: String,
}

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyKind {
    /// One after another, until one has an offer that stands.
    Waterfall,
    /// All at once; the highest price.
    HighestPrice,
}

/// How often a box may see one advertiser.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapConfig {
    /// Ads of one advertiser.
    pub impressions_max: u32,
    /// Within this long, in ms.
    pub window_ms: u64,
}

/// One aggregator.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aggregator {
    /// As it stands in records and metrics.
    pub name: String,
    /// How long one call may take, in ms.
    pub deadline_ms: u32,
    /// How often it may be asked.
    pub rate: RateConfig,
    /// When it is left alone.
    pub breaker: BreakerConfig,
    /// Calls under way at a time.
    pub calls_max: u32,
    /// Largest body of an answer that is read.
    pub body_bytes_max: NonZeroUsize,
    /// Whether it is asked for boxes without consent.
    pub without_consent: bool,
    /// Whether it may be at an address that not everybody can reach.
    pub allow_private_addresses: bool,
    /// Authorities that may sign its certificate; the system's where absent.
    pub ca: Option<PathBuf>,
    /// Of which the names of boxes towards it are made.
    pub pseudonym_secret: Option<SecretSource>,
    /// What its parameters call secrets.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretSource>,
    /// Its API: parameters in, content out.
    pub parameters: ParametersConfig,
}

/// How often an aggregator may be asked.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateConfig {
    /// Sustained rate.
    pub per_second: u32,
    /// Calls at once, after a pause.
    pub burst: u32,
}

/// When an aggregator is left alone.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerConfig {
    /// Failures are counted over this long, in ms.
    pub window_ms: u32,
    /// Calls within it before their share says something.
    pub calls_min: u32,
    /// Share of failures at which it is left alone, in percent.
    pub failures_percent: u32,
    /// How long until it is probed, in ms.
    pub open_ms: u32,
    /// Probes that must succeed, one after the other.
    pub probes_min: u32,
}

/// Why the section cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A key's value.
    #[error("decide.{0}")]
    Setting(SettingError),
    /// Keys of an aggregator that do not go together.
    #[error("decide.aggregators[{place}].{key}: {problem}")]
    Aggregator {
        /// Its place, from 0.
        place: usize,
        /// Key in its section.
        key: String,
        /// What is wrong, or what is accepted.
        problem: String,
    },
    /// A secret cannot be read.
    #[error("decide.aggregators[{place}].{key}")]
    Secret {
        /// Place of its aggregator, from 0.
        place: usize,
        /// Key in its section.
        key: String,
        /// Why not.
        source: SecretError,
    },
    /// The signing key cannot be read.
    #[error("decide.signing_key")]
    SigningKey(#[source] SigningKeyError),
    /// The certificates of an aggregator's authorities cannot be used.
    #[error("decide.aggregators[{place}].ca")]
    Client {
        /// Place of the aggregator, from 0.
        place: usize,
        /// Why not.
        source: ClientError,
    },
    /// The files of the MQTT connection cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Everything that the section and its files say, ready for use.
#[derive(Debug)]
pub(super) struct Opened {
    /// What the core must know.
    pub(super) settings: Arc<Settings>,
    /// Asks aggregators, by their places in the settings.
    pub(super) caller: Caller,
    /// Signs decisions.
    pub(super) signing_key: SigningKey,
    /// Names boxes towards aggregators.
    pub(super) pseudonyms: PseudonymKeys,
}

impl Config {
    /// Names of the aggregators, in their order.
    pub fn aggregator_names(&self) -> impl Iterator<Item = &str> {
        self.aggregators.iter().map(|one| one.name.as_str())
    }

    /// Reads files and variables, and checks what concerns several keys.
    /// Connects to nothing.
    ///
    /// # Errors
    /// Names the first key that is wrong.
    pub(super) fn open(&self, metrics: Metrics) -> Result<Opened, ConfigError> {
        mqtt::client_config(Mqtt::TLS_SECTION, &self.mqtt.tls)?;
        let signing_key = SigningKey::read(&self.signing_key).map_err(ConfigError::SigningKey)?;
        let mut aggregators = Vec::with_capacity(self.aggregators.len());
        let mut pseudonyms = Vec::new();
        for (place, aggregator) in self.aggregators.iter().enumerate() {
            if let Some(key) = aggregator.pseudonym_key(place)? {
                pseudonyms.push((aggregator.name.clone(), key));
            }
            aggregators.push(aggregator.settings(place)?);
        }
        let settings = Settings {
            aggregators,
            policy: self.policy.wire(),
            rules: Rules::new(self.rules.clone()),
            cap: self.cap.map(|cap| Cap {
                impressions_max: cap.impressions_max,
                window_ms: cap.window_ms,
            }),
            late_ms: self.late_ms,
            budget_ms: self.budget_ms,
            unknown_consent: match self.unknown_consent {
                Consent::OptedOut => UnknownConsent::OptedOut,
                Consent::OptedIn => UnknownConsent::OptedIn,
            },
        };
        let settings = settings.check().map_err(ConfigError::Setting)?;
        let endpoints: Vec<Endpoint> = self.aggregators.iter().map(Aggregator::endpoint).collect();
        let caller = Caller::new(&endpoints, metrics)
            .map_err(|(place, source)| ConfigError::Client { place, source })?;
        Ok(Opened {
            settings,
            caller,
            signing_key,
            pseudonyms: PseudonymKeys(pseudonyms),
        })
    }
}

impl Policy {
    fn wire(&self) -> wire::Policy {
        let kind = match self.kind {
            PolicyKind::Waterfall => wire::PolicyKind::Waterfall,
            PolicyKind::HighestPrice => wire::PolicyKind::HighestPrice,
        };
        wire::Policy {
            version: self.version.clone(),
            kind: kind.into(),
            floor_price_micros: self.floor_price_micros,
            currency: self.currency.clone(),
            takes_unpriced: self.takes_unpriced,
        }
    }
}

impl Aggregator {
    fn settings(&self, place: usize) -> Result<returnpath_decision::Aggregator, ConfigError> {
        Ok(returnpath_decision::Aggregator {
            name: self.name.clone(),
            adapter: Arc::new(self.adapter(place)?),
            deadline_ms: self.deadline_ms,
            rate: Some(Rate {
                per_second: self.rate.per_second,
                burst: self.rate.burst,
            }),
            breaker: BreakerSettings {
                window_ms: self.breaker.window_ms,
                calls_min: self.breaker.calls_min,
                failures_percent: self.breaker.failures_percent,
                open_ms: self.breaker.open_ms,
                probes_min: self.breaker.probes_min,
            },
            calls_max: self.calls_max,
            without_consent: if self.without_consent {
                WithoutConsent::Asked
            } else {
                WithoutConsent::NotAsked
            },
        })
    }

    fn adapter(&self, place: usize) -> Result<ParametersAdapter, ConfigError> {
        let used = self.parameters.secrets();
        if let Some(unused) = self
            .secrets
            .keys()
            .find(|name| !used.contains(&name.as_str()))
        {
            return Err(ConfigError::Aggregator {
                place,
                key: format!("secrets.{unused}"),
                problem: "no parameter uses it".into(),
            });
        }
        let mut secrets = BTreeMap::new();
        for (name, source) in &self.secrets {
            let secret = source.read().map_err(|source| ConfigError::Secret {
                place,
                key: format!("secrets.{name}"),
                source,
            })?;
            secrets.insert(name.as_str(), secret);
        }
        let value = |name: &str| secrets.get(name).map(Secret::expose);
        ParametersAdapter::new(self.parameters.clone(), value).map_err(|error| {
            ConfigError::Aggregator {
                place,
                key: format!("parameters.{}", error.key),
                problem: format!("expected {}", error.expected),
            }
        })
    }

    fn pseudonym_key(&self, place: usize) -> Result<Option<PseudonymKey>, ConfigError> {
        const KEY: &str = "pseudonym_secret";

        let sees_it = self
            .parameters
            .sees()
            .iter()
            .any(|field| field.name() == PSEUDONYM_FIELD);
        let wrong = |problem: &str| ConfigError::Aggregator {
            place,
            key: KEY.into(),
            problem: problem.into(),
        };
        match &self.pseudonym_secret {
            None if sees_it => Err(wrong(
                "must be set, since parameters.sees has box.pseudonym",
            )),
            None => Ok(None),
            Some(_) if !sees_it => Err(wrong("parameters.sees must have box.pseudonym with it")),
            Some(source) => {
                let secret = source.read().map_err(|source| ConfigError::Secret {
                    place,
                    key: KEY.into(),
                    source,
                })?;
                PseudonymKey::new(&secret)
                    .map(Some)
                    .map_err(|expected| wrong(&format!("expected {expected}")))
            }
        }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint {
            ca: self.ca.clone(),
            private: if self.allow_private_addresses {
                PrivateAddresses::Allowed
            } else {
                PrivateAddresses::Refused
            },
            body_bytes_max: self.body_bytes_max.get(),
        }
    }
}

/// The keys of those aggregators that have one, by name.
pub(super) struct PseudonymKeys(Vec<(String, PseudonymKey)>);

impl Pseudonyms for PseudonymKeys {
    fn pseudonym(&self, aggregator: &str, device: &str) -> Option<String> {
        // A handful: quicker walked than hashed.
        let (_, key) = self.0.iter().find(|(name, _)| name == aggregator)?;
        Some(key.pseudonym(device))
    }
}

impl fmt::Debug for PseudonymKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| name);
        formatter.debug_set().entries(names).finish()
    }
}

/// Says what of the section cannot be used, without connecting.
///
/// # Errors
/// Names the first key that is wrong.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    let metrics = Metrics::register(&mut Registry::default(), config.aggregator_names());
    config.open(metrics).map(drop)
}

#[cfg(test)]
mod tests;
