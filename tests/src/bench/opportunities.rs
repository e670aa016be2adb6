//! Feeds `rp.opportunities` as refine would, in transactions and at a rate, and
//! reads what was decided from `rp.decisions`: for measuring decide where box,
//! broker and refine are not the question.

use std::{
    collections::HashMap,
    mem,
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use prost::Message as _;
use rdkafka::{
    ClientConfig, Message as _,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
};
use returnpath_collector::kafka::partition;
use returnpath_shared::wire::{self, decision_record::What};
use tokio::task::block_in_place;

const OPPORTUNITIES: &str = "rp.opportunities";
const DECISIONS: &str = "rp.decisions";

/// A request to Kafka, on a loaded machine.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);

/// Pause between two transactions: with the time of a commit they come as those
/// of refine do while urgent events flow.
const TICK: Duration = Duration::from_millis(10);

/// Step of waiting for records on their way to Kafka.
const DELIVERY_STEP: Duration = Duration::from_millis(1);

/// Names the producer's transactions.
const TRANSACTIONAL_ID: &str = "bench-feed";

/// One slot of this length each.
const SLOT_MS: u32 = 30_000;

/// The break begins this long after its signal, as most do.
const LEAD_MS: u64 = 5_000;

/// Uptime of every box at the start.
const UPTIME_MS: u64 = 3_600_000;

const NETWORK_ID: u32 = 64_257;

/// Boxes that have opportunities, one after another.
pub struct Feed {
    producer: ThreadedProducer<DefaultProducerContext>,
    partitions: u32,
    boxes: u64,
    number: u64,
    started: Instant,
}

impl Feed {
    /// Prepares to feed `boxes` boxes.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub fn open(kafka: &str, boxes: u64) -> anyhow::Result<Self> {
        let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
            .set("bootstrap.servers", kafka)
            .set("linger.ms", "1")
            .set("transactional.id", TRANSACTIONAL_ID)
            .set("delivery.report.only.error", "true")
            .create()?;
        producer.init_transactions(REQUEST_LIMIT)?;
        let metadata = producer
            .client()
            .fetch_metadata(Some(OPPORTUNITIES), REQUEST_LIMIT)?;
        let topic = metadata.topics().first().context("no such topic")?;
        Ok(Self {
            producer,
            partitions: u32::try_from(topic.partitions().len())?,
            boxes,
            number: 0,
            started: Instant::now(),
        })
    }

    /// Feeds `rate` opportunities a second until the end of `span`; returns how
    /// many there were. Needs a runtime of several threads: a commit holds one.
    ///
    /// # Errors
    /// When Kafka takes them no longer.
    pub async fn hold(&mut self, rate: u32, span: Duration) -> anyhow::Result<u64> {
        let started = Instant::now();
        let mut fed = 0;
        while started.elapsed() < span {
            tokio::time::sleep(TICK).await;
            let elapsed_us = u64::try_from(started.elapsed().as_micros())?;
            let due = elapsed_us * u64::from(rate) / 1_000_000;
            if fed == due {
                continue;
            }
            self.producer.begin_transaction()?;
            while fed < due {
                self.one()?;
                fed += 1;
            }
            // As refine waits: the client's own wait looks every 100 ms only.
            while self.producer.in_flight_count() > 0 {
                tokio::time::sleep(DELIVERY_STEP).await;
            }
            block_in_place(|| self.producer.commit_transaction(REQUEST_LIMIT))?;
        }
        Ok(fed)
    }

    /// Feeds one; waits for nothing.
    fn one(&mut self) -> anyhow::Result<()> {
        let device = format!("ad-box-{}", self.number % self.boxes);
        let opportunity = self.opportunity(&device)?;
        let value = opportunity.encode_to_vec();
        let record = BaseRecord::to(OPPORTUNITIES)
            .key(device.as_bytes())
            .payload(&value)
            .partition(partition(device.as_bytes(), self.partitions));
        match self.producer.send(record) {
            Ok(()) => {}
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                bail!("Kafka does not keep up with the feed")
            }
            Err((error, _)) => return Err(error.into()),
        }
        self.number += 1;
        Ok(())
    }

    fn opportunity(&self, device: &str) -> anyhow::Result<wire::Opportunity> {
        let uptime_ms = UPTIME_MS + u64::try_from(self.started.elapsed().as_millis())?;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let now_unix_ms = i64::try_from(since_1970.as_millis())?;
        let boot_id = self.number % self.boxes + 1;
        let epoch = Some(wire::Epoch {
            incarnation: boot_id,
            start: 1,
        });
        let channel = |service_id| {
            Some(wire::Channel {
                network_id: NETWORK_ID,
                transport_stream_id: 1,
                service_id,
                ..wire::Channel::default()
            })
        };
        let service_id = u32::try_from(self.number % 40)? + 4_000;
        let event = wire::Event {
            uptime_ms,
            kind: Some(wire::event::Kind::AdOpportunity(wire::AdOpportunity {
                break_id: format!("break-{}", self.number),
                start_uptime_ms: uptime_ms + LEAD_MS,
                duration_ms: SLOT_MS,
                channel: channel(service_id),
                last_channel: channel(service_id + 1),
                source: wire::Source::Live.into(),
                ..wire::AdOpportunity::default()
            })),
            ..wire::Event::default()
        };
        let ordinal = self.number / self.boxes + 1;
        Ok(wire::Opportunity {
            refined: Some(wire::Refined {
                event: Some(event),
                device_id: device.to_owned(),
                batch: Some(wire::BatchId {
                    epoch,
                    sequence: ordinal,
                }),
                ordinal,
                lane: wire::Lane::Live.into(),
                event_unix_ms: now_unix_ms,
                time_quality: wire::TimeQuality::Synchronised.into(),
                received_unix_ms: now_unix_ms,
                boot_id,
                ..wire::Refined::default()
            }),
            profile: Some(wire::DeviceProfile {
                device_id: device.to_owned(),
                viewing: Some(wire::Viewing {
                    channel: channel(service_id),
                    source: wire::Source::Live.into(),
                    since_boot_id: boot_id,
                    since_uptime_ms: UPTIME_MS - 600_000,
                    since_unix_ms: now_unix_ms - 600_000,
                    ..wire::Viewing::default()
                }),
                viewed_before: vec![wire::ViewedChannel {
                    channel: channel(service_id + 1),
                    left_unix_ms: now_unix_ms - 600_000,
                    dwell_ms: 120_000,
                }],
                consent: Some(wire::Consent {
                    measurement: wire::consent::Choice::OptedIn.into(),
                    personalised_ads: wire::consent::Choice::OptedIn.into(),
                    version: "2026-11".to_owned(),
                }),
                ..wire::DeviceProfile::default()
            }),
            sent_uptime_ms: uptime_ms,
            sent_boot_id: boot_id,
            settled_uptime_ms: uptime_ms,
        })
    }
}

/// What was decided, as far as it was read.
#[derive(Debug, Default)]
pub struct Decided {
    /// Slots decided, each once: decision id and how often it was recorded.
    pub slots: HashMap<String, u32>,
    /// Of them, filled.
    pub filled: u64,
}

impl Decided {
    /// Slots that have more than one record of how they were decided.
    #[must_use]
    pub fn twice(&self) -> usize {
        self.slots.values().filter(|times| **times > 1).count()
    }
}

/// Reads what is decided from now on.
pub struct Decisions {
    records: mpsc::Receiver<wire::DecisionRecord>,
    decided: Decided,
    /// Box and id of what was filled since it was last asked.
    filled: Vec<(String, String)>,
}

impl Decisions {
    /// Begins at the present end of `rp.decisions`.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub fn read(kafka: &str) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", kafka)
            .set("group.id", "bench-decisions")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .create()?;
        let metadata = consumer.fetch_metadata(Some(DECISIONS), REQUEST_LIMIT)?;
        let topic = metadata.topics().first().context("no such topic")?;
        let mut assignment = rdkafka::TopicPartitionList::new();
        for partition in topic.partitions() {
            let (_, end) = consumer.fetch_watermarks(DECISIONS, partition.id(), REQUEST_LIMIT)?;
            let end = rdkafka::Offset::Offset(end);
            assignment.add_partition_offset(DECISIONS, partition.id(), end)?;
        }
        consumer.assign(&assignment)?;
        let (tell, records) = mpsc::channel();
        thread::spawn(move || {
            loop {
                let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else {
                    continue;
                };
                let record = wire::DecisionRecord::decode(message.payload().unwrap_or_default());
                // The reader went away, or the topic holds what is none of ours.
                if !record.is_ok_and(|record| tell.send(record).is_ok()) {
                    return;
                }
            }
        });
        Ok(Self {
            records,
            decided: Decided::default(),
            filled: Vec::new(),
        })
    }

    /// Box and id of each slot that was filled, of those read since the last
    /// call.
    pub fn take_filled(&mut self) -> Vec<(String, String)> {
        self.so_far();
        mem::take(&mut self.filled)
    }

    /// Everything that has been read by now.
    pub fn so_far(&mut self) -> &Decided {
        for record in self.records.try_iter() {
            if let Some(What::Decided(decided)) = record.what {
                let is_filled = decided.choice.is_some_and(|it| it.aggregator.is_some());
                if is_filled {
                    self.decided.filled += 1;
                    let shown = (record.device_id, record.decision_id.clone());
                    self.filled.push(shown);
                }
                *self.decided.slots.entry(record.decision_id).or_default() += 1;
            }
        }
        &self.decided
    }
}
