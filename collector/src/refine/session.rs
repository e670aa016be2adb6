//! The life of one set of clients, and of the state that belongs to it: from
//! joining the group to leaving it, or to an error after which everything has
//! to be read again from Kafka.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use prost::Message as _;
use rdkafka::{Message as _, message::BorrowedMessage};
use returnpath_refinery::{Destination, Output, Partition, RawRecord, Record};
use returnpath_shared::{
    Lane, REJECTED_RECORD_BYTES_MAX, Urgency,
    wire::{self, Rejected, RejectionReason},
};
use tracing::{debug, error, info, warn};

use super::{
    Error, Worker,
    cadence::{Cadence, Supply},
    changelog,
    sink::{Broken, Ending, Failure, Sink},
    source::{Positions, Rebalance, Source, Start},
};
use crate::admin::Readiness;

/// Longest wait for a record: bounds how late a stop, or a backlog record, is
/// seen while nothing happens.
const IDLE: Duration = Duration::from_millis(50);

/// Room in a rejected record for what stands around the original bytes.
const REJECTED_OVERHEAD_BYTES: usize = 4 * 1024;

/// Pause after an aborted transaction, for the cause to pass; doubles with
/// each in a row up to the bound.
const ABORT_PAUSE: Duration = Duration::from_millis(50);
const ABORT_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Longest wait for the group's offsets to be stable: beyond the timeout of a
/// former owner's transaction, and Kafka's look at it (every 10 s).
const STABLE_WITHIN: Duration = Duration::from_secs(60);

/// Pause before the offsets are asked for again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How a session ended.
pub(super) enum Ended {
    /// Told to stop; everything refined is committed.
    Stopped,
    /// Nothing in memory can be trusted to be what Kafka has.
    Broken(String),
}

/// Clients and state.
pub(super) struct Session {
    source: Source,
    sink: Sink,
    partitions: BTreeMap<i32, Owned>,
    cadence: Cadence,
    out: Output,
    began: Instant,
    /// When a waiting record is due, at the earliest.
    timeout_ms: Option<u64>,
    transaction_began_ms: Option<u64>,
    read: [Read; Lane::ALL.len()],
    aborts_in_a_row: u32,
    has_committed: bool,
}

/// What was read of one lane since the last commit, for metrics.
#[derive(Clone, Copy, Default)]
struct Read {
    records: u64,
    newest_unix_ms: i64,
}

/// A partition that is ours.
struct Owned {
    state: Partition,
    /// What is read next.
    next: Positions,
    /// What Kafka has of it.
    committed: Positions,
    /// Whether the open transaction concerns it.
    is_touched: bool,
}

impl Session {
    pub(super) fn open(worker: &Worker) -> Result<Self, Error> {
        Ok(Self {
            sink: Sink::new(worker)?,
            source: Source::new(worker)?,
            partitions: BTreeMap::new(),
            cadence: Cadence::default(),
            out: Output::new(),
            began: Instant::now(),
            timeout_ms: None,
            transaction_began_ms: None,
            read: Default::default(),
            aborts_in_a_row: 0,
            has_committed: false,
        })
    }

    /// Whether anything was committed: it was not in vain.
    pub(super) fn committed_any(&self) -> bool {
        self.has_committed
    }

    /// Works until told to stop, or until the session is broken.
    pub(super) fn run(&mut self, worker: &Worker) -> Result<Ended, Error> {
        let ended = match self.work(worker) {
            Ok(()) => Ok(Ended::Stopped),
            Err(Exit::Broken(Broken(reason))) if worker.is_stopping() => {
                // What was not committed is read again by the next owner.
                warn!("stopped in mid-transaction: {reason}");
                Ok(Ended::Stopped)
            }
            Err(Exit::Broken(Broken(reason))) => Ok(Ended::Broken(reason)),
            Err(Exit::Fatal(error)) => Err(error),
        };
        worker.metrics.partitions.set(0);
        worker.metrics.devices.set(0);
        ended
    }

    fn work(&mut self, worker: &Worker) -> Result<(), Exit> {
        if !self.sink.claim(worker)? {
            return Ok(());
        }
        let mut supply = Supply::Dry;
        while !worker.is_stopping() {
            while let Some(rebalance) = self.source.rebalance() {
                self.rebalance(rebalance, worker)?;
            }
            let now_ms = self.now_ms();
            self.expire_waits(now_ms, worker)?;
            if self.cadence.is_due(now_ms, supply) {
                self.close(worker)?;
                continue;
            }
            supply = self.step(supply, worker)?;
        }
        self.drain(worker)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes one record, or waits for one.
    fn step(&mut self, supply: Supply, worker: &Worker) -> Result<Supply, Exit> {
        let wait = match supply {
            Supply::Flowing => Duration::ZERO,
            Supply::Dry => self.wait(),
        };
        let now_ms = self.now_ms();
        let Self {
            source,
            sink,
            partitions,
            cadence,
            out,
            read,
            ..
        } = self;
        let Some((lane, message)) = source.next(wait) else {
            worker.health.progressed();
            if supply == Supply::Dry && !cadence.is_open() {
                for lane in Lane::ALL {
                    let lag = worker.metrics.lag_milliseconds.get_or_create(&lane.into());
                    lag.set(0);
                }
            }
            return Ok(Supply::Dry);
        };
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                // Weather: librdkafka goes on by itself.
                debug!(%lane, "reading: {error}");
                return Ok(Supply::Dry);
            }
        };
        let partition = message.partition();
        // A record of a partition that was just released.
        let Some(owned) = partitions.get_mut(&partition) else {
            return Ok(Supply::Flowing);
        };
        let read = &mut read[lane as usize];
        read.records += 1;
        read.newest_unix_ms = message.timestamp().to_millis().unwrap_or_default();
        let mut oversize = None;
        out.clear();
        owned.take(lane, &message, now_ms, out, &mut oversize);
        cadence.add(now_ms, urgency(out), out.len(), out.bytes());
        let timeout_ms = owned.state.poll_timeout();
        let mut sent = send(sink, partition, out.records());
        if let Some(rejected) = oversize {
            worker.metrics.oversize.inc();
            let value = rejected.encode_to_vec();
            cadence.add(now_ms, Urgency::Batched, 1, value.len());
            let record = Record {
                destination: Destination::Rejected,
                key: message.key().unwrap_or_default(),
                value: Some(&value),
            };
            sent = sent.and_then(|()| sink.send(partition, &record));
        }
        drop(message);
        self.timeout_ms = earliest(self.timeout_ms, timeout_ms);
        self.transaction_began_ms.get_or_insert(now_ms);
        self.settle(sent, worker)?;
        Ok(Supply::Flowing)
    }

    /// How long to wait for a record.
    fn wait(&self) -> Duration {
        let due_ms = earliest(self.cadence.due_ms(Supply::Dry), self.timeout_ms);
        let left_ms = due_ms.map(|due_ms| due_ms.saturating_sub(self.now_ms()));
        left_ms.map_or(IDLE, |left_ms| Duration::from_millis(left_ms).min(IDLE))
    }

    /// Refines records that have waited long enough for the one before them.
    fn expire_waits(&mut self, now_ms: u64, worker: &Worker) -> Result<(), Exit> {
        if self.timeout_ms.is_none_or(|due_ms| due_ms > now_ms) {
            return Ok(());
        }
        self.timeout_ms = None;
        let mut sent = Ok(());
        for (partition, owned) in &mut self.partitions {
            if owned
                .state
                .poll_timeout()
                .is_some_and(|due_ms| due_ms <= now_ms)
            {
                self.out.clear();
                owned.state.handle_timeout(now_ms, &mut self.out);
                owned.is_touched = true;
                let urgency = urgency(&self.out);
                self.cadence
                    .add(now_ms, urgency, self.out.len(), self.out.bytes());
                self.transaction_began_ms.get_or_insert(now_ms);
                sent = send(&mut self.sink, *partition, self.out.records());
                if sent.is_err() {
                    break;
                }
            }
            self.timeout_ms = earliest(self.timeout_ms, owned.state.poll_timeout());
        }
        self.settle(sent, worker)
    }

    /// Aborts where a record could not be added to the transaction.
    fn settle(&mut self, sent: Result<(), Failure>, worker: &Worker) -> Result<(), Exit> {
        match sent {
            Ok(()) => Ok(()),
            Err(Failure::Abort) => {
                self.sink.abort(worker)?;
                self.undo(worker)
            }
            Err(Failure::Broken(broken)) => Err(broken.into()),
        }
    }

    /// Ends the open transaction: changes, offsets, commit; or undoes it.
    fn close(&mut self, worker: &Worker) -> Result<(), Exit> {
        let commit_began = Instant::now();
        let touched: Vec<(i32, Positions)> = self
            .partitions
            .iter()
            .filter(|(_, owned)| owned.is_touched)
            .map(|(partition, owned)| (*partition, owned.to_commit()))
            .collect();
        let mut sent = Ok(());
        for (partition, _) in &touched {
            let Some(owned) = self.partitions.get_mut(partition) else {
                continue;
            };
            self.out.clear();
            owned.state.changes(&mut self.out);
            sent = send(&mut self.sink, *partition, self.out.records());
            if sent.is_err() {
                break;
            }
        }
        if sent.is_err() {
            return self.settle(sent, worker);
        }
        let group = self
            .source
            .group()
            .ok_or_else(|| Broken("the consumer has no group".into()))?;
        let offsets = self.source.offsets(&touched).map_err(broken)?;
        match self.sink.commit(&offsets, &group, worker)? {
            Ending::Aborted => self.undo(worker),
            Ending::Committed => {
                self.keep(&touched, commit_began, worker);
                Ok(())
            }
        }
    }

    /// What was done in the transaction stays.
    fn keep(&mut self, touched: &[(i32, Positions)], commit_began: Instant, worker: &Worker) {
        let metrics = &worker.metrics;
        for (partition, positions) in touched {
            if let Some(owned) = self.partitions.get_mut(partition) {
                metrics.add(&owned.state.commit());
                owned.committed = *positions;
                owned.is_touched = false;
            }
        }
        let now_ms = self.now_ms();
        let began_ms = self.transaction_began_ms.take().unwrap_or(now_ms);
        let took = Duration::from_millis(now_ms.saturating_sub(began_ms));
        metrics.transactions_committed.inc();
        metrics.transaction_seconds.observe(took.as_secs_f64());
        let commit = commit_began.elapsed();
        metrics.commit_seconds.observe(commit.as_secs_f64());
        self.count_read(worker);
        self.count_devices(worker);
        let commit_ms = u64::try_from(commit.as_millis()).unwrap_or(u64::MAX);
        self.cadence.end(now_ms, commit_ms);
        self.aborts_in_a_row = 0;
        self.has_committed = true;
        worker.health.progressed();
    }

    /// What was done in the transaction has never been: the state forgets it,
    /// and its input is read again.
    fn undo(&mut self, worker: &Worker) -> Result<(), Exit> {
        worker.metrics.transactions_aborted.inc();
        let mut back = Vec::new();
        for (partition, owned) in &mut self.partitions {
            if owned.is_touched {
                owned.state.abort();
                owned.next = owned.committed;
                owned.is_touched = false;
                back.push((*partition, owned.committed));
            }
        }
        self.source.seek(&back).map_err(broken)?;
        self.transaction_began_ms = None;
        self.read = Default::default();
        self.cadence.end(self.now_ms(), 0);
        let pause = (ABORT_PAUSE * 2_u32.saturating_pow(self.aborts_in_a_row)).min(ABORT_PAUSE_MAX);
        self.aborts_in_a_row += 1;
        worker.pause(pause);
        Ok(())
    }

    fn rebalance(&mut self, rebalance: Rebalance, worker: &Worker) -> Result<(), Exit> {
        match rebalance {
            Rebalance::Assigned(partitions) => self.assigned(&partitions, worker)?,
            Rebalance::Revoked(partitions) => self.revoked(&partitions, worker)?,
        }
        let owned = i64::try_from(self.partitions.len()).unwrap_or(i64::MAX);
        worker.metrics.partitions.set(owned);
        self.count_devices(worker);
        worker.health.set(if self.partitions.is_empty() {
            Readiness::NotReady("no partition is assigned")
        } else {
            Readiness::Ready
        });
        Ok(())
    }

    /// Stable offsets, then the changelog, then reading begins.
    fn assigned(&mut self, partitions: &[i32], worker: &Worker) -> Result<(), Exit> {
        if partitions.is_empty() {
            // A rebalance that changed nothing for us must be answered too.
            return self.source.accept(&[]).map_err(broken);
        }
        let restore_began = Instant::now();
        // Kafka counts the open transaction from its first record, and loading
        // may take seconds.
        if self.cadence.is_open() {
            self.close(worker)?;
        }
        let starts = self.stable_offsets(partitions, worker)?;
        let states = match changelog::restore(worker, partitions) {
            Ok(states) => states,
            Err(changelog::Failure::Fatal(error)) => return Err(Exit::Fatal(error)),
            Err(changelog::Failure::Kafka(error)) => return Err(broken(error)),
            Err(changelog::Failure::Silence) => {
                return Err(Broken("the changelog does not end".into()).into());
            }
            Err(changelog::Failure::Stopped) => {
                return Err(Broken("told to stop while loading the state".into()).into());
            }
        };
        for ((partition, start), (_, state)) in starts.iter().zip(states) {
            tell_expired(*partition, start, worker);
            let owned = Owned {
                state,
                next: start.positions,
                committed: start.positions,
                is_touched: false,
            };
            self.partitions.insert(*partition, owned);
        }
        let positions: Vec<_> = starts
            .iter()
            .map(|(partition, start)| (*partition, start.positions))
            .collect();
        self.source.accept(&positions).map_err(broken)?;
        worker
            .metrics
            .restore_seconds
            .observe(restore_began.elapsed().as_secs_f64());
        info!(
            ?partitions,
            milliseconds = restore_began.elapsed().as_millis(),
            "assigned"
        );
        Ok(())
    }

    /// Asks until a former owner's transaction is decided: Kafka does not tell
    /// before, and that may take its timeout.
    fn stable_offsets(
        &self,
        partitions: &[i32],
        worker: &Worker,
    ) -> Result<Vec<(i32, Start)>, Exit> {
        let began = Instant::now();
        loop {
            worker.health.progressed();
            match self.source.committed(partitions) {
                Ok(starts) => return Ok(starts),
                Err(error) if worker.is_stopping() || began.elapsed() > STABLE_WITHIN => {
                    return Err(broken(error));
                }
                Err(error) => {
                    info!("waiting for stable offsets: {error}");
                    worker.pause(ASK_AGAIN_AFTER);
                }
            }
        }
    }

    /// Finishes what is open, then lets go. If the group gave up on us first,
    /// the commit is fenced and the transaction undone.
    fn revoked(&mut self, partitions: &[i32], worker: &Worker) -> Result<(), Exit> {
        self.flush(partitions, worker)?;
        if self.cadence.is_open() {
            self.close(worker)?;
        }
        for partition in partitions {
            self.partitions.remove(partition);
        }
        self.source.release(partitions).map_err(broken)?;
        info!(?partitions, "released");
        Ok(())
    }

    fn drain(&mut self, worker: &Worker) -> Result<(), Exit> {
        let all: Vec<i32> = self.partitions.keys().copied().collect();
        self.flush(&all, worker)?;
        if self.cadence.is_open() {
            self.close(worker)?;
        }
        Ok(())
    }

    /// Refines all that waits, without waiting longer.
    fn flush(&mut self, partitions: &[i32], worker: &Worker) -> Result<(), Exit> {
        let now_ms = self.now_ms();
        for partition in partitions {
            let Some(owned) = self.partitions.get_mut(partition) else {
                continue;
            };
            if owned.state.waiting() == 0 {
                continue;
            }
            self.out.clear();
            owned.state.flush(&mut self.out);
            owned.is_touched = true;
            self.cadence
                .add(now_ms, Urgency::Batched, self.out.len(), self.out.bytes());
            self.transaction_began_ms.get_or_insert(now_ms);
            let sent = send(&mut self.sink, *partition, self.out.records());
            self.settle(sent, worker)?;
        }
        Ok(())
    }

    fn count_read(&mut self, worker: &Worker) {
        let now_unix_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_millis()).ok())
            .unwrap_or_default();
        for lane in Lane::ALL {
            let read = std::mem::take(&mut self.read[lane as usize]);
            if read.records > 0 {
                let metrics = &worker.metrics;
                let label = lane.into();
                metrics.records.get_or_create(&label).inc_by(read.records);
                let lag_ms = now_unix_ms.saturating_sub(read.newest_unix_ms);
                metrics.lag_milliseconds.get_or_create(&label).set(lag_ms);
            }
        }
    }

    fn count_devices(&self, worker: &Worker) {
        let devices: usize = self
            .partitions
            .values()
            .map(|owned| owned.state.devices())
            .sum();
        worker
            .metrics
            .devices
            .set(i64::try_from(devices).unwrap_or(i64::MAX));
    }
}

impl Owned {
    /// Gives one record to the refinery; one that is too large to be copied to
    /// the rejected topic comes back as a rejection without its bytes.
    fn take(
        &mut self,
        lane: Lane,
        message: &BorrowedMessage<'_>,
        now_ms: u64,
        out: &mut Output,
        oversize: &mut Option<Rejected>,
    ) {
        let value = message.payload().unwrap_or_default();
        let received_unix_ms = message.timestamp().to_millis().unwrap_or_default();
        let offset = message.offset();
        self.next.set(lane, offset + 1);
        self.is_touched = true;
        if value.len() > REJECTED_RECORD_BYTES_MAX - REJECTED_OVERHEAD_BYTES {
            *oversize = Some(too_large(lane, message, value.len(), received_unix_ms));
            return;
        }
        let record = RawRecord {
            key: message.key().unwrap_or_default(),
            value,
            lane,
            received_unix_ms,
            offset,
        };
        self.state.refine(&record, now_ms, out);
    }

    /// What waits has to be read again by the next owner.
    fn to_commit(&self) -> Positions {
        let mut positions = self.next;
        for lane in Lane::ALL {
            if let Some(offset) = self.state.lowest_waiting_offset(lane) {
                positions.set(lane, offset);
            }
        }
        positions
    }
}

fn too_large(
    lane: Lane,
    message: &BorrowedMessage<'_>,
    length: usize,
    received_unix_ms: i64,
) -> Rejected {
    Rejected {
        reason: RejectionReason::TooLarge.into(),
        detail: format!(
            "{length} bytes at {}[{}]@{}, left there: too large to be copied",
            message.topic(),
            message.partition(),
            message.offset()
        ),
        key: message.key().unwrap_or_default().to_vec().into(),
        lane: match lane {
            Lane::Live => wire::Lane::Live,
            Lane::Backlog => wire::Lane::Backlog,
        }
        .into(),
        received_unix_ms,
        ..Rejected::default()
    }
}

fn send<'a>(
    sink: &mut Sink,
    partition: i32,
    mut records: impl Iterator<Item = Record<'a>>,
) -> Result<(), Failure> {
    records.try_for_each(|record| sink.send(partition, &record))
}

fn urgency(out: &Output) -> Urgency {
    if out.is_urgent() {
        Urgency::Urgent
    } else {
        Urgency::Batched
    }
}

fn tell_expired(partition: i32, start: &Start, worker: &Worker) {
    for lane in Lane::ALL {
        let expired = start.expired[lane as usize];
        if expired > 0 {
            error!(
                partition,
                %lane,
                "{expired} records were deleted by retention before they were refined"
            );
            worker
                .metrics
                .expired
                .get_or_create(&lane.into())
                .inc_by(expired);
        }
    }
}

fn earliest(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Why a session cannot go on.
enum Exit {
    Broken(Broken),
    Fatal(Error),
}

impl From<Broken> for Exit {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

fn broken(error: rdkafka::error::KafkaError) -> Exit {
    Exit::Broken(Broken(error.to_string()))
}
