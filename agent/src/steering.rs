//! How the cloud steers this box: a signed configuration → settings that
//! replace those of the file, or the reason why it is refused as a whole.
//!
//! Judges and keeps the version; storing and applying are the event loop's.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use returnpath_delivery::Pace;
use returnpath_shared::{
    DeviceId, FieldError, SIGNED_CONFIG_BYTES_MAX, check_config,
    wire::{Config, SignedConfig},
};
use returnpath_slots::{PURPOSE as DECISION_PURPOSE, Verify};
use thiserror::Error;

use crate::trust::Keys;

/// What the signature of a configuration covers before its bytes.
pub const PURPOSE: &[u8] = b"returnpath.config.v1\0";

/// What the cloud may set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// How fast the box sends.
    pub pace: Pace,
    /// Spread of reconnects after a connection was lost.
    pub reconnect_spread: Duration,
    /// Who may sign decisions; `None` while the box takes none.
    pub decision_keys: Option<Keys>,
}

/// A configuration as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredConfig {
    /// Its version.
    pub version: u64,
    /// The signed message as it came; verified again when it is read.
    pub signed: Bytes,
}

/// Why a configuration was refused; nothing of it is applied.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConfigRefusal {
    /// Not signed by a key that the box trusts.
    #[error("not signed by a trusted key (trust.config_keys)")]
    Forged,
    /// For another box.
    #[error("device_id: expected this box, or empty for every box")]
    Foreign,
    /// Cannot be read.
    #[error("expected an encoded SignedConfig of at most {SIGNED_CONFIG_BYTES_MAX} bytes")]
    Malformed,
    /// A value is not as it must be.
    #[error(transparent)]
    OutOfRange(#[from] FieldError),
    /// The queue file did not take it; it comes again with the next connection.
    #[error("the queue file did not take it")]
    Unstored,
    /// More came than the box looks into.
    #[error("fewer configurations at a time; the last comes again with the next connection")]
    TooMany,
}

impl ConfigRefusal {
    /// As the status names it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Forged => "forged",
            Self::Foreign => "foreign",
            Self::Malformed => "malformed",
            Self::OutOfRange(_) => "out_of_range",
            Self::Unstored => "unstored",
            Self::TooMany => "too_many",
        }
    }
}

/// Reads a message that claims to be signed configuration for `device`: what is
/// in force with it, and its version.
///
/// # Errors
/// Says why it is refused, and names the field.
pub fn read(
    message: &[u8],
    device: &DeviceId,
    keys: &Keys,
    of_file: &Settings,
) -> Result<(u64, Settings), ConfigRefusal> {
    if message.len() > SIGNED_CONFIG_BYTES_MAX {
        return Err(ConfigRefusal::Malformed);
    }
    let signed = SignedConfig::decode(message).map_err(|_error| ConfigRefusal::Malformed)?;
    if !keys.is_signed(&signed.key_id, &signed.config, &signed.signature) {
        return Err(ConfigRefusal::Forged);
    }
    let config = Config::decode(signed.config).map_err(|_error| ConfigRefusal::Malformed)?;
    if !config.device_id.is_empty() && config.device_id != device.as_str() {
        return Err(ConfigRefusal::Foreign);
    }
    check_config(&config)?;
    Ok((config.version, in_force(&config, of_file)))
}

/// What is in force with a configuration that was checked.
fn in_force(config: &Config, of_file: &Settings) -> Settings {
    let ms = |value: u32| Duration::from_millis(u64::from(value));
    let mut settings = of_file.clone();
    if let Some(interval_ms) = config.batch_interval_ms {
        settings.pace.batch_interval = ms(interval_ms);
    }
    if let Some(window) = config.window_batches_max {
        settings.pace.window_batches_max = window;
    }
    if let Some(rate) = config.backlog_rate {
        settings.pace.backlog_rate = rate;
    }
    if let Some(spread_ms) = config.reconnect_spread_ms {
        settings.reconnect_spread = ms(spread_ms);
    }
    // A box whose file names none takes no decisions, whatever the cloud says.
    if settings.decision_keys.is_some()
        && !config.decision_keys.is_empty()
        && let Some(keys) = Keys::of_raw(&config.decision_keys, DECISION_PURPOSE)
    {
        settings.decision_keys = Some(keys);
    }
    settings
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    struct Cloud(Ed25519KeyPair);

    impl Cloud {
        fn new() -> Self {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
            Self(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&key.serialize_der()).unwrap())
        }

        fn public(&self) -> &[u8] {
            self.0.public_key().as_ref()
        }

        fn keys(&self, purpose: &'static [u8]) -> Keys {
            Keys::of_raw(&[self.public()], purpose).unwrap()
        }

        fn signed(&self, config: &Config) -> Vec<u8> {
            let config = config.encode_to_vec();
            let signature = self.0.sign(&[PURPOSE, &config].concat());
            let hash = ring::digest::digest(&ring::digest::SHA256, self.public());
            let id = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}"));
            SignedConfig {
                config: config.into(),
                key_id: id.collect(),
                signature: signature.as_ref().to_vec().into(),
            }
            .encode_to_vec()
        }
    }

    fn of_file(decision_keys: Option<Keys>) -> Settings {
        Settings {
            pace: Pace {
                batch_interval: Duration::from_secs(5),
                window_batches_max: 16,
                backlog_rate: 50,
            },
            reconnect_spread: Duration::from_secs(30),
            decision_keys,
        }
    }

    fn read_by(cloud: &Cloud, config: &Config) -> Result<(u64, Settings), ConfigRefusal> {
        let device = "box-1".parse().unwrap();
        let of_file = of_file(Some(cloud.keys(DECISION_PURPOSE)));
        read(
            &cloud.signed(config),
            &device,
            &cloud.keys(PURPOSE),
            &of_file,
        )
    }

    fn versioned() -> Config {
        Config {
            version: 7,
            ..Config::default()
        }
    }

    #[test]
    fn what_is_absent_stays_as_in_the_file_and_the_rest_is_replaced() {
        let cloud = Cloud::new();
        let (version, settings) = read_by(&cloud, &versioned()).unwrap();
        assert_eq!(version, 7);
        assert_eq!(settings, of_file(Some(cloud.keys(DECISION_PURPOSE))));

        let next = Cloud::new();
        let everything = Config {
            device_id: "box-1".into(),
            batch_interval_ms: Some(300_000),
            window_batches_max: Some(64),
            backlog_rate: Some(0),
            reconnect_spread_ms: Some(0),
            decision_keys: vec![next.public().to_vec().into()],
            ..versioned()
        };
        let (_, settings) = read_by(&cloud, &everything).unwrap();
        assert_eq!(settings.pace.batch_interval, Duration::from_secs(300));
        assert_eq!(settings.pace.window_batches_max, 64);
        assert_eq!(settings.pace.backlog_rate, 0);
        assert_eq!(settings.reconnect_spread, Duration::ZERO);
        assert_eq!(settings.decision_keys, Some(next.keys(DECISION_PURPOSE)));
    }

    #[test]
    fn a_value_out_of_range_refuses_all_of_it_and_is_named() {
        let cloud = Cloud::new();
        let one_more = vec![cloud.public().to_vec().into(); 5];
        for (config, named) in [
            (Config::default(), "version"),
            (
                Config {
                    batch_interval_ms: Some(999),
                    ..versioned()
                },
                "batch_interval_ms",
            ),
            (
                Config {
                    batch_interval_ms: Some(300_001),
                    ..versioned()
                },
                "batch_interval_ms",
            ),
            (
                Config {
                    window_batches_max: Some(0),
                    ..versioned()
                },
                "window_batches_max",
            ),
            (
                Config {
                    window_batches_max: Some(65),
                    ..versioned()
                },
                "window_batches_max",
            ),
            (
                Config {
                    backlog_rate: Some(1_001),
                    ..versioned()
                },
                "backlog_rate",
            ),
            (
                Config {
                    reconnect_spread_ms: Some(3_600_001),
                    ..versioned()
                },
                "reconnect_spread_ms",
            ),
            (
                Config {
                    decision_keys: vec![vec![1; 31].into()],
                    ..versioned()
                },
                "decision_keys",
            ),
            (
                Config {
                    decision_keys: one_more,
                    ..versioned()
                },
                "decision_keys",
            ),
        ] {
            let refusal = read_by(&cloud, &config).unwrap_err();
            assert!(
                matches!(&refusal, ConfigRefusal::OutOfRange(error) if error.field == named),
                "{named}: {refusal:?}"
            );
        }
    }

    #[test]
    fn what_is_not_the_operators_or_not_for_this_box_is_refused() {
        let cloud = Cloud::new();
        let device = "box-1".parse().unwrap();
        let (keys, of_file) = (cloud.keys(PURPOSE), of_file(None));
        let read = |message: &[u8]| read(message, &device, &keys, &of_file).unwrap_err();
        assert_eq!(
            read(&Cloud::new().signed(&versioned())),
            ConfigRefusal::Forged
        );
        let mut changed = cloud.signed(&versioned());
        changed[3] ^= 1;
        assert_eq!(read(&changed), ConfigRefusal::Forged);
        assert_eq!(read(b"\xff"), ConfigRefusal::Malformed);
        assert_eq!(read(&[0; 5_000]), ConfigRefusal::Malformed);
        let other = Config {
            device_id: "box-2".into(),
            ..versioned()
        };
        assert_eq!(read(&cloud.signed(&other)), ConfigRefusal::Foreign);
    }

    #[test]
    fn a_box_whose_file_names_no_decision_keys_is_given_none() {
        let cloud = Cloud::new();
        let device = "box-1".parse().unwrap();
        let config = Config {
            decision_keys: vec![cloud.public().to_vec().into()],
            ..versioned()
        };
        let message = cloud.signed(&config);
        let read = read(&message, &device, &cloud.keys(PURPOSE), &of_file(None));
        assert_eq!(read.unwrap().1.decision_keys, None);
    }
}
