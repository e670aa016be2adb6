//! The section `[bridge]`, parsed to final types.

use std::{
    fmt,
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Deserializer, de};

use crate::config::value::{milliseconds, non_empty, seconds};

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

/// Files of the TLS connection, all PEM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Authorities that may sign the brokers' certificates.
    pub ca: PathBuf,
    /// Our certificate and those between it and the authority. Its common name
    /// is our MQTT client id, so no two processes may share it.
    pub certificate: PathBuf,
    /// The private key to it.
    pub key: PathBuf,
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

/// Address of an MQTT broker: `host:port`. The host is what its certificate
/// must name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broker {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl FromStr for Broker {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "must be \"host:port\", as in \"mqtt-1.example.net:8883\"";
        let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
        let host = host
            .strip_prefix('[')
            .map_or(Some(host), |host| host.strip_suffix(']'))
            .ok_or(FORM)?;
        let port = port.parse().map_err(|_| FORM)?;
        if host.is_empty() || host.contains(['/', ' ']) || port == 0 {
            return Err(FORM);
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') {
            write!(formatter, "[{host}]:{port}")
        } else {
            write!(formatter, "{host}:{port}")
        }
    }
}

impl<'de> Deserialize<'de> for Broker {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_addresses_are_host_and_port() {
        for (text, host) in [("mqtt-1:8883", "mqtt-1"), ("[::1]:8883", "::1")] {
            let broker: Broker = text.parse().unwrap();
            assert_eq!((broker.host.as_str(), broker.port), (host, 8883));
            assert_eq!(broker.to_string(), text);
        }
        for wrong in [
            "mqtt-1",
            ":8883",
            "mqtt-1:0",
            "mqtt-1:x",
            "[::1:8883",
            "mqtts://a:1",
        ] {
            assert!(wrong.parse::<Broker>().is_err(), "{wrong}");
        }
    }
}
