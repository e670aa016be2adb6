//! How the cloud steers this box: a signed configuration → settings that
//! replace those of the file, or the reason why it is refused as a whole.
//!
//! Judges and keeps the version; storing and applying are the event loop's.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use returnpath_delivery::Pace;
use returnpath_shared::{
    DeviceId, SIGNED_CONFIG_BYTES_MAX,
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
    #[error("{field}: expected {expected}")]
    OutOfRange {
        /// The field, as in `config.proto`.
        field: &'static str,
        /// The accepted form.
        expected: &'static str,
    },
    /// The queue file did not take it; it comes again with the next connection.
    #[error("the queue file did not take it")]
    Unstored,
}

impl ConfigRefusal {
    /// As the status names it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Forged => "forged",
            Self::Foreign => "foreign",
            Self::Malformed => "malformed",
            Self::OutOfRange { .. } => "out_of_range",
            Self::Unstored => "unstored",
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
    if config.version == 0 {
        return Err(ConfigRefusal::OutOfRange {
            field: "version",
            expected: "at least 1",
        });
    }
    Ok((config.version, in_force(&config, of_file)?))
}

fn in_force(config: &Config, of_file: &Settings) -> Result<Settings, ConfigRefusal> {
    let mut settings = of_file.clone();
    if let Some(ms) = config.batch_interval_ms {
        within("batch_interval_ms", ms, 1_000..=300_000, "1,000 to 300,000")?;
        settings.pace.batch_interval = Duration::from_millis(u64::from(ms));
    }
    if let Some(window) = config.window_batches_max {
        within("window_batches_max", window, 1..=64, "1 to 64")?;
        settings.pace.window_batches_max = window;
    }
    if let Some(rate) = config.backlog_rate {
        within("backlog_rate", rate, 0..=1_000, "0 to 1,000")?;
        settings.pace.backlog_rate = rate;
    }
    if let Some(ms) = config.reconnect_spread_ms {
        within("reconnect_spread_ms", ms, 0..=3_600_000, "0 to 3,600,000")?;
        settings.reconnect_spread = Duration::from_millis(u64::from(ms));
    }
    let keys = Keys::of_raw(&config.decision_keys, DECISION_PURPOSE);
    let keys = keys.ok_or(ConfigRefusal::OutOfRange {
        field: "decision_keys",
        expected: "at most 4 keys of 32 bytes",
    })?;
    // A box whose file names none takes no decisions, whatever the cloud says.
    if settings.decision_keys.is_some() && !config.decision_keys.is_empty() {
        settings.decision_keys = Some(keys);
    }
    Ok(settings)
}

fn within(
    field: &'static str,
    value: u32,
    range: std::ops::RangeInclusive<u32>,
    expected: &'static str,
) -> Result<(), ConfigRefusal> {
    if range.contains(&value) {
        Ok(())
    } else {
        Err(ConfigRefusal::OutOfRange { field, expected })
    }
}
