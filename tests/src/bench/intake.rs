//! A burst of ordinary events from several clients: how many an agent takes,
//! and how long a client waits at the worst.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use returnpath_shared::DeviceId;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

use super::scene::Scene;

const STOP_LIMIT: Duration = Duration::from_secs(30);

/// What all clients saw together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Events answered `accepted`.
    pub accepted: u64,
    /// Events answered `busy`.
    pub busy: u64,
    /// Longest time from the first byte of a request to its answer.
    pub wait_max: Duration,
    /// How long the burst lasted.
    pub span: Duration,
}

impl Outcome {
    /// Events answered each second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        (self.accepted + self.busy) as f64 / self.span.as_secs_f64()
    }
}

/// `clients` send events for `span`, each its next as soon as it has the
/// answer to the last; the link is up.
///
/// # Errors
/// When a part does not start, or an event is answered otherwise.
pub async fn burst(scene: &mut Scene, clients: usize, span: Duration) -> anyhow::Result<Outcome> {
    scene.collector.start().await?;
    let device: DeviceId = "intake-1".parse()?;
    let mut agent = scene.agent(&device).await?;
    let started = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for number in 0..clients {
        let socket = agent.socket();
        let stream = UnixStream::connect(&socket)
            .await
            .with_context(|| format!("connect to {}", socket.display()))?;
        running.spawn(client(stream, number, started + span));
    }
    let mut total = Outcome::default();
    while let Some(outcome) = running.join_next().await {
        let outcome = outcome??;
        total.accepted += outcome.accepted;
        total.busy += outcome.busy;
        total.wait_max = total.wait_max.max(outcome.wait_max);
    }
    total.span = started.elapsed();
    agent.terminate(STOP_LIMIT).await?;
    scene.collector.terminate(STOP_LIMIT).await?;
    Ok(total)
}

async fn client(stream: UnixStream, number: usize, until: Instant) -> anyhow::Result<Outcome> {
    let (reader, mut writer) = stream.into_split();
    let mut answers = BufReader::new(reader).lines();
    let event = r#"{"viewingHeartbeat":{"channel":{"networkId":64257,"serviceId":4164},"source":"SOURCE_LIVE"}}"#;
    let mut outcome = Outcome::default();
    for request in 0_u64.. {
        let started = Instant::now();
        if started >= until {
            break;
        }
        let line = format!("{{\"id\":\"{number}-{request}\",\"event\":{event}}}\n");
        writer.write_all(line.as_bytes()).await?;
        let answer = answers.next_line().await?.context("the agent hung up")?;
        outcome.wait_max = outcome.wait_max.max(started.elapsed());
        if answer.contains("\"accepted\"") {
            outcome.accepted += 1;
        } else if answer.contains("\"busy\"") {
            outcome.busy += 1;
        } else {
            bail!("answered {answer}");
        }
    }
    Ok(outcome)
}
