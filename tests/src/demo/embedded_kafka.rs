//! The Kafka of the demo, in this process: librdkafka's mock cluster. It
//! speaks the real protocol to real clients, transactions included.
//!
//! **Its limits:** aborted transactions are delivered as if they were
//! committed; each partition keeps 5 MiB and then drops its oldest records
//! silently; a fetch that finds nothing is answered after its whole wait, also
//! when a record comes in between (librdkafka 2.x, `rdkafka_mock_handlers.c`), so
//! latencies are longer than Kafka's; nothing survives the process. So the demo aborts nothing, and its
//! audit reads along instead of afterwards. The tests run against Apache Kafka.

use std::time::Duration;

use anyhow::Context as _;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    mocking::MockCluster,
    producer::DefaultProducerContext,
};
use returnpath_collector::kafka;
use serde_json::json;

/// Boxes spread over more than one; each keeps 5 MiB.
const PARTITIONS: i32 = 4;

const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What the names of the topics begin with.
pub(super) const TOPIC_PREFIX: &str = "rp";

/// A running mock cluster with the collector's topics.
pub(super) struct EmbeddedKafka {
    /// Ends when it is dropped.
    _cluster: MockCluster<'static, DefaultProducerContext>,
    address: String,
    config: kafka::Config,
}

impl EmbeddedKafka {
    pub(super) fn start() -> anyhow::Result<Self> {
        let cluster = MockCluster::new(1).context("start the mock cluster")?;
        let address = cluster.bootstrap_servers();
        let config: kafka::Config = serde_json::from_value(json!({
            "brokers": [&address],
            "topic_prefix": TOPIC_PREFIX,
            "development": true,
            "plaintext": true,
        }))
        .context("configuration of the Kafka client")?;
        for topic in config.topics.all() {
            cluster
                .create_topic(topic, PARTITIONS, 1)
                .with_context(|| format!("create {topic}"))?;
        }
        Ok(Self {
            _cluster: cluster,
            address,
            config,
        })
    }

    /// `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// How to reach it.
    pub(super) fn config(&self) -> &kafka::Config {
        &self.config
    }

    /// Where each partition of these topics ends. The mock writes no markers
    /// of transactions, so the last record stands just below.
    pub(super) fn ends(&self, topics: &[String]) -> anyhow::Result<Vec<(String, i32, i64)>> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.address)
            .create()?;
        let mut ends = Vec::new();
        for topic in topics {
            for partition in 0..PARTITIONS {
                let (_, end) = consumer
                    .fetch_watermarks(topic, partition, ANSWER_LIMIT)
                    .with_context(|| format!("ask where {topic}/{partition} ends"))?;
                ends.push((topic.clone(), partition, end));
            }
        }
        Ok(ends)
    }
}
