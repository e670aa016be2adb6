//! The two raw topics as one stream: live first, backlog at its share.
//!
//! Two clients. The first is a member of the group and is assigned partitions
//! of `rp.raw`. The second belongs to no group and reads the same partitions
//! of `rp.raw.backlog`: so both lanes of a box are always together, whatever
//! an assignor would do, each lane has a bounded queue of its own, and live
//! can go first. Offsets of both are committed for the group.
//!
//! Rebalances are cooperative: partitions that stay are read on meanwhile.
//! librdkafka tells of them inside of `poll`; they are kept until the owner
//! has done what belongs to them, and only then answered with
//! [`Source::accept`] or [`Source::release`].

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
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
use returnpath_shared::Lane;
use tracing::warn;

use super::{Error, Worker, share::Share};
use crate::kafka::{Context, TopicNames};

/// Bytes fetched ahead of live records: some 60,000 of them, a second of the
/// whole of 300,000 boxes. Fetching pauses at the bound.
const LIVE_QUEUE_KBYTES: &str = "16384";

/// The same for the backlog, which nobody waits for.
const BACKLOG_QUEUE_KBYTES: &str = "8192";

/// Records fetched ahead per partition; the bounds in bytes hold before it
/// where there are many partitions.
const QUEUED_RECORDS: &str = "20000";

/// How long Kafka holds back an answer while there is nothing to tell. Records
/// end it at once; but a partition that starts, or was paused at the bound,
/// waits for the answer under way.
const FETCH_WAIT_MS: &str = "100";

/// After this long without a sign a member is taken for dead, and others take
/// over: five heartbeats.
const SESSION_MS: &str = "10000";
const HEARTBEAT_MS: &str = "2000";

/// How long Kafka may take to answer a question about offsets.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The next offset to read, by lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Positions {
    live: i64,
    backlog: i64,
}

impl Positions {
    pub(super) fn get(&self, lane: Lane) -> i64 {
        match lane {
            Lane::Live => self.live,
            Lane::Backlog => self.backlog,
        }
    }

    pub(super) fn set(&mut self, lane: Lane, offset: i64) {
        match lane {
            Lane::Live => self.live = offset,
            Lane::Backlog => self.backlog = offset,
        }
    }
}

/// Partitions come or go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Rebalance {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
}

/// The consumers of both lanes.
pub(super) struct Source {
    live: BaseConsumer<GroupContext>,
    backlog: BaseConsumer<Context>,
    names: TopicNames,
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
        let names = worker.kafka.topics.clone();
        let logs = Context { owner: "refine" };
        let context = GroupContext {
            logs,
            rebalances: Mutex::default(),
            is_closing: AtomicBool::new(false),
        };
        let live: BaseConsumer<GroupContext> = consumer(worker, Lane::Live)?
            .create_with_context(context)
            .map_err(Error::Client)?;
        let backlog = consumer(worker, Lane::Backlog)?
            .create_with_context(logs)
            .map_err(Error::Client)?;
        live.subscribe(&[&names.raw]).map_err(Error::Client)?;
        Ok(Self {
            live,
            backlog,
            names,
            share: Share::default(),
        })
    }

    /// What happened to our partitions, in order; each must be answered.
    pub(super) fn rebalance(&self) -> Option<Rebalance> {
        self.live.context().queue().pop_front()
    }

    /// Where to begin: the stable committed offsets of the group, else the
    /// first record that Kafka still has.
    ///
    /// Stable: as long as a transaction of a former owner is open, Kafka does
    /// not answer, and librdkafka asks again (`isolation.level` does that).
    pub(super) fn committed(&self, partitions: &[i32]) -> KafkaResult<Vec<(i32, Start)>> {
        let mut list = TopicPartitionList::with_capacity(2 * partitions.len());
        for lane in Lane::ALL {
            for partition in partitions {
                list.add_partition(self.names.raw(lane), *partition);
            }
        }
        let committed = self.live.committed_offsets(list, ANSWER_WITHIN)?;
        let mut starts = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let mut start = Start::default();
            for lane in Lane::ALL {
                let topic = self.names.raw(lane);
                let found = committed.find_partition(topic, *partition);
                if let Some(part) = &found {
                    part.error()?;
                }
                let (first, _) = self
                    .live
                    .fetch_watermarks(topic, *partition, ANSWER_WITHIN)?;
                let committed = match found.map(|part| part.offset()) {
                    Some(Offset::Offset(offset)) => Some(offset),
                    _ => None,
                };
                let offset = committed.unwrap_or(first);
                start.positions.set(lane, offset.max(first));
                start.expired[lane as usize] = first.saturating_sub(offset).max(0).cast_unsigned();
            }
            starts.push((*partition, start));
        }
        Ok(starts)
    }

    /// Answers [`Rebalance::Assigned`]: reading begins.
    pub(super) fn accept(&self, positions: &[(i32, Positions)]) -> KafkaResult<()> {
        self.live
            .incremental_assign(&self.list(Lane::Live, positions)?)?;
        self.backlog
            .incremental_assign(&self.list(Lane::Backlog, positions)?)
    }

    /// Answers [`Rebalance::Revoked`]: reading ends.
    pub(super) fn release(&self, partitions: &[i32]) -> KafkaResult<()> {
        let positions: Vec<_> = partitions
            .iter()
            .map(|partition| (*partition, Positions::default()))
            .collect();
        self.backlog
            .incremental_unassign(&self.list(Lane::Backlog, &positions)?)?;
        self.live
            .incremental_unassign(&self.list(Lane::Live, &positions)?)
    }

    /// Goes on reading elsewhere; what was fetched ahead is dropped.
    pub(super) fn seek(&self, positions: &[(i32, Positions)]) -> KafkaResult<()> {
        fn done(list: &TopicPartitionList) -> KafkaResult<()> {
            list.elements().iter().try_for_each(|part| part.error())
        }
        let live = self.list(Lane::Live, positions)?;
        done(&self.live.seek_partitions(live, ANSWER_WITHIN)?)?;
        let backlog = self.list(Lane::Backlog, positions)?;
        done(&self.backlog.seek_partitions(backlog, ANSWER_WITHIN)?)
    }

    /// Offsets to commit, of both lanes.
    pub(super) fn offsets(
        &self,
        positions: &[(i32, Positions)],
    ) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(2 * positions.len());
        for lane in Lane::ALL {
            self.add(&mut list, lane, positions)?;
        }
        Ok(list)
    }

    fn list(&self, lane: Lane, positions: &[(i32, Positions)]) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        self.add(&mut list, lane, positions)?;
        Ok(list)
    }

    fn add(
        &self,
        list: &mut TopicPartitionList,
        lane: Lane,
        positions: &[(i32, Positions)],
    ) -> KafkaResult<()> {
        let topic = self.names.raw(lane);
        for (partition, positions) in positions {
            list.add_partition_offset(topic, *partition, Offset::Offset(positions.get(lane)))?;
        }
        Ok(())
    }

    /// The group's generation, which fences a member that lost its partitions.
    pub(super) fn group(&self) -> Option<ConsumerGroupMetadata> {
        self.live.group_metadata()
    }

    /// The next record. Waits for a live one at most as long as told; a
    /// backlog record that comes meanwhile is seen after it.
    pub(super) fn next(
        &mut self,
        wait: Duration,
    ) -> Option<(Lane, KafkaResult<BorrowedMessage<'_>>)> {
        if self.share.first() == Lane::Backlog {
            self.share.took(Lane::Backlog);
            if let Some(record) = self.backlog.poll(Duration::ZERO) {
                return Some((Lane::Backlog, record));
            }
        }
        if let Some(record) = self.live.poll(Duration::ZERO) {
            self.share.took(Lane::Live);
            return Some((Lane::Live, record));
        }
        if let Some(record) = self.backlog.poll(Duration::ZERO) {
            return Some((Lane::Backlog, record));
        }
        if wait.is_zero() {
            return None;
        }
        let record = self.live.poll(wait)?;
        Some((Lane::Live, record))
    }
}

/// Where a partition begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Start {
    pub(super) positions: Positions,
    /// Records that were deleted by retention before they were read, by
    /// [`Lane`] as index.
    pub(super) expired: [u64; Lane::ALL.len()],
}

impl Drop for Source {
    /// Answers what was not answered, and has the rest answered at once: else
    /// closing would wait for ever.
    fn drop(&mut self) {
        let context = self.live.context();
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

fn consumer(worker: &Worker, lane: Lane) -> Result<ClientConfig, Error> {
    let Worker {
        config,
        kafka,
        node_id,
        ..
    } = worker;
    let id = format!("{}-{node_id}-{lane}", config.group.as_str());
    let mut client = kafka.client_config(&id)?;
    let queue_kbytes = match lane {
        Lane::Live => LIVE_QUEUE_KBYTES,
        Lane::Backlog => BACKLOG_QUEUE_KBYTES,
    };
    client
        .set("group.id", config.group.as_str())
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", SESSION_MS)
        .set("heartbeat.interval.ms", HEARTBEAT_MS)
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Starts are given explicitly; this is for records deleted meanwhile.
        .set("auto.offset.reset", "earliest")
        .set("queued.max.messages.kbytes", queue_kbytes)
        .set("queued.min.messages", QUEUED_RECORDS)
        .set("fetch.wait.max.ms", FETCH_WAIT_MS)
        .set("fetch.queue.backoff.ms", "20");
    Ok(client)
}
