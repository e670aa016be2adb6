//! What each benchmark stands on: Kafka, Mosquitto, certificates and one
//! collector, all fresh.

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;
use returnpath_shared::DeviceId;

use super::{load::Load, metrics};
use crate::{
    agent::{Agent, Settings},
    collector::{Collector, Deciding, Surroundings},
    kafka::Kafka,
    mosquitto::Mosquitto,
    pki::DevelopmentPki,
    place,
};

/// Longer than any benchmark.
const VALIDITY: Duration = Duration::from_secs(24 * 3_600);

/// The name that the broker lets publish for every box.
const LOAD_NAME: &str = "load";

/// As in the field.
const BATCH_INTERVAL_MS: u32 = 5_000;

const TOPIC_PREFIX: &str = "rp";

/// Real brokers and a collector that is not running yet.
pub struct Scene {
    /// Folder of everything.
    pub directory: PathBuf,
    /// Where certificates come from.
    pub pki: DevelopmentPki,
    /// The real Kafka.
    pub kafka: Kafka,
    /// The real Mosquitto.
    pub mosquitto: Mosquitto,
    /// The process under test, with its topics made.
    pub collector: Collector,
    surroundings: Surroundings,
}

impl Scene {
    /// Starts the brokers and makes the topics.
    ///
    /// # Errors
    /// When something does not start; says what.
    pub async fn set() -> anyhow::Result<Self> {
        let directory = place::fresh_directory("bench")?;
        let pki = DevelopmentPki::create(&directory.join("pki"), VALIDITY)?;
        let kafka = Kafka::start().await?;
        let mosquitto = Mosquitto::start(&pki).await?;
        let surroundings = Surroundings {
            kafka: kafka.address(),
            topic_prefix: TOPIC_PREFIX.into(),
            mqtt_port: mosquitto.port(),
            authority: pki.authority(),
        };
        let collector = Collector::prepare("collector-a", &directory, &pki, &surroundings)?;
        let made = collector.command(&["topics"]).await?;
        ensure!(
            made.status.success(),
            "topics: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        Ok(Self {
            directory,
            pki,
            kafka,
            mosquitto,
            collector,
            surroundings,
        })
    }

    /// A further node of the same group, not started.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub fn another_collector(&self, name: &str) -> anyhow::Result<Collector> {
        Collector::prepare(name, &self.directory, &self.pki, &self.surroundings)
    }

    /// Has the collector decide like this, from its next start on.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub fn decide(&self, deciding: &Deciding) -> anyhow::Result<()> {
        self.collector
            .decides(&self.pki, &self.surroundings, deciding)
    }

    /// A connection that publishes for many boxes.
    ///
    /// # Errors
    /// When the broker refuses it.
    pub async fn load(&self) -> anyhow::Result<Load> {
        let identity = self.pki.device(&LOAD_NAME.parse()?)?;
        Load::connect(self.mosquitto.port(), &self.pki.authority(), &identity).await
    }

    /// A box with a running agent.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn agent(&self, device: &DeviceId) -> anyhow::Result<Agent> {
        let port = self.mosquitto.port();
        let settings = Settings {
            batch_interval_ms: BATCH_INTERVAL_MS,
        };
        let mut agent = Agent::prepare(device, &self.directory, &self.pki, port, settings)?;
        agent.start().await?;
        Ok(agent)
    }

    /// The sum of a counter over all its labels, as the collector tells it.
    ///
    /// # Errors
    /// When the collector does not answer.
    pub async fn counter(&self, name: &str) -> anyhow::Result<f64> {
        metrics::sum(&self.collector.metrics().await?, name)
    }
}
