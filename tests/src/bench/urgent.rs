//! From the box's socket to a reader of `rp.ads`: how long an urgent event
//! takes, alone and among the batches of other boxes.

use std::{
    collections::HashMap,
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use prost::Message as _;
use rdkafka::{
    ClientConfig, Message as _,
    consumer::{BaseConsumer, Consumer as _},
};
use returnpath_shared::{DeviceId, wire};
use serde_json::json;

use super::{boxes::Boxes, scene::Scene, spread::Spread};
use crate::client::Client;

const TOPIC: &str = "rp.ads";

/// Pauses between events, in ms: no multiple of any timer in the way.
const PAUSES_MS: [u64; 7] = [61, 97, 143, 71, 113, 83, 127];

const ARRIVAL_LIMIT: Duration = Duration::from_secs(20);

/// Hands in `events` impressions and sees each of them in `rp.ads`, while
/// `load_rate` batches a second of other boxes flow.
///
/// # Errors
/// When a part does not start, or an event does not arrive.
pub async fn latency(
    scene: &mut Scene,
    events: usize,
    load_rate: u32,
    run: u64,
) -> anyhow::Result<Spread> {
    scene.collector.start().await?;
    let device: DeviceId = "urgent-1".parse()?;
    let mut agent = scene.agent(&device).await?;
    let answers = scene.directory.join("urgent-answers.jsonl");
    let mut client = Client::connect(&agent, &answers).await?;
    let arrivals = arrivals(&scene.kafka.address(), TOPIC)?;
    // The first event also waits for the link and for the partition.
    warm_up(&mut client, &arrivals, run).await?;

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
    if let Some(load) = &load {
        // Until the load has reached every stage.
        tokio::time::sleep(Duration::from_secs(5)).await;
        if load.is_finished() {
            bail!("the load of {load_rate}/s could not be held");
        }
    }

    let mut handed_in = HashMap::new();
    let mut spread = Spread::default();
    for (number, pause_ms) in (0..events).zip(PAUSES_MS.into_iter().cycle()) {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        let id = format!("{run}-{number}");
        let started = Instant::now();
        handed_in.insert(id.clone(), started);
        client.expect("durable", &impression(&id)).await?;
        collect(&arrivals, &mut handed_in, &mut spread);
    }
    let deadline = Instant::now() + ARRIVAL_LIMIT;
    while !handed_in.is_empty() {
        if Instant::now() > deadline {
            bail!("{} of {events} events have not arrived", handed_in.len());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        collect(&arrivals, &mut handed_in, &mut spread);
    }
    if let Some(load) = load {
        if load.is_finished() {
            load.await??;
            bail!("the load of {load_rate}/s ended early");
        }
        load.abort();
    }
    agent.terminate(ARRIVAL_LIMIT).await?;
    scene.collector.terminate(ARRIVAL_LIMIT).await?;
    Ok(spread)
}

/// An impression as its player tells it.
pub fn impression(decision_id: &str) -> serde_json::Value {
    json!({"adEvent": {
        "kind": "KIND_START", "decisionId": decision_id, "breakId": "b1", "creativeId": "c1",
    }})
}

async fn warm_up(
    client: &mut Client,
    arrivals: &mpsc::Receiver<(String, Instant)>,
    run: u64,
) -> anyhow::Result<()> {
    for number in 0..5 {
        let id = format!("warm-{run}-{number}");
        client.expect("durable", &impression(&id)).await?;
        crate::wait::wait_until("the first event in rp.ads", ARRIVAL_LIMIT, async || {
            let (seen, _) = arrivals.try_recv()?;
            anyhow::ensure!(seen == id, "saw {seen}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Takes the time of what has arrived of what was handed in.
pub fn collect(
    arrivals: &mpsc::Receiver<(String, Instant)>,
    handed_in: &mut HashMap<String, Instant>,
    spread: &mut Spread,
) {
    for (id, arrived) in arrivals.try_iter() {
        if let Some(started) = handed_in.remove(&id) {
            spread.push(arrived - started);
        }
    }
}

/// A reader of committed records of refined ads that tells the decision id of
/// each and when it had it.
///
/// # Errors
/// When Kafka does not answer.
pub fn arrivals(
    kafka: &str,
    topic_name: &str,
) -> anyhow::Result<mpsc::Receiver<(String, Instant)>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("group.id", "bench-urgent")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "latest")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "100")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic_name), ARRIVAL_LIMIT)?;
    let topic = metadata
        .topics()
        .first()
        .with_context(|| format!("{topic_name} is missing"))?;
    let mut assignment = rdkafka::TopicPartitionList::new();
    for partition in topic.partitions() {
        // Offsets known now, so that nothing is missed before the first poll.
        let (_, end) = consumer.fetch_watermarks(topic_name, partition.id(), ARRIVAL_LIMIT)?;
        assignment.add_partition_offset(
            topic_name,
            partition.id(),
            rdkafka::Offset::Offset(end),
        )?;
    }
    consumer.assign(&assignment)?;
    let (tell, arrivals) = mpsc::channel();
    std::thread::spawn(move || {
        loop {
            let Some(Ok(record)) = consumer.poll(Duration::from_millis(100)) else {
                continue;
            };
            let arrived = Instant::now();
            let refined = wire::Refined::decode(record.payload().unwrap_or_default());
            let kind = refined.ok().and_then(|refined| refined.event?.kind);
            if let Some(wire::event::Kind::AdEvent(ad)) = kind
                && tell.send((ad.decision_id, arrived)).is_err()
            {
                return;
            }
        }
    });
    Ok(arrivals)
}
