//! The command line: what can be asked, and how each answer becomes an exit
//! code. Every command's own arguments stand in the module that acts on them.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed, or the check found something wrong |
//! | 2 | the command line is wrong (clap), or `audit` cannot read what it needs |
//! | 65 | a file of `config` is not good: boxes would refuse it (`EX_DATAERR` of sysexits.h) |
//! | 78 | the configuration is wrong (`EX_CONFIG` of sysexits.h) |

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use tracing::error;
use tracing_subscriber::EnvFilter;

use crate::{
    audit, bridge, completeness,
    config::{Config, ConfigError},
    decide, decisions, exit,
    run::{self, Role},
    steering, tail, topics,
};

/// Collects what the boxes send, into Apache Kafka.
#[derive(Debug, Parser)]
#[command(name = "returnpath-collector", version, propagate_version = true)]
pub struct Cli {
    /// Configuration file (TOML); keys that it leaves out keep the defaults of
    /// returnpath-collector.example.toml.
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        default_value = "/etc/returnpath/collector.toml"
    )]
    config: PathBuf,

    /// How log lines on standard error look.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Human)]
    log_format: LogFormat,

    /// What is logged, as in `warn,returnpath_collector=debug`.
    #[arg(long, global = true, value_name = "FILTER", default_value = "info")]
    log: String,

    #[command(subcommand)]
    command: Command,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// One line for a person; colours only on a terminal.
    Human,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs roles until SIGTERM or SIGINT, then drains.
    Run {
        /// Roles of this process; all that are configured unless told: decide
        /// where the file has a section [decide].
        #[arg(long, value_enum, value_delimiter = ',')]
        roles: Vec<Role>,
    },
    /// Says what is wrong with the configuration, without starting anything.
    CheckConfig,
    /// Creates or checks the topics and what is required of Kafka.
    Topics(topics::Args),
    /// Tells what became of every event: arrived, missing, twice, out of order,
    /// declared lost. Against what clients were answered, or by the topics alone.
    Audit(audit::Args),
    /// Tells what has not arrived of the boxes, and why.
    Completeness(completeness::Args),
    /// Reads what was decided: follows it, tells one decision, replays choices.
    Decisions(decisions::Args),
    /// Prints decoded records as JSON lines.
    Tail(tail::Args),
    /// Steers boxes: signs configuration for them, publishes it, shows it.
    Config(steering::Args),
    /// Prints a completion script.
    Completions {
        /// Shell to print it for.
        shell: clap_complete::Shell,
    },
}

/// Runs the process: reads the arguments, acts, and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Completions { shell } = cli.command {
        let mut command = Cli::command();
        let name = command.get_name().to_owned();
        clap_complete::generate(shell, &mut command, name, &mut io::stdout());
        return ExitCode::SUCCESS;
    }
    let filter = match EnvFilter::try_new(&cli.log) {
        Ok(filter) => filter,
        Err(cause) => {
            let message = format!("invalid value '{}' for '--log': {cause}", cli.log);
            let usage = clap::error::ErrorKind::ValueValidation;
            Cli::command().error(usage, message).exit();
        }
    };
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match cli.log_format {
        LogFormat::Human => logs.init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }

    match act(cli.command, &cli.config) {
        Ok(code) => code,
        Err(cause) => {
            error!("{cause:#}");
            if cause.is::<ConfigError>() {
                ExitCode::from(exit::CONFIG)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn act(command: Command, path: &Path) -> anyhow::Result<ExitCode> {
    // Roles that block or burn keep threads of their own; what runs here is
    // signals, the admin listener, short commands, and the calls and pushes of
    // decide. One thread has time for thousands of these a second, and a second
    // one would mostly be woken in vain.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("main")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let configured = || Config::read(path).with_context(|| path.display().to_string());
    runtime.block_on(async {
        match command {
            Command::Run { roles } => {
                let config = configured()?;
                run::run(&chosen(roles, &config)?, config).await
            }
            Command::CheckConfig => Ok(check(&configured()?)),
            Command::Topics(args) => {
                let config = configured()?;
                topics::run(args, config.kafka, config.topics).await
            }
            Command::Audit(args) => audit::run(args, configured()?).await,
            Command::Completeness(args) => completeness::run(args, configured()?).await,
            Command::Decisions(args) => decisions::run(args, configured()?).await,
            Command::Tail(args) => tail::run(args, configured()?).await,
            // Signs where no collector is configured, too.
            Command::Config(args) => {
                let surroundings = || {
                    let config = configured()?;
                    Ok(steering::Surroundings {
                        node_id: config.node_id,
                        kafka: config.kafka,
                        steering: config.steering,
                    })
                };
                steering::run(args, surroundings).await
            }
            Command::Completions { .. } => Ok(ExitCode::SUCCESS),
        }
    })
}

/// The roles to run: those that are named, or else all that are configured.
fn chosen(named: Vec<Role>, config: &Config) -> Result<Vec<Role>, ConfigError> {
    let configured = Role::configured(config);
    if named.is_empty() {
        return Ok(configured);
    }
    if named.contains(&Role::Decide) && !configured.contains(&Role::Decide) {
        return Err(ConfigError::Missing { key: "decide" });
    }
    Ok(named)
}

/// Reading the configuration found it well formed; are its files there?
fn check(config: &Config) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    let mut wrong = |cause: anyhow::Error| {
        error!("{cause:#}");
        code = ExitCode::from(exit::CONFIG);
    };
    if let Err(cause) = config.kafka.client_config("check-config") {
        wrong(cause.into());
    }
    if let Err(cause) = bridge::check(&config.bridge) {
        wrong(cause.into());
    }
    if let Some(decide) = &config.decide
        && let Err(cause) = decide::check(decide)
    {
        wrong(cause.into());
    }
    if let Some(steering) = &config.steering
        && let Err(cause) = steering::check(steering)
    {
        wrong(cause.into());
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EXAMPLE;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_starts_what_is_configured_unless_told_otherwise() {
        let deciding = Config::parse(EXAMPLE).unwrap();
        let text: Vec<&str> = EXAMPLE.split("\n[decide]\n").collect();
        let collecting = Config::parse(text[0]).unwrap();
        let roles = |line: &str, config: &Config| {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            let Command::Run { roles } = cli.command else {
                panic!("not run: {cli:?}");
            };
            chosen(roles, config).map_err(|cause| cause.to_string())
        };
        let run = "c run --config x";
        assert_eq!(
            roles(run, &collecting).unwrap(),
            [Role::Bridge, Role::Refine]
        );
        assert_eq!(roles(run, &deciding).unwrap(), Role::ALL);
        let one = "c --config x run --roles decide";
        assert_eq!(roles(one, &deciding).unwrap(), [Role::Decide]);
        let refused = roles(one, &collecting).unwrap_err();
        assert!(refused.starts_with("decide: must be set"), "{refused}");
        assert!(Cli::try_parse_from(["c", "run", "--roles", "bridge,other"]).is_err());
    }
}
