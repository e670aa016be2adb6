//! Words of the command line → a command.

use std::{ffi::OsString, path::PathBuf};

use lexopt::{Arg, Parser, ValueExt as _};
use thiserror::Error;

use super::{
    SocketFrom,
    completions::Shell,
    decisions::{Form, Until},
    emit::{self, EmitInput},
};

/// Where the configuration is unless said otherwise.
pub(super) const CONFIG: &str = "/etc/returnpath/agent.toml";

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Command {
    Help,
    HelpEmit,
    Version,
    Run {
        config: PathBuf,
    },
    Emit {
        socket: SocketFrom,
        input: EmitInput,
    },
    Status {
        socket: SocketFrom,
        format: StatusFormat,
    },
    Decisions {
        socket: SocketFrom,
        form: Form,
        until: Until,
    },
    CheckConfig {
        config: PathBuf,
    },
    Completions(Shell),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StatusFormat {
    Human,
    Json,
}

/// Why the words are no command.
#[derive(Debug, Error)]
pub(super) enum ArgumentError {
    #[error("{0}")]
    Words(#[from] lexopt::Error),
    #[error("a command is needed: run, emit, decisions, status, check-config or completions")]
    NoCommand,
    #[error(
        "{0} is no command; there are run, emit, decisions, status, check-config and completions"
    )]
    UnknownCommand(String),
    #[error("completions needs a shell: bash, zsh or fish")]
    Shell,
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Event(#[from] emit::OptionError),
}

pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, ArgumentError> {
    let mut parser = Parser::from_args(words);
    let command = match parser.next()? {
        None => return Err(ArgumentError::NoCommand),
        Some(Arg::Long("help") | Arg::Short('h')) => return Ok(Command::Help),
        Some(Arg::Long("version") | Arg::Short('V')) => return Ok(Command::Version),
        Some(Arg::Value(command)) => command.to_string_lossy().into_owned(),
        Some(other) => return Err(other.unexpected().into()),
    };
    match command.as_str() {
        "run" | "check-config" => {
            let mut config = PathBuf::from(CONFIG);
            while let Some(argument) = parser.next()? {
                match argument {
                    Arg::Long("config") | Arg::Short('c') => config = parser.value()?.into(),
                    Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
                    other @ (Arg::Long(_) | Arg::Short(_) | Arg::Value(_)) => {
                        return Err(other.unexpected().into());
                    }
                }
            }
            Ok(if command == "run" {
                Command::Run { config }
            } else {
                Command::CheckConfig { config }
            })
        }
        "status" => {
            let mut socket = SocketFrom::Config(CONFIG.into());
            let mut format = StatusFormat::Human;
            while let Some(argument) = parser.next()? {
                match argument {
                    Arg::Long("json") => format = StatusFormat::Json,
                    Arg::Long("config") | Arg::Short('c') => {
                        socket = SocketFrom::Config(parser.value()?.into());
                    }
                    Arg::Long("socket") | Arg::Short('s') => {
                        socket = SocketFrom::Path(parser.value()?.into());
                    }
                    Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
                    other @ (Arg::Long(_) | Arg::Short(_) | Arg::Value(_)) => {
                        return Err(other.unexpected().into());
                    }
                }
            }
            Ok(Command::Status { socket, format })
        }
        "emit" => parse_emit(parser),
        "decisions" => parse_decisions(parser),
        "completions" => match parser.next()? {
            Some(Arg::Value(shell)) => Shell::named(&shell.to_string_lossy())
                .map(Command::Completions)
                .ok_or(ArgumentError::Shell),
            _ => Err(ArgumentError::Shell),
        },
        "help" => Ok(Command::Help),
        _ => Err(ArgumentError::UnknownCommand(command)),
    }
}

fn parse_emit(mut parser: Parser) -> Result<Command, ArgumentError> {
    let mut socket = SocketFrom::Config(CONFIG.into());
    let mut given = Vec::new();
    let mut event = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::HelpEmit),
            Arg::Long("config") | Arg::Short('c') => {
                socket = SocketFrom::Config(parser.value()?.into());
            }
            Arg::Long("socket") | Arg::Short('s') => {
                socket = SocketFrom::Path(parser.value()?.into());
            }
            Arg::Long("kind") => {
                let kind = parser.value()?.string()?;
                event = Some(emit::EventOptions::new(&kind)?);
            }
            Arg::Long(option) => {
                let option = option.to_owned();
                let Some(event) = &mut event else {
                    return Err(Arg::Long(&option).unexpected().into());
                };
                let value = parser.value()?.string()?;
                event.set(&option, &value)?;
            }
            Arg::Value(text) => given.push(serde_json::from_str(&text.string()?)?),
            other @ Arg::Short(_) => return Err(other.unexpected().into()),
        }
    }
    given.extend(event.map(emit::EventOptions::into_event));
    let input = if given.is_empty() {
        EmitInput::Stdin
    } else {
        EmitInput::Given(given)
    };
    Ok(Command::Emit { socket, input })
}

fn parse_decisions(mut parser: Parser) -> Result<Command, ArgumentError> {
    let mut socket = SocketFrom::Config(CONFIG.into());
    let mut form = Form::Human;
    let mut until = Until::Shown;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("json") => form = Form::Json,
            Arg::Long("follow") | Arg::Short('f') => until = Until::Ended,
            Arg::Long("config") | Arg::Short('c') => {
                socket = SocketFrom::Config(parser.value()?.into());
            }
            Arg::Long("socket") | Arg::Short('s') => {
                socket = SocketFrom::Path(parser.value()?.into());
            }
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            other @ (Arg::Long(_) | Arg::Short(_) | Arg::Value(_)) => {
                return Err(other.unexpected().into());
            }
        }
    }
    Ok(Command::Decisions {
        socket,
        form,
        until,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(words: &[&str]) -> Result<Command, ArgumentError> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn commands_take_their_options() {
        for (words, command) in [
            (&["--help"][..], Command::Help),
            (&["-V"], Command::Version),
            (
                &["run"],
                Command::Run {
                    config: CONFIG.into(),
                },
            ),
            (&["run", "--config=a"], Command::Run { config: "a".into() }),
            (
                &["check-config", "-c", "a"],
                Command::CheckConfig { config: "a".into() },
            ),
            (
                &["status", "--json", "--socket", "s"],
                Command::Status {
                    socket: SocketFrom::Path("s".into()),
                    format: StatusFormat::Json,
                },
            ),
            (
                &["emit", "-s", "s"],
                Command::Emit {
                    socket: SocketFrom::Path("s".into()),
                    input: EmitInput::Stdin,
                },
            ),
            (
                &["emit", r#"{"power":{}}"#],
                Command::Emit {
                    socket: SocketFrom::Config(CONFIG.into()),
                    input: EmitInput::Given(vec![json!({"power": {}})]),
                },
            ),
            (
                &["decisions", "-f", "--json", "-s", "s"],
                Command::Decisions {
                    socket: SocketFrom::Path("s".into()),
                    form: Form::Json,
                    until: Until::Ended,
                },
            ),
            (
                &["decisions"],
                Command::Decisions {
                    socket: SocketFrom::Config(CONFIG.into()),
                    form: Form::Human,
                    until: Until::Shown,
                },
            ),
            (&["completions", "zsh"], Command::Completions(Shell::Zsh)),
        ] {
            assert_eq!(parsed(words).unwrap(), command, "{words:?}");
        }
    }

    #[test]
    fn wrong_words_are_named() {
        for (words, part) in [
            (&[][..], "a command is needed"),
            (&["fly"], "fly is no command"),
            (&["run", "--fast"], "--fast"),
            (&["run", "--config"], "--config"),
            (&["completions", "tcsh"], "bash, zsh or fish"),
            (&["emit", "{"], "not JSON"),
            (&["emit", "--service-id", "1"], "--service-id"),
            (&["emit", "--kind", "film"], "film"),
            (&["status", "extra"], "extra"),
            (&["decisions", "--all"], "--all"),
        ] {
            let error = parsed(words).unwrap_err().to_string();
            assert!(error.contains(part), "{words:?}: {error}");
        }
    }
}
