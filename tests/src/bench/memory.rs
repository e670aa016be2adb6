//! Resident memory of an agent with its link up, over minutes.

use std::time::{Duration, Instant};

use returnpath_shared::DeviceId;
use serde_json::{Value, json};

use super::{
    process_usage::{Memory, memory},
    scene::Scene,
};
use crate::{client::Client, wait::wait_until};

/// Four events in 5 s.
const EVENT_EVERY: Duration = Duration::from_millis(1_250);

const SAMPLE_EVERY: Duration = Duration::from_secs(10);

const LINK_LIMIT: Duration = Duration::from_secs(30);

/// Samples of a run, oldest first.
#[derive(Debug)]
pub struct Outcome {
    /// Every 10 s.
    pub samples: Vec<Memory>,
}

impl Outcome {
    /// The largest of each figure.
    #[must_use]
    pub fn peak(&self) -> Memory {
        let peak = |figure: fn(&Memory) -> u64| self.samples.iter().map(figure).max();
        Memory {
            resident_kib: peak(|sample| sample.resident_kib).unwrap_or_default(),
            anonymous_kib: peak(|sample| sample.anonymous_kib).unwrap_or_default(),
        }
    }

    /// Growth of anonymous memory over the second half of the run, in KiB.
    #[must_use]
    pub fn growth_kib(&self) -> i64 {
        let half = self.samples.len() / 2;
        let figure = |sample: Option<&Memory>| {
            sample.map_or(0, |sample| {
                i64::try_from(sample.anonymous_kib).unwrap_or(i64::MAX)
            })
        };
        figure(self.samples.last()) - figure(self.samples.get(half))
    }
}

/// Feeds one agent for `span`, its link up and its batches receipted.
///
/// # Errors
/// When a part does not start, or the link does not come up.
pub async fn run(scene: &mut Scene, span: Duration) -> anyhow::Result<Outcome> {
    scene.collector.start().await?;
    let device: DeviceId = "memory-1".parse()?;
    let mut agent = scene.agent(&device).await?;
    let answers = scene.directory.join("memory-answers.jsonl");
    let mut client = Client::connect(&agent, &answers).await?;
    client.expect("durable", &events("link", 3)).await?;
    wait_until("a receipt", LINK_LIMIT, async || {
        let status = agent.status().await?;
        let receipted = status["events"]["receipted"].as_u64().unwrap_or_default();
        anyhow::ensure!(receipted > 0, "{status}");
        Ok(())
    })
    .await?;

    let process = agent.process_id()?;
    let started = Instant::now();
    let mut samples = Vec::new();
    for number in 0_u32.. {
        if started.elapsed() >= span {
            break;
        }
        if started.elapsed() >= SAMPLE_EVERY * u32::try_from(samples.len())? {
            samples.push(memory(process)?);
        }
        client.send(&events(&number.to_string(), number)).await?;
        tokio::time::sleep_until((started + EVENT_EVERY * (number + 1)).into()).await;
    }
    samples.push(memory(process)?);
    agent.terminate(LINK_LIMIT).await?;
    scene.collector.terminate(LINK_LIMIT).await?;
    Ok(Outcome { samples })
}

/// What a box tells: mostly ordinary, every fourth a proof.
fn events(id: &str, number: u32) -> Value {
    let channel = json!({"networkId": 64_257, "serviceId": 4_164 + number % 8});
    match number % 4 {
        0 => json!({"tune": {"channel": channel, "source": "SOURCE_LIVE"}}),
        1 => json!({"viewingHeartbeat": {"channel": channel, "source": "SOURCE_LIVE"}}),
        2 => json!({"userActivity": {"inputs": 2}}),
        _ => json!({"adEvent": {"kind": "KIND_COMPLETE", "decisionId": format!("d{id}")}}),
    }
}
