//! The ad market of the demo: three aggregators unlike each other, of which one
//! fails now and then. Owns who they are and the rhythm of the failing one.

use std::{path::Path, time::Duration};

use tokio::{task::JoinHandle, time::sleep};

use crate::{
    collector::Deciding,
    market::{AggregatorSettings, Api, Behaviour, Latency, Market, Stock, Terms},
    pki::DevelopmentPki,
};

/// The one that fails now and then.
const UNRELIABLE: &str = "west";

/// Its rhythm: well for so long, then not.
const WELL: Duration = Duration::from_secs(13);
const FAILING: Duration = Duration::from_secs(3);

/// Kafka's mock answers late, so a whole asking may take longer than it would.
const BUDGET_MS: u32 = 500;
const DEADLINE_MS: u32 = 300;

/// How often a box may see one advertiser: four in an hour.
const CAP: (u32, u64) = (4, 3_600_000);

/// A running market.
pub(super) struct AdMarket {
    unreliable: JoinHandle<()>,
    deciding: Deciding,
}

impl AdMarket {
    pub(super) async fn open(
        pki: &DevelopmentPki,
        directory: &Path,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let market = Market::open(pki, &directory.join("market"), seed, &aggregators()).await?;
        let terms = Terms {
            deadline_ms: DEADLINE_MS,
            ..Terms::default()
        };
        let deciding = Deciding {
            cap: Some(CAP),
            budget_ms: BUDGET_MS,
            ..Deciding::of(&market, pki, &terms)
        };
        let unreliable = tokio::spawn(fail_now_and_then(market));
        Ok(Self {
            unreliable,
            deciding,
        })
    }

    /// How a collector asks it.
    pub(super) fn deciding(&self) -> &Deciding {
        &self.deciding
    }
}

impl Drop for AdMarket {
    fn drop(&mut self) {
        self.unreliable.abort();
    }
}

/// One that pays little and nearly always has something, one that pays more and
/// takes its time, one that pays most and is not to be relied on.
fn aggregators() -> [AggregatorSettings; 3] {
    let aggregator = |name: &str, api, fill, price_micros, median_ms| AggregatorSettings {
        name: name.into(),
        api,
        stock: Stock {
            fill,
            price_micros,
            latency: Latency {
                median: Duration::from_millis(median_ms),
                sigma: 0.3,
            },
        },
    };
    [
        aggregator("north", Api::Query, 0.9, 800_000..=3_000_000, 15),
        aggregator("east", Api::Json, 0.6, 2_000_000..=6_000_000, 60),
        aggregator(UNRELIABLE, Api::Keyed, 0.4, 4_000_000..=12_000_000, 30),
    ]
}

/// Owns the market: it lives as long as this does.
async fn fail_now_and_then(market: Market) {
    let Ok(aggregator) = market.aggregator(UNRELIABLE) else {
        return;
    };
    let faults = [
        Behaviour::Status(500),
        Behaviour::Dead,
        Behaviour::Garbage,
        Behaviour::Refuses,
    ];
    for fault in faults.into_iter().cycle() {
        sleep(WELL).await;
        if aggregator.behave(fault).await.is_err() {
            return;
        }
        sleep(FAILING).await;
        if aggregator.behave(Behaviour::Fine).await.is_err() {
            return;
        }
    }
}
