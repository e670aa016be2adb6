//! Both inputs as one stream: the assigned one first, the followed one at its
//! share.
//!
//! Two clients. The first is a member of the group and is assigned partitions
//! of its topic. The second belongs to no group and reads the same partitions
//! of the followed topic: so both inputs of a box are always together, whatever
//! an assignor would do, each has a bounded queue of its own, and the assigned
//! one can go first. Offsets of both are committed for the group.
//!
//! Rebalances are cooperative: partitions that stay are read on meanwhile.
//! librdkafka tells of them inside of `poll`; they are kept until the owner
//! has done what belongs to them, and only then answered with
//! [`Source::accept`] or [`Source::release`].

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, ConsumerGroupMetadata},
    error::{KafkaError, KafkaResult},
    message::BorrowedMessage,
    types::RDKafkaRespErr,
};
use tracing::warn;

use super::{Error, Input, Terms, Worker, bell, share::Share};
use crate::kafka::Context;

/// Records fetched ahead per partition: of 12 partitions, half a second of
/// 300,000 boxes. Each takes some 500 bytes of the client's own, which stay
/// cheap as long as the same ones are used again. The bounds in bytes hold
/// before it where there are many partitions.
const QUEUED_RECORDS: &str = "2000";

/// How long Kafka holds back an answer while there is nothing to tell. Records
/// end it at once; but a partition that starts, or was paused at the bound,
/// waits for the answer under way.
const FETCH_WAIT_MS: &str = "100";

/// Signs of life that a member must miss in a row to be taken for dead: Kafka's
/// own rule of thumb is three or more.
const HEARTBEATS: u32 = 5;

/// How long Kafka may take to answer a question about offsets.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The next offset to read, by input.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Positions {
    assigned: i64,
    followed: i64,
}

impl Positions {
    pub(super) fn get(&self, input: Input) -> i64 {
        match input {
            Input::Assigned => self.assigned,
            Input::Followed => self.followed,
        }
    }

    pub(super) fn set(&mut self, input: Input, offset: i64) {
        match input {
            Input::Assigned => self.assigned = offset,
            Input::Followed => self.followed = offset,
        }
    }
}

/// Partitions come or go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Rebalance {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
}

/// The consumers of both inputs.
pub(super) struct Source {
    assigned: BaseConsumer<GroupContext>,
    followed: BaseConsumer<Context>,
    terms: Arc<Terms>,
    share: Share,
}

struct GroupContext {
    logs: Context,
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// Nobody asks for rebalances any more: they are answered at once.
    is_closing: AtomicBool,
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.logs.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.logs.error(error, reason);
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        cause: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions = list
            .elements()
            .iter()
            .map(|part| part.partition())
            .collect();
        if self.is_closing.load(Ordering::Relaxed) {
            if cause != RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS
                && let Err(error) = consumer.incremental_unassign(list)
            {
                warn!("while leaving the group: {error}");
            }
            return;
        }
        let rebalance = if cause == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            Rebalance::Assigned(partitions)
        } else {
            Rebalance::Revoked(partitions)
        };
        self.queue().push_back(rebalance);
    }
}

impl GroupContext {
    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<Rebalance>> {
        // Only ever locked for one push or pop.
        self.rebalances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// Makes the consumers and joins the group.
    pub(super) fn new(worker: &Worker) -> Result<Self, Error> {
        let terms = Arc::clone(&worker.terms);
        let logs = Context { owner: terms.role };
        let context = GroupContext {
            logs,
            rebalances: Mutex::default(),
            is_closing: AtomicBool::new(false),
        };
        let mut assigned: BaseConsumer<GroupContext> = consumer(worker, Input::Assigned)?
            .create_with_context(context)
            .map_err(Error::Client)?;
        let mut followed: BaseConsumer<Context> = consumer(worker, Input::Followed)?
            .create_with_context(logs)
            .map_err(Error::Client)?;
        let bell = terms.bell.clone();
        assigned.set_nonempty_callback(move || bell.ring());
        let bell = terms.bell.clone();
        followed.set_nonempty_callback(move || bell.ring());
        let topic = &worker.topic(Input::Assigned).topic;
        assigned.subscribe(&[topic]).map_err(Error::Client)?;
        Ok(Self {
            assigned,
            followed,
            terms,
            share: Share::default(),
        })
    }

    /// What happened to our partitions, in order; each must be answered.
    pub(super) fn rebalance(&self) -> Option<Rebalance> {
        self.assigned.context().queue().pop_front()
    }

    /// Where to begin: the stable committed offsets of the group, else the
    /// first record that Kafka still has.
    ///
    /// Stable: as long as a transaction of a former owner is open, Kafka does
    /// not answer, and librdkafka asks again (`isolation.level` does that).
    pub(super) fn committed(&self, partitions: &[i32]) -> KafkaResult<Vec<(i32, Start)>> {
        let mut list = TopicPartitionList::with_capacity(2 * partitions.len());
        for input in Input::ALL {
            for partition in partitions {
                list.add_partition(self.topic(input), *partition);
            }
        }
        let committed = self.assigned.committed_offsets(list, ANSWER_WITHIN)?;
        let mut starts = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let mut start = Start::default();
            for input in Input::ALL {
                let topic = self.topic(input);
                let found = committed.find_partition(topic, *partition);
                if let Some(part) = &found {
                    part.error()?;
                }
                let (first, _) =
                    self.assigned
                        .fetch_watermarks(topic, *partition, ANSWER_WITHIN)?;
                let committed = match found.map(|part| part.offset()) {
                    Some(Offset::Offset(offset)) => Some(offset),
                    _ => None,
                };
                let offset = committed.unwrap_or(first);
                start.positions.set(input, offset.max(first));
                start.expired[input as usize] = first.saturating_sub(offset).max(0).cast_unsigned();
            }
            starts.push((*partition, start));
        }
        Ok(starts)
    }

    /// Answers [`Rebalance::Assigned`]: reading begins.
    pub(super) fn accept(&self, positions: &[(i32, Positions)]) -> KafkaResult<()> {
        self.assigned
            .incremental_assign(&self.list(Input::Assigned, positions)?)?;
        self.followed
            .incremental_assign(&self.list(Input::Followed, positions)?)
    }

    /// Answers [`Rebalance::Revoked`]: reading ends.
    pub(super) fn release(&self, partitions: &[i32]) -> KafkaResult<()> {
        let positions: Vec<_> = partitions
            .iter()
            .map(|partition| (*partition, Positions::default()))
            .collect();
        self.followed
            .incremental_unassign(&self.list(Input::Followed, &positions)?)?;
        self.assigned
            .incremental_unassign(&self.list(Input::Assigned, &positions)?)
    }

    /// Goes on reading elsewhere; what was fetched ahead is dropped.
    pub(super) fn seek(&self, positions: &[(i32, Positions)]) -> KafkaResult<()> {
        fn done(list: &TopicPartitionList) -> KafkaResult<()> {
            list.elements().iter().try_for_each(|part| part.error())
        }
        let assigned = self.list(Input::Assigned, positions)?;
        done(&self.assigned.seek_partitions(assigned, ANSWER_WITHIN)?)?;
        let followed = self.list(Input::Followed, positions)?;
        done(&self.followed.seek_partitions(followed, ANSWER_WITHIN)?)
    }

    /// Offsets to commit, of both inputs.
    pub(super) fn offsets(
        &self,
        positions: &[(i32, Positions)],
    ) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(2 * positions.len());
        for input in Input::ALL {
            self.add(&mut list, input, positions)?;
        }
        Ok(list)
    }

    fn list(
        &self,
        input: Input,
        positions: &[(i32, Positions)],
    ) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        self.add(&mut list, input, positions)?;
        Ok(list)
    }

    fn add(
        &self,
        list: &mut TopicPartitionList,
        input: Input,
        positions: &[(i32, Positions)],
    ) -> KafkaResult<()> {
        let topic = self.topic(input);
        for (partition, positions) in positions {
            list.add_partition_offset(topic, *partition, Offset::Offset(positions.get(input)))?;
        }
        Ok(())
    }

    /// The group's generation, which fences a member that lost its partitions.
    pub(super) fn group(&self) -> Option<ConsumerGroupMetadata> {
        self.assigned.group_metadata()
    }

    /// Whether the group has given our partitions to others without asking us;
    /// true until that is answered.
    pub(super) fn has_lost_partitions(&self) -> bool {
        self.assigned.assignment_lost()
    }

    /// The next record at hand; of the assigned input only where told that it
    /// has room.
    pub(super) fn next(
        &mut self,
        has_room: bool,
    ) -> Option<(Input, KafkaResult<BorrowedMessage<'_>>)> {
        if self.share.first() == Input::Followed {
            self.share.took(Input::Followed);
            if let Some(record) = self.followed.poll(Duration::ZERO) {
                return Some((Input::Followed, record));
            }
        }
        if has_room && let Some(record) = self.assigned.poll(Duration::ZERO) {
            self.share.took(Input::Assigned);
            return Some((Input::Assigned, record));
        }
        let record = self.followed.poll(Duration::ZERO)?;
        Some((Input::Followed, record))
    }

    /// Sleeps until there may be a record, or anything else for this thread,
    /// at most as long as told. To be called when [`next`](Self::next) had
    /// none.
    pub(super) fn wait(&self, limit: Duration) {
        // Not in librdkafka's own poll: that one waits for one client, and
        // nothing else could wake it.
        bell::sleep(limit);
    }

    fn topic(&self, input: Input) -> &str {
        &self.terms.inputs[input as usize].topic
    }
}

/// Where a partition begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Start {
    pub(super) positions: Positions,
    /// Records that were deleted by retention before they were read, by
    /// [`Input`] as index.
    pub(super) expired: [u64; Input::ALL.len()],
}

impl Drop for Source {
    /// Answers what was not answered, and has the rest answered at once: else
    /// closing would wait for ever.
    fn drop(&mut self) {
        let context = self.assigned.context();
        context.is_closing.store(true, Ordering::Relaxed);
        while let Some(rebalance) = self.rebalance() {
            let answer = match rebalance {
                Rebalance::Assigned(_) => self.accept(&[]),
                Rebalance::Revoked(partitions) => self.release(&partitions),
            };
            if let Err(error) = answer {
                warn!("while leaving the group: {error}");
            }
        }
    }
}

fn consumer(worker: &Worker, input: Input) -> Result<ClientConfig, Error> {
    let topic = worker.topic(input);
    let group = worker.terms.group.as_str();
    let session = worker.kafka.session_timeout;
    let id = format!("{group}-{}-{}", worker.node_id, topic.name);
    let mut client = worker.kafka.client_config(&id)?;
    client
        .set("group.id", group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", session.as_millis().to_string())
        .set(
            "heartbeat.interval.ms",
            (session / HEARTBEATS).as_millis().to_string(),
        )
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Starts are given explicitly; this is for records deleted meanwhile.
        .set("auto.offset.reset", "earliest")
        .set("queued.max.messages.kbytes", topic.queue_kbytes.to_string())
        .set("queued.min.messages", QUEUED_RECORDS)
        .set("fetch.wait.max.ms", FETCH_WAIT_MS)
        .set("fetch.queue.backoff.ms", "20");
    Ok(client)
}
