//! Reads one refined topic, read committed, from a chosen start to its end or
//! for ever. Owns the question where the end is: with transactions on, neither
//! the last record nor a position says it.
//!
//! Belongs to no consumer group: partitions are assigned by hand and no offset
//! is committed, so reading disturbs nobody and may be repeated.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, KafkaResult},
    message::BorrowedMessage,
    util::Timeout,
};
use returnpath_shared::DeviceId;
use thiserror::Error;

use super::{Config, Context, FileError, partition};

/// How long one request to Kafka may take: a leader election passes in it.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// How long a transaction that was open at the start is waited for: longer
/// than refine's transactions may take, so that one left behind by a killed
/// node is aborted in it.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// Between looks at whether such transactions have ended.
const SETTLE_INTERVAL: Duration = Duration::from_millis(100);

/// Without a record or an end for this long, Kafka is called unreachable. Only
/// where an end is awaited; following waits for ever.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Records read ahead, in KiB; librdkafka's own default takes 64 MiB for each
/// of several topics.
const READ_AHEAD_KIB: &str = "16384";

/// Where to begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// The oldest record that Kafka still has.
    Oldest,
    /// What comes after this moment.
    Now,
    /// The first record with this timestamp or a later one, in ms since 1970.
    UnixMs(i64),
    /// The same offset in every partition; the end where there are fewer.
    Offset(i64),
}

/// Where to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// At the end as it is at the start, once the transactions that are open
    /// then have ended.
    End,
    /// At the end likewise, but in each partition before the first record with
    /// this timestamp or a later one, in ms since 1970.
    UnixMs(i64),
    /// Never.
    Forever,
}

/// Why a topic cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// A file that the configuration names cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A request failed.
    #[error("topic {topic}: cannot {what}")]
    Kafka {
        /// The topic.
        topic: String,
        /// What was asked.
        what: &'static str,
        /// What librdkafka said.
        source: KafkaError,
    },
    /// There is no such topic.
    #[error("topic {0} does not exist; `returnpath-collector topics` creates it")]
    NoTopic(String),
    /// A transaction was left open, and hides what lies behind it.
    #[error("topic {topic}: partition {partition} has had an open transaction for {} s", SETTLE_MAX.as_secs())]
    OpenTransaction {
        /// The topic.
        topic: String,
        /// One of the partitions.
        partition: i32,
    },
    /// Kafka said nothing.
    #[error("topic {topic}: nothing came from Kafka for {} s", SILENCE_MAX.as_secs())]
    Silence {
        /// The topic.
        topic: String,
    },
}

/// What came next.
#[derive(Debug)]
pub enum Next<'a> {
    /// A record.
    Record(BorrowedMessage<'a>),
    /// Nothing for as long as was waited.
    Nothing,
    /// Every partition has been read to its end.
    End,
}

/// A topic being read.
pub struct TopicReader {
    consumer: BaseConsumer<Context>,
    topic: String,
    until: Until,
    /// Partitions that have not been read to their end.
    unfinished: BTreeSet<i32>,
    /// Where a partition ends before its end.
    ends: BTreeMap<i32, i64>,
    heard: Instant,
}

impl TopicReader {
    /// Begins to read `topic`; only the partition of `device` where one is
    /// given.
    ///
    /// # Errors
    /// When Kafka cannot be reached, has no such topic, or a transaction stays
    /// open.
    pub fn open(
        kafka: &Config,
        owner: &'static str,
        topic: &str,
        device: Option<&DeviceId>,
        begin: Begin,
        until: Until,
    ) -> Result<Self, ReadError> {
        let failed = |what| {
            move |source| ReadError::Kafka {
                topic: topic.to_owned(),
                what,
                source,
            }
        };
        let consumer =
            consumer(kafka, owner, "read_committed")?.map_err(failed("make a client"))?;
        let mut partitions = partitions(&consumer, topic)?;
        if let Some(device) = device {
            let count = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
            let wanted = partition(device.as_str().as_bytes(), count);
            partitions.retain(|partition| *partition == wanted);
        }
        let everything = |offset| {
            let mut list = TopicPartitionList::with_capacity(partitions.len());
            for partition in &partitions {
                list.add_partition_offset(topic, *partition, offset)?;
            }
            Ok(list)
        };
        let latest = |consumer: &BaseConsumer<Context>| -> KafkaResult<TopicPartitionList> {
            consumer.offsets_for_times(everything(Offset::End)?, REQUEST_MAX)
        };
        if until != Until::Forever {
            let observer = self::consumer(kafka, owner, "read_uncommitted")?
                .map_err(failed("make a client"))?;
            let written = latest(&observer).map_err(failed("ask where it ends"))?;
            settle(&consumer, topic, &written, &latest)?;
        }
        let start = match begin {
            Begin::Oldest => everything(Offset::Beginning),
            Begin::Now => latest(&consumer),
            Begin::UnixMs(unix_ms) => everything(Offset::Offset(unix_ms.max(0)))
                .and_then(|times| consumer.offsets_for_times(times, REQUEST_MAX)),
            Begin::Offset(offset) => latest(&consumer).and_then(|mut start| {
                for partition in &partitions {
                    if offset_of(&start, topic, *partition) > offset {
                        start.set_partition_offset(topic, *partition, Offset::Offset(offset))?;
                    }
                }
                Ok(start)
            }),
        }
        .map_err(failed("ask where to start"))?;
        let mut ends = BTreeMap::new();
        if let Until::UnixMs(unix_ms) = until {
            let times = everything(Offset::Offset(unix_ms.max(0)))
                .and_then(|times| consumer.offsets_for_times(times, REQUEST_MAX))
                .map_err(failed("ask where to stop"))?;
            for end in times.elements() {
                // None where every record is older.
                if let Offset::Offset(offset) = end.offset() {
                    ends.insert(end.partition(), offset);
                }
            }
        }
        consumer.assign(&start).map_err(failed("assign"))?;
        Ok(Self {
            consumer,
            topic: topic.to_owned(),
            until,
            unfinished: partitions.into_iter().collect(),
            ends,
            heard: Instant::now(),
        })
    }

    /// The topic that is read.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Waits at most `wait` for what comes next.
    ///
    /// # Errors
    /// When an end is awaited and Kafka says nothing for a minute, or reading
    /// failed for good.
    pub fn next(&mut self, wait: Duration) -> Result<Next<'_>, ReadError> {
        if self.until != Until::Forever && self.unfinished.is_empty() {
            return Ok(Next::End);
        }
        match self.consumer.poll(Timeout::After(wait)) {
            Some(Ok(record)) => {
                self.heard = Instant::now();
                let partition = record.partition();
                if let Some(end) = self.ends.get(&partition)
                    && record.offset() >= *end
                {
                    if self.unfinished.remove(&partition) {
                        let mut rest = TopicPartitionList::with_capacity(1);
                        rest.add_partition(&self.topic, partition);
                        // Where that fails, what comes of it is passed over
                        // likewise.
                        let _ = self.consumer.pause(&rest);
                    }
                    return Ok(Next::Nothing);
                }
                Ok(Next::Record(record))
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.heard = Instant::now();
                self.unfinished.remove(&partition);
                Ok(Next::Nothing)
            }
            // What librdkafka mends by itself; it has been logged.
            Some(Err(error)) if !is_final(&error) => self.nothing(),
            Some(Err(source)) => Err(ReadError::Kafka {
                topic: self.topic.clone(),
                what: "read",
                source,
            }),
            None => self.nothing(),
        }
    }

    fn nothing(&self) -> Result<Next<'_>, ReadError> {
        if self.until != Until::Forever && self.heard.elapsed() > SILENCE_MAX {
            return Err(ReadError::Silence {
                topic: self.topic.clone(),
            });
        }
        Ok(Next::Nothing)
    }
}

fn consumer(
    kafka: &Config,
    owner: &'static str,
    isolation: &str,
) -> Result<KafkaResult<BaseConsumer<Context>>, FileError> {
    Ok(kafka
        .client_config(owner)?
        // librdkafka assigns only to members of a group; nothing joins it.
        .set("group.id", owner)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", isolation)
        .set("queued.max.messages.kbytes", READ_AHEAD_KIB)
        .create_with_context(Context { owner }))
}

fn partitions(consumer: &BaseConsumer<Context>, topic: &str) -> Result<Vec<i32>, ReadError> {
    let metadata = consumer
        .fetch_metadata(Some(topic), REQUEST_MAX)
        .map_err(|source| ReadError::Kafka {
            topic: topic.to_owned(),
            what: "ask for its partitions",
            source,
        })?;
    let partitions: Vec<i32> = metadata
        .topics()
        .iter()
        .filter(|found| found.name() == topic && found.error().is_none())
        .flat_map(|found| found.partitions())
        .map(rdkafka::metadata::MetadataPartition::id)
        .collect();
    if partitions.is_empty() {
        return Err(ReadError::NoTopic(topic.to_owned()));
    }
    Ok(partitions)
}

/// Waits until everything written so far is either committed or aborted.
fn settle(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    written: &TopicPartitionList,
    latest: &impl Fn(&BaseConsumer<Context>) -> KafkaResult<TopicPartitionList>,
) -> Result<(), ReadError> {
    let deadline = Instant::now() + SETTLE_MAX;
    loop {
        let stable = latest(consumer).map_err(|source| ReadError::Kafka {
            topic: topic.to_owned(),
            what: "ask where it ends",
            source,
        })?;
        let open = written.elements().into_iter().find(|end| {
            offset_of(&stable, topic, end.partition()) < offset_of(written, topic, end.partition())
        });
        let Some(open) = open else {
            return Ok(());
        };
        if Instant::now() > deadline {
            return Err(ReadError::OpenTransaction {
                topic: topic.to_owned(),
                partition: open.partition(),
            });
        }
        // Nothing is assigned yet: this waits and serves callbacks.
        consumer.poll(Timeout::After(SETTLE_INTERVAL));
    }
}

fn offset_of(list: &TopicPartitionList, topic: &str, partition: i32) -> i64 {
    list.find_partition(topic, partition)
        .and_then(|found| found.offset().to_raw())
        .unwrap_or_default()
}

fn is_final(error: &KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode;
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Fatal
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
        )
    )
}
