//! What a configuration for boxes must look like: whoever signs one checks it
//! first, and a box refuses by the same what it is sent.

use super::{Checked, Path, wrong};
use crate::{id::DeviceId, limit::TRUSTED_KEYS_MAX, wire::Config};

/// Bytes of a raw Ed25519 public key.
const KEY_BYTES: usize = 32;

/// Checks a configuration for boxes. Fields are named as in `config.proto`.
///
/// # Errors
/// Names the first field that is wrong.
pub fn check_config(config: &Config) -> Checked {
    let at = Path("");
    at.range("version", config.version, 1, u64::MAX)?;
    if !config.device_id.is_empty() && config.device_id.parse::<DeviceId>().is_err() {
        return Err(wrong(
            "device_id".into(),
            "1 to 64 of [A-Za-z0-9_-], or nothing for every box",
        ));
    }
    for (name, value, min, max) in [
        (
            "batch_interval_ms",
            config.batch_interval_ms,
            1_000,
            300_000,
        ),
        ("window_batches_max", config.window_batches_max, 1, 64),
        ("backlog_rate", config.backlog_rate, 0, 1_000),
        (
            "reconnect_spread_ms",
            config.reconnect_spread_ms,
            0,
            3_600_000,
        ),
    ] {
        if let Some(value) = value {
            at.range(name, u64::from(value), min, max)?;
        }
    }
    let keys = &config.decision_keys;
    if keys.len() > TRUSTED_KEYS_MAX || keys.iter().any(|key| key.len() != KEY_BYTES) {
        return Err(wrong(
            "decision_keys".into(),
            format!("at most {TRUSTED_KEYS_MAX} keys of {KEY_BYTES} bytes"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(change: impl FnOnce(&mut Config)) -> Option<String> {
        let mut config = Config {
            version: 1,
            ..Config::default()
        };
        change(&mut config);
        check_config(&config).err().map(|error| error.field)
    }

    #[test]
    fn both_ends_of_every_range_are_good_and_what_lies_beyond_is_named() {
        type Set = fn(&mut Config, u32);
        let rows: [(&str, Set, u32, u32); 4] = [
            (
                "batch_interval_ms",
                |it, value| it.batch_interval_ms = Some(value),
                1_000,
                300_000,
            ),
            (
                "window_batches_max",
                |it, value| it.window_batches_max = Some(value),
                1,
                64,
            ),
            (
                "backlog_rate",
                |it, value| it.backlog_rate = Some(value),
                0,
                1_000,
            ),
            (
                "reconnect_spread_ms",
                |it, value| it.reconnect_spread_ms = Some(value),
                0,
                3_600_000,
            ),
        ];
        for (name, set, min, max) in rows {
            for good in [min, max] {
                assert_eq!(field(|it| set(it, good)), None, "{name} = {good}");
            }
            for bad in [min.checked_sub(1), Some(max + 1), Some(u32::MAX)] {
                let Some(bad) = bad else { continue };
                let named = field(|it| set(it, bad));
                assert_eq!(named.as_deref(), Some(name), "{name} = {bad}");
            }
        }
    }

    #[test]
    fn version_device_and_keys_are_named_when_they_are_wrong() {
        assert_eq!(field(|_| ()), None);
        assert_eq!(field(|it| it.version = 0).as_deref(), Some("version"));
        assert_eq!(field(|it| it.device_id = "box-1".into()), None);
        let named = field(|it| it.device_id = "box/1".into());
        assert_eq!(named.as_deref(), Some("device_id"));
        assert_eq!(
            field(|it| it.decision_keys = vec![vec![7; 32].into(); 4]),
            None
        );
        for wrong in [vec![vec![7; 32].into(); 5], vec![vec![7; 31].into()]] {
            let named = field(|it| it.decision_keys = wrong);
            assert_eq!(named.as_deref(), Some("decision_keys"));
        }
    }
}
