use std::collections::BTreeMap;

use super::*;

fn event(json: &str) -> Event {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// The field that `check` refuses.
fn refused(json: &str) -> String {
    check(&event(json)).expect_err(json).field
}

#[test]
fn events_as_clients_send_them_pass() {
    for json in [
        r#"{"tune":{"channel":{"networkId":9018,"serviceId":4164},"source":"SOURCE_LIVE"}}"#,
        r#"{"tune":{"channel":{"channelId":"news-4k"},"source":"SOURCE_LIVE"}}"#,
        r#"{"tune":{"contentId":"crid://a/b","source":"SOURCE_ON_DEMAND"}}"#,
        r#"{"viewingHeartbeat":{"source":"SOURCE_APP"}}"#,
        r#"{"trickPlay":{"action":"ACTION_PAUSE"}}"#,
        r#"{"power":{"state":"STATE_STANDBY"}}"#,
        r#"{"display":{"state":"STATE_ACTIVE"}}"#,
        r#"{"userActivity":{"inputs":1}}"#,
        r#"{"adOpportunity":{"breakId":"b","startUptimeMs":"1","durationMs":60000,
            "slotDurationsMs":[30000,30000],"segmentation":{"segmentationTypeId":52}}}"#,
        r#"{"adEvent":{"kind":"KIND_START","decisionId":"d"}}"#,
        r#"{"adEvent":{"kind":"KIND_ERROR","decisionId":"d","errorCode":405}}"#,
        r#"{"clientId":"c","consent":{"version":"2026-01"}}"#,
        r#"{"custom":{"name":"app.launch-2"}}"#,
        r#"{"clientId":"c","custom":{"name":"a","proof":true}}"#,
        r#"{"health":{"temperatureDecicelsius":-400,"decisionsRefused":{"forged":"2"}}}"#,
        r#"{"boot":{"anchors":[{"bootId":"1"}]}}"#,
        r#"{"ledger":{"reason":"DROP_REASON_TOO_OLD","lastSequence":"2","firstOrdinal":"1",
            "eventCount":"3","firstBatch":{"epoch":{"incarnation":"7","start":1},"sequence":"2"}}}"#,
        r#"{"ledger":{"reason":"DROP_REASON_CORRUPT","wholeEpoch":true,
            "firstBatch":{"epoch":{"incarnation":"7","start":1},"sequence":"1"}}}"#,
        r#"{"uncleanStop":{"epoch":{"incarnation":"7","start":1}}}"#,
    ] {
        assert_eq!(check(&event(json)), Ok(()), "{json}");
    }
}

#[test]
fn each_rule_names_its_field() {
    for (json, field) in [
        (r"{}", "kind"),
        (r#"{"tune":{}}"#, "tune.source"),
        (r#"{"tune":{"source":"SOURCE_LIVE"}}"#, "tune.channel"),
        (
            r#"{"tune":{"source":"SOURCE_LIVE","contentId":"a"}}"#,
            "tune.channel",
        ),
        (r#"{"tune":{"source":"SOURCE_APP"}}"#, "tune.channel"),
        (
            r#"{"tune":{"source":"SOURCE_LIVE","channel":{}}}"#,
            "tune.channel.serviceId",
        ),
        (
            r#"{"tune":{"source":"SOURCE_LIVE","channel":{"serviceId":65536}}}"#,
            "tune.channel.serviceId",
        ),
        (
            r#"{"tune":{"source":"SOURCE_LIVE","channel":{"networkId":65536,"serviceId":1}}}"#,
            "tune.channel.networkId",
        ),
        (
            r#"{"viewingHeartbeat":{"source":"SOURCE_TIMESHIFT"}}"#,
            "viewingHeartbeat.channel",
        ),
        (r#"{"trickPlay":{}}"#, "trickPlay.action"),
        (
            r#"{"trickPlay":{"action":"ACTION_PLAY","channel":{}}}"#,
            "trickPlay.channel.serviceId",
        ),
        (r#"{"power":{}}"#, "power.state"),
        (r#"{"display":{}}"#, "display.state"),
        (r#"{"userActivity":{}}"#, "userActivity.inputs"),
        (r#"{"adOpportunity":{}}"#, "adOpportunity.breakId"),
        (
            r#"{"adOpportunity":{"breakId":"b"}}"#,
            "adOpportunity.startUptimeMs",
        ),
        (
            r#"{"adOpportunity":{"breakId":"b","startUptimeMs":"1"}}"#,
            "adOpportunity.durationMs",
        ),
        (
            r#"{"adOpportunity":{"breakId":"b","startUptimeMs":"1","durationMs":9,"slotDurationsMs":[9,1]}}"#,
            "adOpportunity.slotDurationsMs[1]",
        ),
        (
            r#"{"adOpportunity":{"breakId":"b","startUptimeMs":"1","durationMs":99,
                "slotDurationsMs":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}}"#,
            "adOpportunity.slotDurationsMs",
        ),
        (
            r#"{"adOpportunity":{"breakId":"b","startUptimeMs":"1","durationMs":9,
                "segmentation":{"segmentNum":256}}}"#,
            "adOpportunity.segmentation.segmentNum",
        ),
        (
            r#"{"adOpportunity":{"breakId":"b","startUptimeMs":"1","durationMs":9,
                "segmentation":{"pts90khz":"8589934592"}}}"#,
            "adOpportunity.segmentation.pts90khz",
        ),
        (r#"{"adEvent":{"decisionId":"d"}}"#, "adEvent.kind"),
        (r#"{"adEvent":{"kind":"KIND_START"}}"#, "adEvent.decisionId"),
        (
            r#"{"adEvent":{"kind":"KIND_START","decisionId":"d","slot":16}}"#,
            "adEvent.slot",
        ),
        (
            r#"{"adEvent":{"kind":"KIND_ERROR","decisionId":"d"}}"#,
            "adEvent.errorCode",
        ),
        (
            r#"{"adEvent":{"kind":"KIND_DECISION_REFUSED","decisionId":"d"}}"#,
            "adEvent.refusal",
        ),
        (r#"{"consent":{"version":"1"}}"#, "clientId"),
        (r#"{"clientId":"c","consent":{}}"#, "consent.version"),
        (r#"{"custom":{}}"#, "custom.name"),
        (r#"{"custom":{"name":"App"}}"#, "custom.name"),
        (r#"{"custom":{"name":"a..b"}}"#, "custom.name"),
        (r#"{"custom":{"name":"a","proof":true}}"#, "clientId"),
        (
            r#"{"custom":{"name":"a","attributes":{"":"x"}}}"#,
            "custom.attributes[key]",
        ),
        (r#"{"health":{"refused":{"":"1"}}}"#, "health.refused[key]"),
        (
            r#"{"health":{"decisionsRefused":{"":"1"}}}"#,
            "health.decisionsRefused[key]",
        ),
        (r#"{"boot":{"anchors":[{}]}}"#, "boot.anchors[0].bootId"),
        (r#"{"ledger":{}}"#, "ledger.reason"),
        (
            r#"{"ledger":{"reason":"DROP_REASON_TOO_OLD"}}"#,
            "ledger.firstBatch",
        ),
        (
            r#"{"ledger":{"reason":"DROP_REASON_TOO_OLD","lastSequence":"1",
                "firstBatch":{"epoch":{"incarnation":"7","start":1},"sequence":"2"}}}"#,
            "ledger.lastSequence",
        ),
        (r#"{"uncleanStop":{}}"#, "uncleanStop.epoch"),
    ] {
        assert_eq!(refused(json), field, "{json}");
    }
}

#[test]
fn texts_and_maps_are_bounded() {
    let long = "x".repeat(CLIENT_ID_BYTES_MAX + 1);
    for (json, field) in [
        (
            format!(r#"{{"clientId":"{long}","power":{{"state":1}}}}"#),
            "clientId",
        ),
        (
            format!(r#"{{"adEvent":{{"kind":1,"decisionId":"{long}"}}}}"#),
            "adEvent.decisionId",
        ),
        (
            format!(r#"{{"custom":{{"name":"{long}"}}}}"#),
            "custom.name",
        ),
        (format!(r#"{{"boot":{{"model":"{long}"}}}}"#), "boot.model"),
    ] {
        assert_eq!(refused(&json), field);
    }
    let custom = |attributes: BTreeMap<String, String>| Event {
        kind: Some(event::Kind::Custom(Custom {
            name: "a".into(),
            attributes,
            proof: false,
        })),
        ..Event::default()
    };
    let many = (0..=ATTRIBUTES_MAX).map(|n| (n.to_string(), String::new()));
    let error = check(&custom(many.collect())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "custom.attributes: expected at most 32 entries"
    );
    let many = (0..=ATTRIBUTES_MAX as u64).map(|n| (n.to_string(), n));
    let health = Event {
        kind: Some(event::Kind::Health(Health {
            decisions_refused: many.collect(),
            ..Health::default()
        })),
        ..Event::default()
    };
    let error = check(&health).unwrap_err();
    assert_eq!(error.field, "health.decisionsRefused");
    let large = [("k".into(), "v".repeat(ATTRIBUTE_VALUE_BYTES_MAX + 1))];
    let error = check(&custom(large.into())).unwrap_err();
    assert_eq!(error.field, "custom.attributes.k");
}

#[test]
fn an_enum_number_of_a_later_version_passes() {
    let power = Power {
        state: 99,
        ..Power::default()
    };
    let event = Event {
        kind: Some(event::Kind::Power(power)),
        ..Event::default()
    };
    assert_eq!(check(&event), Ok(()));
}
