//! Configuration: one TOML file over the defaults, read once, parsed to final
//! types, nested by component. Each component receives its own part by value.
//!
//! The defaults live in `returnpath-collector.example.toml` and nowhere else:
//! the file given by the user is laid over it, key by key. Unknown keys are
//! refused. What differs between installations (`YOURS`) has no default; its
//! value in the example is only an example.

pub mod table;
pub mod value;

use std::{fs, io, path::Path, path::PathBuf, time::Duration};

use serde::Deserialize;
use thiserror::Error;
use toml::{Table, Value};

use self::table::{find, lay_over, remove};
use crate::{admin, bridge, decide, kafka, node_id::NodeId, refine, topics};

/// The defaults, as the file that people read.
pub const EXAMPLE: &str = include_str!("../returnpath-collector.example.toml");

/// Keys and tables that differ between installations: the example's values for
/// them are no defaults.
const YOURS: [&str; 13] = [
    "node_id",
    "kafka.brokers",
    "kafka.tls",
    "kafka.sasl",
    "bridge.brokers",
    "bridge.tls",
    "decide.aggregators",
    "decide.cap",
    "decide.mqtt",
    "decide.policy.currency",
    "decide.policy.version",
    "decide.rules.hosts",
    "decide.signing_key",
];

/// Those of them that every file must hold.
const REQUIRED: [&str; 6] = [
    "node_id",
    "kafka.brokers",
    "bridge.brokers",
    "bridge.tls.ca",
    "bridge.tls.certificate",
    "bridge.tls.key",
];

/// Those that a file with a section `[decide]` must hold. Without that section
/// nothing is decided, and there is nobody to ask by default.
const REQUIRED_TO_DECIDE: [&str; 8] = [
    "decide.signing_key",
    "decide.mqtt.brokers",
    "decide.mqtt.tls.ca",
    "decide.mqtt.tls.certificate",
    "decide.mqtt.tls.key",
    "decide.policy.currency",
    "decide.rules.hosts",
    "decide.aggregators",
];

/// Everything that can be set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Names this collector among its peers.
    pub node_id: NodeId,
    /// How long a drain may take after SIGTERM or SIGINT.
    #[serde(rename = "drain_budget_seconds", deserialize_with = "value::seconds")]
    pub drain_budget: Duration,
    /// Health, readiness and metrics.
    pub admin: admin::Config,
    /// How Kafka is reached.
    pub kafka: kafka::Config,
    /// What the topics must be like.
    pub topics: topics::Config,
    /// From MQTT to `rp.raw`.
    pub bridge: bridge::Config,
    /// From `rp.raw` to the refined topics.
    pub refine: refine::Config,
    /// From `rp.opportunities` to the boxes; absent where nothing is decided.
    pub decide: Option<decide::Config>,
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The text is not TOML. The line itself is not repeated: it may hold a
    /// secret.
    #[error("line {line} is not TOML: {reason}")]
    Syntax {
        /// Line in the file, from 1.
        line: usize,
        /// What the parser expected.
        reason: String,
    },
    /// A key without default is absent.
    #[error("{key}: must be set; returnpath-collector.example.toml shows its form")]
    Missing {
        /// The key, with its tables.
        key: &'static str,
    },
    /// A key is unknown, or its value is not of the accepted form.
    #[error("{key}: {reason}")]
    Key {
        /// The key, with its tables.
        key: String,
        /// What is wrong and what is accepted.
        reason: String,
    },
}

impl Config {
    /// Reads the file at `path` over the defaults.
    ///
    /// # Errors
    /// Names the first key that is wrong, with the accepted form.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text)
    }

    /// Reads `text` over the defaults.
    ///
    /// # Errors
    /// Names the first key that is wrong, with the accepted form.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let given: Table = parse_table(text)?;
        let mut merged: Table = parse_table(EXAMPLE)?;
        let decides = given.contains_key("decide");
        let also: &[_] = if decides { &REQUIRED_TO_DECIDE } else { &[] };
        for key in REQUIRED.iter().chain(also) {
            if find(&given, key).is_none() {
                return Err(ConfigError::Missing { key });
            }
        }
        for key in YOURS {
            remove(&mut merged, key);
        }
        if !decides {
            remove(&mut merged, "decide");
        }
        lay_over(&mut merged, given);
        if let Some(Value::Table(decide)) = merged.get_mut("decide") {
            decide::complete(decide);
        }
        serde_path_to_error::deserialize(Value::Table(merged)).map_err(|error| ConfigError::Key {
            key: error.path().to_string(),
            reason: error.inner().message().to_owned(),
        })
    }
}

fn parse_table(text: &str) -> Result<Table, ConfigError> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let before = error.span().map_or(0, |span| span.start).min(text.len());
        ConfigError::Syntax {
            line: 1 + text.as_bytes()[..before]
                .iter()
                .filter(|&&byte| byte == b'\n')
                .count(),
            reason: error.message().to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest file that can be used, with Kafka in plain text.
    const SMALLEST: &str = r#"
        node_id = "a"
        kafka.brokers = ["localhost:9092"]
        kafka.plaintext = true
        bridge.brokers = ["localhost:8883"]
        bridge.tls = { ca = "ca.pem", certificate = "c.pem", key = "c.key" }
    "#;

    fn error(text: &str) -> String {
        Config::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_example_is_a_whole_configuration() {
        let config = Config::parse(EXAMPLE).unwrap();
        assert_eq!(config.node_id.as_str(), "collector-1");
        assert!(config.kafka.security.tls.is_some());
    }

    #[test]
    fn what_a_file_leaves_out_keeps_the_examples_value() {
        let config = Config::parse(&format!("drain_budget_seconds = 7\n{SMALLEST}")).unwrap();
        assert_eq!(config.drain_budget, Duration::from_secs(7));
        assert_eq!(config.bridge.linger, Duration::from_millis(25));
        assert_eq!(config.bridge.brokers.len(), 1);
        assert!(config.kafka.security.tls.is_none());
    }

    #[test]
    fn keys_without_a_default_are_asked_for() {
        assert_eq!(
            error(""),
            "node_id: must be set; returnpath-collector.example.toml shows its form"
        );
        assert!(error("node_id = \"a\"").starts_with("kafka.brokers: must be set"));
        let without_key = SMALLEST.replace(", key = \"c.key\"", "");
        assert!(error(&without_key).starts_with("bridge.tls.key: must be set"));
    }

    #[test]
    fn wrong_values_are_named_with_what_is_accepted() {
        for (line, expected) in [
            (
                "drain_budget_seconds = 0",
                "drain_budget_seconds: must be at least 1",
            ),
            (
                "drain_budget_seconds = \"1 s\"",
                "drain_budget_seconds: invalid type: string \"1 s\", expected u64",
            ),
            ("bridge.receive_maximum = 65536", "bridge.receive_maximum: "),
            ("bridge.linger_ms = -1", "bridge.linger_ms: "),
            (
                "bridge.quota.batches = 1",
                "bridge.quota.batches: unknown field `batches`, expected one of",
            ),
            (
                "bridge.share_group = \"a/b\"",
                "bridge.share_group: must be 1 to 64 of [A-Za-z0-9_-]",
            ),
            (
                "admin.listen = \"localhost\"",
                "admin.listen: invalid socket address",
            ),
            ("refiner = 1", "refiner: unknown field `refiner`"),
        ] {
            let error = error(&format!("{line}\n{SMALLEST}"));
            assert!(error.contains(expected), "{line}\n{error}");
        }
    }

    #[test]
    fn what_is_not_toml_is_named_by_its_line_and_not_repeated() {
        let error = error("node_id = \"a\"\npassword = hunter2\n");
        assert!(error.starts_with("line 2 is not TOML: "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
