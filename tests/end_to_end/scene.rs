//! The stage of a test: a Kafka, a Mosquitto, certificates, topics of its own,
//! and at the end the question that every test asks: is everything that was
//! answered there, once each?

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use prost::Message as _;
use returnpath_shared::{DeviceId, Epoch, ProofKey, wire};
use returnpath_tests::{
    agent::{Agent, Settings},
    cable::Cable,
    client::Client,
    collector::{Collector, Deciding, Surroundings},
    kafka::Lease,
    market::{AggregatorSettings, Market, Terms},
    mosquitto::Mosquitto,
    mqtt_client::MqttClient,
    pki::DevelopmentPki,
    place,
    process::tail,
    wait::wait_until,
};
use serde::Deserialize;
use serde_json::json;

/// From the last fault to everything in its place: reconnects, resends,
/// sessions of the dead that must time out first, on a loaded machine.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);

/// Longer than any test takes.
const CERTIFICATES_VALID: Duration = Duration::from_secs(24 * 3_600);

/// Seed of every market: the same offers in every run.
const MARKET_SEED: u64 = 4;

/// How long aggregators have, in ms: as long as tests hold an answer back, and
/// more on a loaded machine.
const DEADLINE_MS: u32 = 3_000;

/// What a test has at hand.
pub(crate) struct Scene {
    pub(crate) kafka: Lease,
    pub(crate) mosquitto: Mosquitto,
    pub(crate) pki: DevelopmentPki,
    directory: PathBuf,
    topic_prefix: String,
    /// Never run: its commands make the topics, audit and show decisions.
    pub(crate) operator: Collector,
    market: Option<Market>,
    /// How collectors decide that are made from now on; once a market is open.
    pub(crate) deciding: Option<Deciding>,
}

/// What a box may have lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Losses {
    /// Nothing: no box lost power.
    None,
    /// Events that were only accepted, as far as the box declares them lost.
    Declared,
    /// Any events, as far as the box declares them lost: its flash lost what it
    /// had confirmed.
    Torn,
}

/// An answer that a client kept.
#[derive(Debug, Deserialize)]
struct Kept {
    device: String,
    epoch: String,
    ordinal: String,
    status: String,
    #[serde(rename = "proofKey")]
    proof_key: Option<String>,
}

/// One refined event: the topic without its prefix, and the record.
pub(crate) type RefinedEvent = (&'static str, wire::Refined);

/// The refined topics.
const REFINED: [&str; 4] = ["viewing", "ads", "health", "custom"];

/// Sets the stage, runs `test`, and audits. When anything fails, shows the end
/// of every log of the stage.
pub(crate) async fn play(
    name: &str,
    test: impl AsyncFnOnce(&mut Scene) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut scene = Scene::set(name).await?;
    let result = match test(&mut scene).await {
        Ok(()) => scene.audit().await,
        failed => failed,
    };
    result.with_context(|| format!("{name}\n{}", scene.logs()))
}

impl Scene {
    async fn set(name: &str) -> anyhow::Result<Self> {
        let directory = place::fresh_directory(name)?;
        let pki = DevelopmentPki::create(&directory.join("pki"), CERTIFICATES_VALID)?;
        let kafka = Lease::take().await?;
        let mosquitto = Mosquitto::start(&pki).await?;
        // Folders are never used twice, so neither are topics.
        let topic_prefix = directory
            .file_name()
            .context("name of a fresh folder")?
            .to_string_lossy()
            .into_owned();
        let operator_directory = directory.join("operator");
        fs::create_dir_all(&operator_directory)?;
        let surroundings = Surroundings {
            kafka: kafka.address(),
            topic_prefix: topic_prefix.clone(),
            mqtt_port: mosquitto.port(),
            authority: pki.authority(),
        };
        let operator = Collector::prepare("collector-a", &operator_directory, &pki, &surroundings)?;
        let scene = Self {
            kafka,
            mosquitto,
            pki,
            directory,
            topic_prefix,
            operator,
            market: None,
            deciding: None,
        };
        let output = scene.operator.command(&["topics"]).await?;
        ensure!(
            output.status.success(),
            "topics: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(scene)
    }

    /// Opens an ad market, which collectors made from now on ask.
    pub(crate) async fn open_market(
        &mut self,
        aggregators: &[AggregatorSettings],
    ) -> anyhow::Result<()> {
        let terms = Terms {
            deadline_ms: DEADLINE_MS,
            ..Terms::default()
        };
        self.open_market_on(aggregators, &terms).await
    }

    /// The same, on these terms.
    pub(crate) async fn open_market_on(
        &mut self,
        aggregators: &[AggregatorSettings],
        terms: &Terms,
    ) -> anyhow::Result<()> {
        let directory = self.directory.join("market");
        let market = Market::open(&self.pki, &directory, MARKET_SEED, aggregators).await?;
        let mut deciding = Deciding::of(&market, &self.pki, terms);
        deciding.budget_ms = terms.deadline_ms;
        self.deciding = Some(deciding);
        self.market = Some(market);
        Ok(())
    }

    /// The market that was opened.
    pub(crate) fn market(&self) -> anyhow::Result<&Market> {
        self.market.as_ref().context("no market was opened")
    }

    /// A collector called `collector-a` or `collector-b`, not started.
    pub(crate) fn collector(&self, name: &str) -> anyhow::Result<Collector> {
        let surroundings = self.surroundings();
        let collector = Collector::prepare(name, &self.directory, &self.pki, &surroundings)?;
        self.configure(&collector)?;
        Ok(collector)
    }

    /// Has a collector decide as the scene says now, from its next start on.
    pub(crate) fn configure(&self, collector: &Collector) -> anyhow::Result<()> {
        match &self.deciding {
            Some(deciding) => collector.decides(&self.pki, &self.surroundings(), deciding),
            None => Ok(()),
        }
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings {
            kafka: self.kafka.address(),
            topic_prefix: self.topic_prefix.clone(),
            mqtt_port: self.mosquitto.port(),
            authority: self.pki.authority(),
        }
    }

    /// `collector-a`, started and ready.
    pub(crate) async fn running_collector(&self) -> anyhow::Result<Collector> {
        let mut collector = self.collector("collector-a")?;
        collector.start().await?;
        Ok(collector)
    }

    /// A box with an empty flash, not started.
    pub(crate) fn agent(&self, device: &str) -> anyhow::Result<Agent> {
        self.agent_with(device, Settings::default())
    }

    /// A box with an empty flash and its own settings, not started.
    pub(crate) fn agent_with(&self, device: &str, settings: Settings) -> anyhow::Result<Agent> {
        let device: DeviceId = device.parse()?;
        let port = self.mosquitto.port();
        Agent::prepare(&device, &self.directory, &self.pki, port, settings)
    }

    /// A box with an empty flash that reaches the broker by a cable, not
    /// started.
    pub(crate) fn agent_behind(&self, cable: &Cable, device: &str) -> anyhow::Result<Agent> {
        let device: DeviceId = device.parse()?;
        let settings = Settings::default();
        Agent::prepare(&device, &self.directory, &self.pki, cable.port(), settings)
    }

    /// A box with an empty flash, started.
    pub(crate) async fn running_agent(&self, device: &str) -> anyhow::Result<Agent> {
        let mut agent = self.agent(device)?;
        agent.start().await?;
        Ok(agent)
    }

    /// Connects to the socket of `agent`. What it is answered is audited.
    pub(crate) async fn client(&self, agent: &Agent) -> anyhow::Result<Client> {
        Client::connect(agent, &self.answers()).await
    }

    /// Someone with the certificate of `device` who asks for its client id.
    pub(crate) fn mqtt_client(&self, device: &str) -> anyhow::Result<MqttClient> {
        Ok(MqttClient {
            port: self.mosquitto.port(),
            authority: self.pki.authority(),
            identity: Some(self.pki.device(&device.parse()?)?),
            client_id: device.to_owned(),
        })
    }

    /// Adds to what is audited that `device` holds an ordinary event: for boxes
    /// that are no agents of ours.
    pub(crate) fn keep_accepted(
        &self,
        device: &str,
        epoch: Epoch,
        ordinal: u64,
    ) -> anyhow::Result<()> {
        let line = json!({
            "device": device,
            "epoch": epoch.to_string(),
            "ordinal": ordinal.to_string(),
            "status": "accepted",
        });
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.answers())?;
        Ok(writeln!(file, "{line}")?)
    }

    /// The full name of the topic called `rp.{name}` in production.
    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.topic_prefix)
    }

    /// All refined events, read by `kcat`, decoded, topic by topic.
    pub(crate) async fn refined(&self) -> anyhow::Result<Vec<RefinedEvent>> {
        let mut all = Vec::new();
        for name in REFINED {
            for record in self.kafka.records(&self.topic(name)).await? {
                let value = record.value.context("a refined event has a value")?;
                let refined = wire::Refined::decode(&value[..])?;
                ensure!(
                    record.key == refined.device_id.as_bytes(),
                    "the key of {refined:?} is {:?}",
                    String::from_utf8_lossy(&record.key)
                );
                all.push((name, refined));
            }
        }
        Ok(all)
    }

    /// Everything in `rp.rejected`, read by `kcat`, decoded.
    pub(crate) async fn rejected(&self) -> anyhow::Result<Vec<wire::Rejected>> {
        let records = self.kafka.records(&self.topic("rejected")).await?;
        records
            .into_iter()
            .map(|record| {
                let value = record.value.context("a rejected record has a value")?;
                Ok(wire::Rejected::decode(&value[..])?)
            })
            .collect()
    }

    /// Waits until the audit is content, then looks for itself: everything
    /// answered is in the refined topics, once each.
    pub(crate) async fn settle(&self, losses: Losses) -> anyhow::Result<()> {
        wait_until("the audit to be content", SETTLE_LIMIT, async || {
            self.audit().await
        })
        .await?;
        let mut places = BTreeMap::new();
        let mut proofs = BTreeMap::new();
        for (_, refined) in self.refined().await? {
            let epoch = refined.batch.and_then(|batch| batch.epoch);
            let epoch = Epoch::try_from(epoch.context("an event without epoch")?)?;
            let event = refined.event.context("a refined record without event")?;
            if let Some(ProofKey(key)) = ProofKey::of(&event) {
                *proofs
                    .entry((refined.device_id.clone(), format!("{key:032x}")))
                    .or_insert(0) += 1;
            }
            let place = (
                refined.device_id,
                epoch.to_string(),
                refined.ordinal.to_string(),
            );
            *places.entry(place).or_insert(0) += 1;
        }
        for (place, times) in &places {
            ensure!(
                *times == 1,
                "{place:?} is in the refined topics {times} times"
            );
        }
        for (proof, times) in &proofs {
            ensure!(
                *times == 1,
                "proof {proof:?} is in the refined topics {times} times"
            );
        }
        for kept in self.kept()? {
            let may_be_lost = match losses {
                Losses::None => false,
                Losses::Declared => kept.status == "accepted",
                Losses::Torn => true,
            };
            // A proof that was told twice has two places, and arrives at one.
            let is_proof_there = kept
                .proof_key
                .is_some_and(|key| proofs.contains_key(&(kept.device.clone(), key)));
            let place = (kept.device, kept.epoch, kept.ordinal);
            ensure!(
                may_be_lost || is_proof_there || places.contains_key(&place),
                "{place:?} was answered and is in no refined topic"
            );
        }
        Ok(())
    }

    /// What `returnpath-collector audit` says of all answers.
    async fn audit(&self) -> anyhow::Result<()> {
        let answers = self.answers();
        ensure!(
            !self.kept()?.is_empty(),
            "nothing was answered, so there is nothing to audit"
        );
        let path = answers.to_string_lossy();
        let output = self.operator.command(&["audit", &path]).await?;
        ensure!(
            output.status.success(),
            "audit: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Where answers are kept for the audit, a JSON object a line.
    pub(crate) fn answers(&self) -> PathBuf {
        self.directory.join("answers.jsonl")
    }

    fn kept(&self) -> anyhow::Result<Vec<Kept>> {
        let path = self.answers();
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?)
    }

    fn logs(&self) -> String {
        let mut tails = vec![
            tail(&self.kafka.log_path()),
            tail(&self.mosquitto.log_path()),
        ];
        collect_logs(&self.directory, &mut tails);
        tails.join("\n")
    }
}

fn collect_logs(directory: &Path, tails: &mut Vec<String>) {
    let mut paths: Vec<_> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect_logs(&path, tails);
        } else if path.extension().is_some_and(|extension| extension == "log") {
            tails.push(tail(&path));
        }
    }
}
