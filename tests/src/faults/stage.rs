//! The stage of the command's runs: a Mosquitto, certificates, topics, boxes
//! and collectors around a Kafka of the caller's, and the audit at the end.
//! (Tests have a stage of their own, with a Kafka that they share.)

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use returnpath_shared::DeviceId;

use super::audited::{self, Audited};
use crate::{
    agent::{Agent, Settings},
    collector::{Collector, Surroundings},
    mosquitto::Mosquitto,
    pki::DevelopmentPki,
    place,
    process::panics,
    wait::wait_until,
};

/// Longer than any run.
const VALIDITY: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Real brokers, and what stands around them.
pub struct Stage {
    /// Folder of everything.
    pub directory: PathBuf,
    /// Where certificates come from.
    pub pki: DevelopmentPki,
    /// The MQTT broker.
    pub mosquitto: Mosquitto,
    surroundings: Surroundings,
    /// Lines of the collectors' configuration that are otherwise here.
    changes: Vec<(String, String)>,
    /// Never run: its commands make topics and audit.
    operator: Collector,
}

impl Stage {
    /// Sets the stage around the Kafka at these addresses, and makes the
    /// topics. With several addresses, three copies of everything, and none of
    /// what `kafka.development` lifts.
    ///
    /// # Errors
    /// When something does not start; says what.
    pub async fn set(name: &str, kafka: &[String]) -> anyhow::Result<Self> {
        let directory = place::fresh_directory(name)?;
        let pki = DevelopmentPki::create(&directory.join("pki"), VALIDITY)?;
        let mosquitto = Mosquitto::start(&pki).await?;
        let surroundings = Surroundings {
            kafka: kafka.join("\", \""),
            // Folders are never used twice, so neither are topics.
            topic_prefix: directory
                .file_name()
                .context("name of a fresh folder")?
                .to_string_lossy()
                .into_owned(),
            mqtt_port: mosquitto.port(),
            authority: pki.authority(),
        };
        let of_several = [
            ("development = true", "development = false"),
            ("replication = 1", "replication = 3"),
            ("min_in_sync_replicas = 1", "min_in_sync_replicas = 2"),
        ];
        let changes = match kafka {
            [_, _, ..] => of_several
                .map(|(line, by)| (line.to_owned(), by.to_owned()))
                .to_vec(),
            _ => Vec::new(),
        };
        let folder = directory.join("operator");
        fs::create_dir_all(&folder)?;
        let operator = Collector::prepare("collector-a", &folder, &pki, &surroundings)?;
        let stage = Self {
            directory,
            pki,
            mosquitto,
            surroundings,
            changes,
            operator,
        };
        stage.configure(&stage.operator)?;
        let made = stage.operator.command(&["topics"]).await?;
        ensure!(
            made.status.success(),
            "topics: {}\n{}{}",
            made.status,
            String::from_utf8_lossy(&made.stdout),
            String::from_utf8_lossy(&made.stderr)
        );
        Ok(stage)
    }

    /// A collector called `collector-a` or `collector-b`, not started.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub fn collector(&self, name: &str) -> anyhow::Result<Collector> {
        let collector = Collector::prepare(name, &self.directory, &self.pki, &self.surroundings)?;
        self.configure(&collector)?;
        Ok(collector)
    }

    fn configure(&self, collector: &Collector) -> anyhow::Result<()> {
        self.changes
            .iter()
            .try_for_each(|(line, by)| collector.change(line, by))
    }

    /// A box with an empty flash that reaches the broker at this port, not
    /// started.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn agent(&self, device: &str, mqtt_port: u16) -> anyhow::Result<Agent> {
        let device: DeviceId = device.parse()?;
        let settings = Settings::default();
        Agent::prepare(&device, &self.directory, &self.pki, mqtt_port, settings)
    }

    /// Where answers are kept for the audit, a JSON object a line.
    #[must_use]
    pub fn answers(&self) -> PathBuf {
        self.directory.join("answers.jsonl")
    }

    /// Waits until the audit of these answers is content, or returns what it
    /// last said when `limit` is over.
    ///
    /// # Errors
    /// When the audit could not be made.
    pub async fn audit(&self, answers: &[PathBuf], limit: Duration) -> anyhow::Result<Audited> {
        let mut last = None;
        let content = wait_until("the audit to be content", limit, async || {
            let audited = audited::audit(&self.operator, answers).await?;
            let verdict = audited.to_string();
            let is_clean = audited.is_clean();
            last = Some(audited);
            ensure!(is_clean, "{verdict}");
            Ok(())
        })
        .await;
        match last {
            Some(audited) => Ok(audited),
            None => Err(content.err().unwrap_or_else(|| anyhow::anyhow!("no audit"))),
        }
    }

    /// Where one of our programs panicked, in any log of the stage.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub fn panics(&self) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        panics_below(&self.directory, &mut found)?;
        Ok(found)
    }
}

fn panics_below(directory: &Path, found: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            panics_below(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "log") {
            let lines = panics(&path)?;
            found.extend(
                lines
                    .iter()
                    .map(|line| format!("{}: {line}", path.display())),
            );
        }
    }
    Ok(())
}
