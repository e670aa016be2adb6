//! The command line: what is asked, and what is printed.

mod arguments;
mod completions;
mod decisions;
mod emit;
mod help;
mod status;

use std::{
    ffi::OsString,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use tracing::level_filters::LevelFilter;

use self::arguments::Command;
use crate::{
    allocator,
    config::{self, Config, ConfigError},
    exit::Exit,
    identity::Identity,
    run, steering,
    trust::Keys,
};

/// Stack of the thread that resolves names; the C library wants some.
const RESOLVER_STACK_BYTES: usize = 256 * 1024;

/// Carries out a command line (without the program's name).
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let command = match arguments::parse(arguments) {
        Ok(command) => command,
        Err(error) => {
            complain(&format!("{error}\nTry 'returnpath-agent --help' for more."));
            return Exit::Usage;
        }
    };
    match command {
        Command::Help => print(help::HELP),
        Command::HelpEmit => print(help::EMIT),
        Command::Version => print(&format!("returnpath-agent {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Completions(shell) => print(completions::script(shell)),
        Command::CheckConfig { config } => check_config(&config),
        Command::Run { config } => run_agent(&config),
        Command::Emit { socket, input } => emit::emit(&socket_path(socket), input),
        Command::Decisions {
            socket,
            form,
            until,
        } => decisions::decisions(&socket_path(socket), form, until),
        Command::Status { socket, format } => status::status(&socket_path(socket), format),
    }
}

/// Standard output; a reader that is gone is no error of ours.
fn print(text: &str) -> Exit {
    let _closed = io::stdout().write_all(text.as_bytes());
    Exit::Success
}

fn complain(text: &str) {
    let _closed = writeln!(io::stderr(), "returnpath-agent: {text}");
}

/// Where the agent's socket is said to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum SocketFrom {
    Path(PathBuf),
    Config(PathBuf),
}

/// The path of the socket. Where the configuration cannot be read (by an
/// ordinary user, say), that of the example.
fn socket_path(from: SocketFrom) -> PathBuf {
    let config = match from {
        SocketFrom::Path(path) => return path,
        SocketFrom::Config(config) => config,
    };
    let given = fs::read_to_string(config).ok();
    let loaded = given
        .and_then(|text| config::parse(&text).ok())
        .or_else(|| config::parse(config::EXAMPLE).ok());
    loaded.map_or_else(PathBuf::new, |loaded| loaded.config.intake.socket)
}

fn load(path: &Path) -> Result<config::Loaded, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    config::parse(&text).map_err(|error| {
        let cause = match &error {
            ConfigError::Syntax(cause) => format!(": {cause}"),
            ConfigError::Values(_) => String::new(),
        };
        format!("{} is no configuration\n{error}{cause}", path.display())
    })
}

/// Checks everything that can be wrong without starting: the file, and the
/// files that it names.
fn check_config(path: &Path) -> Exit {
    let loaded = match load(path) {
        Ok(loaded) => loaded,
        Err(problem) => {
            complain(&problem);
            return Exit::Configuration;
        }
    };
    for key in &loaded.unknown {
        complain(&format!("warning: unknown key {key} is ignored"));
    }
    let Config {
        identity, trust, ..
    } = &loaded.config;
    for (keys, purpose) in [
        (&trust.decision_keys, returnpath_slots::PURPOSE),
        (&trust.config_keys, steering::PURPOSE),
    ] {
        let Some(path) = keys else { continue };
        if let Err(error) = Keys::load(path, purpose) {
            complain(&describe(&error));
            return Exit::Configuration;
        }
    }
    match Identity::load(&identity.files) {
        Err(error) => {
            complain(&describe(&error));
            Exit::Configuration
        }
        Ok(found)
            if identity
                .device
                .as_ref()
                .is_some_and(|id| *id != found.device) =>
        {
            complain(&format!(
                "identity.device: the certificate names {}",
                found.device
            ));
            Exit::Configuration
        }
        Ok(found) => print(&format!(
            "{} is good for device {}\n",
            path.display(),
            found.device
        )),
    }
}

fn run_agent(path: &Path) -> Exit {
    let loaded = match load(path) {
        Ok(loaded) => loaded,
        Err(problem) => {
            complain(&problem);
            return Exit::Configuration;
        }
    };
    allocator::keep_little();
    log_to_stderr(loaded.config.log_level);
    for key in &loaded.unknown {
        tracing::warn!(%key, "unknown key is ignored");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        // Names are resolved on this one.
        .max_blocking_threads(1)
        .thread_stack_size(RESOLVER_STACK_BYTES)
        .build();
    let ran = runtime
        .map_err(run::RunError::System)
        .and_then(|runtime| runtime.block_on(run::run(loaded.config)));
    match ran {
        Ok(()) => Exit::Success,
        Err(error) => {
            complain(&describe(&error));
            error.exit()
        }
    }
}

/// Without times: the box's clock may stand in 1970, and the supervisor's
/// journal has better ones.
fn log_to_stderr(level: LevelFilter) {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .finish();
    // Fails only when one is set already, as in tests.
    let _already_set = tracing::subscriber::set_global_default(subscriber);
}

/// An error with its causes, on one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
