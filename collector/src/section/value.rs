//! Forms of single values that several sections share: durations by the unit
//! that the key names, lists that must not be empty. Knows no section.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// Reads a duration given as a whole number of seconds, at least 1. For keys
/// that end in `_seconds`.
///
/// # Errors
/// Says which form is accepted.
pub(crate) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    positive(deserializer).map(Duration::from_secs)
}

/// Reads a duration given as a whole number of milliseconds, at least 1. For
/// keys that end in `_ms`.
///
/// # Errors
/// Says which form is accepted.
pub(crate) fn milliseconds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    positive(deserializer).map(Duration::from_millis)
}

fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        0 => Err(de::Error::custom("must be at least 1")),
        value => Ok(value),
    }
}

/// Reads a list of at least one.
///
/// # Errors
/// Says so when it is empty.
pub(crate) fn non_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list = Vec::deserialize(deserializer)?;
    if list.is_empty() {
        return Err(de::Error::custom("must hold at least one"));
    }
    Ok(list)
}
