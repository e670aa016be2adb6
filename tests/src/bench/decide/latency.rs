//! From an opportunity on the box's socket to its verified decision there.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use returnpath_agent::clock;
use returnpath_shared::DeviceId;
use serde_json::{Value, json};

use super::{Broke, LIMIT, OWN_TIME};
use crate::{
    bench::{
        boxes::Boxes, metrics::Histogram, opportunities::Decisions, scene::Scene, spread::Spread,
    },
    client::Client,
    player::Player,
    wait::wait_until,
};

/// Pauses between opportunities, in ms: no multiple of any timer in the way.
const PAUSES_MS: [u64; 7] = [161, 197, 243, 171, 213, 183, 227];

/// Breaks begin so long after their signal.
const LEAD_MS: u64 = 10_000;

/// Decisions before those that are measured: connections, caches, state.
const WARM_UP: usize = 10;

/// Until a load has reached every stage.
const LOAD_BEFORE: Duration = Duration::from_secs(5);

/// Transactions that the roles committed, by the names of their counters.
const TRANSACTIONS: [&str; 2] = [
    "returnpath_refine_transactions_committed_total",
    "returnpath_decide_transactions_committed_total",
];

/// How long decisions took, and what went with them.
#[derive(Debug)]
pub struct Latencies {
    /// From handing in an opportunity to having its decision.
    pub spread: Spread,
    /// What must be none.
    pub broke: Broke,
    /// Transactions a second of refine and of decide, while it was measured.
    pub transactions_per_s: [f64; 2],
    /// Own time of a decision, by decide's own histogram.
    pub own: Histogram,
}

/// Hands in `count` opportunities of one box, one after another, and takes
/// the time until its player has each decision, while `load_rate` batches a
/// second of other boxes flow.
///
/// # Errors
/// When a part does not start, or a slot gets no decision or no ad.
pub async fn latency(
    scene: &mut Scene,
    count: usize,
    load_rate: u32,
    run: u64,
) -> anyhow::Result<Latencies> {
    scene.collector.start().await?;
    let mut decisions = Decisions::read(&scene.kafka.address())?;
    let device: DeviceId = "viewer-1".parse()?;
    let mut agent = scene.agent(&device).await?;
    let answers = scene.directory.join("decide-answers.jsonl");
    let mut client = Client::connect(&agent, &answers).await?;
    let mut player = Player::follow(&agent).await?;

    let load = if load_rate == 0 {
        None
    } else {
        let mut load = scene.load().await?;
        let mut boxes = Boxes::new("other", usize::try_from(load_rate)? * 5, run)?;
        Some(tokio::spawn(async move {
            load.hold(&mut boxes, load_rate, Duration::from_secs(3_600))
                .await
        }))
    };
    for number in 0..WARM_UP {
        let break_id = format!("warm-{run}-{number}");
        client.expect("accepted", &opportunity(&break_id)).await?;
        player.decision(&break_id, 0).await?;
    }
    if load.is_some() {
        tokio::time::sleep(LOAD_BEFORE).await;
    }

    let before = transactions(scene).await?;
    let own_before = Histogram::read(&scene.collector.metrics().await?, OWN_TIME)?;
    let began = Instant::now();
    let mut spread = Spread::default();
    for (number, pause_ms) in (0..count).zip(PAUSES_MS.into_iter().cycle()) {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        let break_id = format!("break-{run}-{number}");
        let opportunity = opportunity(&break_id);
        let started = Instant::now();
        client.expect("accepted", &opportunity).await?;
        let handed = player.decision(&break_id, 0).await?;
        ensure!(
            handed.decision.creative.is_some(),
            "{break_id} was not filled: {:?}",
            handed.decision
        );
        spread.push(handed.at.saturating_duration_since(started));
    }
    let wall_s = began.elapsed().as_secs_f64();
    let after = transactions(scene).await?;
    let own = Histogram::read(&scene.collector.metrics().await?, OWN_TIME)?.since(&own_before);
    if let Some(load) = load {
        if load.is_finished() {
            load.await??;
            bail!("the load of {load_rate}/s ended early");
        }
        load.abort();
    }
    let handed = player.handed();
    wait_until("every decision to be read", LIMIT, async || {
        let read = decisions.so_far().slots.len();
        ensure!(read >= handed.len(), "{read} of {}", handed.len());
        Ok(())
    })
    .await?;
    let given = handed.iter().map(|one| &one.decision);
    let broke = Broke::count(given, decisions.so_far());
    agent.terminate(LIMIT).await?;
    scene.collector.terminate(LIMIT).await?;
    Ok(Latencies {
        spread,
        broke,
        transactions_per_s: [0, 1].map(|role| (after[role] - before[role]) / wall_s),
        own,
    })
}

async fn transactions(scene: &Scene) -> anyhow::Result<[f64; 2]> {
    let [refine, decide] = TRANSACTIONS;
    Ok([scene.counter(refine).await?, scene.counter(decide).await?])
}

fn opportunity(break_id: &str) -> Value {
    json!({"adOpportunity": {
        "breakId": break_id,
        "startUptimeMs": (clock::uptime_ms() + LEAD_MS).to_string(),
        "durationMs": 30_000,
        "channel": {"networkId": 64_257, "transportStreamId": 1, "serviceId": 4_164},
        "source": "SOURCE_LIVE",
    }})
}
