//! Events as middleware writes them: JSON, not our types.

use returnpath_agent::clock;
use returnpath_shared::wire;
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

/// Signals a break with these slots, in ms, that starts `lead_ms` from now:
/// ordinary, urgent.
pub(crate) fn ad_break(break_id: &str, lead_ms: u64, slots_ms: &[u32]) -> Value {
    json!({"adOpportunity": {
        "breakId": break_id,
        "startUptimeMs": (clock::uptime_ms() + lead_ms).to_string(),
        "durationMs": slots_ms.iter().sum::<u32>(),
        "slotDurationsMs": slots_ms,
        "channel": {"networkId": 9018, "transportStreamId": 4164, "serviceId": 2},
        "source": "SOURCE_LIVE",
    }})
}

/// What happened to an ad, `KIND_…`: proof.
pub(crate) fn ad(kind: &str, decision: &wire::Decision) -> Value {
    let creative = decision.creative.clone().unwrap_or_default();
    json!({"adEvent": {
        "kind": kind,
        "decisionId": decision.decision_id,
        "breakId": decision.break_id,
        "slot": decision.slot,
        "creativeId": creative.creative_id,
    }})
}

/// A viewer's choice about personalised ads, `CHOICE_…`: proof, urgent.
pub(crate) fn consent_to_ads(client_id: &str, choice: &str) -> Value {
    json!({"clientId": client_id, "consent": {
        "measurement": "CHOICE_OPTED_IN",
        "personalisedAds": choice,
        "version": "2026-11",
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

/// An event of the operator's own that takes room: ordinary.
pub(crate) fn noise(text: &str) -> Value {
    json!({"custom": {"name": "operator.noise", "attributes": {"text": text}}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use returnpath_shared::check;

    #[test]
    fn the_events_that_tests_hand_in_are_good() {
        let decision = wire::Decision {
            decision_id: "d".to_owned(),
            ..wire::Decision::default()
        };
        for event in [
            tune(1),
            opportunity("b"),
            ad_break("b", 1_000, &[30_000, 15_000]),
            ad("KIND_START", &decision),
            consent_to_ads("c", "CHOICE_OPTED_IN"),
            impression("d"),
            quartile("d"),
            consent("c"),
            custom("x.y"),
            noise("text"),
        ] {
            let decoded: wire::Event = serde_json::from_value(event.clone()).unwrap();
            assert_eq!(check(&decoded), Ok(()), "{event}");
        }
    }
}
