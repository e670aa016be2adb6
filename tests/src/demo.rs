//! The demo: the whole path on one machine, with a proof at its end.
//!
//! Real are the collector and the agents (processes of their own), the agent's
//! cores and link in every simulated box, TLS with client certificates, signed
//! decisions, and the audit. Embedded are the MQTT broker and Kafka, whose limits
//! stand in their files, and the ad market. Owns the order of starting and
//! stopping:
//!
//! brokers, ad market, collector, audit, agents, boxes; then feed; then stop
//! feeding, wait until everything answered has been read and everything asked
//! for is decided, stop boxes, agents, collector, read to the end of the topics,
//! and judge.

mod ad_market;
mod agents;
mod breakers;
mod embedded_kafka;
mod funnel;
mod look_in;
mod middleware;
mod mqtt_broker;
mod read_along;
mod slots;
mod story;
mod summary;
mod table;
mod view;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use tokio::{sync::mpsc, time::interval};

use self::{
    ad_market::AdMarket,
    agents::Agents,
    breakers::Breakers,
    embedded_kafka::{EmbeddedKafka, TOPIC_PREFIX},
    mqtt_broker::EmbeddedBroker,
    read_along::{ANSWERS_WAITING_MAX, HANDED_WAITING_MAX, ReadAlong},
    story::{Of, Stories},
    summary::Run,
    view::{Frame, View},
};
pub use self::{
    funnel::{AggregatorFunnel, Funnel, OnAgents, Unfilled},
    slots::SlotFaults,
    story::{Step, Story},
    summary::Summary,
};
use crate::{
    collector::{Collector, Surroundings},
    fleet::{AdSource, Fleet, FleetSettings, Load, lineup::Lineup, moment::Moment},
    pki::DevelopmentPki,
    wait::wait_until,
};

/// Certificates of a demo live no longer than it may run.
const VALIDITY: Duration = Duration::from_secs(24 * 3_600);

/// From the last event to its record being read: a batch interval, and time
/// for resends should something have been lost on the way.
const DRAIN_LIMIT: Duration = Duration::from_secs(90);

/// A clean stop of a process.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// Reading what the collector wrote last.
const READ_LIMIT: Duration = Duration::from_secs(20);

/// Between two frames.
const FRAME_INTERVAL: Duration = Duration::from_millis(500);

/// Frames over which the rate is taken.
const RATE_FRAMES: usize = 10;

/// What to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Agents as processes.
    pub agents: u32,
    /// Simulated boxes.
    pub boxes: u32,
    /// Seed of the households.
    pub seed: u64,
    /// Time of day at which they begin.
    pub from: Moment,
    /// How much faster than real they live.
    pub speed: u32,
    /// For how long they are fed; until ctrl-c without.
    pub feed_for: Option<Duration>,
    /// Where frames go.
    pub output: Output,
    /// Logs, certificates and the agents' flash.
    pub directory: PathBuf,
}

/// What standard output is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Frames and summary.
    People,
    /// The summary as JSON; frames go to standard error.
    Json,
}

/// Runs the demo to its end.
///
/// # Errors
/// When something could not be started, or ended unasked.
pub async fn run(settings: Settings) -> anyhow::Result<Summary> {
    starting("the MQTT broker, Kafka and the ad market")?;
    let pki = DevelopmentPki::create(&settings.directory.join("pki"), VALIDITY)?;
    let clients_max = usize::try_from(settings.boxes + settings.agents + 10)?;
    let broker = EmbeddedBroker::start(&pki, clients_max).await?;
    let kafka = EmbeddedKafka::start()?;
    let market = AdMarket::open(&pki, &settings.directory, settings.seed).await?;
    let mut demo = Demo::start(settings, &pki, &broker, &kafka, &market).await?;
    demo.feed().await?;
    demo.finish(&kafka).await
}

/// Says what the next seconds are for.
fn starting(what: &str) -> io::Result<()> {
    writeln!(io::stderr(), "starting {what}")
}

/// Everything that runs.
struct Demo {
    settings: Settings,
    collector: Collector,
    agents: Agents,
    fleet: Fleet,
    read_along: ReadAlong,
    breakers: Breakers,
    view: View,
    look_in: Vec<String>,
    started: Instant,
    /// Events answered at the last frames, for the rate.
    answered: Vec<u64>,
}

impl Demo {
    async fn start(
        settings: Settings,
        pki: &DevelopmentPki,
        broker: &EmbeddedBroker,
        kafka: &EmbeddedKafka,
        market: &AdMarket,
    ) -> anyhow::Result<Self> {
        starting("the collector")?;
        let surroundings = Surroundings {
            kafka: kafka.address().to_owned(),
            topic_prefix: TOPIC_PREFIX.to_owned(),
            mqtt_port: broker.port(),
            authority: pki.authority(),
        };
        let mut collector =
            Collector::prepare("collector-a", &settings.directory, pki, &surroundings)?;
        collector.decides(pki, &surroundings, market.deciding())?;
        collector.start().await.context("start the collector")?;

        let (answers, answered) = mpsc::channel(ANSWERS_WAITING_MAX);
        let (hand, handed) = mpsc::channel(HANDED_WAITING_MAX);
        let told_of = match settings.agents {
            0 => Of::All,
            _ => Of::Boxes(agents::PREFIX),
        };
        let stories = Stories::new(told_of, Lineup::london()?);
        let read_along = ReadAlong::start(kafka.config(), answered, handed, stories)?;

        starting("the agents and the simulated boxes")?;
        let boxes_directory = settings.directory.join("boxes");
        let mut agents =
            Agents::start(settings.agents, &boxes_directory, pki, broker.port()).await?;
        let fleet = Fleet::start(
            &FleetSettings {
                broker: format!("localhost:{}", broker.port()).parse()?,
                boxes: settings.boxes,
                prefix: "box-".into(),
                seed: settings.seed,
                load: Load::Viewers {
                    from: settings.from,
                    speed: settings.speed,
                    ads: AdSource::Decided,
                },
            },
            pki,
            &answers,
        )?;
        agents.feed(&settings, &Arc::new(Lineup::london()?), &answers, &hand);
        let view = match settings.output {
            Output::People => View::for_people(),
            Output::Json => View::beside_json(),
        };
        let look_in = look_in::commands(&settings.directory, settings.agents)?;
        Ok(Self {
            settings,
            collector,
            agents,
            fleet,
            read_along,
            breakers: Breakers::default(),
            view,
            look_in,
            started: Instant::now(),
            answered: Vec::new(),
        })
    }

    /// Shows what flows until the time is over or ctrl-c comes.
    async fn feed(&mut self) -> anyhow::Result<()> {
        let mut frames = interval(FRAME_INTERVAL);
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        loop {
            tokio::select! {
                _ = frames.tick() => self.look("feeding").await?,
                result = &mut interrupted => return result.context("wait for ctrl-c"),
            }
            self.check_running()?;
            let elapsed = self.started.elapsed();
            if self.settings.feed_for.is_some_and(|limit| elapsed >= limit) {
                return Ok(());
            }
        }
    }

    async fn look(&mut self, stage: &'static str) -> anyhow::Result<()> {
        // A collector that is too busy to answer is looked at again later.
        if let Ok(metrics) = self.collector.metrics().await {
            self.breakers.look(&metrics);
        }
        self.show(stage)
    }

    fn show(&mut self, stage: &'static str) -> anyhow::Result<()> {
        let seen = self.read_along.seen();
        self.answered.push(seen.answered);
        if self.answered.len() > RATE_FRAMES {
            self.answered.remove(0);
        }
        let first = self.answered.first().copied().unwrap_or(seen.answered);
        let frames = u32::try_from(self.answered.len().saturating_sub(1).max(1))?;
        let over_ms = (FRAME_INTERVAL * frames).as_millis();
        let answered_per_second = u128::from(seen.answered - first) * 1_000 / over_ms;
        self.view.show(&Frame {
            stage,
            elapsed: self.started.elapsed(),
            feed_for: self.settings.feed_for,
            agents: self.settings.agents,
            boxes: self.settings.boxes,
            speed: self.settings.speed,
            agents_decided: self.agents.counts().loop_latency.percentiles(),
            breaker_openings: self.breakers.openings(),
            fleet: self.fleet.counts(),
            seen,
            answered_per_second: u64::try_from(answered_per_second)?,
            look_in: self.look_in.clone(),
        })?;
        Ok(())
    }

    /// A part that ends unasked ends the demo.
    fn check_running(&mut self) -> anyhow::Result<()> {
        self.collector.check_running()?;
        self.agents.check_running()?;
        self.read_along.check_running()
    }

    async fn finish(mut self, kafka: &EmbeddedKafka) -> anyhow::Result<Summary> {
        let fed_s = self.started.elapsed().as_secs();
        self.agents.stop_feeding();
        self.fleet.stop_feeding();
        self.drain().await?;
        self.view.end()?;

        let fleet = self.fleet.stop().await;
        let agents_decided = self.agents.counts().loop_latency.percentiles();
        self.agents.stop().await?;
        let status = self.collector.terminate(STOP_LIMIT).await?;
        ensure!(status.success(), "the collector ended: {status}");

        // Nothing writes any more: what stands in the topics is all there is.
        let ends = kafka.ends(self.read_along.topics())?;
        let read_along = &self.read_along;
        wait_until("the audit to read everything", READ_LIMIT, async || {
            let positions = read_along.seen().positions;
            for (topic, partition, end) in &ends {
                let position = positions.get(&(topic.clone(), *partition)).copied();
                let position = position.unwrap_or_default();
                ensure!(position >= *end, "{topic}/{partition}: {position} of {end}");
            }
            Ok(())
        })
        .await?;
        let heard = self.read_along.finish()?;
        let run = Run {
            fed_s,
            agents: self.settings.agents,
            boxes: self.settings.boxes,
            seed: self.settings.seed,
            speed: self.settings.speed,
            fleet,
            agents_decided,
            breaker_openings: self.breakers.openings(),
        };
        Ok(Summary::new(run, heard))
    }

    /// Waits until all middlewares have their answers, everything answered has
    /// been read, and everything asked for is decided. What is still missing at
    /// the limit is for the audit to say, not for a timeout.
    async fn drain(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut frames = interval(FRAME_INTERVAL);
        // The auditor publishes a little later than it takes in: everything
        // must have been read at two looks in a row, and no answer come since.
        let mut settled_at = None;
        while began.elapsed() < DRAIN_LIMIT {
            frames.tick().await;
            self.look("draining").await?;
            self.check_running()?;
            let seen = self.read_along.seen();
            let quiet = self.agents.is_settled()
                && self.fleet.is_settled()
                && seen.outstanding == 0
                && seen.slot_faults.undecided == 0;
            if quiet && settled_at == Some(seen.answered) {
                return Ok(());
            }
            settled_at = quiet.then_some(seen.answered);
        }
        Ok(())
    }
}

/// Parses what `--agents` and `--boxes` may be.
///
/// # Errors
/// When there is nothing to feed, or more than one machine bears.
pub fn check_size(agents: u32, boxes: u32) -> anyhow::Result<()> {
    ensure!(boxes > 0, "a demo has at least 1 simulated box");
    if boxes > 10_000 || agents > 50 {
        bail!("at most 10000 simulated boxes and 50 agents");
    }
    Ok(())
}
