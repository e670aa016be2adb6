//! Not built yet: arguments only, so that the command line stands.

use std::process::ExitCode;

use anyhow::bail;

/// Arguments of `tail`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// Always: not built yet.
#[expect(clippy::unused_async, reason = "not built yet")]
pub async fn run(_args: Args, _config: crate::config::Config) -> anyhow::Result<ExitCode> {
    bail!("tail: not built yet")
}
