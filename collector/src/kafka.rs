//! What every role needs of Kafka: how to connect, what the topics are called,
//! and which partition a box is in.
//!
//! Owns the client settings that are the same everywhere; what one role needs
//! of its producer or consumer is set by that role, on top of
//! [`Config::client_config`]. `topics` creates and checks; commands that only
//! look read by `topic_reader`.

mod context;
#[cfg(test)]
pub(crate) mod mock;
mod partition;
mod topic_names;
mod topic_reader;

use std::{
    fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use rdkafka::ClientConfig;
use serde::Deserialize;
use thiserror::Error;

pub use context::Context;
pub use partition::partition;
pub use topic_names::TopicNames;
pub use topic_reader::{Begin, Next, ReadError, TopicReader, Until};

/// Longest pause between attempts to reach a broker: short, because a broker
/// that is back should be used within the time that a box waits for a receipt.
const RECONNECT_MS_MAX: &str = "2000";

/// Where the file does not say: five heartbeats of 2 s, and within what brokers
/// take unless told otherwise (`group.min.session.timeout.ms`, 6 s).
const SESSION_TIMEOUT_MS: u64 = 10_000;

/// What a session may be: heartbeats come at a fifth of it, and Kafka's own
/// clients are not made for more.
const SESSION_TIMEOUT_MS_RANGE: RangeInclusive<u64> = 1_000..=300_000;

/// The section `[kafka]` as a file holds it; see [`Config`] for its meaning.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    brokers: Vec<String>,
    #[serde(default)]
    plaintext: bool,
    tls: Option<Tls>,
    sasl: Option<Sasl>,
    topic_prefix: String,
    #[serde(default)]
    development: bool,
    #[serde(default = "session_timeout_ms")]
    session_timeout_ms: u64,
}

fn session_timeout_ms() -> u64 {
    SESSION_TIMEOUT_MS
}

/// How to reach Kafka. A value of this type is consistent: it comes out of
/// deserialising only when every key is right, and the error names the key.
///
/// ```toml
/// brokers = ["kafka-1:9093", "kafka-2:9093"]  # host:port
/// topic_prefix = "rp"      # of every topic: rp.raw, rp.ads, …
/// development = false      # true lifts the preconditions on Kafka, loudly
/// plaintext = false        # true must be said when there is no [tls]
/// session_timeout_ms = 10000  # of silence; then others take over
/// [tls]
/// ca = "/etc/returnpath/kafka-ca.pem"
/// certificate = "/etc/returnpath/collector.pem"  # both or neither
/// key = "/etc/returnpath/collector.key"
/// [sasl]
/// mechanism = "SCRAM-SHA-512"   # or SCRAM-SHA-256, PLAIN
/// username = "collector"
/// password_file = "/etc/returnpath/kafka-password"
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Settings")]
pub struct Config {
    /// Brokers to ask first, each `host:port`; at least one.
    pub brokers: Vec<String>,
    /// How the connection is protected.
    pub security: Security,
    /// Names of the topics.
    pub topics: TopicNames,
    /// Lifts the preconditions on Kafka (replication and the like): data can
    /// then be lost, and every start says so.
    pub development: bool,
    /// A collector that gives no sign for this long is taken for dead, and
    /// others take its partitions over.
    pub session_timeout: Duration,
}

/// How connections to Kafka are protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    /// TLS; `None` only where the file says `plaintext = true`.
    pub tls: Option<Tls>,
    /// SASL, on top of TLS or, said explicitly, of nothing.
    pub sasl: Option<Sasl>,
}

/// Files of the TLS connection, all PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Authorities that may sign the brokers' certificates.
    pub ca: PathBuf,
    /// Our certificate; together with `key`, or absent where SASL tells who
    /// we are.
    pub certificate: Option<PathBuf>,
    /// The private key to it.
    pub key: Option<PathBuf>,
}

/// Who we are, where no client certificate says it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sasl {
    /// How the password is proven.
    pub mechanism: Mechanism,
    /// Name known to Kafka.
    pub username: String,
    /// File that holds the password and nothing else; a newline at its end is
    /// not part of it. Read when a client is made, never logged.
    pub password_file: PathBuf,
}

/// SASL mechanisms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Mechanism {
    /// Sends the password itself: needs TLS.
    #[serde(rename = "PLAIN")]
    Plain,
    /// RFC 7677.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// As RFC 7677, with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Why the section `[kafka]` cannot be used. Keys are named from within it:
/// whoever deserialises the section knows where it stands.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A key holds what it must not.
    #[error("{key}: expected {expected}, got {found:?}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is accepted.
        expected: &'static str,
        /// What stood there.
        found: String,
    },
    /// Keys that do not go together.
    #[error("{key}: {problem}")]
    Conflict {
        /// The key to change.
        key: &'static str,
        /// Why, and what to do.
        problem: &'static str,
    },
}

/// A file named in the section `[kafka]` cannot be used.
#[derive(Debug, Error)]
#[error("kafka.{key}: cannot read {}", path.display())]
pub struct FileError {
    /// The key that names it.
    key: &'static str,
    /// The file.
    path: PathBuf,
    /// What the system said.
    source: std::io::Error,
}

impl TryFrom<Settings> for Config {
    type Error = ConfigError;

    fn try_from(settings: Settings) -> Result<Self, ConfigError> {
        if settings.brokers.is_empty() {
            return Err(ConfigError::Value {
                key: "brokers",
                expected: "at least one \"host:port\"",
                found: String::new(),
            });
        }
        if let Some(wrong) = settings
            .brokers
            .iter()
            .find(|server| !is_host_and_port(server))
        {
            return Err(ConfigError::Value {
                key: "brokers",
                expected: "\"host:port\"",
                found: wrong.clone(),
            });
        }
        if !SESSION_TIMEOUT_MS_RANGE.contains(&settings.session_timeout_ms) {
            return Err(ConfigError::Value {
                key: "session_timeout_ms",
                expected: "1000 to 300000",
                found: settings.session_timeout_ms.to_string(),
            });
        }
        let security = Security::new(settings.plaintext, settings.tls, settings.sasl)?;
        let topics = TopicNames::new(&settings.topic_prefix).ok_or(ConfigError::Value {
            key: "topic_prefix",
            expected: "1 to 64 of [A-Za-z0-9._-]",
            found: settings.topic_prefix,
        })?;
        Ok(Self {
            brokers: settings.brokers,
            security,
            topics,
            development: settings.development,
            session_timeout: Duration::from_millis(settings.session_timeout_ms),
        })
    }
}

fn is_host_and_port(server: &str) -> bool {
    server.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && !host.contains([',', ' ', '/'])
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

impl Security {
    fn new(plaintext: bool, tls: Option<Tls>, sasl: Option<Sasl>) -> Result<Self, ConfigError> {
        let conflict = |key, problem| Err(ConfigError::Conflict { key, problem });
        match (&tls, plaintext) {
            (Some(_), true) => {
                return conflict(
                    "plaintext",
                    "is true beside [kafka.tls]; remove one of them",
                );
            }
            (None, false) => {
                return conflict(
                    "tls",
                    "is needed; to connect without encryption, say `plaintext = true`",
                );
            }
            (
                Some(Tls {
                    certificate, key, ..
                }),
                false,
            ) => {
                if certificate.is_some() && key.is_none() {
                    return conflict("tls.key", "is needed beside tls.certificate");
                }
                if key.is_some() && certificate.is_none() {
                    return conflict("tls.certificate", "is needed beside tls.key");
                }
            }
            (None, true) => {
                if let Some(sasl) = &sasl
                    && sasl.mechanism == Mechanism::Plain
                {
                    return conflict(
                        "sasl.mechanism",
                        "PLAIN would send the password readable; use [kafka.tls] or SCRAM",
                    );
                }
            }
        }
        Ok(Self { tls, sasl })
    }

    fn protocol(&self) -> &'static str {
        match (&self.tls, &self.sasl) {
            (Some(_), Some(_)) => "sasl_ssl",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (None, None) => "plaintext",
        }
    }
}

impl Config {
    /// Settings for one client of librdkafka, to which its owner adds those of
    /// its producer or consumer. `client_id` is what Kafka's logs and quotas
    /// call it.
    ///
    /// # Errors
    /// When a file cannot be read; the error names its key.
    pub fn client_config(&self, client_id: &str) -> Result<ClientConfig, FileError> {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", client_id)
            .set("security.protocol", self.security.protocol())
            // A JSON text built by librdkafka: not free, and read only where state
            // is loaded, by a client that sets it itself.
            .set("statistics.interval.ms", "0")
            .set("reconnect.backoff.max.ms", RECONNECT_MS_MAX)
            // A connection through a firewall that forgets it must not cost a
            // request its timeout.
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true");
        if let Some(tls) = &self.security.tls {
            client.set("ssl.ca.location", readable("tls.ca", &tls.ca)?);
            if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
                client
                    .set(
                        "ssl.certificate.location",
                        readable("tls.certificate", certificate)?,
                    )
                    .set("ssl.key.location", readable("tls.key", key)?);
            }
        }
        if let Some(sasl) = &self.security.sasl {
            let password = read("sasl.password_file", &sasl.password_file)?;
            client
                .set("sasl.mechanism", sasl.mechanism.name())
                .set("sasl.username", &sasl.username)
                .set("sasl.password", password.trim_end_matches(['\r', '\n']));
        }
        Ok(client)
    }
}

/// The path of a file, once it was seen to be readable: librdkafka's own
/// message would not name our key.
fn readable<'a>(key: &'static str, path: &'a Path) -> Result<&'a str, FileError> {
    read(key, path)?;
    path.to_str().ok_or_else(|| FileError {
        key,
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidInput, "path is not UTF-8"),
    })
}

fn read(key: &'static str, path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(|source| FileError {
        key,
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
