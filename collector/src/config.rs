//! Configuration: one TOML file over the defaults, read once, parsed to final
//! types, nested by component. Each component receives its own part by value.
//!
//! The defaults live in `returnpath-collector.example.toml` and nowhere else:
//! the file given by the user is laid over it, key by key. Unknown keys are
//! refused. What differs between installations (`YOURS`) has no default; its
//! value in the example is only an example.

use std::{fs, io, path::Path, path::PathBuf, time::Duration};

use serde::Deserialize;
use thiserror::Error;
use toml::{Table, Value};

use crate::{
    admin, bridge, decide, kafka,
    node_id::NodeId,
    refine,
    section::{
        table::{find, lay_over, remove},
        value,
    },
    steering, topics,
};

/// The defaults, as the file that people read.
pub const EXAMPLE: &str = include_str!("../returnpath-collector.example.toml");

/// Keys and tables that differ between installations: the example's values for
/// them are no defaults.
const YOURS: [&str; 14] = [
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
    "steering",
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

/// Those that a file with a section `[steering]` must hold.
const REQUIRED_TO_STEER: [&str; 5] = [
    "steering.config_keys",
    "steering.mqtt.brokers",
    "steering.mqtt.tls.ca",
    "steering.mqtt.tls.certificate",
    "steering.mqtt.tls.key",
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
    /// From a person to the boxes; absent where nobody steers them from here.
    pub steering: Option<steering::Config>,
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
        let also = [
            ("decide", &REQUIRED_TO_DECIDE[..]),
            ("steering", &REQUIRED_TO_STEER),
        ];
        let also = also
            .iter()
            .filter(|(section, _)| given.contains_key(*section));
        for key in REQUIRED.iter().chain(also.flat_map(|(_, keys)| *keys)) {
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
mod tests;
