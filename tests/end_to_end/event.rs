//! Events as middleware writes them: JSON, not our types.

use serde_json::{Value, json};

/// A tune to a channel: ordinary.
pub(crate) fn tune(service_id: u32) -> Value {
    json!({"tune": {
        "channel": {"networkId": 9018, "transportStreamId": 4164, "serviceId": service_id},
        "source": "SOURCE_LIVE",
    }})
}

/// An ad opportunity: ordinary, urgent.
pub(crate) fn opportunity(break_id: &str) -> Value {
    json!({"adOpportunity": {
        "breakId": break_id,
        "startUptimeMs": "600000",
        "durationMs": 30_000,
        "source": "SOURCE_LIVE",
    }})
}

/// The first frame of an ad: proof, urgent.
pub(crate) fn impression(decision_id: &str) -> Value {
    json!({"adEvent": {"kind": "KIND_START", "decisionId": decision_id}})
}

/// The first quarter of an ad: proof, not urgent.
pub(crate) fn quartile(decision_id: &str) -> Value {
    json!({"adEvent": {"kind": "KIND_FIRST_QUARTILE", "decisionId": decision_id}})
}

/// A choice of the viewer: proof, urgent.
pub(crate) fn consent(client_id: &str) -> Value {
    json!({"clientId": client_id, "consent": {
        "measurement": "CHOICE_OPTED_IN",
        "personalisedAds": "CHOICE_OPTED_OUT",
        "version": "2026-11",
    }})
}

/// An event of the operator's own: ordinary.
pub(crate) fn custom(name: &str) -> Value {
    json!({"custom": {"name": name, "attributes": {"seen": "yes"}}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use returnpath_shared::{check, wire};

    #[test]
    fn the_events_that_tests_hand_in_are_good() {
        for event in [
            tune(1),
            opportunity("b"),
            impression("d"),
            quartile("d"),
            consent("c"),
            custom("x.y"),
        ] {
            let decoded: wire::Event = serde_json::from_value(event.clone()).unwrap();
            assert_eq!(check(&decoded), Ok(()), "{event}");
        }
    }
}
