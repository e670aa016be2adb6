//! The role `refine`: raw records in, refined events out, each exactly once.
//!
//! A consumer group over `rp.raw`; whoever is assigned a partition of it owns
//! the same partition of `rp.raw.backlog`, of `rp.refine.state`, `rp.devices`
//! and `rp.completeness`, which are its memory, and of every output. What
//! becomes of a record is decided by `returnpath_refinery`; how records, state
//! and offsets become one transaction is `exactly_once`'s; `work` joins the two.

mod completeness;
mod metrics;
mod work;

use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;

pub use metrics::Metrics;

use crate::{
    admin::RoleHealth,
    exactly_once::{self, Bell, InputTopic, Terms},
    kafka,
    node_id::NodeId,
};
pub use exactly_once::{Error, GroupId};
use work::Refining;

/// How long an urgent event waits for others, in ms, while records keep coming.
/// With the commit itself (10 to 20 ms) and the way to Kafka it leaves most of
/// the 300 ms between socket and `rp.ads` to the rest.
const URGENT_HOLD_MS: u64 = 10;

/// Bytes of live records fetched ahead, in kilobytes: some 60,000 of them, a
/// second of the whole of 300,000 boxes.
const LIVE_QUEUE_KBYTES: u32 = 16_384;

/// The same for the backlog, which nobody waits for.
const BACKLOG_QUEUE_KBYTES: u32 = 8_192;

/// The section `[refine]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Kafka consumer group; its members share the partitions.
    pub group: GroupId,
    /// Transactions that are not finished this long after they began are
    /// aborted by Kafka; readers of committed records wait as long for a
    /// collector that died.
    #[serde(
        rename = "transaction_timeout_ms",
        deserialize_with = "crate::section::value::milliseconds"
    )]
    pub transaction_timeout: Duration,
}

/// Runs the role until `stop` holds `true`.
///
/// # Errors
/// When Kafka is not as required, or the state cannot be read.
pub async fn run(
    config: Config,
    kafka: kafka::Config,
    node_id: NodeId,
    health: RoleHealth,
    metrics: Metrics,
    stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let names = kafka.topics.clone();
    let terms = Terms {
        role: "refine",
        group: config.group,
        transaction_timeout: config.transaction_timeout,
        urgent_hold_ms: URGENT_HOLD_MS,
        inputs: [
            InputTopic {
                topic: names.raw.clone(),
                name: metrics::LANES[0],
                queue_kbytes: LIVE_QUEUE_KBYTES,
            },
            InputTopic {
                topic: names.raw_backlog.clone(),
                name: metrics::LANES[1],
                queue_kbytes: BACKLOG_QUEUE_KBYTES,
            },
        ],
        changelogs: work::changelogs(&names),
        bell: Bell::default(),
    };
    let engine = metrics.engine.clone();
    exactly_once::run(terms, kafka, node_id, health, engine, stop, || {
        Refining::new(names, metrics)
    })
    .await
}
