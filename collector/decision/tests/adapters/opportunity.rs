//! Opportunities from files, and the circumstances in which all are asked.

use std::{fs, path::PathBuf};

use returnpath_decision::{Ask, ParametersAdapter, ParametersConfig};
use returnpath_shared::wire::{Opportunity, Privacy};
use serde_json::Value;

pub(crate) const DECISION_ID: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const PSEUDONYM: &str = "9f86d081884c7d65";
/// 2025-11-21T12:34:56.789Z.
pub(crate) const NOW_UNIX_MS: i64 = 1_763_728_496_789;

pub(crate) fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The opportunity in the file of this name, changed as RFC 7396 says.
pub(crate) fn opportunity(name: &str, change: &Value) -> Opportunity {
    let path = fixtures().join(format!("opportunities/{name}.json"));
    let mut json: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    merge(&mut json, change);
    serde_json::from_value(json).unwrap()
}

fn merge(target: &mut Value, change: &Value) {
    let Value::Object(members) = change else {
        *target = change.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    for (name, change) in members {
        if change.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], change);
        }
    }
}

/// What is asked of the opportunity's slot.
pub(crate) fn ask(opportunity: &Opportunity, privacy: Privacy) -> Ask<'_> {
    Ask {
        opportunity,
        decision_id: DECISION_ID,
        slot: 0,
        slot_duration_ms: 30_000,
        privacy,
        now_unix_ms: NOW_UNIX_MS,
        time_left_ms: 250,
        pseudonym: Some(PSEUDONYM),
    }
}

/// The adapter that the text configures, with secrets that name themselves.
pub(crate) fn adapter(toml: &str) -> Result<ParametersAdapter, String> {
    let config: ParametersConfig = toml::from_str(toml).map_err(|error| error.to_string())?;
    let secrets: Vec<(String, String)> = config
        .secrets()
        .into_iter()
        .map(|name| (name.to_owned(), format!("secret of {name}")))
        .collect();
    let secret = |name: &str| {
        let found = secrets.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    };
    ParametersAdapter::new(config, secret).map_err(|error| error.to_string())
}
