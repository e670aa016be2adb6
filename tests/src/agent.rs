//! A `returnpath-agent` process on a folder that stands for a box's flash.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Output},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use returnpath_shared::DeviceId;
use tokio::net::UnixStream;

use crate::{
    pki::{DevelopmentPki, SigningKey},
    place,
    process::{self, Process},
    wait::wait_until,
};

/// From start to a socket that answers.
const START_LIMIT: Duration = Duration::from_secs(30);

const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// From start to a link that stands: the first attempt, and some more.
const LINK_LIMIT: Duration = Duration::from_secs(60);

/// The keys that a box trusts, in its folder.
const DECISION_KEYS: &str = "decision-keys.pem";
const CONFIG_KEYS: &str = "config-keys.pem";

/// What tests set differently from box to box.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Interval between batches.
    pub batch_interval_ms: u32,
}

impl Default for Settings {
    /// Short intervals: a test has no seconds to spare.
    fn default() -> Self {
        Self {
            batch_interval_ms: 1_000,
        }
    }
}

/// A box with an agent, running or not. Killed on drop.
pub struct Agent {
    device: DeviceId,
    directory: PathBuf,
    process: Option<Process>,
}

impl Agent {
    /// Makes a box below `directory`: its certificate, its configuration and
    /// an empty flash. Starts nothing.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn prepare(
        device: &DeviceId,
        directory: &Path,
        pki: &DevelopmentPki,
        mqtt_port: u16,
        settings: Settings,
    ) -> anyhow::Result<Self> {
        let directory = directory.join(device.as_str());
        fs::create_dir_all(directory.join("flash"))?;
        let identity = pki.device(device)?;
        trust(&directory, DECISION_KEYS, &[pki.signing_key("decision-a")])?;
        trust(&directory, CONFIG_KEYS, &[pki.signing_key("config-a")])?;
        let text = configuration(
            &directory,
            &identity.certificate,
            &identity.key,
            &pki.authority(),
            mqtt_port,
            settings,
        );
        fs::write(directory.join("agent.toml"), text)?;
        Ok(Self {
            device: device.clone(),
            directory,
            process: None,
        })
    }

    /// The device id.
    #[must_use]
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// The socket on which it takes events.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.join("agent.sock")
    }

    /// Has it trust these keys, and no others, for decisions; from its next
    /// start on. A box out of the factory trusts `decision-a`.
    ///
    /// # Errors
    /// When a key cannot be read, or the box's file not be written.
    pub fn trust_decision_keys(&self, keys: &[SigningKey]) -> anyhow::Result<()> {
        trust(&self.directory, DECISION_KEYS, keys)
    }

    /// Replaces one line of its configuration, from its next start on.
    ///
    /// # Errors
    /// When the line is not there exactly once, or the file cannot be written.
    pub fn change(&self, line: &str, by: &str) -> anyhow::Result<()> {
        place::change_line(&self.directory.join("agent.toml"), line, by)
    }

    /// Where it logs.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.device))
    }

    /// Id of the process.
    ///
    /// # Errors
    /// When it is not running.
    pub fn process_id(&self) -> anyhow::Result<u32> {
        let process = self.process.as_ref();
        Ok(process
            .with_context(|| format!("{} is not running", self.device))?
            .id())
    }

    /// The folder that stands for the flash.
    #[must_use]
    pub fn flash(&self) -> PathBuf {
        self.directory.join("flash")
    }

    /// Starts it and waits until its socket takes connections. Says nothing
    /// about the link.
    ///
    /// # Errors
    /// When it ends, or has no socket in time.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.start_by(&place::agent()?, &[]).await
    }

    /// Starts it on a box whose wall clock stands in 1970 and is never
    /// synchronised; its uptime is as everywhere. By libfaketime, which answers
    /// for the C library; this lasts until its end.
    ///
    /// # Errors
    /// As [`Self::start`]; and when the configuration cannot be written.
    pub async fn start_in_1970(&mut self) -> anyhow::Result<()> {
        let path = self.directory.join("agent.toml");
        let never = self.directory.join("clock-is-synchronised");
        let mut text = fs::read_to_string(&path)?;
        text += &format!("\n[clock]\nsynchronised_file = \"{}\"\n", never.display());
        fs::write(&path, text)?;
        let agent = place::agent()?;
        let agent = agent.to_str().context("the agent's path is not UTF-8")?;
        let before = [
            // The loader puts in where the libraries of this machine are.
            "LD_PRELOAD=/usr/$LIB/faketime/libfaketimeMT.so.1",
            "FAKETIME=@1970-01-01 00:01:00",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            agent,
        ];
        self.start_by(Path::new("/usr/bin/env"), &before).await
    }

    async fn start_by(&mut self, program: &Path, before: &[&str]) -> anyhow::Result<()> {
        let run = ["run", "--config", "agent.toml"];
        let process = self.process.insert(Process::start(
            self.device.as_str(),
            &self.directory,
            program,
            before.iter().chain(&run),
        )?);
        let socket = self.directory.join("agent.sock");
        let what = format!("the socket of {}", self.device);
        wait_until(&what, START_LIMIT, async || {
            process.check_running()?;
            UnixStream::connect(&socket).await.context("connect")
        })
        .await?;
        Ok(())
    }

    /// Waits until it is connected and subscribed: what is published to it
    /// from now on, it hears. That an event is `durable` does not say so, since
    /// its flash alone can make it that.
    ///
    /// # Errors
    /// When its link does not come up in time.
    pub async fn linked(&self) -> anyhow::Result<()> {
        let what = format!("the link of {}", self.device);
        wait_until(&what, LINK_LIMIT, async || {
            let status = self.status().await?;
            ensure!(status["link"]["up"] == true, "{}", status["link"]);
            Ok(())
        })
        .await
    }

    /// An error that stops waiting, when it has ended or was not started.
    ///
    /// # Errors
    /// Says how it ended, with the end of its log.
    pub fn check_running(&mut self) -> anyhow::Result<()> {
        match &mut self.process {
            Some(process) => process.check_running(),
            None => bail!("{} is not running", self.device),
        }
    }

    /// Kills it, as pulling the plug would: what is not on flash is gone.
    ///
    /// # Errors
    /// When the system cannot say how it ended.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Sends SIGTERM and waits for its end.
    ///
    /// # Errors
    /// When it does not end within `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        match self.process.take() {
            Some(mut process) => process.terminate(limit).await,
            None => bail!("{} is not running", self.device),
        }
    }

    /// What `returnpath-agent status --json` prints.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub async fn status(&self) -> anyhow::Result<serde_json::Value> {
        let output = self.command(&["status", "--json"]).await?;
        ensure!(
            output.status.success(),
            "status: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Runs one of its commands to its end, beside the running agent.
    ///
    /// # Errors
    /// When it cannot be started, or does not end in time.
    pub async fn command(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let arguments = arguments.iter().chain(&["--config", "agent.toml"]);
        process::output(&place::agent()?, arguments, &self.directory, COMMAND_LIMIT).await
    }
}

/// Writes the public keys that a box trusts, as an operator would: one file,
/// one PEM block after another.
fn trust(directory: &Path, file: &str, keys: &[SigningKey]) -> anyhow::Result<()> {
    let mut all = String::new();
    for key in keys {
        let path = &key.public;
        all += &fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    }
    Ok(fs::write(directory.join(file), all)?)
}

/// The defaults, with shorter waits: a test has no minute to spare.
fn configuration(
    directory: &Path,
    certificate: &Path,
    key: &Path,
    authority: &Path,
    mqtt_port: u16,
    settings: Settings,
) -> String {
    let Settings { batch_interval_ms } = settings;
    format!(
        "\
[identity]
certificate = \"{certificate}\"
private_key = \"{key}\"
ca = \"{authority}\"
model = \"test box\"
firmware = \"1.2.3\"

[trust]
decision_keys = \"{decision_keys}\"
config_keys = \"{config_keys}\"

[intake]
socket = \"{socket}\"

[queue]
directory = \"{flash}\"
flush_interval_s = 5

[batch]
interval_ms = {batch_interval_ms}

[link]
brokers = [\"localhost:{mqtt_port}\"]
reconnect_wait_max_s = 2
reconnect_spread_ms = 500
acknowledgement_timeout_s = 5

[health]
interval_min = 0
",
        certificate = certificate.display(),
        key = key.display(),
        authority = authority.display(),
        decision_keys = directory.join(DECISION_KEYS).display(),
        config_keys = directory.join(CONFIG_KEYS).display(),
        socket = directory.join("agent.sock").display(),
        flash = directory.join("flash").display(),
    )
}
