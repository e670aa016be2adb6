//! Loads the state of partitions from the changelog.
//!
//! The changelog is read committed, up to where it ended, *uncommitted*, after
//! the stable offsets were known (KAFKA-10167): a former owner's transaction
//! is decided by then, but its marker may still be on its way to this
//! partition, and reading committed alone would stop short of its records.

use std::time::{Duration, Instant};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, KafkaResult},
};
use returnpath_refinery::{Partition, RestoreError};

use super::{Error, Worker};
use crate::kafka::Context;

/// How long Kafka may take to answer one question.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Longest pause between looks at whether a marker has arrived.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Longest wait for markers and records that do not come; then the session is
/// begun anew. Beyond any transaction's timeout.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Why the state is not there.
pub(super) enum Failure {
    /// Kafka did not answer, or not in time.
    Kafka(KafkaError),
    /// Markers or records did not come.
    Silence,
    /// Told to stop.
    Stopped,
    /// Another collector's bug, or damage: nothing that trying again mends.
    Fatal(Error),
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Self {
        Self::Kafka(error)
    }
}

/// The state of each of `partitions`.
pub(super) fn restore(
    worker: &Worker,
    partitions: &[i32],
) -> Result<Vec<(i32, Partition)>, Failure> {
    let topic = &worker.kafka.topics.refine_state;
    let reader = consumer(worker, "read_committed").map_err(Failure::Fatal)?;
    let ends = ends(worker, partitions)?;
    await_markers(worker, &reader, &ends)?;

    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition_offset(topic, *partition, Offset::Beginning)?;
    }
    reader.assign(&list)?;
    let mut states: Vec<Loading> = partitions
        .iter()
        .map(|partition| Loading::new(*partition))
        .collect();
    let mut heard = Instant::now();
    while states.iter().any(|loading| !loading.is_done) {
        check(worker, heard)?;
        match reader.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => {
                heard = Instant::now();
                let partition = message.partition();
                let key = message.key().unwrap_or_default();
                if let Some(loading) = states.iter_mut().find(|one| one.partition == partition) {
                    loading
                        .state
                        .restore(key, message.payload())
                        .map_err(|source| Failure::Fatal(broken(topic, partition, source)))?;
                }
            }
            // Everything up to the last stable offset was read, and that lies
            // at or beyond the end: `await_markers` saw to it.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                heard = Instant::now();
                if let Some(loading) = states.iter_mut().find(|one| one.partition == partition) {
                    loading.is_done = true;
                }
            }
            Some(Err(error)) => return Err(error.into()),
        }
    }
    Ok(states
        .into_iter()
        .map(|loading| (loading.partition, loading.state))
        .collect())
}

struct Loading {
    partition: i32,
    state: Partition,
    is_done: bool,
}

impl Loading {
    fn new(partition: i32) -> Self {
        Self {
            partition,
            state: Partition::new(),
            is_done: false,
        }
    }
}

/// Where each partition ends, records of open transactions included.
fn ends(worker: &Worker, partitions: &[i32]) -> Result<Vec<(i32, i64)>, Failure> {
    let topic = &worker.kafka.topics.refine_state;
    let asker = consumer(worker, "read_uncommitted").map_err(Failure::Fatal)?;
    let mut ends = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let (_, end) = asker.fetch_watermarks(topic, *partition, ANSWER_WITHIN)?;
        ends.push((*partition, end));
    }
    Ok(ends)
}

/// Waits until everything below the ends is decided.
fn await_markers(
    worker: &Worker,
    reader: &BaseConsumer<Context>,
    ends: &[(i32, i64)],
) -> Result<(), Failure> {
    let topic = &worker.kafka.topics.refine_state;
    let began = Instant::now();
    for (partition, end) in ends {
        loop {
            check(worker, began)?;
            // Read committed, the upper watermark is the last stable offset.
            let (_, stable) = reader.fetch_watermarks(topic, *partition, ANSWER_WITHIN)?;
            if stable >= *end {
                break;
            }
            // Nothing is assigned: this only waits, and serves the client.
            let _ = reader.poll(LOOK_AGAIN_AFTER);
        }
    }
    Ok(())
}

fn check(worker: &Worker, heard: Instant) -> Result<(), Failure> {
    worker.health.progressed();
    if worker.is_stopping() {
        return Err(Failure::Stopped);
    }
    if heard.elapsed() > SILENCE_MAX {
        return Err(Failure::Silence);
    }
    Ok(())
}

fn broken(topic: &str, partition: i32, source: RestoreError) -> Error {
    Error::State {
        topic: topic.to_owned(),
        partition,
        source,
    }
}

fn consumer(worker: &Worker, isolation_level: &str) -> Result<BaseConsumer<Context>, Error> {
    let group = worker.config.group.as_str();
    let id = format!("{group}-{}-changelog", worker.node_id);
    let mut client = worker.kafka.client_config(&id)?;
    client
        // Needed to assign at all; it never joins.
        .set("group.id", group)
        .set("isolation.level", isolation_level)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        // Bounds what is held of a changelog that is read faster than loaded.
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.wait.max.ms", "50")
        .set("fetch.queue.backoff.ms", "5");
    let result: KafkaResult<_> = client.create_with_context(Context { owner: "refine" });
    result.map_err(Error::Client)
}
