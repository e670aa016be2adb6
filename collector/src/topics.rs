//! Not built yet: arguments and configuration only, so that the command line
//! stands.

use std::process::ExitCode;

use anyhow::bail;
use serde::Deserialize;

/// Arguments of `topics`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only checks; creates nothing.
    #[arg(long)]
    pub check: bool,
    /// Prints one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

/// What the topics must be like: the section `[topics]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Creates or checks the topics.
///
/// # Errors
/// Always: not built yet.
#[expect(clippy::unused_async, reason = "not built yet")]
pub async fn run(_args: Args, _config: crate::config::Config) -> anyhow::Result<ExitCode> {
    bail!("topics: not built yet")
}
