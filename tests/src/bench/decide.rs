//! The way back: from an opportunity on the box's socket to its decision
//! there; what deciding costs at a rate; and how fast an aggregator that only
//! fails is left alone.
//!
//! All three ask the same market: three aggregators, each with an API of its
//! own, over HTTPS on loopback, that offer an ad for every slot after 50 ms.
//! Their servers, the load and Kafka run on the same processors as what is
//! measured.

mod breaker;
mod latency;
mod promises;
mod throughput;

use std::time::Duration;

pub use self::{
    breaker::{Broken, Fault, breaker},
    latency::{Latencies, latency},
    promises::Broke,
    throughput::{Load, Throughput, throughput},
};
use super::scene::Scene;
use crate::{
    collector::Deciding,
    market::{AggregatorSettings, Api, Latency, Market, Stock, Terms},
};

/// What every aggregator takes to answer.
const ANSWER_AFTER: Duration = Duration::from_millis(50);

/// Seed of the market: the same offers in every run.
const MARKET_SEED: u64 = 4;

/// How long an aggregator has, in ms; the default of the collector's example.
const DEADLINE_MS: u32 = 150;

/// How often a box may see one advertiser, and in how many ms: as in the
/// collector's example.
pub const CAP: (u32, u64) = (4, 86_400_000);

/// A cap that counts each ad for half a minute: what is counted comes to its
/// bound within a run, and nobody is ever capped.
pub const BRIEF_CAP: (u32, u64) = (1_000, 30_000);

/// Anything that is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// The histogram of our own time for a decision.
const OWN_TIME: &str = "returnpath_decide_own_seconds";

/// Opens the market, and has the collector ask it under such a cap.
///
/// # Errors
/// When it does not open.
pub async fn market(scene: &Scene, cap: (u32, u64)) -> anyhow::Result<Market> {
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
    deciding.cap = Some(cap);
    scene.decide(&deciding)?;
    Ok(market)
}
