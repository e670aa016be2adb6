use super::*;
use returnpath_shared::wire::{Source, event};

const NOW_MS: u64 = 50_000;

fn parsed(line: &str) -> Result<Event, Refusal> {
    match parse(line.as_bytes(), Permitted::everything(), NOW_MS).1? {
        Request::Event(event) => Ok(*event),
        other @ (Request::Status | Request::FollowDecisions) => panic!("{line} asks {other:?}"),
    }
}

/// Reason and field of a refusal.
fn refused(line: &str) -> (RefusalReason, String) {
    let refusal = parsed(line).expect_err(line);
    assert!(
        refusal.expected.is_some_and(|text| !text.is_empty()),
        "{line}"
    );
    (refusal.reason, refusal.field.unwrap_or_default())
}

#[test]
fn an_event_is_taken_and_stamped_with_the_uptime() {
    let event = parsed(
        r#"{"event":{"tune":{"channel":{"networkId":9018,"serviceId":"4164"},"source":"SOURCE_LIVE"}}}"#,
    )
    .unwrap();
    assert_eq!(event.uptime_ms, NOW_MS);
    let Some(event::Kind::Tune(tune)) = event.kind else {
        panic!("no tune");
    };
    assert_eq!(tune.source(), Source::Live);
    assert_eq!(tune.channel.unwrap().service_id, 4_164);

    let own = parsed(r#"{"event":{"uptimeMs":"7","power":{"state":"STATE_ON"}}}"#).unwrap();
    assert_eq!(own.uptime_ms, 7);
}

#[test]
fn whole_numbers_may_be_written_as_floats() {
    let event = parsed(r#"{"event":{"uptimeMs":7.0,"userActivity":{"inputs":2.0}}}"#).unwrap();
    assert_eq!(event.uptime_ms, 7);
    for inputs in ["2.5", "1e300", "-1", "4294967296", "\"x\"", "{}"] {
        let line = format!(r#"{{"event":{{"userActivity":{{"inputs":{inputs}}}}}}}"#);
        assert_eq!(
            refused(&line),
            (
                RefusalReason::InvalidEvent,
                "event.userActivity.inputs".into()
            ),
            "{inputs}"
        );
    }
}

#[test]
fn the_id_is_repeated_also_with_a_refusal() {
    for (id, expected) in [
        (r#""a""#, Some(Value::from("a"))),
        ("17", Some(Value::from(17))),
        ("null", None),
    ] {
        let line = format!(r#"{{"id":{id},"film":{{}}}}"#);
        let (found, outcome) = parse(line.as_bytes(), Permitted::everything(), NOW_MS);
        assert_eq!(found, expected);
        assert!(outcome.is_err());
    }
    let long = format!(
        r#"{{"id":"{}","status":{{}}}}"#,
        "x".repeat(ID_BYTES_MAX + 1)
    );
    assert_eq!(refused(&long).1, "id");
}

#[test]
fn lines_that_are_no_request_are_refused_with_reason_and_field() {
    use RefusalReason as R;
    for (line, reason, field) in [
        ("", R::InvalidJson, ""),
        ("{", R::InvalidJson, ""),
        ("nonsense", R::InvalidJson, ""),
        ("[]", R::InvalidRequest, ""),
        ("{}", R::InvalidRequest, ""),
        (r#"{"event":{},"status":{}}"#, R::InvalidRequest, ""),
        (r#"{"evnt":{}}"#, R::InvalidRequest, "evnt"),
        (r#"{"id":[],"event":{}}"#, R::InvalidRequest, "id"),
        (r#"{"follow":"everything"}"#, R::Unsupported, "follow"),
        (r#"{"follow":{}}"#, R::Unsupported, "follow"),
        (r#"{"event":7}"#, R::InvalidEvent, "event"),
        (r#"{"event":{}}"#, R::InvalidEvent, "event.kind"),
        (r#"{"event":{"film":{}}}"#, R::UnknownKind, "event.film"),
        (
            r#"{"event":{"tune":{"film":1}}}"#,
            R::InvalidEvent,
            "event.tune.film",
        ),
        (
            r#"{"event":{"tune":{"source":"SOURCE_MARS"}}}"#,
            R::InvalidEvent,
            "event.tune.source",
        ),
        (
            r#"{"event":{"tune":{"channel":{"serviceId":true}}}}"#,
            R::InvalidEvent,
            "event.tune.channel.serviceId",
        ),
        (
            r#"{"event":{"tune":{"source":"SOURCE_LIVE"}}}"#,
            R::InvalidEvent,
            "event.tune.channel",
        ),
        (
            r#"{"event":{"adOpportunity":{"slotDurationsMs":[1,"a"]}}}"#,
            R::InvalidEvent,
            "event.adOpportunity.slotDurationsMs[1]",
        ),
        (r#"{"event":{"boot":{}}}"#, R::NotAllowed, "event.boot"),
        (r#"{"event":{"ledger":{}}}"#, R::NotAllowed, "event.ledger"),
        (
            r#"{"event":{"uncleanStop":{}}}"#,
            R::NotAllowed,
            "event.uncleanStop",
        ),
        (
            r#"{"event":{"adEvent":{"kind":"KIND_DECISION_ACKNOWLEDGED","decisionId":"d"}}}"#,
            R::NotAllowed,
            "event.adEvent.kind",
        ),
        (
            r#"{"event":{"uptimeMs":"51001","power":{"state":"STATE_ON"}}}"#,
            R::InvalidEvent,
            "event.uptimeMs",
        ),
    ] {
        assert_eq!(refused(line), (reason, field.into()), "{line}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_refused() {
    let (id, outcome) = parse(b"{\"id\":\"\xff\"}", Permitted::everything(), NOW_MS);
    assert_eq!(id, None);
    let refusal = outcome.unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::InvalidUtf8);
    assert_eq!(refusal.expected.as_deref(), Some("UTF-8; byte 7 is not"));
}

#[test]
fn what_a_uid_may_not_send_is_refused_whatever_is_in_it() {
    let none = Permitted::default();
    let line = br#"{"event":{"power":{"state":"STATE_ON"}}}"#;
    let refusal = parse(line, none, NOW_MS).1.unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::NotAllowed);
    assert_eq!(refusal.field.as_deref(), Some("event.power"));
    assert_eq!(
        parse(br#"{"status":{}}"#, none, NOW_MS).1,
        Ok(Request::Status)
    );
}

#[test]
fn decisions_are_followed_by_whom_it_is_permitted() {
    let line = br#"{"follow":"decisions"}"#;
    let all = parse(line, Permitted::everything(), NOW_MS).1;
    assert_eq!(all, Ok(Request::FollowDecisions));
    for (decisions, reason) in [
        (Follow::NotAllowed, RefusalReason::NotAllowed),
        (Follow::NotServed, RefusalReason::Unsupported),
    ] {
        let permitted = Permitted {
            kinds: Kinds::of_clients(),
            decisions,
        };
        let refusal = parse(line, permitted, NOW_MS).1.unwrap_err();
        assert_eq!(refusal.reason, reason);
        assert_eq!(refusal.field.as_deref(), Some("follow"));
    }
}

#[test]
fn explanations_stay_short_whatever_came_in() {
    let name = "é".repeat(10_000);
    for line in [
        format!(r#"{{"{name}":1}}"#),
        format!(r#"{{"event":{{"{name}":1}}}}"#),
        format!(r#"{{"event":{{"tune":{{"{name}":1}}}}}}"#),
        format!(r#"{{"event":{{"tune":{{"source":"{name}"}}}}}}"#),
    ] {
        let refusal = parsed(&line).unwrap_err();
        assert!(refusal.field.unwrap().len() < 300);
        assert!(refusal.expected.unwrap().len() < 300);
    }
    let deep = "[".repeat(10_000);
    assert_eq!(refused(&deep).0, RefusalReason::InvalidJson);
}
