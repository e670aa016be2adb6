//! `decisions`: follows the running agent's decisions as a player does, and
//! prints each.

use std::{
    io::{self, BufRead as _, BufReader, ErrorKind, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

use super::{complain, describe};
use crate::exit::Exit;

/// Without `--follow`: decisions that are open are sent at once behind the
/// answer, so silence for this long is their end.
const SILENCE_MAX: Duration = Duration::from_millis(500);

/// How long the answer to the request may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How decisions are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// A line for people.
    Human,
    /// The line as it came.
    Json,
}

/// How long it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Until {
    /// Those that are open are printed.
    Shown,
    /// The agent ends, or whoever reads.
    Ended,
}

pub(super) fn decisions(socket: &Path, form: Form, until: Until) -> Exit {
    match follow(socket, form, until) {
        Ok(exit) => exit,
        // Whoever read standard output is gone: nothing is left to do.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Exit::Success,
        Err(error) => {
            complain(&format!("{}: {}", socket.display(), describe(&error)));
            Exit::Unavailable
        }
    }
}

fn follow(socket: &Path, form: Form, until: Until) -> io::Result<Exit> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(b"{\"follow\":\"decisions\"}\n")?;
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let answer: Value = serde_json::from_str(&line)?;
    if answer.get("status").and_then(Value::as_str) != Some("following") {
        complain(&format!("the agent answered {}", line.trim()));
        return Ok(Exit::Refused);
    }
    let silence = match until {
        Until::Shown => Some(SILENCE_MAX),
        Until::Ended => None,
    };
    lines.get_ref().set_read_timeout(silence)?;
    loop {
        line.clear();
        match lines.read_line(&mut line) {
            Ok(0) if until == Until::Ended => return Err(io::Error::other("the agent hung up")),
            Ok(0) => return Ok(Exit::Success),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Exit::Success),
            Err(error) => return Err(error),
        }
        let shown = match form {
            Form::Json => line.clone(),
            Form::Human => human(&serde_json::from_str(&line)?),
        };
        let mut out = io::stdout();
        out.write_all(shown.as_bytes())?;
        out.flush()?;
    }
}

/// One line for a decision.
fn human(line: &Value) -> String {
    let text = |path: &str| match line.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        // proto3 JSON leaves out what is zero or empty.
        None => "0".to_owned(),
    };
    let shown = if line.pointer("/decision/creative").is_some() {
        let url = text("/decision/creative/url");
        let media_type = text("/decision/creative/mediaType");
        let duration_ms = text("/decision/creative/durationMs");
        format!("{url} ({media_type}, {duration_ms} ms)")
    } else {
        "no ad: the box shows its default".to_owned()
    };
    format!(
        "{} break {} slot {}: {shown}; to begin before uptime {} ms\n",
        text("/decision/decisionId"),
        text("/decision/breakId"),
        text("/decision/slot"),
        text("/decision/expiryUptimeMs"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_decision_is_one_readable_line() {
        let ad = json!({"decision": {
            "decisionId": "d", "breakId": "b", "slot": 1, "expiryUptimeMs": "5000",
            "creative": {"url": "https://c.example/a.mp4", "mediaType": "video/mp4",
                         "durationMs": 30_000},
        }});
        assert_eq!(
            human(&ad),
            "d break b slot 1: https://c.example/a.mp4 (video/mp4, 30000 ms); \
             to begin before uptime 5000 ms\n"
        );
        let none = json!({"decision": {"decisionId": "d", "breakId": "b", "expiryUptimeMs": "7"}});
        assert_eq!(
            human(&none),
            "d break b slot 0: no ad: the box shows its default; to begin before uptime 7 ms\n"
        );
    }
}
