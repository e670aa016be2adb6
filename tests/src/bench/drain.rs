//! After an outage: a real agent sends what its queue held, while the viewer
//! goes on. How many events a second leave the box, and how long what is
//! urgent takes meanwhile.

use std::{
    collections::HashMap,
    fs::File,
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use returnpath_agent::{clock, config::Config};
use returnpath_delivery::Uptime;
use returnpath_shared::DeviceId;

use super::{
    outage::{Held, Outage},
    scene::Scene,
    spread::Spread,
    urgent,
    week::{EVENT_EVERY_MS, Events},
};
use crate::{
    agent::{Agent, Settings},
    client::Client,
    fleet::write_answers,
};

/// Between live events: no multiple of any timer in the way.
const LIVE_EVERY: Duration = Duration::from_millis(97);

/// Slower than 100 events a second is not waited for.
const DRAIN_LIMIT: Duration = Duration::from_secs(1_200);

/// From the last event handed in to its arrival.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(30);

/// When the outage begins, by the box's uptime.
const BEGINS: Uptime = Uptime(60_000);

/// The households of a seed do the same in every run.
const SEED: u64 = 7;

/// What was measured.
#[derive(Debug)]
pub struct Outcome {
    /// What the box held when its link came up.
    pub held: Held,
    /// Events receipted between the first look and the last.
    pub events: u64,
    /// The time between them.
    pub wall: Duration,
    /// From the socket to a reader of `rp.ads`, for each impression that was
    /// handed in meanwhile.
    pub live: Spread,
}

impl Outcome {
    /// Events a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.events as f64 / self.wall.as_secs_f64()
    }
}

/// Fills the queue in `flash` with so many events of an outage that ends now,
/// and adds their answers to `answers`.
///
/// # Errors
/// When the queue fails.
pub async fn fill(
    device: &DeviceId,
    flash: &Path,
    config: &Config,
    events: usize,
    answers: &Path,
) -> anyhow::Result<Held> {
    let lasts_ms = i64::try_from(events)? * i64::try_from(EVENT_EVERY_MS)?;
    let began_unix_ms = clock::unix_ms() - lasts_ms;
    let mut outage = Outage::begin(device, flash, config, BEGINS, began_unix_ms)?;
    let mut now = BEGINS;
    for (at, event) in Events::new(SEED, BEGINS)?.take(events) {
        outage.take(at, event).await?;
        now = at;
    }
    let held = outage.held(flash, now);
    let given = outage.stop(now).await?;
    let file = File::options().create(true).append(true).open(answers)?;
    let (give, taken) = tokio::sync::mpsc::channel(1_024);
    let written = tokio::task::spawn_blocking(move || write_answers(taken, file));
    for answer in given {
        give.send(answer).await.context("answers are not written")?;
    }
    drop(give);
    written.await??;
    Ok(held)
}

/// Hands in impressions until the agent, linked, holds no backlog any more,
/// and waits for the last of them in Kafka.
///
/// # Errors
/// When it takes too long, or something does not arrive.
pub async fn watch(
    agent: &Agent,
    client: &mut Client,
    arrivals: &mpsc::Receiver<(String, Instant)>,
    held: Held,
) -> anyhow::Result<Outcome> {
    let mut handed_in = HashMap::new();
    let mut live = Spread::default();
    let (first, _) = receipted(agent).await?;
    let began = Instant::now();
    let mut looked = began;
    let (events, wall) = loop {
        let id = format!("live-{}", live.count() + handed_in.len());
        handed_in.insert(id.clone(), Instant::now());
        client.expect("durable", &urgent::impression(&id)).await?;
        urgent::collect(arrivals, &mut handed_in, &mut live);
        if looked.elapsed() >= Duration::from_millis(500) {
            looked = Instant::now();
            let (last, backlog) = receipted(agent).await?;
            if backlog == 0 {
                break (last - first, began.elapsed());
            }
        }
        ensure!(began.elapsed() < DRAIN_LIMIT, "the queue does not drain");
        tokio::time::sleep(LIVE_EVERY).await;
    };
    let last = Instant::now();
    while !handed_in.is_empty() {
        ensure!(
            last.elapsed() < ARRIVAL_LIMIT,
            "{} live events did not arrive",
            handed_in.len()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
        urgent::collect(arrivals, &mut handed_in, &mut live);
    }
    Ok(Outcome {
        held,
        events,
        wall,
        live,
    })
}

/// Events receipted in this run, and batches of backlog still held.
async fn receipted(agent: &Agent) -> anyhow::Result<(u64, u64)> {
    let status = agent.status().await?;
    let number = |value: &serde_json::Value| value.as_u64().context("no number in the status");
    Ok((
        number(&status["events"]["receipted"])?,
        number(&status["queue"]["backlog"]["batches"])?,
    ))
}

/// A box that was offline for so long, on real parts; ends with the audit.
///
/// # Errors
/// When a part fails, or the audit finds anything.
pub async fn drain(scene: &mut Scene, config: &Config, events: usize) -> anyhow::Result<Outcome> {
    let device: DeviceId = "drain-1".parse()?;
    let port = scene.mosquitto.port();
    let settings = Settings {
        batch_interval_ms: 5_000,
    };
    let mut agent = Agent::prepare(&device, &scene.directory, &scene.pki, port, settings)?;
    let answers = scene.directory.join("drain-answers.jsonl");
    let held = fill(&device, &agent.flash(), config, events, &answers).await?;
    scene.collector.start().await?;
    let arrivals = urgent::arrivals(&scene.kafka.address(), "rp.ads")?;
    agent.start().await?;
    agent.linked().await?;
    let mut client = Client::connect(&agent, &answers).await?;
    let outcome = watch(&agent, &mut client, &arrivals, held).await?;
    agent.terminate(ARRIVAL_LIMIT).await?;
    let audit = scene
        .collector
        .command(&["audit", &answers.to_string_lossy()])
        .await?;
    ensure!(
        audit.status.success(),
        "audit: {}{}",
        String::from_utf8_lossy(&audit.stdout),
        String::from_utf8_lossy(&audit.stderr)
    );
    scene.collector.terminate(ARRIVAL_LIMIT).await?;
    Ok(outcome)
}
