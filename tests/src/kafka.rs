//! A real Apache Kafka: KRaft nodes on loopback ports, with their data on
//! disk, so that they can be killed and started again.
//!
//! Most tests have one node where production has three: `returnpath-collector`
//! takes it with its development flag only. Those that ask what replication is
//! good for have a [`Cluster`]. Everything else is as in production, except for
//! times and sizes that would only make tests slow.

mod cluster;
mod pool;
mod properties;
mod reader;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, AlterConfig, ConfigSource, ResourceSpecifier},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};

pub use self::{cluster::Cluster, pool::Lease, reader::Record};
use crate::{place, process::Process, wait::wait_until};

/// A start takes 2 s on a free machine; this is for a loaded one.
const START_LIMIT: Duration = Duration::from_secs(90);

/// SIGTERM to exit: a controlled shutdown on one node has nobody to hand its
/// partitions to, and gives up after its own limit.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Heap of a node that is alone.
const HEAP_OPTION: &str = "-Xmx512m";

/// One request to Kafka.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// What a topic refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Every record, as too old. Not for topics of transactions: Kafka 4.3.1
    /// judges its own markers so too, and then never ends the transaction.
    Everything,
    /// Every record, as too large, but not the markers of transactions.
    AllButMarkers,
}

/// A batch with one marker takes 78 bytes, any record of ours more than 100.
const MARKER_BYTES_MAX: &str = "100";

/// A topic that refuses, and how it was before.
#[derive(Debug)]
pub struct Refusing {
    topic: String,
    key: &'static str,
    former: Option<String>,
}

/// A Kafka node. Killed on drop.
pub struct Kafka {
    directory: PathBuf,
    port: u16,
    class_path: String,
    heap_option: &'static str,
    process: Option<Process>,
}

impl Kafka {
    /// Formats a data folder and starts a node on it.
    ///
    /// # Errors
    /// When Kafka is not installed, or does not answer in time.
    pub async fn start() -> anyhow::Result<Self> {
        let directory = place::fresh_directory("kafka")?;
        let port = place::free_port()?;
        let properties = properties::alone(&directory, port, place::free_port()?);
        let mut kafka = Self::prepare(directory, port, &properties, HEAP_OPTION)?;
        kafka.format(&["--standalone"]).await?;
        kafka.resume().await?;
        Ok(kafka)
    }

    fn prepare(
        directory: PathBuf,
        port: u16,
        properties: &str,
        heap_option: &'static str,
    ) -> anyhow::Result<Self> {
        fs::write(directory.join("server.properties"), properties)?;
        Ok(Self {
            class_path: class_path()?,
            directory,
            port,
            heap_option,
            process: None,
        })
    }

    /// Where clients connect, `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it logs.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.directory.join("kafka.log")
    }

    /// Id of the process.
    ///
    /// # Errors
    /// When it is not running.
    pub fn process_id(&self) -> anyhow::Result<u32> {
        let process = self.process.as_ref();
        Ok(process.context("Kafka is not running")?.id())
    }

    /// Kills the node as a power cut would. What it had confirmed stays.
    ///
    /// # Errors
    /// When the system cannot say how it ended.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Freezes the node: connections stay open and nothing is answered, until
    /// [`Self::thaw`].
    pub fn freeze(&self) {
        if let Some(process) = &self.process {
            process.freeze();
        }
    }

    /// Lets a frozen node go on.
    pub fn thaw(&self) {
        if let Some(process) = &self.process {
            process.thaw();
        }
    }

    /// Stops the node cleanly.
    ///
    /// # Errors
    /// When it does not stop in time.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.terminate(STOP_LIMIT).await?;
        }
        Ok(())
    }

    /// Starts the node again, with the same ports and data.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub async fn resume(&mut self) -> anyhow::Result<()> {
        if self.process.is_none() {
            self.spawn()?;
        }
        wait_until("Kafka to answer", START_LIMIT, async || {
            self.check_running()?;
            self.topics().await.map(drop)
        })
        .await
    }

    /// Starts the node again without waiting for it.
    ///
    /// # Errors
    /// When Java cannot be started.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        self.process = Some(self.java("kafka", "kafka.Kafka", &["server.properties"])?);
        Ok(())
    }

    /// An error that stops waiting, when the node has died.
    ///
    /// # Errors
    /// Says how it ended, with the end of its log.
    pub fn check_running(&mut self) -> anyhow::Result<()> {
        match &mut self.process {
            Some(process) => process.check_running(),
            None => bail!("Kafka is stopped"),
        }
    }

    /// Names of the topics that are not Kafka's own.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub async fn topics(&self) -> anyhow::Result<Vec<String>> {
        let consumer: BaseConsumer = self.client().create()?;
        let metadata =
            tokio::task::spawn_blocking(move || consumer.fetch_metadata(None, REQUEST_LIMIT))
                .await??;
        ensure!(!metadata.brokers().is_empty(), "no broker has registered");
        Ok(metadata
            .topics()
            .iter()
            .map(|topic| topic.name().to_owned())
            .filter(|name| !name.starts_with("__"))
            .collect())
    }

    /// Makes the node refuse what is produced to `topic` from now on, for a
    /// reason that no retry mends, until [`Self::accept`].
    ///
    /// # Errors
    /// When Kafka does not take the change.
    pub async fn refuse(&self, topic: &str, refusal: Refusal) -> anyhow::Result<Refusing> {
        let (key, value) = match refusal {
            Refusal::Everything => ("message.timestamp.before.max.ms", "0"),
            Refusal::AllButMarkers => ("max.message.bytes", MARKER_BYTES_MAX),
        };
        let former = self.configure(topic, key, Some(value)).await?;
        Ok(Refusing {
            topic: topic.to_owned(),
            key,
            former,
        })
    }

    /// Lets a topic take again what it took before.
    ///
    /// # Errors
    /// When Kafka does not take the change.
    pub async fn accept(&self, refusing: Refusing) -> anyhow::Result<()> {
        let Refusing { topic, key, former } = refusing;
        self.configure(&topic, key, former.as_deref()).await?;
        Ok(())
    }

    /// Sets one configuration key of a topic, `None` to Kafka's default, and
    /// keeps the others. Returns what was set before.
    async fn configure(
        &self,
        topic: &str,
        key: &str,
        value: Option<&str>,
    ) -> anyhow::Result<Option<String>> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let options = AdminOptions::new().request_timeout(Some(REQUEST_LIMIT));
        let resource = ResourceSpecifier::Topic(topic);
        let described = admin
            .describe_configs(&[resource], &options)
            .await?
            .pop()
            .context("no answer about the topic")?
            .map_err(|code| anyhow::anyhow!("describe {topic}: {code}"))?;
        // The request replaces all keys of the topic, so the others are named.
        let mut change = AlterConfig::new(resource);
        let mut former = None;
        for entry in &described.entries {
            if entry.source != ConfigSource::DynamicTopic {
                continue;
            }
            if entry.name == key {
                former.clone_from(&entry.value);
            } else {
                change = change.set(&entry.name, entry.value.as_deref().unwrap_or_default());
            }
        }
        if let Some(value) = value {
            change = change.set(key, value);
        }
        admin
            .alter_configs([&change], &options)
            .await?
            .pop()
            .context("no answer about the topic")?
            .map_err(|(_, code)| anyhow::anyhow!("set {key} of {topic}: {code}"))?;
        Ok(former)
    }

    /// Everything that stands in `topic`, as `kcat` reads it: committed
    /// records only.
    ///
    /// # Errors
    /// When `kcat` fails, or prints what cannot be read.
    pub async fn records(&self, topic: &str) -> anyhow::Result<Vec<Record>> {
        reader::read_committed(&self.address(), topic).await
    }

    /// How many offsets `topic` has, transaction markers included.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub async fn record_count(&self, topic: &str) -> anyhow::Result<u64> {
        let consumer: BaseConsumer = self.client().create()?;
        let topic = topic.to_owned();
        let count = tokio::task::spawn_blocking(move || {
            let metadata = consumer.fetch_metadata(Some(&topic), REQUEST_LIMIT)?;
            let partitions = metadata
                .topics()
                .iter()
                .flat_map(|topic| topic.partitions());
            let mut count = 0;
            for partition in partitions {
                let (low, high) =
                    consumer.fetch_watermarks(&topic, partition.id(), REQUEST_LIMIT)?;
                count += high - low;
            }
            anyhow::Ok(count)
        })
        .await??;
        Ok(u64::try_from(count)?)
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.address())
            // A node that is being killed is no news worth printing.
            .set("log_level", "0");
        config
    }

    async fn format(&self, quorum: &[&str]) -> anyhow::Result<()> {
        let mut arguments = vec![
            "format",
            "--cluster-id",
            "cmV0dXJucGF0aC10ZXN0cw",
            "--config",
            "server.properties",
        ];
        arguments.extend(quorum);
        let mut format = self.java("kafka-format", "kafka.tools.StorageTool", &arguments)?;
        let status = wait_until("Kafka's storage to be formatted", START_LIMIT, async || {
            format.ended()?.context("still running")
        })
        .await?;
        ensure!(
            status.success(),
            "Kafka's storage tool ended: {status}\n{}",
            crate::process::tail(format.log())
        );
        Ok(())
    }

    fn java(&self, name: &str, class: &str, arguments: &[&str]) -> anyhow::Result<Process> {
        let mut all = vec![
            self.heap_option,
            // One garbage collector thread and the quick compiler only: starts
            // in 2 s, and leaves the processors to what is being tested.
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
            "-cp",
            &self.class_path,
            class,
        ];
        all.extend(arguments);
        Process::start(name, &self.directory, Path::new("java"), all)
    }
}

/// The version under test, in the one place where it stands.
const POM: &str = include_str!("../kafka/pom.xml");

fn class_path() -> anyhow::Result<String> {
    let version = POM
        .split_once("<kafka.version>")
        .and_then(|(_, rest)| rest.split_once("</kafka.version>"))
        .map(|(version, _)| version)
        .context("tests/kafka/pom.xml names no kafka.version")?;
    let installed = place::cache().join(format!("kafka-{version}"));
    ensure!(
        installed.join("complete").exists(),
        "{} is missing: run `tests/install` first",
        installed.display()
    );
    Ok(format!("{}/libs/*", installed.display()))
}
