//! The section `[steering]`: how a person reaches boxes from here. No role
//! reads it.

use std::path::PathBuf;

use serde::Deserialize;
use thiserror::Error;

use crate::{
    mqtt::{self, Broker, Tls, TlsError},
    section::value::non_empty,
    signing::{PublicKeys, PublicKeysError},
};

/// Table of the configuration with the files of the connection.
pub(super) const SECTION: &str = "steering.mqtt.tls";

/// How configuration for boxes is published.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Public keys that boxes trust for configuration. What none of them signed
    /// is not published.
    pub config_keys: PathBuf,
    /// The connection.
    pub mqtt: Mqtt,
}

/// The connection that configuration is published on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mqtt {
    /// Brokers of the cluster; tried in turn.
    #[serde(deserialize_with = "non_empty")]
    pub brokers: Vec<Broker>,
    /// Who we are and whom we trust. Another certificate than those of roles.
    pub tls: Tls,
}

/// Why the section cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// There is no such section.
    #[error("steering: must be set to publish; returnpath-collector.example.toml shows its form")]
    Missing,
    /// The keys cannot be read.
    #[error("steering.config_keys")]
    Keys(#[from] PublicKeysError),
    /// The files of the MQTT connection cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Whether the files that the section names can be used. Connects to nothing.
///
/// # Errors
/// Names the first key that is wrong.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    config.open().map(drop)
}

impl Config {
    /// Reads the files that it names.
    pub(super) fn open(&self) -> Result<PublicKeys, ConfigError> {
        mqtt::client_config(SECTION, &self.mqtt.tls)?;
        Ok(PublicKeys::read(&self.config_keys)?)
    }
}
