//! What clients are told: one line of JSON for each request.

use returnpath_shared::{Epoch, Ordinal};
use serde::Serialize;
use serde_json::Value;

use super::Refusal;

/// Why a request was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum RefusalReason {
    /// Longer than a line may be.
    LineTooLong,
    /// Not UTF-8.
    InvalidUtf8,
    /// Not JSON.
    InvalidJson,
    /// JSON, but no request.
    InvalidRequest,
    /// An event of a kind that this agent does not know.
    UnknownKind,
    /// The peer's uid may not send this.
    NotAllowed,
    /// A field of the event is wrong.
    InvalidEvent,
    /// The event is larger than a batch may be.
    TooLarge,
    /// A request that this agent does not serve.
    Unsupported,
    /// As many clients as may be are connected.
    TooManyClients,
}

impl RefusalReason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::LineTooLong,
        Self::InvalidUtf8,
        Self::InvalidJson,
        Self::InvalidRequest,
        Self::UnknownKind,
        Self::NotAllowed,
        Self::InvalidEvent,
        Self::TooLarge,
        Self::Unsupported,
        Self::TooManyClients,
    ];

    /// As clients and counters name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LineTooLong => "line_too_long",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::InvalidJson => "invalid_json",
            Self::InvalidRequest => "invalid_request",
            Self::UnknownKind => "unknown_kind",
            Self::NotAllowed => "not_allowed",
            Self::InvalidEvent => "invalid_event",
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported",
            Self::TooManyClients => "too_many_clients",
        }
    }
}

/// The answer to one request.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// Taken; may die with the power.
    Accepted(Epoch, Ordinal),
    /// Taken and durable.
    Durable(Epoch, Ordinal),
    /// A bound is reached; nothing was taken. Send it again later.
    Busy,
    /// Wrong; nothing was taken. Sending it again does not help.
    Refused(Refusal),
    /// The status that was asked for.
    Report(Value),
    /// Decisions follow on lines of their own.
    Following,
}

/// In the order of the fields in a line.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    /// Text, as the proto3 JSON mapping writes 64-bit numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    ordinal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<&'a Value>,
}

impl Answer {
    /// The line, with its newline.
    #[must_use]
    pub fn line(&self, id: Option<&Value>) -> String {
        let mut line = Line {
            id,
            status: "",
            epoch: None,
            ordinal: None,
            reason: None,
            field: None,
            expected: None,
            report: None,
        };
        match self {
            Self::Accepted(epoch, ordinal) => {
                line.status = "accepted";
                line.epoch = Some(epoch.to_string());
                line.ordinal = Some(ordinal.0.to_string());
            }
            Self::Durable(epoch, ordinal) => {
                line.status = "durable";
                line.epoch = Some(epoch.to_string());
                line.ordinal = Some(ordinal.0.to_string());
            }
            Self::Busy => line.status = "busy",
            Self::Refused(refusal) => {
                line.status = "refused";
                line.reason = Some(refusal.reason.name());
                line.field = refusal.field.as_deref();
                line.expected = refusal.expected.as_deref();
            }
            Self::Following => line.status = "following",
            Self::Report(report) => {
                line.status = "ok";
                line.report = Some(report);
            }
        }
        // Serialising text, numbers and values cannot fail.
        let mut text = serde_json::to_string(&line).unwrap_or_default();
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use returnpath_shared::Incarnation;

    #[test]
    fn answers_are_lines_of_json() {
        let epoch = Epoch {
            incarnation: Incarnation::new(0x2a).unwrap(),
            start: 3,
        };
        let id = Value::from("x\n");
        for (answer, line) in [
            (
                Answer::Accepted(epoch, Ordinal(12)),
                r#"{"id":"x\n","status":"accepted","epoch":"000000000000002a.3","ordinal":"12"}"#,
            ),
            (
                Answer::Durable(epoch, Ordinal(u64::MAX)),
                r#"{"id":"x\n","status":"durable","epoch":"000000000000002a.3","ordinal":"18446744073709551615"}"#,
            ),
            (Answer::Busy, r#"{"id":"x\n","status":"busy"}"#),
            (Answer::Following, r#"{"id":"x\n","status":"following"}"#),
            (
                Answer::Refused(Refusal {
                    reason: RefusalReason::InvalidEvent,
                    field: Some("event.tune".into()),
                    expected: Some("a \"tune\"".into()),
                }),
                r#"{"id":"x\n","status":"refused","reason":"invalid_event","field":"event.tune","expected":"a \"tune\""}"#,
            ),
            (
                Answer::Report(serde_json::json!({"a": 1})),
                r#"{"id":"x\n","status":"ok","report":{"a":1}}"#,
            ),
        ] {
            assert_eq!(answer.line(Some(&id)), format!("{line}\n"));
        }
        assert_eq!(Answer::Busy.line(None), "{\"status\":\"busy\"}\n");
    }

    #[test]
    fn reasons_are_listed_in_the_order_of_their_numbers() {
        for (index, reason) in RefusalReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
