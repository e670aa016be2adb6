//! A mock cluster with the collector's topics, and a producer into them.

use std::time::Duration;

use prost::Message;
use rdkafka::{
    ClientConfig,
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _},
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use returnpath_collector::kafka;
use returnpath_shared::wire::{self, Event, event};

/// Long enough for a busy machine; waits end as soon as they can.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Small, and more than one, so that boxes spread.
const PARTITIONS: u32 = 3;

pub(crate) struct Cluster {
    mock: MockCluster<'static, DefaultProducerContext>,
    kafka: kafka::Config,
    producer: BaseProducer,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let mock = MockCluster::new(1).unwrap();
        let kafka: kafka::Config = toml::from_str(&format!(
            "brokers = [{}]\nplaintext = true\ndevelopment = true\ntopic_prefix = \"rp\"",
            mock.bootstrap_servers()
                .split(',')
                .map(|server| format!("{server:?}"))
                .collect::<Vec<_>>()
                .join(",")
        ))
        .unwrap();
        for topic in kafka.topics.all() {
            let partitions = i32::try_from(PARTITIONS).unwrap();
            mock.create_topic(topic, partitions, 1).unwrap();
        }
        let producer = ClientConfig::new()
            .set("bootstrap.servers", mock.bootstrap_servers())
            .create()
            .unwrap();
        Self {
            mock,
            kafka,
            producer,
        }
    }

    /// Writes a record where its box belongs.
    pub(crate) fn write(&self, topic: &str, device: &str, payload: &[u8]) {
        let record = BaseRecord::to(topic)
            .key(device)
            .partition(kafka::partition(device.as_bytes(), PARTITIONS))
            .payload(payload);
        self.producer
            .send(record)
            .map_err(|(error, _)| error)
            .unwrap();
    }

    /// How to reach the cluster, once all that was written stands in it.
    pub(crate) fn settled(&self) -> &kafka::Config {
        self.producer.flush(PATIENCE).unwrap();
        &self.kafka
    }

    /// Has the next requests of a kind answered by these errors, in order.
    pub(crate) fn refuse(&self, request: RDKafkaApiKey, errors: &[RDKafkaRespErr]) {
        self.mock.request_errors(request, errors);
    }

    pub(crate) fn refined(&self, topic: &str, record: &wire::Refined) {
        self.write(topic, &record.device_id, &record.encode_to_vec());
    }
}

/// A refined record of one event in the first epoch of incarnation 0xab.
pub(crate) fn refined(device: &str, ordinal: u64, kind: event::Kind) -> wire::Refined {
    wire::Refined {
        device_id: device.into(),
        batch: Some(batch(1)),
        ordinal,
        event: Some(Event {
            kind: Some(kind),
            ..Event::default()
        }),
        ..wire::Refined::default()
    }
}

pub(crate) fn batch(sequence: u64) -> wire::BatchId {
    wire::BatchId {
        epoch: Some(wire::Epoch {
            incarnation: 0xab,
            start: 1,
        }),
        sequence,
    }
}
