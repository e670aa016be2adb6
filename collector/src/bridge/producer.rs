//! The way into Kafka: an idempotent producer that reports on each record by
//! the key it was sent with.
//!
//! No future per record and no thread of our own: the bridge asks for reports
//! once in each turn of its loop. A fatal error ends the producer for good;
//! its owner builds another and forgets what the first one had under way.

use std::{
    mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{
        BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig,
    },
    util::Timeout,
};
use returnpath_shared::{DeviceId, Lane, RAW_RECORD_BYTES_MAX};
use thiserror::Error;

use super::{Config, in_flight::Key};
use crate::{
    kafka::{self, TopicNames},
    node_id::NodeId,
};

/// Calls into the client for reports in one turn; each brings those of one
/// produce request. Bounds the turn, what is left comes in the next.
const REPORT_CALLS_MAX: usize = 256;

/// Space of a record in the client's queue besides the payload.
const RECORD_OVERHEAD_BYTES: u64 = 512;

/// What became of one record.
pub(super) struct Report {
    /// The key it was sent with.
    pub(super) key: Key,
    /// Confirmed by all in-sync replicas, or given up and why.
    pub(super) outcome: Result<(), RDKafkaErrorCode>,
}

/// Why a record was not taken.
#[derive(Debug)]
pub(super) enum SendError {
    /// The client's own queue is full.
    Full,
    /// Anything else.
    Kafka(KafkaError),
}

/// Why a producer cannot be made: waiting does not help.
#[derive(Debug, Error)]
pub(super) enum OpenError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] kafka::FileError),
    /// The settings are wrong.
    #[error("cannot make a Kafka producer")]
    Client(#[source] KafkaError),
}

/// A producer into the raw topics.
pub(super) struct Producer {
    client: BaseProducer<Reports>,
    topics: TopicNames,
    partitions: u32,
}

/// Collects what the client reports. Locked by the bridge's thread only: the
/// client calls back from within `poll`.
struct Reports {
    log: kafka::Context,
    reports: Mutex<Vec<Report>>,
}

impl Producer {
    /// Makes a producer. Connects in the background; `partitions` is how many
    /// each of the raw topics has.
    pub(super) fn open(
        config: &Config,
        kafka: &kafka::Config,
        node_id: &NodeId,
        partitions: u32,
    ) -> Result<Self, OpenError> {
        let mut settings = kafka.client_config(&format!("bridge-{node_id}"))?;
        let in_flight = config.in_flight;
        let queue_kbytes = (u64::from(in_flight.bytes.get())
            + u64::from(in_flight.batches.get()) * RECORD_OVERHEAD_BYTES)
            / 1_024;
        settings
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", config.compression.name())
            .set("linger.ms", config.linger.as_millis().to_string())
            .set(
                "message.timeout.ms",
                config.deliver_within.as_millis().to_string(),
            )
            .set("message.max.bytes", (8 * RAW_RECORD_BYTES_MAX).to_string())
            // The bridge's own bounds are reached first.
            .set(
                "queue.buffering.max.messages",
                (in_flight.batches.get() + 1).to_string(),
            )
            .set("queue.buffering.max.kbytes", queue_kbytes.to_string())
            // A broker that hangs is left and asked again elsewhere before
            // boxes lose patience; the default of a minute is theirs twice.
            .set("request.timeout.ms", "10000")
            .set("socket.timeout.ms", "15000");
        let reports = Reports {
            log: kafka::Context { owner: "bridge" },
            reports: Mutex::new(Vec::new()),
        };
        let client: BaseProducer<Reports> = settings
            .create_with_context(reports)
            .map_err(OpenError::Client)?;
        Ok(Self {
            client,
            topics: kafka.topics.clone(),
            partitions,
        })
    }

    /// Hands a payload to the client, which copies it.
    pub(super) fn send(
        &self,
        device: &DeviceId,
        lane: Lane,
        payload: &[u8],
        unix_ms: i64,
        key: Key,
    ) -> Result<(), SendError> {
        let record = BaseRecord::with_opaque_to(self.topics.raw(lane), usize::from(key))
            .key(device.as_str())
            .payload(payload)
            .partition(kafka::partition(
                device.as_str().as_bytes(),
                self.partitions,
            ))
            .timestamp(unix_ms);
        self.client.send(record).map_err(|(error, _)| {
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
                SendError::Full
            } else {
                SendError::Kafka(error)
            }
        })
    }

    /// Serves the client and moves what it reports into `into`.
    pub(super) fn reports(&self, into: &mut Vec<Report>) {
        for _ in 0..REPORT_CALLS_MAX {
            self.client.poll(Timeout::After(Duration::ZERO));
            let mut reports = self.client.context().lock();
            if reports.is_empty() {
                return;
            }
            if into.is_empty() {
                mem::swap(into, &mut reports);
            } else {
                into.append(&mut reports);
            }
        }
    }

    /// Whether the producer is at its end and must be replaced, and why.
    pub(super) fn fatal(&self) -> Option<String> {
        self.client.client().fatal_error().map(|(_, reason)| reason)
    }

    /// Gives up what is under way.
    pub(super) fn abandon(self) {
        self.client.purge(PurgeConfig::default().queue().inflight());
    }
}

impl Reports {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Report>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.log.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, key: usize) {
        let outcome = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        let key = Key::from(key);
        self.lock().push(Report { key, outcome });
    }
}
