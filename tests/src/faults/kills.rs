//! Everything killed at random for as long as one likes: the command's run.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use serde::Serialize;
use tokio::sync::mpsc;

use super::{
    audited::Audited,
    boxes::Boxes,
    middleware::Handed,
    peak_memory::PeakMemory,
    plan::{self, Kill, Kind},
    stage::Stage,
    storm::{Parts, Storm},
};
use crate::{
    fleet::{AdSource, Fleet, FleetSettings, Load, moment::Moment, write_answers},
    kafka::Kafka,
};

/// Answers on their way to the file; households wait when it is full.
const ANSWERS_WAITING_MAX: usize = 4_096;

/// How much faster than real the households live.
const SPEED: u32 = 30;

/// From the last kill to nothing held: what is probed after 10 min at most.
const DRAIN_LIMIT: Duration = Duration::from_secs(660);

const AUDIT_LIMIT: Duration = Duration::from_secs(300);

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long is killed.
    pub span: Duration,
    /// Boxes with real agents, which are killed.
    pub boxes: u64,
    /// Simulated households beside them, which only see everything else die.
    pub households: u32,
    /// Names the kills.
    pub seed: u64,
}

/// What was done to processes of one kind.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Injected {
    kills: u64,
    down_s: f64,
    ended_by_themselves: u64,
}

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    seed: u64,
    killed_for_s: f64,
    boxes: u64,
    households: u32,
    injected: BTreeMap<Kind, Injected>,
    overlapping: u64,
    handed: Handed,
    events: u64,
    events_per_s: f64,
    audited: Audited,
    panics: Vec<String>,
    peak_memory: PeakMemory,
}

impl Report {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.audited.is_clean() && self.panics.is_empty()
    }

    /// Its section of the page of numbers.
    #[must_use]
    pub fn section(&self) -> String {
        let mut text = format!(
            "{boxes} boxes with real agents and {households} simulated households ({SPEED} times \
             faster than real), two collectors, one Kafka node, one Mosquitto that keeps nothing; \
             killed with SIGKILL for {minutes:.1} min, seed {seed}. {overlapping} of the kills \
             fell while something else was down.\n\n\
             | fault | kills | down in all | ended by itself, started again |\n\
             |---|---|---|---|\n",
            boxes = self.boxes,
            households = self.households,
            minutes = self.killed_for_s / 60.0,
            seed = self.seed,
            overlapping = self.overlapping,
        );
        for (kind, injected) in &self.injected {
            let _ = writeln!(
                text,
                "| {} killed | {} | {:.0} s | {} |",
                kind.name(),
                injected.kills,
                injected.down_s,
                injected.ended_by_themselves
            );
        }
        let _ = write!(
            text,
            "\nLoad: {:.0} events a second answered, {} in all; proof told again for want of an \
             answer {} times.\n\n{}\n{}",
            self.events_per_s,
            self.events,
            self.handed.told_again,
            self.audited.table(),
            self.peak_memory.table()
        );
        text
    }
}

/// Kills, audits, and says what came of it. `tell` is told of each kill and of
/// each stage.
///
/// # Errors
/// When something cannot be started, or an agent ends by itself.
pub async fn run(settings: Settings, mut tell: impl FnMut(&str)) -> anyhow::Result<Report> {
    let mut kafka = Kafka::start().await?;
    let mut stage = Stage::set("kills", &[kafka.address()]).await?;
    let mut collectors = [
        stage.collector("collector-a")?,
        stage.collector("collector-b")?,
    ];
    for collector in &mut collectors {
        collector.start().await?;
    }
    let mut boxes = Boxes::start(&stage, settings.boxes, stage.mosquitto.port()).await?;
    let households = Households::start(&stage, settings)?;
    tell("everything is up");

    let begun = Instant::now();
    let mut parts = Parts {
        kafka: &mut kafka,
        mosquitto: &mut stage.mosquitto,
        collectors: &mut collectors,
        agents: &mut boxes.agents,
    };
    let kills = plan::kills(settings.seed, &parts.all(), settings.span);
    let storm = Storm::rage(&mut parts, &kills, |kill| tell(&line(kill))).await?;
    let killed_for = begun.elapsed();

    tell("everything is up again; boxes send what they hold");
    let handed = boxes.stop_handing_in().await?;
    let mut answers = vec![stage.answers()];
    if let Some(households) = households {
        households.stop().await?;
        answers.push(stage.directory.join(HOUSEHOLD_ANSWERS));
    }
    tell("auditing");
    let audited = stage.audit(&answers, AUDIT_LIMIT).await?;
    let events = audited.ordinary.answered + audited.proof.answered;
    Ok(Report {
        seed: settings.seed,
        killed_for_s: killed_for.as_secs_f64(),
        boxes: settings.boxes,
        households: settings.households,
        injected: storm
            .killed
            .iter()
            .map(|(kind, killed)| {
                let injected = Injected {
                    kills: killed.times,
                    down_s: killed.down.as_secs_f64(),
                    ended_by_themselves: killed.ended_by_themselves,
                };
                (*kind, injected)
            })
            .collect(),
        overlapping: storm.overlapping,
        handed,
        events,
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        events_per_s: events as f64 / killed_for.as_secs_f64(),
        audited,
        panics: stage.panics()?,
        peak_memory: storm.peak_memory,
    })
}

fn line(kill: &Kill) -> String {
    format!(
        "{:8.1} s  {} is killed, for {:.1} s",
        kill.at.as_secs_f64(),
        kill.part,
        kill.down_for.as_secs_f64()
    )
}

const HOUSEHOLD_ANSWERS: &str = "household-answers.jsonl";

/// The simulated fleet, and the thread that keeps its answers.
struct Households {
    fleet: Fleet,
    writer: thread::JoinHandle<anyhow::Result<()>>,
}

impl Households {
    fn start(stage: &Stage, settings: Settings) -> anyhow::Result<Option<Self>> {
        if settings.households == 0 {
            return Ok(None);
        }
        let (answers, answered) = mpsc::channel(ANSWERS_WAITING_MAX);
        let file = File::create_new(stage.directory.join(HOUSEHOLD_ANSWERS))?;
        let writer = thread::spawn(move || write_answers(answered, file));
        let settings = FleetSettings {
            broker: format!("localhost:{}", stage.mosquitto.port()).parse()?,
            boxes: settings.households,
            prefix: "household-".into(),
            seed: settings.seed,
            load: Load::Viewers {
                from: Moment::parse("20:05")?,
                speed: SPEED,
                ads: AdSource::MadeUp,
            },
        };
        let fleet = Fleet::start(&settings, &stage.pki, &answers)?;
        Ok(Some(Self { fleet, writer }))
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        let drained = self.fleet.drain(DRAIN_LIMIT).await;
        self.fleet.stop().await;
        self.writer
            .join()
            .map_err(|_| anyhow!("the thread that writes answers panicked"))??;
        drained
    }
}
