//! The file that a person writes, parsed and checked as boxes will check it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use returnpath_shared::{FieldError, check_config, wire};
use serde::Deserialize;
use thiserror::Error;

use crate::signing::{PublicKeys, PublicKeysError};

/// What stands in the file; absent means: as in the box's own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: Option<u64>,
    device_id: Option<String>,
    batch_interval_ms: Option<u32>,
    window_batches_max: Option<u32>,
    backlog_rate: Option<u32>,
    reconnect_spread_ms: Option<u32>,
    /// Seen from the folder of the file itself.
    decision_keys: Option<PathBuf>,
}

/// Why a file of settings cannot be signed.
#[derive(Debug, Error)]
pub(super) enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    /// The text is not what the file's name says.
    #[error("{path} is not {format}: {reason}")]
    Syntax {
        path: PathBuf,
        format: &'static str,
        reason: String,
    },
    /// A key is unknown, or its value not of the accepted form.
    #[error("{path}: {key}: {reason}")]
    Key {
        path: PathBuf,
        key: String,
        reason: String,
    },
    /// A key is out of the bounds that boxes enforce.
    #[error("{path}: {problem}")]
    OutOfBounds { path: PathBuf, problem: FieldError },
    /// The file of keys is none.
    #[error("{path}: decision_keys")]
    Keys {
        path: PathBuf,
        source: PublicKeysError,
    },
}

/// Reads, parses and checks the file at `path`.
///
/// # Errors
/// Names the first key that is wrong, with the accepted form.
pub(super) fn read(path: &Path) -> Result<wire::Config, SettingsError> {
    let owned = || path.to_owned();
    let text = fs::read_to_string(path).map_err(|source| SettingsError::Read {
        path: owned(),
        source,
    })?;
    let written = parse(path, &text)?;
    let version = written.version.ok_or_else(|| SettingsError::Key {
        path: owned(),
        key: "version".into(),
        reason: "must be set, to a higher number than the boxes have: they ignore others".into(),
    })?;
    let keys = match &written.decision_keys {
        Some(file) => {
            let folder = path.parent().unwrap_or(Path::new(""));
            PublicKeys::read(&folder.join(file)).map(Some)
        }
        None => Ok(None),
    };
    let keys = keys.map_err(|source| SettingsError::Keys {
        path: owned(),
        source,
    })?;
    let raw = keys.iter().flat_map(PublicKeys::raw);
    let config = wire::Config {
        version,
        device_id: written.device_id.unwrap_or_default(),
        batch_interval_ms: written.batch_interval_ms,
        window_batches_max: written.window_batches_max,
        backlog_rate: written.backlog_rate,
        reconnect_spread_ms: written.reconnect_spread_ms,
        decision_keys: raw.map(|key| key.to_vec().into()).collect(),
    };
    check_config(&config).map_err(|problem| SettingsError::OutOfBounds {
        path: owned(),
        problem,
    })?;
    Ok(config)
}

fn parse(path: &Path, text: &str) -> Result<Written, SettingsError> {
    let is_json = path
        .extension()
        .is_some_and(|extension| extension == "json");
    let format = if is_json { "JSON" } else { "TOML" };
    let syntax = |reason: String| SettingsError::Syntax {
        path: path.to_owned(),
        format,
        reason,
    };
    let parsed = if is_json {
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| syntax(error.to_string()))?;
        serde_path_to_error::deserialize(value)
            .map_err(|error| (error.path().to_string(), error.inner().to_string()))
    } else {
        let table: toml::Table = toml::from_str(text).map_err(|error| syntax(error.to_string()))?;
        serde_path_to_error::deserialize(toml::Value::Table(table))
            .map_err(|error| (error.path().to_string(), error.inner().message().to_owned()))
    };
    parsed.map_err(|(key, reason)| SettingsError::Key {
        path: path.to_owned(),
        key,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steering::signed::tests::Folder;

    const EVERYTHING: &str = r#"
        version = 7
        device_id = "box-1"
        batch_interval_ms = 1000
        window_batches_max = 64
        backlog_rate = 0
        reconnect_spread_ms = 3600000
        decision_keys = "keys.pem"
    "#;

    fn read_text(name: &str, text: &str) -> Result<wire::Config, String> {
        let folder = Folder::new(&format!("settings-{}", name.replace('.', "-")));
        folder.keys("keys.pem", 2);
        let path = folder.file(name, text.as_bytes());
        read(&path).map_err(|error| {
            let text = format!("{:#}", anyhow::Error::new(error));
            assert!(text.contains(name), "{text}");
            assert_eq!(text.matches("expected").count().max(1), 1, "{text}");
            text
        })
    }

    #[test]
    fn every_field_of_the_message_can_be_written_in_toml_and_in_json() {
        let toml = read_text("all.toml", EVERYTHING).unwrap();
        assert_eq!(
            (
                toml.version,
                toml.device_id.as_str(),
                toml.decision_keys.len()
            ),
            (7, "box-1", 2)
        );
        assert_eq!(
            (
                toml.batch_interval_ms,
                toml.window_batches_max,
                toml.backlog_rate,
                toml.reconnect_spread_ms,
            ),
            (Some(1_000), Some(64), Some(0), Some(3_600_000))
        );
        let json = read_text(
            "all.json",
            r#"{"version": 7, "device_id": "box-1", "batch_interval_ms": 1000,
                "window_batches_max": 64, "backlog_rate": 0,
                "reconnect_spread_ms": 3600000}"#,
        );
        let without_keys = wire::Config {
            decision_keys: vec![],
            ..toml
        };
        assert_eq!(json.unwrap(), without_keys);
    }

    #[test]
    fn what_is_left_out_is_left_to_the_box() {
        let config = read_text("least.toml", "version = 1").unwrap();
        let expected = wire::Config {
            version: 1,
            ..wire::Config::default()
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn what_a_box_would_refuse_is_refused_by_its_key() {
        for (name, text, expected) in [
            ("none.toml", "", "version: must be set, to a higher number"),
            (
                "zero.toml",
                "version = 0",
                "version: expected a number of at least 1",
            ),
            (
                "short.toml",
                "version = 1\nbatch_interval_ms = 999",
                "batch_interval_ms: expected a number from 1000 to 300000",
            ),
            (
                "text.toml",
                "version = 1\nbacklog_rate = \"fast\"",
                "backlog_rate: invalid type: string \"fast\", expected u32",
            ),
            (
                "negative.json",
                r#"{"version": 1, "window_batches_max": -1}"#,
                "window_batches_max: invalid value: integer `-1`, expected u32",
            ),
            (
                "typo.toml",
                "version = 1\nbatch_interval = 1000",
                "batch_interval: unknown field `batch_interval`, expected one of",
            ),
            (
                "box.toml",
                "version = 1\ndevice_id = \"box/1\"",
                "device_id: expected 1 to 64 of [A-Za-z0-9_-]",
            ),
            (
                "keys.toml",
                "version = 1\ndecision_keys = \"other.pem\"",
                "decision_keys: cannot read",
            ),
            ("syntax.toml", "version", "is not TOML"),
            ("syntax.json", "version = 1", "is not JSON"),
        ] {
            let error = read_text(name, text).unwrap_err();
            assert!(error.contains(expected), "{name}: {error}");
        }
        let missing = read(Path::new("/nowhere.toml")).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read /nowhere.toml");
    }
}
