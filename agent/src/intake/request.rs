//! One line ⇄ one request. Refusals name the field and what was expected.

use returnpath_shared::{FieldError, Kind, check, wire::Event};
use serde::Deserialize as _;
use serde_json::{Map, Number, Value};

use super::{
    answer::RefusalReason,
    permission::{Follow, Kinds, Permitted, is_about_decision},
};

/// Longest id of a request that is repeated, as JSON.
const ID_BYTES_MAX: usize = 64;

/// Longest explanation in a refusal.
const EXPECTED_BYTES_MAX: usize = 256;

/// Events may not lie further ahead of the box's uptime than this; what does
/// was not stamped by the same clock.
const AHEAD_MS_MAX: u64 = 1_000;

/// What a client asks.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// Take this event; checked, allowed, and stamped.
    Event(Box<Event>),
    /// Tell the status.
    Status,
    /// Hand over decisions from now on, the open ones first.
    FollowDecisions,
}

/// Why a request was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// In which respect it is wrong.
    pub reason: RefusalReason,
    /// Where in the line.
    pub field: Option<String>,
    /// What was expected there, for people.
    pub expected: Option<String>,
}

impl Refusal {
    fn new(reason: RefusalReason, field: Option<&str>, expected: impl Into<String>) -> Self {
        let mut expected = expected.into();
        if expected.len() > EXPECTED_BYTES_MAX {
            let end = (0..=EXPECTED_BYTES_MAX)
                .rev()
                .find(|at| expected.is_char_boundary(*at));
            expected.truncate(end.unwrap_or(0));
            expected.push('…');
        }
        Self {
            reason,
            field: field.map(str::to_owned),
            expected: Some(expected),
        }
    }
}

/// Reads a line (without its newline) of a client that may do what is
/// `permitted`, at `now_ms` of uptime. The id comes back with refusals too, where it could be
/// read.
///
/// # Errors
/// Says what is wrong, where, and what was expected.
pub fn parse(
    line: &[u8],
    permitted: Permitted,
    now_ms: u64,
) -> (Option<Value>, Result<Request, Refusal>) {
    let object = match object(line) {
        Ok(object) => object,
        Err(refusal) => return (None, Err(refusal)),
    };
    let mut object = object;
    let id = match take_id(&mut object) {
        Ok(id) => id,
        Err(refusal) => return (None, Err(refusal)),
    };
    (id, request(object, permitted, now_ms))
}

fn object(line: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let text = str::from_utf8(line).map_err(|error| {
        let expected = format!("UTF-8; byte {} is not", error.valid_up_to());
        Refusal::new(RefusalReason::InvalidUtf8, None, expected)
    })?;
    let value = serde_json::from_str(text).map_err(|error| {
        let expected = format!("one JSON object; column {}: {error}", error.column());
        Refusal::new(RefusalReason::InvalidJson, None, expected)
    })?;
    match value {
        Value::Object(object) => Ok(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            let expected = "an object such as {\"event\":{…}}";
            Err(Refusal::new(RefusalReason::InvalidRequest, None, expected))
        }
    }
}

fn take_id(object: &mut Map<String, Value>) -> Result<Option<Value>, Refusal> {
    let short = |id: &Value| match id {
        Value::String(text) => text.len() <= ID_BYTES_MAX,
        Value::Number(_) => true,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    };
    match object.remove("id") {
        None | Some(Value::Null) => Ok(None),
        Some(id) if short(&id) => Ok(Some(id)),
        Some(_) => Err(Refusal::new(
            RefusalReason::InvalidRequest,
            Some("id"),
            format!("a number, or text of at most {ID_BYTES_MAX} bytes"),
        )),
    }
}

fn request(
    object: Map<String, Value>,
    permitted: Permitted,
    now_ms: u64,
) -> Result<Request, Refusal> {
    let mut members = object.into_iter();
    let (Some((name, value)), None) = (members.next(), members.next()) else {
        let expected = "exactly one of event, status and follow, beside id";
        return Err(Refusal::new(RefusalReason::InvalidRequest, None, expected));
    };
    match name.as_str() {
        "event" => {
            event(value, permitted.kinds, now_ms).map(|event| Request::Event(Box::new(event)))
        }
        "status" => Ok(Request::Status),
        "follow" => follow(&value, permitted),
        name => {
            let field = shown(name);
            let expected = "event, status or follow";
            Err(Refusal::new(
                RefusalReason::InvalidRequest,
                Some(&field),
                expected,
            ))
        }
    }
}

fn follow(what: &Value, permitted: Permitted) -> Result<Request, Refusal> {
    let (reason, expected) = match (what.as_str(), permitted.decisions) {
        (Some("decisions"), Follow::Allowed) => return Ok(Request::FollowDecisions),
        (Some("decisions"), Follow::NotAllowed) => (
            RefusalReason::NotAllowed,
            "a uid that may follow decisions (intake.allow)",
        ),
        (Some("decisions"), Follow::NotServed) => (
            RefusalReason::Unsupported,
            "an agent that takes decisions (trust.decision_keys)",
        ),
        _ => (RefusalReason::Unsupported, "\"decisions\""),
    };
    Err(Refusal::new(reason, Some("follow"), expected))
}

fn event(mut value: Value, kinds: Kinds, now_ms: u64) -> Result<Event, Refusal> {
    normalise(&mut value);
    let known = |name: &str| {
        matches!(name, "uptimeMs" | "uptime_ms" | "clientId" | "client_id")
            || Kind::ALL.into_iter().any(|kind| {
                let name = name.bytes().filter(|byte| *byte != b'_');
                name.map(|byte| byte.to_ascii_lowercase())
                    .eq(kind.name().bytes().map(|byte| byte.to_ascii_lowercase()))
            })
    };
    let unknown = value.as_object().and_then(|object| {
        let name = object.keys().find(|name| !known(name))?;
        Some(format!("event.{}", shown(name)))
    });
    if let Some(field) = unknown {
        let clients = Kind::ALL.into_iter().filter(|kind| !kind.is_agents_own());
        let names: Vec<_> = clients.map(Kind::name).collect();
        let expected = format!("uptimeMs, clientId and one of {}", names.join(", "));
        return Err(Refusal::new(
            RefusalReason::UnknownKind,
            Some(&field),
            expected,
        ));
    }

    let mut path = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut path);
    let mut event = Event::deserialize(deserializer).map_err(|error| {
        let path = path.path().to_string();
        let field = match path.as_str() {
            "." => "event".to_owned(),
            path => format!("event.{}", shown(path)),
        };
        Refusal::new(RefusalReason::InvalidEvent, Some(&field), expected(&error))
    })?;

    // What is wrong is told before what is not allowed, except that the
    // agent's own kinds need no checking.
    if let Some(kind) = Kind::of(&event)
        && !kinds.allow(&event)
    {
        let (field, expected) = if is_about_decision(&event) {
            let expected = "a kind that players send: the agent says this itself";
            ("event.adEvent.kind".to_owned(), expected)
        } else {
            let expected = "a kind of event that this uid may send (intake.allow)";
            (format!("event.{}", kind.name()), expected)
        };
        return Err(Refusal::new(
            RefusalReason::NotAllowed,
            Some(&field),
            expected,
        ));
    }
    check(&event).map_err(|FieldError { field, expected }| {
        let field = format!("event.{}", shown(&field));
        Refusal::new(RefusalReason::InvalidEvent, Some(&field), expected)
    })?;
    if event.uptime_ms > now_ms + AHEAD_MS_MAX {
        return Err(Refusal::new(
            RefusalReason::InvalidEvent,
            Some("event.uptimeMs"),
            format!("CLOCK_BOOTTIME in ms, which is now {now_ms}"),
        ));
    }
    if event.uptime_ms == 0 {
        event.uptime_ms = now_ms;
    }
    Ok(event)
}

/// Turns numbers such as 1.0 into integers: the proto3 JSON mapping takes them
/// for integer fields, and JavaScript does not tell them apart.
fn normalise(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(integer) = integral(number) {
                *number = integer;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(normalise),
        Value::Object(members) => members.values_mut().for_each(normalise),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn integral(number: &Number) -> Option<Number> {
    if !number.is_f64() {
        return None;
    }
    let float = number.as_f64()?;
    // Beyond 2^53 a double does not say which integer is meant.
    if float.fract() != 0.0 || float.abs() > 9_007_199_254_740_992.0 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
    let integer = float as i64;
    Some(integer.into())
}

/// pbjson's words for a wrong value, made plain where they are not.
fn expected(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let number = [
        "did not match any variant",
        "invalid digit",
        "invalid float literal",
    ];
    if number.iter().any(|words| text.contains(words)) {
        return "a number within the field's range, or the same as text".into();
    }
    text
}

/// A name that came from outside, short enough to be repeated.
fn shown(name: &str) -> String {
    let mut shown: String = name.chars().take(ID_BYTES_MAX).collect();
    if shown.len() < name.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests;
