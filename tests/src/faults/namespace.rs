//! A network of our own: a network namespace with nothing but a loopback, on
//! which packets can be lost without anybody else noticing.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use rustix::process::geteuid;
use tokio::process::Command;

use crate::process::output;

/// `ip` and `nft` answer at once.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);

/// Debian keeps both out of an ordinary user's search path.
const IP: &str = "/usr/sbin/ip";
const NFT: &str = "/usr/sbin/nft";

/// Runs this program again, with these arguments, in a network namespace of its
/// own, and returns its exit code. Without root in a user namespace too, where
/// the system allows it.
///
/// # Errors
/// When it cannot be started.
pub async fn run_inside(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let mut command = Command::new("unshare");
    if !geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let this = env::current_exe().context("path of this program")?;
    let status = command
        .args(["--net", "--"])
        .arg(this)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .context("start unshare (util-linux)")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Loss of packets from and to one port of the loopback, until it is dropped
/// with its namespace, or [`Self::end`].
pub struct Loss {
    directory: PathBuf,
}

/// What the kernel counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packets {
    /// Packets judged.
    pub seen: u64,
    /// Of these, those that were dropped.
    pub lost: u64,
}

impl Loss {
    /// Brings up the loopback of a fresh namespace. Before anything else.
    ///
    /// # Errors
    /// When the system does not let us.
    pub async fn loopback_up() -> anyhow::Result<()> {
        let arguments = ["link", "set", "lo", "up"];
        run(Path::new(IP), &arguments, Path::new("/")).await?;
        Ok(())
    }

    /// Loses so many percent of the packets from and to `port`, at random.
    ///
    /// # Errors
    /// When nftables does not take the rule.
    pub async fn begin(directory: &Path, port: u16, percent: u32) -> anyhow::Result<Self> {
        let rules = format!(
            "\
table inet faults {{
    counter seen {{}}
    counter lost {{}}
    chain judged {{
        counter name seen
        numgen random mod 100 < {percent} counter name lost drop
    }}
    chain arriving {{
        type filter hook input priority 0
        tcp dport {port} goto judged
        tcp sport {port} goto judged
    }}
}}
"
        );
        fs::write(directory.join("loss.nft"), rules)?;
        let loss = Self {
            directory: directory.to_owned(),
        };
        loss.nft(&["-f", "loss.nft"]).await?;
        Ok(loss)
    }

    /// What was lost so far.
    ///
    /// # Errors
    /// When nftables does not say.
    pub async fn packets(&self) -> anyhow::Result<Packets> {
        Ok(Packets {
            seen: self.counter("seen").await?,
            lost: self.counter("lost").await?,
        })
    }

    /// Loses nothing any more.
    ///
    /// # Errors
    /// When nftables does not take the rule away.
    pub async fn end(self) -> anyhow::Result<()> {
        self.nft(&["delete", "table", "inet", "faults"]).await?;
        Ok(())
    }

    async fn counter(&self, name: &str) -> anyhow::Result<u64> {
        let text = self
            .nft(&["list", "counter", "inet", "faults", name])
            .await?;
        let (_, rest) = text
            .split_once("packets ")
            .with_context(|| format!("no packets in {text:?}"))?;
        let number = rest.split_whitespace().next().unwrap_or_default();
        number
            .parse()
            .with_context(|| format!("packets in {text:?}"))
    }

    async fn nft(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(Path::new(NFT), arguments, &self.directory).await
    }
}

async fn run(program: &Path, arguments: &[&str], directory: &Path) -> anyhow::Result<String> {
    let output = output(program, arguments, directory, COMMAND_LIMIT).await?;
    ensure!(
        output.status.success(),
        "{} {}: {}\n{}",
        program.display(),
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
