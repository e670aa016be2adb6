//! Loads the state of partitions from the changelogs.
//!
//! A changelog is read committed, up to where it ended, *uncommitted*, after
//! the stable offsets were known (KAFKA-10167): a former owner's transaction
//! is decided by then, but its marker may still be on its way to this
//! partition, and reading committed alone would stop short of its records.
//! That all of it was read is known from `reach`.

mod reach;

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, KafkaResult},
};

use self::reach::{Reach, TELL_EVERY_MS};
use super::{Error, Work, Worker};
use crate::kafka::Context;

/// How long Kafka may take to answer one question.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Longest wait for a record before it is asked whether all were read: less
/// than the client takes to speak again.
const READ_WITHIN: Duration = Duration::from_millis(10);

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
    let owner = worker.terms.role;
    let mut reader = settings(worker, "read_committed").map_err(Failure::Fatal)?;
    reader.set("statistics.interval.ms", TELL_EVERY_MS);
    let reader = client(&reader, Reach::new(Context { owner })).map_err(Failure::Fatal)?;
    let asker = settings(worker, "read_uncommitted").map_err(Failure::Fatal)?;
    let asker = client(&asker, Context { owner }).map_err(Failure::Fatal)?;
    let mut loading: Vec<Loading<W>> = partitions
        .iter()
        .map(|number| Loading {
            number: *number,
            state: work.partition(*number),
            range: (0, 0),
        })
        .collect();
    for (place, topic) in worker.terms.changelogs.iter().enumerate() {
        for one in &mut loading {
            one.range = asker.fetch_watermarks(topic, one.number, ANSWER_WITHIN)?;
        }
        await_markers(worker, &reader, topic, &loading)?;
        read(worker, work, &reader, (place, topic), &mut loading)?;
    }
    Ok(loading.into_iter().map(|one| one.state).collect())
}

struct Loading<W: Work> {
    number: i32,
    state: W::Partition,
    /// First offset of the changelog at hand, and the one after its last.
    range: (i64, i64),
}

impl<W: Work> Loading<W> {
    fn is_read(&self, topic: &str, reach: &Reach) -> bool {
        let (first, end) = self.range;
        first == end || reach.is_beyond(topic, self.number, end)
    }
}

/// Reads one changelog from its beginning to its end.
fn read<W: Work>(
    worker: &Worker,
    work: &mut W,
    reader: &BaseConsumer<Reach>,
    (place, topic): (usize, &str),
    loading: &mut [Loading<W>],
) -> Result<(), Failure> {
    let mut list = TopicPartitionList::with_capacity(loading.len());
    for one in &*loading {
        list.add_partition_offset(topic, one.number, Offset::Beginning)?;
    }
    reader.assign(&list)?;
    let reach: &Reach = reader.context();
    let mut heard = Instant::now();
    loop {
        check(worker, heard)?;
        let times_told = reach.times_told();
        match reader.poll(READ_WITHIN) {
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
            Some(Err(error)) => return Err(error.into()),
            // Nothing is at hand: what the client has read, we have taken.
            None if reach.times_told() == times_told
                && loading.iter().all(|one| one.is_read(topic, reach)) =>
            {
                break;
            }
            None => {}
        }
    }
    reader.unassign()?;
    Ok(())
}

/// Waits until everything below the ends, records of open transactions
/// included, is decided.
fn await_markers<W: Work>(
    worker: &Worker,
    reader: &BaseConsumer<Reach>,
    topic: &str,
    loading: &[Loading<W>],
) -> Result<(), Failure> {
    let began = Instant::now();
    for one in loading {
        let (_, end) = one.range;
        loop {
            check(worker, began)?;
            // Read committed, the upper watermark is the last stable offset.
            let (_, stable) = reader.fetch_watermarks(topic, one.number, ANSWER_WITHIN)?;
            if stable >= end {
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

fn settings(worker: &Worker, isolation_level: &str) -> Result<ClientConfig, Error> {
    let group = worker.terms.group.as_str();
    let id = format!("{group}-{}-changelog", worker.node_id);
    let mut client = worker.kafka.client_config(&id)?;
    client
        // Needed to assign at all; it never joins.
        .set("group.id", group)
        .set("isolation.level", isolation_level)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Bounds what is held of a changelog that is read faster than loaded.
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.wait.max.ms", "50")
        .set("fetch.queue.backoff.ms", "5");
    Ok(client)
}

fn client<C: ConsumerContext>(
    settings: &ClientConfig,
    context: C,
) -> Result<BaseConsumer<C>, Error> {
    let result: KafkaResult<_> = settings.create_with_context(context);
    result.map_err(Error::Client)
}
