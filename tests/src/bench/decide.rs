//! The way back: from an opportunity on the box's socket to its decision
//! there; what deciding costs; and how fast an aggregator that only fails is
//! left alone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use returnpath_agent::clock;
use returnpath_shared::DeviceId;
use serde_json::{Value, json};

use super::{
    boxes::Boxes,
    opportunities::{Decisions, Feed},
    process_usage::{Memory, cpu_time, memory},
    scene::Scene,
    spread::Spread,
};
use crate::{
    client::Client,
    collector::Deciding,
    market::{AggregatorSettings, Api, Behaviour, Latency, Market, Stock, Terms},
    player::Player,
    wait::wait_until,
};

/// What every aggregator takes to answer.
const ANSWER_AFTER: Duration = Duration::from_millis(50);

/// Seed of the market: the same offers in every run.
const MARKET_SEED: u64 = 4;

/// Pauses between opportunities, in ms: no multiple of any timer in the way.
const PAUSES_MS: [u64; 7] = [161, 197, 243, 171, 213, 183, 227];

/// Breaks begin so long after their signal.
const LEAD_MS: u64 = 10_000;

/// Decisions before those that are measured: connections, caches, state.
const WARM_UP: usize = 10;

const LIMIT: Duration = Duration::from_secs(60);

/// Boxes that take turns where decide is fed directly.
const BOXES: u64 = 5_000;

const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// How long an aggregator has, in ms; the default of the collector's example.
const DEADLINE_MS: u32 = 150;

/// How often a box may see one advertiser, as in the collector's example.
const CAP: (u32, u64) = (4, 86_400_000);

/// Opens three aggregators, one of each kind, that fill every slot after 50 ms,
/// and has the collector ask them.
///
/// # Errors
/// When they do not start.
pub async fn market(scene: &Scene) -> anyhow::Result<Market> {
    let aggregators: Vec<_> = [
        ("northstar", Api::Query),
        ("meridian", Api::Json),
        ("polar", Api::Keyed),
    ]
    .into_iter()
    .map(|(name, api)| AggregatorSettings {
        name: name.to_owned(),
        api,
        stock: Stock {
            fill: 1.0,
            price_micros: 2_000_000..=9_000_000,
            latency: Latency::fixed(ANSWER_AFTER),
        },
    })
    .collect();
    let market = Market::open(
        &scene.pki,
        &scene.directory.join("market"),
        MARKET_SEED,
        &aggregators,
    )
    .await?;
    let terms = Terms {
        deadline_ms: DEADLINE_MS,
        ..Terms::default()
    };
    let mut deciding = Deciding::of(&market, &scene.pki, &terms);
    deciding.cap = Some(CAP);
    scene.decide(&deciding)?;
    Ok(market)
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
) -> anyhow::Result<Spread> {
    scene.collector.start().await?;
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
        // Until the load has reached every stage.
        tokio::time::sleep(Duration::from_secs(5)).await;
    }

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
    if let Some(load) = load {
        if load.is_finished() {
            load.await??;
            bail!("the load of {load_rate}/s ended early");
        }
        load.abort();
    }
    agent.terminate(LIMIT).await?;
    scene.collector.terminate(LIMIT).await?;
    Ok(spread)
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

/// What deciding at a rate came to.
#[derive(Debug)]
pub struct Throughput {
    /// Opportunities fed.
    pub fed: u64,
    /// Slots decided, and of them filled.
    pub decided: u64,
    /// Slots that got an ad.
    pub filled: u64,
    /// Slots with more than one record of how they were decided.
    pub twice: usize,
    /// Requests that the aggregators took.
    pub asked: u64,
    /// Connections that they took.
    pub connections: u64,
    /// CPU time of the collector from the first opportunity to the last
    /// decision.
    pub cpu: Duration,
    /// From the first opportunity to the last decision.
    pub wall: Duration,
    /// Memory of the collector, every second.
    pub samples: Vec<Memory>,
    /// Own time of a decision: at most this long for 99 of 100, by decide's
    /// own histogram, in seconds.
    pub own_time_p99_s: f64,
}

impl Throughput {
    /// CPU of one decision, in microseconds.
    #[must_use]
    pub fn us_per_decision(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.decided.max(1) as f64
    }

    /// Smallest and largest resident memory in the second half, in KiB.
    #[must_use]
    pub fn resident_kib(&self) -> (u64, u64) {
        let half = &self.samples[self.samples.len() / 2..];
        let resident = half.iter().map(|sample| sample.resident_kib);
        let (low, high) = (resident.clone().min(), resident.max());
        (low.unwrap_or_default(), high.unwrap_or_default())
    }
}

/// Feeds `rate` opportunities a second for `span` to one collector that
/// decides and does nothing else.
///
/// # Errors
/// When a part does not start, or decisions stay away.
pub async fn throughput(
    scene: &mut Scene,
    market: &Market,
    rate: u32,
    span: Duration,
) -> anyhow::Result<Throughput> {
    scene.collector.start_roles("decide").await?;
    let process = scene.collector.process_id()?;
    let kafka = scene.kafka.address();
    let mut decisions = Decisions::read(&kafka)?;
    let mut feed = Feed::open(&kafka, BOXES)?;
    // Connections, caches and the first allocations are no part of the rate.
    let warm = feed.hold(50, Duration::from_secs(2)).await?;
    decided(&mut decisions, warm).await?;

    let before = cpu_time(process)?;
    let asked_before: u64 = asked(market);
    let started = Instant::now();
    let feeding = tokio::spawn(async move {
        let fed = feed.hold(rate, span).await;
        (feed, fed)
    });
    let mut samples = Vec::new();
    while !feeding.is_finished() {
        tokio::time::sleep(SAMPLE_EVERY).await;
        samples.push(memory(process)?);
        decisions.so_far();
    }
    let (_feed, fed) = feeding.await?;
    let fed = fed?;
    decided(&mut decisions, warm + fed).await?;
    let wall = started.elapsed();
    let cpu = cpu_time(process)?.saturating_sub(before);
    samples.push(memory(process)?);
    let own_time_p99_s = quantile(&scene.collector.metrics().await?, OWN_TIME, 0.99)
        .context("decide tells no own time")?;
    let all = decisions.so_far();
    let outcome = Throughput {
        fed,
        decided: all.slots.len() as u64 - warm,
        filled: all.filled.saturating_sub(warm),
        twice: all.twice(),
        asked: asked(market) - asked_before,
        connections: market
            .aggregators()
            .iter()
            .map(|one| one.counts().connections)
            .sum(),
        cpu,
        wall,
        samples,
        own_time_p99_s,
    };
    scene.collector.terminate(LIMIT).await?;
    Ok(outcome)
}

async fn decided(decisions: &mut Decisions, count: u64) -> anyhow::Result<()> {
    wait_until("every slot to be decided", LIMIT, async || {
        let decided = decisions.so_far().slots.len() as u64;
        ensure!(decided >= count, "{decided} of {count}");
        Ok(())
    })
    .await
}

fn asked(market: &Market) -> u64 {
    market
        .aggregators()
        .iter()
        .map(|one| one.counts().asked)
        .sum()
}

/// How an aggregator that only fails was left alone, and asked again.
#[derive(Debug)]
pub struct Broken {
    /// Calls to it that failed, from the first failure until it was left alone.
    pub failures: u64,
    /// From the first of these calls to the last.
    pub stopped_after: Duration,
    /// From its recovery to its next offer.
    pub resumed_after: Duration,
}

/// Has one of the aggregators fail while `rate` opportunities a second are
/// fed, until it is left alone; then lets it recover.
///
/// # Errors
/// When a part does not start, it is never left alone, or never asked again.
pub async fn breaker(scene: &mut Scene, market: &Market, rate: u32) -> anyhow::Result<Broken> {
    scene.collector.start_roles("decide").await?;
    let mut feed = Feed::open(&scene.kafka.address(), BOXES)?;
    let failing = market
        .aggregators()
        .first()
        .context("the market has no aggregator")?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let feeding = tokio::spawn(async move {
        while !*stopped.borrow() {
            feed.hold(rate, Duration::from_millis(200)).await?;
        }
        anyhow::Ok(())
    });
    wait_until("offers of an aggregator", LIMIT, async || {
        ensure!(failing.counts().offered > u64::from(rate), "too few");
        Ok(())
    })
    .await?;

    failing.behave(Behaviour::Status(500)).await?;
    let failed_before = failing.counts().faulty;
    // Left alone: nothing for as long as would bring dozens of calls.
    let mut last = (failing.counts().faulty, Instant::now());
    let deadline = Instant::now() + LIMIT;
    let quiet = Duration::from_millis(500);
    while last.0 == failed_before || last.1.elapsed() < quiet {
        ensure!(Instant::now() < deadline, "it is never left alone");
        tokio::time::sleep(Duration::from_millis(5)).await;
        let faulty = failing.counts().faulty;
        if faulty != last.0 {
            last = (faulty, Instant::now());
        }
    }
    let calls = failing.asked();
    let faulty: Vec<_> = calls
        .iter()
        .rev()
        .take(usize::try_from(last.0 - failed_before)?)
        .collect();
    let stopped_after = match (faulty.last(), faulty.first()) {
        (Some(first), Some(last)) => last.at.saturating_duration_since(first.at),
        (None, _) | (_, None) => bail!("no call failed"),
    };

    failing.behave(Behaviour::Fine).await?;
    let recovered = Instant::now();
    let offered = failing.counts().offered;
    let resumed_after = wait_until("it to be asked again", LIMIT, async || {
        ensure!(failing.counts().offered > offered, "it is left alone");
        Ok(recovered.elapsed())
    })
    .await?;
    stop.send_replace(true);
    feeding.await??;
    scene.collector.terminate(LIMIT).await?;
    Ok(Broken {
        failures: last.0 - failed_before,
        stopped_after,
        resumed_after,
    })
}

/// Decide's own time for each decision.
const OWN_TIME: &str = "returnpath_decide_own_seconds";

/// The upper bound of the bucket in which a quantile of a histogram lies, over
/// all its labels; `None` when nothing was observed.
fn quantile(metrics: &str, name: &str, quantile: f64) -> Option<f64> {
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for line in metrics.lines() {
        let Some(rest) = line
            .strip_prefix(name)
            .and_then(|it| it.strip_prefix("_bucket{"))
        else {
            continue;
        };
        let (labels, count) = rest.rsplit_once("} ")?;
        let bound = labels.split("le=\"").nth(1)?.split('"').next()?;
        let bound = match bound {
            "+Inf" => f64::INFINITY,
            number => number.parse().ok()?,
        };
        let count: f64 = count.split(' ').next()?.parse().ok()?;
        match buckets.iter_mut().find(|(of, _)| *of == bound) {
            Some((_, sum)) => *sum += count,
            None => buckets.push((bound, count)),
        }
    }
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (_, all) = *buckets.last()?;
    let wanted = all * quantile;
    let found = buckets.iter().find(|(_, count)| *count >= wanted);
    found.map(|(bound, _)| *bound).filter(|_| all > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_bound_of_its_bucket() {
        let text = "\
own_bucket{le=\"0.001\"} 90
own_bucket{le=\"0.005\"} 99
own_bucket{le=\"+Inf\"} 100
own_sum 1
own_count 100
";
        for (of, expected) in [
            (0.5, 0.001),
            (0.95, 0.005),
            (0.99, 0.005),
            (1.0, f64::INFINITY),
        ] {
            assert_eq!(quantile(text, "own", of), Some(expected), "{of}");
        }
        assert_eq!(quantile("", "own", 0.5), None);
        assert_eq!(quantile("own_bucket{le=\"+Inf\"} 0", "own", 0.5), None);
    }
}
