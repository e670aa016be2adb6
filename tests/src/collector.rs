//! A `returnpath-collector` process: its configuration, its runs, and its
//! commands.

mod deciding;

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{ExitStatus, Output},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

pub use self::deciding::{Deciding, Policy};
use crate::{
    pki::{DevelopmentPki, Identity},
    place,
    process::{self, Process},
    wait::wait_until,
};

/// From start to ready: connected to the broker, partitions assigned, their
/// state loaded.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// A command reads topics of a test, seconds at most.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

const HTTP_LIMIT: Duration = Duration::from_secs(5);

/// A collector that was killed is taken for dead after this long, in ms: tests
/// kill many, and wait for those who take over. Five heartbeats on a loaded
/// machine.
const SESSION_TIMEOUT_MS: u32 = 3_000;

/// Few partitions: each test makes its own topics. More than one, so that two
/// collectors share them.
const PARTITIONS: u32 = 4;

/// Where a collector finds the rest.
#[derive(Clone)]
pub struct Surroundings {
    /// Kafka, `host:port`.
    pub kafka: String,
    /// What the names of the topics begin with.
    pub topic_prefix: String,
    /// Port of the MQTT broker on localhost.
    pub mqtt_port: u16,
    /// Certificate of the authority that signed the broker's.
    pub authority: PathBuf,
}

/// A collector, running or not. Killed on drop.
pub struct Collector {
    name: String,
    directory: PathBuf,
    admin_port: u16,
    process: Option<Process>,
}

impl Collector {
    /// Writes the configuration of the collector called `name`, which is also
    /// the name of its certificate. Starts nothing.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn prepare(
        name: &str,
        directory: &Path,
        pki: &DevelopmentPki,
        surroundings: &Surroundings,
    ) -> anyhow::Result<Self> {
        let admin_port = place::free_port()?;
        let text = configuration(name, admin_port, &pki.collector(name), surroundings);
        fs::write(directory.join(format!("{name}.toml")), text)?;
        Ok(Self {
            name: name.to_owned(),
            directory: directory.to_owned(),
            admin_port,
            process: None,
        })
    }

    /// Has it decide, from its next start on: what aggregators it asks is
    /// known only when their market is open.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub fn decides(
        &self,
        pki: &DevelopmentPki,
        surroundings: &Surroundings,
        deciding: &Deciding,
    ) -> anyhow::Result<()> {
        let (name, admin_port) = (&self.name, self.admin_port);
        let mut text = configuration(name, admin_port, &pki.collector(name), surroundings);
        text += &deciding.section(
            &format!("{}-decide", surroundings.topic_prefix),
            surroundings.mqtt_port,
            &surroundings.authority,
            &pki.decide(name),
        );
        Ok(fs::write(
            self.directory.join(format!("{name}.toml")),
            text,
        )?)
    }

    /// Replaces one line of its configuration, from its next start on.
    ///
    /// # Errors
    /// When the line is not there exactly once, or the file cannot be written.
    pub fn change(&self, line: &str, by: &str) -> anyhow::Result<()> {
        place::change_line(
            &self.directory.join(format!("{}.toml", self.name)),
            line,
            by,
        )
    }

    /// Where it logs.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.name))
    }

    /// Starts all roles and waits until they are ready.
    ///
    /// # Errors
    /// When it ends, or is not ready in time.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        self.ready().await
    }

    /// Starts these roles, comma-separated, and waits until they are ready.
    ///
    /// # Errors
    /// When it ends, or is not ready in time.
    pub async fn start_roles(&mut self, roles: &str) -> anyhow::Result<()> {
        self.spawn_with(&["run", "--roles", roles])?;
        self.ready().await
    }

    /// Waits until it is ready, after [`Self::spawn`].
    ///
    /// # Errors
    /// When it ends, or is not ready in time.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let name = self.name.clone();
        wait_until(&format!("{name} to be ready"), READY_LIMIT, async || {
            if let Some(process) = &mut self.process {
                process.check_running()?;
            }
            let (status, body) = self.get("/readyz").await?;
            ensure!(status == 200, "/readyz answers {status}: {body}");
            Ok(())
        })
        .await
    }

    /// Starts all roles without waiting.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        self.spawn_with(&["run"])
    }

    fn spawn_with(&mut self, arguments: &[&str]) -> anyhow::Result<()> {
        let process = Process::start(
            &self.name,
            &self.directory,
            &place::binary("returnpath-collector")?,
            self.arguments(arguments),
        )?;
        self.process = Some(process);
        Ok(())
    }

    /// Id of the process.
    ///
    /// # Errors
    /// When it is not running.
    pub fn process_id(&self) -> anyhow::Result<u32> {
        let process = self.process.as_ref();
        Ok(process
            .with_context(|| format!("{} is not running", self.name))?
            .id())
    }

    /// An error that stops waiting, when it has ended or was not started.
    ///
    /// # Errors
    /// Says how it ended, with the end of its log.
    pub fn check_running(&mut self) -> anyhow::Result<()> {
        match &mut self.process {
            Some(process) => process.check_running(),
            None => bail!("{} is not running", self.name),
        }
    }

    /// Stops it where it is (SIGSTOP), until [`Self::thaw`].
    pub fn freeze(&self) {
        if let Some(process) = &self.process {
            process.freeze();
        }
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        if let Some(process) = &self.process {
            process.thaw();
        }
    }

    /// Kills it as a power cut would.
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
            None => bail!("{} is not running", self.name),
        }
    }

    /// Runs one of its commands, such as `topics` or `audit`, to its end.
    ///
    /// # Errors
    /// When it cannot be started, or does not end in time.
    pub async fn command(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let program = place::binary("returnpath-collector")?;
        let arguments = self.arguments(arguments);
        process::output(&program, arguments, &self.directory, COMMAND_LIMIT).await
    }

    /// What `/metrics` says.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let (status, body) = self.get("/metrics").await?;
        ensure!(status == 200, "/metrics answers {status}: {body}");
        Ok(body)
    }

    /// The value of a metric, summed over its labels.
    ///
    /// # Errors
    /// When `/metrics` does not answer, or has no such metric.
    pub async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let metrics = self.metrics().await?;
        let samples = metrics
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(sample, _)| sample.split('{').next() == Some(name))
            .map(|(_, value)| value.parse())
            .collect::<Result<Vec<f64>, _>>()?;
        ensure!(!samples.is_empty(), "there is no {name} in\n{metrics}");
        Ok(samples.into_iter().sum())
    }

    fn arguments(&self, rest: &[&str]) -> Vec<String> {
        let mut all = vec!["--config".to_owned(), format!("{}.toml", self.name)];
        all.extend(rest.iter().map(|&argument| argument.to_owned()));
        all
    }

    async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let exchange = async {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.admin_port)).await?;
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        };
        let answer = timeout(HTTP_LIMIT, exchange)
            .await
            .with_context(|| format!("no answer to GET {path}"))?
            .with_context(|| format!("GET {path}"))?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .context("the answer has no body")?;
        let status = head
            .split(' ')
            .nth(1)
            .context("the answer has no status")?
            .parse()?;
        Ok((status, body.to_owned()))
    }
}

fn configuration(
    name: &str,
    admin_port: u16,
    identity: &Identity,
    surroundings: &Surroundings,
) -> String {
    let Surroundings {
        kafka,
        topic_prefix,
        mqtt_port,
        authority,
    } = surroundings;
    format!(
        "\
node_id = \"{name}\"

[admin]
listen = \"127.0.0.1:{admin_port}\"

[kafka]
brokers = [\"{kafka}\"]
topic_prefix = \"{topic_prefix}\"
development = true
plaintext = true
session_timeout_ms = {SESSION_TIMEOUT_MS}

[topics]
partitions = {PARTITIONS}
replication = 1
min_in_sync_replicas = 1

[bridge]
brokers = [\"localhost:{mqtt_port}\"]

[bridge.tls]
ca = \"{authority}\"
certificate = \"{certificate}\"
key = \"{key}\"

# Collectors of different prefixes on one Kafka are strangers to each other.
[refine]
group = \"{topic_prefix}-refine\"
",
        authority = authority.display(),
        certificate = identity.certificate.display(),
        key = identity.key.display(),
    )
}
