//! `emit`: hands events to the agent from a shell, prints each answer, and
//! says by its exit code whether all were taken.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use returnpath_shared::Kind;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::complain;
use crate::exit::Exit;

/// Requests sent ahead of their answers: proof waits for a sync that others
/// can share. Far below what the agent leaves unanswered for one client.
const AHEAD_MAX: usize = 32;

/// Fields of a channel, which options name as if they were the event's own.
const CHANNEL_FIELDS: [&str; 4] = ["networkId", "transportStreamId", "serviceId", "channelId"];

/// Options whose short values get the prefix of their enum.
const ENUM_FIELDS: [(&str, &str); 7] = [
    ("source", "SOURCE_"),
    ("cause", "CAUSE_"),
    ("action", "ACTION_"),
    ("state", "STATE_"),
    ("measurement", "CHOICE_"),
    ("personalisedAds", "CHOICE_"),
    ("kind", "KIND_"),
];

/// Why options are no event.
#[derive(Debug, Error)]
pub(super) enum OptionError {
    #[error("--kind {0}: there is no such kind; there are {names}", names = kind_names())]
    Kind(String),
    #[error("--attribute {0}: expected KEY=VALUE")]
    Attribute(String),
}

fn kind_names() -> String {
    let clients = Kind::ALL.into_iter().filter(|kind| !kind.is_agents_own());
    let names: Vec<_> = clients.map(Kind::name).collect();
    names.join(", ")
}

/// An event from options such as `--kind tune --service-id 4164 --source live`.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct EventOptions {
    kind: Kind,
    event: Map<String, Value>,
    fields: Map<String, Value>,
}

impl EventOptions {
    pub(super) fn new(kind: &str) -> Result<Self, OptionError> {
        let kind = Kind::named(&camel_case(kind)).ok_or_else(|| OptionError::Kind(kind.into()))?;
        Ok(Self {
            kind,
            event: Map::new(),
            fields: Map::new(),
        })
    }

    /// Enters an option. Whether the field exists, and takes this value, is
    /// the agent's to say.
    pub(super) fn set(&mut self, option: &str, value: &str) -> Result<(), OptionError> {
        let name = match option {
            // `--kind` names the kind of the event itself.
            "ad-kind" => "kind".to_owned(),
            option => camel_case(option),
        };
        if matches!(name.as_str(), "clientId" | "uptimeMs") {
            self.event.insert(name, value.into());
        } else if CHANNEL_FIELDS.contains(&name.as_str()) {
            self.set_in("channel", &name, value);
        } else if name == "attribute" {
            let (key, value) = value
                .split_once('=')
                .ok_or_else(|| OptionError::Attribute(value.into()))?;
            self.set_in("attributes", key, value);
        } else if name == "slotDurationsMs" {
            let slots = value.split(',').map(|slot| Value::from(slot.trim()));
            self.fields.insert(name, slots.collect());
        } else if let Some((_, prefix)) = ENUM_FIELDS.iter().find(|(field, _)| *field == name) {
            let value = value.to_ascii_uppercase().replace('-', "_");
            let value = match value.strip_prefix(prefix) {
                Some(_) => value,
                None => format!("{prefix}{value}"),
            };
            self.fields.insert(name, value.into());
        } else {
            let value = match value {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                // The JSON mapping takes numbers as text too.
                text => text.into(),
            };
            self.fields.insert(name, value);
        }
        Ok(())
    }

    /// Enters a value into an object inside the event.
    fn set_in(&mut self, object: &str, name: &str, value: &str) {
        let entry = self.fields.entry(object).or_insert_with(|| json!({}));
        if let Value::Object(members) = entry {
            members.insert(name.into(), value.into());
        }
    }

    pub(super) fn into_event(mut self) -> Value {
        self.event
            .insert(self.kind.name().to_owned(), Value::Object(self.fields));
        Value::Object(self.event)
    }
}

/// `service-id` → `serviceId`.
fn camel_case(option: &str) -> String {
    let mut parts = option.split('-');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

/// What `emit` sends.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum EmitInput {
    /// Lines of standard input.
    Stdin,
    /// Events or requests given as arguments.
    Given(Vec<Value>),
}

pub(super) fn emit(socket: &Path, input: EmitInput) -> Exit {
    let sent = connect(socket).and_then(|mut agent| match input {
        EmitInput::Given(values) => {
            let lines = values.into_iter().map(|value| Ok(request(value)));
            agent.exchange(lines)
        }
        EmitInput::Stdin => agent.exchange(io::stdin().lock().lines().map(|line| {
            let line = line?;
            // What is no JSON is for the agent to refuse.
            Ok(serde_json::from_str(&line).map_or(line, request))
        })),
    });
    sent.unwrap_or_else(|error| {
        complain(&format!("{}: {error}", socket.display()));
        Exit::Unavailable
    })
}

/// A bare event becomes a request.
fn request(value: Value) -> String {
    let is_request = ["event", "status", "follow"]
        .iter()
        .any(|member| value.get(member).is_some());
    if is_request {
        value.to_string()
    } else {
        json!({ "event": value }).to_string()
    }
}

struct Agent {
    stream: BufReader<UnixStream>,
    worst: Exit,
}

fn connect(socket: &Path) -> io::Result<Agent> {
    Ok(Agent {
        stream: BufReader::new(UnixStream::connect(socket)?),
        worst: Exit::Success,
    })
}

impl Agent {
    fn exchange(&mut self, lines: impl Iterator<Item = io::Result<String>>) -> io::Result<Exit> {
        let mut unanswered = 0;
        for line in lines {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            let stream = self.stream.get_mut();
            stream.write_all(format!("{line}\n").as_bytes())?;
            unanswered += 1;
            if unanswered >= AHEAD_MAX {
                self.answer()?;
                unanswered -= 1;
            }
        }
        for _ in 0..unanswered {
            self.answer()?;
        }
        Ok(self.worst)
    }

    fn answer(&mut self) -> io::Result<()> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::Error::other("the agent hung up before it answered"));
        }
        io::stdout().write_all(line.as_bytes())?;
        let answer: Value = serde_json::from_str(&line).unwrap_or_default();
        let exit = match answer.get("status").and_then(Value::as_str) {
            Some("accepted" | "durable" | "ok") => Exit::Success,
            Some("busy") => Exit::TemporaryFailure,
            _ => Exit::Refused,
        };
        // A refusal is worse than busy: trying again does not help.
        if self.worst == Exit::Success || exit == Exit::Refused {
            self.worst = exit;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, options: &[(&str, &str)]) -> Value {
        let mut event = EventOptions::new(kind).unwrap();
        for (option, value) in options {
            event.set(option, value).unwrap();
        }
        event.into_event()
    }

    #[test]
    fn options_become_an_event_that_passes_the_check() {
        for value in [
            event(
                "tune",
                &[
                    ("service-id", "4164"),
                    ("network-id", "9018"),
                    ("source", "live"),
                ],
            ),
            event(
                "power",
                &[("state", "deep-standby"), ("cause", "CAUSE_USER")],
            ),
            event(
                "ad-event",
                &[
                    ("ad-kind", "first-quartile"),
                    ("decision-id", "7"),
                    ("slot", "1"),
                ],
            ),
            event(
                "ad-opportunity",
                &[
                    ("break-id", "b"),
                    ("start-uptime-ms", "1"),
                    ("duration-ms", "60"),
                    ("slot-durations-ms", "30, 30"),
                ],
            ),
            event(
                "custom",
                &[
                    ("name", "a.b"),
                    ("attribute", "x=1=2"),
                    ("proof", "true"),
                    ("client-id", "c"),
                    ("uptime-ms", "5"),
                ],
            ),
            event(
                "consent",
                &[
                    ("version", "1"),
                    ("measurement", "opted-in"),
                    ("client-id", "c"),
                ],
            ),
        ] {
            let event: returnpath_shared::wire::Event =
                serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{value}: {e}"));
            assert_eq!(returnpath_shared::check(&event), Ok(()), "{value}");
        }
    }

    #[test]
    fn bare_events_are_wrapped_and_requests_are_not() {
        assert_eq!(request(json!({"power": {}})), r#"{"event":{"power":{}}}"#);
        assert_eq!(request(json!({"status": {}})), r#"{"status":{}}"#);
    }
}
