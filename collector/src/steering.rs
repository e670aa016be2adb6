//! `returnpath-collector config`: what the operator tells boxes, from a file
//! that a person writes to a signed message that boxes obey.
//!
//! Two steps, so that the key that signs need not lie where the network is:
//!
//! ```text
//! settings.toml ── sign (key, no network) ──► signed message ── publish ──► rp/v1/{device}/config, retained
//!                                                   └── show
//! ```
//!
//! Only here is configuration for boxes made; what is a good one both ends read
//! in `returnpath_shared::check_config`. Keeps nothing: which version a box has
//! it says itself, in its health events.

mod boxes;
mod config;
mod publish;
mod settings;
mod show;
mod sign;
mod signed;

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use tracing::error;

pub use config::{Config, ConfigError, check};

use self::{publish::PublishError, settings::SettingsError, signed::SignedError};
use crate::{
    exit, kafka,
    node_id::NodeId,
    signing::{PublicKeysError, SigningKeyError},
};

/// How to steer boxes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Checks a file of settings and signs it: a message that boxes obey.
    #[command(after_long_help = SETTINGS_HELP)]
    Sign(sign::Args),
    /// Publishes a signed message to boxes, retained: those that are away get it
    /// when they connect.
    ///
    /// Boxes take no message of a version that is not higher than the one they
    /// have. The broker keeps the last message that was published, whatever its
    /// version: publish in order. Exits with 0 only when the broker has
    /// confirmed every box; publishing once more does no harm.
    #[command(after_long_help = PUBLISH_HELP)]
    Publish(publish::Args),
    /// Prints what a signed message says, and whether its signature is good.
    ///
    /// Exits with 1 when --keys are given and none of them signed it.
    Show(show::Args),
}

const SETTINGS_HELP: &str = "\
The file is TOML, or JSON where its name ends in .json. What it leaves out stays
as in each box's own file:

    version = 7                  # needed; boxes ignore what is not higher than theirs
    device_id = \"box-1\"          # leave it out for every box
    batch_interval_ms = 5000     # between batches, 1,000 to 300,000
    window_batches_max = 16      # batches in flight without receipt, 1 to 64
    backlog_rate = 50            # backlog batches a second, 0 to 1,000; 0 stops it
    reconnect_spread_ms = 30000  # after a mass disconnect, 0 to 3,600,000
    decision_keys = \"keys.pem\"   # 1 to 4 public keys that decisions may be signed
                                 # with, beside this file (openssl pkey -pubout)

A message replaces the one before it as a whole: a setting that it leaves out is
again as in the box's file. To take everything back, sign a higher version that
holds nothing else.

The key: openssl genpkey -algorithm ed25519 -out config.key
Its public half goes to the boxes (trust.config_keys): openssl pkey -in config.key -pubout";

const PUBLISH_HELP: &str = "\
    returnpath-collector config sign settings.toml --key config.key --out v7.config
    returnpath-collector config show v7.config --keys config.pub
    returnpath-collector config publish v7.config --device box-1 --dry-run
    returnpath-collector config publish v7.config --device box-1
    returnpath-collector config publish v7.config --all

Each box has a topic of its own, rp/v1/{device}/config. --all publishes to the
boxes that rp.devices knows: one that first sends later is not among them.";

/// Why a command did not do what it was asked. Each becomes an exit code.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// The file of settings is not good.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The signed message is not good.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// The key cannot sign.
    #[error("--key")]
    SigningKey(#[from] SigningKeyError),
    /// The keys cannot verify.
    #[error("--keys")]
    PublicKeys(#[from] PublicKeysError),
    /// The collector's own configuration is not good.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A result could not be written.
    #[error("cannot write {place}")]
    Write {
        /// The file, or standard output.
        place: String,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    fn exit(&self) -> ExitCode {
        match self {
            Self::Settings(_) | Self::Signed(_) => ExitCode::from(exit::INPUT),
            Self::Publish(PublishError::OtherBox { .. } | PublishError::Forged { .. }) => {
                ExitCode::from(exit::INPUT)
            }
            Self::Config(_) => ExitCode::from(exit::CONFIG),
            Self::Publish(_) | Self::SigningKey(_) | Self::PublicKeys(_) | Self::Write { .. } => {
                ExitCode::FAILURE
            }
        }
    }
}

/// What publishing takes from the configuration of a collector.
#[derive(Debug)]
pub struct Surroundings {
    /// Names us towards the broker, where it does not take the certificate's
    /// common name.
    pub node_id: NodeId,
    /// Where the boxes are known.
    pub kafka: kafka::Config,
    /// The section `[steering]`, if there is one.
    pub steering: Option<Config>,
}

/// Runs one of the commands. Publishing alone needs a configuration, and has it
/// read.
///
/// # Errors
/// When the configuration cannot be read; what else goes wrong is logged and
/// told by the exit code.
pub async fn run(
    args: Args,
    configured: impl FnOnce() -> anyhow::Result<Surroundings>,
) -> anyhow::Result<ExitCode> {
    let out = &mut io::stdout();
    let done = match args.command {
        Command::Sign(args) => sign::run(&args, out),
        Command::Show(args) => show::run(&args, out),
        Command::Publish(args) => publish::run(args, configured()?, out).await,
    };
    Ok(done.unwrap_or_else(|failure| {
        let code = failure.exit();
        error!("{:#}", anyhow::Error::new(failure));
        code
    }))
}

/// Prints a line of a result.
fn print(out: &mut impl Write, line: impl fmt::Display) -> Result<(), Error> {
    match writeln!(out, "{line}") {
        // Whoever read our output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|source| Error::Write {
            place: "standard output".into(),
            source,
        }),
    }
}
