//! The section `[bridge]`, parsed to final types.

use std::{
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de};

use crate::{
    mqtt::{Broker, Tls},
    section::value::{milliseconds, non_empty, seconds},
};

/// From MQTT to `rp.raw`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Brokers of the cluster; tried in turn, from a random one.
    #[serde(deserialize_with = "non_empty")]
    pub brokers: Vec<Broker>,
    /// Who we are and whom we trust.
    pub tls: Tls,
    /// Name of the shared subscription: collectors with the same name share
    /// the boxes' batches among them.
    pub share_group: ShareGroup,
    /// Batches that the broker may send without our acknowledgement.
    pub receive_maximum: NonZeroU16,
    /// How much may be on its way into Kafka.
    pub in_flight: InFlight,
    /// How records are packed on their way into Kafka and there.
    pub compression: Compression,
    /// How long the Kafka client waits to fill a request.
    #[serde(rename = "linger_ms", deserialize_with = "milliseconds")]
    pub linger: Duration,
    /// After this long without Kafka's confirmation a batch is acknowledged to
    /// the broker without a receipt.
    #[serde(rename = "acknowledge_after_ms", deserialize_with = "milliseconds")]
    pub acknowledge_after: Duration,
    /// After this long the Kafka client gives a batch up; the box sends again.
    #[serde(rename = "deliver_within_seconds", deserialize_with = "seconds")]
    pub deliver_within: Duration,
    /// What one box may send.
    pub quota: Quota,
}

/// How the Kafka client packs a request's records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Compression {
    None,
    Lz4,
    Zstd,
}

impl Compression {
    /// As Kafka calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Bounds of what is on its way into Kafka; past either, batches are
/// acknowledged to the broker and left without a receipt.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InFlight {
    /// Number of batches.
    pub batches: NonZeroU32,
    /// Their MQTT payloads, in bytes.
    pub bytes: NonZeroU32,
}

/// What one box may send; beyond it, batches go without a receipt.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Sustained rate.
    pub batches_per_second: NonZeroU32,
    /// Batches at once, after a pause.
    pub batches_burst: NonZeroU32,
    /// Sustained rate of MQTT payload.
    pub bytes_per_second: NonZeroU32,
    /// Bytes at once, after a pause.
    pub bytes_burst: NonZeroU32,
}

/// Name of a shared subscription: no `/`, `+` or `#` (MQTT 5, 4.8.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShareGroup(String);

impl ShareGroup {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for ShareGroup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if returnpath_shared::DeviceId::is_valid(name.as_bytes()) {
            Ok(Self(name))
        } else {
            Err(de::Error::custom("must be 1 to 64 of [A-Za-z0-9_-]"))
        }
    }
}
