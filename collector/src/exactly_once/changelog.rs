//! Loads the state of partitions from the changelogs.
//!
//! A changelog is read committed, up to where it ended, *uncommitted*, after
//! the stable offsets were known (KAFKA-10167): a former owner's transaction
//! is decided by then, but its marker may still be on its way to this
//! partition, and reading committed alone would stop short of its records.
//!
//! One changelog after the other: the client tells the end of a partition by
//! its number alone.

use std::time::{Duration, Instant};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, KafkaResult},
};

use super::{Error, Work, Worker};
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

/// The state of each of `partitions`, in their order.
pub(super) fn restore<W: Work>(
    worker: &Worker,
    work: &mut W,
    partitions: &[i32],
) -> Result<Vec<W::Partition>, Failure> {
    let reader = consumer(worker, "read_committed").map_err(Failure::Fatal)?;
    let asker = consumer(worker, "read_uncommitted").map_err(Failure::Fatal)?;
    let mut loading: Vec<Loading<W>> = partitions
        .iter()
        .map(|number| Loading {
            number: *number,
            state: work.partition(*number),
            is_done: false,
        })
        .collect();
    for (place, topic) in worker.terms.changelogs.iter().enumerate() {
        let mut ends = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let (_, end) = asker.fetch_watermarks(topic, *partition, ANSWER_WITHIN)?;
            ends.push((*partition, end));
        }
        await_markers(worker, &reader, topic, &ends)?;
        read(worker, work, &reader, (place, topic), &mut loading)?;
    }
    Ok(loading.into_iter().map(|one| one.state).collect())
}

struct Loading<W: Work> {
    number: i32,
    state: W::Partition,
    is_done: bool,
}

/// Reads one changelog from its beginning to its last stable offset.
fn read<W: Work>(
    worker: &Worker,
    work: &mut W,
    reader: &BaseConsumer<Context>,
    (place, topic): (usize, &str),
    loading: &mut [Loading<W>],
) -> Result<(), Failure> {
    let mut list = TopicPartitionList::with_capacity(loading.len());
    for one in &mut *loading {
        one.is_done = false;
        list.add_partition_offset(topic, one.number, Offset::Beginning)?;
    }
    reader.assign(&list)?;
    let mut heard = Instant::now();
    while loading.iter().any(|one| !one.is_done) {
        check(worker, heard)?;
        match reader.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => {
                heard = Instant::now();
                let partition = message.partition();
                let key = message.key().unwrap_or_default();
                if let Some(one) = loading.iter_mut().find(|one| one.number == partition) {
                    work.restore(&mut one.state, place, key, message.payload())
                        .map_err(|source| {
                            Failure::Fatal(Error::State {
                                topic: topic.to_owned(),
                                partition,
                                source,
                            })
                        })?;
                }
            }
            // Everything up to the last stable offset was read, and that lies
            // at or beyond the end: `await_markers` saw to it.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                heard = Instant::now();
                if let Some(one) = loading.iter_mut().find(|one| one.number == partition) {
                    one.is_done = true;
                }
            }
            Some(Err(error)) => return Err(error.into()),
        }
    }
    reader.unassign()?;
    Ok(())
}

/// Waits until everything below the ends, records of open transactions
/// included, is decided.
fn await_markers(
    worker: &Worker,
    reader: &BaseConsumer<Context>,
    topic: &str,
    ends: &[(i32, i64)],
) -> Result<(), Failure> {
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

fn consumer(worker: &Worker, isolation_level: &str) -> Result<BaseConsumer<Context>, Error> {
    let group = worker.terms.group.as_str();
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
    let result: KafkaResult<_> = client.create_with_context(Context {
        owner: worker.terms.role,
    });
    result.map_err(Error::Client)
}
