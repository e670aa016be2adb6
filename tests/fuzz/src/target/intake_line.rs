//! A line on the agent's socket, from an application that nobody vouches for.

use prost::Message as _;
use returnpath_agent::intake::{Answer, Permitted, Refusal, RefusalReason, Request, parse};
use returnpath_shared::{BATCH_BYTES_MAX, Kind, LINE_BYTES_MAX, check, wire::Event};
use serde_json::{Value, json};

use crate::seed;

/// Longest answer to a refused line: the id, the field and what was expected,
/// each bounded; JSON may write a character in six.
const ANSWER_BYTES_MAX: usize = 6 * (64 + 320 + 320) + 128;

/// A line becomes a good event that is permitted, or a refusal that says why;
/// an event that was taken is taken again as it would be written.
pub fn run(input: &[u8]) {
    if input.len() > LINE_BYTES_MAX {
        // Refused before it is read.
        return;
    }
    let (id, request) = parse(input, Permitted::everything(), seed::UPTIME_MS);
    match &request {
        Ok(Request::Event(event)) => {
            taken(event);
            again(id.as_ref(), event);
        }
        Ok(Request::Status | Request::FollowDecisions) => {}
        Err(refusal) => refused(id.as_ref(), refusal),
    }
    let (id_again, not_permitted) = parse(input, Permitted::default(), seed::UPTIME_MS);
    assert_eq!(id, id_again);
    match not_permitted {
        Ok(Request::Status) => assert_eq!(request, Ok(Request::Status)),
        Ok(other) => panic!("nobody permitted {other:?}"),
        Err(refusal) => refused(id.as_ref(), &refusal),
    }
}

/// Numbers that no integer holds are read to the last digit but one.
fn is_same(id: Option<&Value>, other: Option<&Value>) -> bool {
    id == other || [id, other].iter().all(|id| id.is_some_and(Value::is_f64))
}

fn taken(event: &Event) {
    check(event).expect("what is taken is good");
    let kind = Kind::of(event).expect("it is of a kind");
    assert!(!kind.is_agents_own());
    assert!((1..=seed::UPTIME_MS + 1_000).contains(&event.uptime_ms));
    let encoded = event.encode_to_vec();
    assert!(encoded.len() < BATCH_BYTES_MAX, "no batch carries it");
    assert_eq!(Event::decode(&encoded[..]).as_ref(), Ok(event));
}

fn again(id: Option<&Value>, event: &Event) {
    let mut line = json!({"event": event});
    if let Some(id) = id {
        line["id"] = id.clone();
    }
    let line = line.to_string();
    let (id_again, request) = parse(line.as_bytes(), Permitted::everything(), seed::UPTIME_MS);
    assert!(is_same(id, id_again.as_ref()), "{id:?} became {id_again:?}");
    assert_eq!(
        request,
        Ok(Request::Event(Box::new(event.clone()))),
        "{line}"
    );
}

fn refused(id: Option<&Value>, refusal: &Refusal) {
    let expected = refusal.expected.as_deref().expect("it says what");
    assert!(!expected.is_empty());
    match refusal.reason {
        RefusalReason::InvalidEvent | RefusalReason::UnknownKind | RefusalReason::NotAllowed => {
            assert!(refusal.field.is_some(), "{refusal:?} names no field");
        }
        RefusalReason::InvalidUtf8
        | RefusalReason::InvalidJson
        | RefusalReason::InvalidRequest
        | RefusalReason::Unsupported => {}
        RefusalReason::LineTooLong | RefusalReason::TooLarge | RefusalReason::TooManyClients => {
            panic!("{refusal:?} is for others to say")
        }
    }
    let answer = Answer::Refused(refusal.clone()).line(id);
    assert!(answer.len() <= ANSWER_BYTES_MAX, "{} bytes", answer.len());
    assert_eq!(answer.matches('\n').count(), 1, "one line: {answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(is_same(answer.get("id"), id), "{id:?}");
    assert_eq!(answer["reason"], refusal.reason.name());
}

/// A line for each kind of event, and the other requests.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut lines: Vec<String> = seed::EVENTS
        .into_iter()
        .zip(1..)
        .map(|(event, id)| format!(r#"{{"id":{id},"event":{event}}}"#))
        .collect();
    lines.extend(
        [
            r#"{"status":{}}"#,
            r#"{"id":"s","status":null}"#,
            r#"{"id":1e3,"follow":"decisions"}"#,
            r#"{"event":{"health":{}}}"#,
            r#"{"event":{"adEvent":{"kind":"KIND_DECISION_REFUSED","decisionId":"d"}}}"#,
            r#"{"event":{"tune":{"source":1}}}"#,
        ]
        .map(str::to_owned),
    );
    lines.into_iter().map(String::into_bytes).collect()
}
