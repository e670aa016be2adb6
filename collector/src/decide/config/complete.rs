//! What one key of the section takes from others, before it is parsed.

use aws_lc_rs::digest;
use returnpath_shared::hex;
use toml::{Table, Value};

use crate::section::table::lay_over;

/// Keys that say how decide runs and not how it decides.
const NOT_DECIDING: [&str; 4] = ["group", "transaction_timeout_ms", "signing_key", "mqtt"];

/// Lays each aggregator over `aggregator_defaults`, and names the policy where
/// the file gives it no version: by 12 hexadecimal digits of the SHA-256 of all
/// that bears on a decision, so that a record tells by which settings it was
/// made, and any change of them shows.
pub fn complete(decide: &mut Table) {
    let defaults = match decide.remove("aggregator_defaults") {
        Some(Value::Table(defaults)) => defaults,
        // Not a table: named by its key when the section is parsed.
        Some(other) => {
            decide.insert("aggregator_defaults".into(), other);
            Table::new()
        }
        None => Table::new(),
    };
    if let Some(Value::Array(aggregators)) = decide.get_mut("aggregators") {
        for aggregator in aggregators {
            if let Value::Table(given) = aggregator {
                let mut whole = defaults.clone();
                lay_over(&mut whole, std::mem::take(given));
                *given = whole;
            }
        }
    }
    let version = version(decide);
    if let Some(Value::Table(policy)) = decide.get_mut("policy") {
        policy
            .entry("version")
            .or_insert_with(|| Value::String(version));
    }
}

fn version(decide: &Table) -> String {
    let mut deciding = decide.clone();
    for key in NOT_DECIDING {
        deciding.remove(key);
    }
    // Tables are sorted by their keys, so the same settings give the same text.
    let text = serde_json::to_vec(&deciding).unwrap_or_default();
    hex(&digest::digest(&digest::SHA256, &text).as_ref()[..6])
}
