//! Boxes that show what they were decided: each decision that is read comes
//! back as the impression that refine would put into `rp.ads`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use prost::Message as _;
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
};
use returnpath_collector::kafka::partition;
use returnpath_shared::wire;

const ADS: &str = "rp.ads";

/// A request to Kafka, on a loaded machine.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);

/// Tells impressions.
pub struct Shown {
    producer: ThreadedProducer<DefaultProducerContext>,
    partitions: u32,
    told: u64,
}

impl Shown {
    /// Prepares to tell them.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub fn open(kafka: &str) -> anyhow::Result<Self> {
        let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
            .set("bootstrap.servers", kafka)
            .set("linger.ms", "5")
            .set("delivery.report.only.error", "true")
            .create()?;
        let metadata = producer.client().fetch_metadata(Some(ADS), REQUEST_LIMIT)?;
        let topic = metadata.topics().first().context("no such topic")?;
        Ok(Self {
            producer,
            partitions: u32::try_from(topic.partitions().len())?,
            told: 0,
        })
    }

    /// Tells that each of these decisions, with its box, began to be shown.
    ///
    /// # Errors
    /// When Kafka takes them no longer.
    pub fn tell(&mut self, decisions: &[(String, String)]) -> anyhow::Result<()> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let now_unix_ms = i64::try_from(since_1970.as_millis())?;
        for (device, decision_id) in decisions {
            self.told += 1;
            let kind = wire::event::Kind::AdEvent(wire::AdEvent {
                kind: wire::ad_event::Kind::Start.into(),
                decision_id: decision_id.clone(),
                ..wire::AdEvent::default()
            });
            let refined = wire::Refined {
                event: Some(wire::Event {
                    kind: Some(kind),
                    ..wire::Event::default()
                }),
                device_id: device.clone(),
                ordinal: self.told,
                lane: wire::Lane::Live.into(),
                event_unix_ms: now_unix_ms,
                time_quality: wire::TimeQuality::Synchronised.into(),
                received_unix_ms: now_unix_ms,
                ..wire::Refined::default()
            };
            let value = refined.encode_to_vec();
            let record = BaseRecord::to(ADS)
                .key(device.as_bytes())
                .payload(&value)
                .partition(partition(device.as_bytes(), self.partitions));
            match self.producer.send(record) {
                Ok(()) => {}
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    bail!("Kafka does not keep up with the impressions")
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
