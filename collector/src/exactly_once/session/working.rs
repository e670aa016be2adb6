//! What goes through the work into the open transaction: a record that was
//! read, what came from outside, what has waited long enough, and all that
//! waits before a partition is given up.
//!
//! Each way adds to the transaction and tells the cadence of it; when it ends,
//! and how, is not decided here.

use std::time::Duration;

use rdkafka::Message as _;
use tracing::debug;

use super::{Exit, Session};
use crate::exactly_once::{
    Input, Record, Stand, Work, Worker, Writer,
    cadence::{Cadence, Supply},
    producer::Failure,
};

/// Longest wait for a record: bounds how late a stop is seen while nothing
/// happens.
const IDLE: Duration = Duration::from_millis(50);

/// How often what came is looked for while a commit is under way. No decision
/// can leave before it has ended, so the loop is not woken for each thing that
/// comes, which at 500 opportunities/s saves a thousand wake-ups a second; an
/// aggregator is asked later by that.
const AHEAD_STEP: Duration = Duration::from_millis(2);

/// News heard in a row, at most: the end of a transaction, and records, come
/// between however much there is to hear.
const NEWS_MAX: usize = 1_000;

impl<W: Work> Session<'_, W> {
    /// Takes one record, or waits for one.
    pub(super) fn step(&mut self, supply: Supply, worker: &Worker) -> Result<Supply, Exit> {
        let has_room = self.work.has_room();
        let Self {
            work,
            source,
            sink,
            partitions,
            cadence,
            read,
            ..
        } = self;
        let Some((input, message)) = source.next(has_room) else {
            if supply == Supply::Dry {
                // While a commit is under way, whoever waits for it does both.
                if !self.is_committing() {
                    worker.health.progressed();
                    self.sink.producer().serve();
                }
                if !self.cadence.is_open() && has_room {
                    for input in Input::ALL {
                        worker.metrics.set_lag(input, 0);
                    }
                }
                self.tell_readiness(worker);
                let limit = self.wait(worker);
                if self.is_committing() {
                    self.look(limit.min(AHEAD_STEP), worker)?;
                } else {
                    self.source.wait(limit);
                }
            }
            return Ok(Supply::Dry);
        };
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                // Weather: librdkafka goes on by itself.
                debug!(topic = worker.topic(input).topic, "reading: {error}");
                return Ok(Supply::Dry);
            }
        };
        let partition = message.partition();
        // A record of a partition that was just released.
        let Some(owned) = partitions.get_mut(&partition) else {
            return Ok(Supply::Flowing);
        };
        let record = Record {
            input,
            partition,
            offset: message.offset(),
            key: message.key().unwrap_or_default(),
            value: message.payload().unwrap_or_default(),
            timestamp_unix_ms: message.timestamp().to_millis().unwrap_or_default(),
        };
        let read = &mut read[input as usize];
        read.records += 1;
        read.newest_unix_ms = record.timestamp_unix_ms;
        owned.next.set(input, record.offset + 1);
        let now_ms = worker.now_ms();
        let mut writer = Writer::new(sink, partition);
        let stand = work.take(&mut owned.state, &record, now_ms, &mut writer);
        owned.touch(stand);
        let timeout_ms = work.poll_timeout(&owned.state, now_ms);
        let sent = add(cadence, now_ms, stand, writer);
        drop(message);
        self.timeout_ms = earliest(self.timeout_ms, timeout_ms);
        self.note_beginning(now_ms);
        self.settle(sent, worker)?;
        Ok(Supply::Flowing)
    }

    /// How long to wait for a record.
    fn wait(&self, worker: &Worker) -> Duration {
        // A transaction cannot end before the one that is being committed.
        let end_ms = match self.is_committing() {
            true => None,
            false => self.cadence.due_ms(Supply::Dry),
        };
        let due_ms = earliest(end_ms, self.timeout_ms);
        let left_ms = due_ms.map(|due_ms| due_ms.saturating_sub(worker.now_ms()));
        left_ms.map_or(IDLE, |left_ms| Duration::from_millis(left_ms).min(IDLE))
    }

    /// Takes what came from outside; says whether anything did.
    pub(super) fn hear(&mut self, now_ms: u64, worker: &Worker) -> Result<bool, Exit> {
        for heard in 0..NEWS_MAX {
            let Some((partition, news)) = self.work.news() else {
                return Ok(heard > 0);
            };
            let Some(owned) = self.partitions.get_mut(&partition) else {
                self.work.disregard(news);
                continue;
            };
            let mut writer = Writer::new(&mut self.sink, partition);
            let stand = self.work.hear(&mut owned.state, news, now_ms, &mut writer);
            owned.touch(stand);
            self.timeout_ms = earliest(
                self.timeout_ms,
                self.work.poll_timeout(&owned.state, now_ms),
            );
            let sent = add(&mut self.cadence, now_ms, stand, writer);
            self.note_beginning(now_ms);
            self.settle(sent, worker)?;
        }
        Ok(true)
    }

    /// Does what has waited long enough.
    pub(super) fn expire_waits(&mut self, now_ms: u64, worker: &Worker) -> Result<(), Exit> {
        if self.timeout_ms.is_none_or(|due_ms| due_ms > now_ms) {
            return Ok(());
        }
        self.timeout_ms = None;
        let mut sent = Ok(());
        for (partition, owned) in &mut self.partitions {
            let due_ms = self.work.poll_timeout(&owned.state, now_ms);
            if due_ms.is_some_and(|due_ms| due_ms <= now_ms) {
                let mut writer = Writer::new(&mut self.sink, *partition);
                let stand = self
                    .work
                    .handle_timeout(&mut owned.state, now_ms, &mut writer);
                owned.touch(stand);
                sent = add(&mut self.cadence, now_ms, stand, writer);
                if sent.is_err() {
                    break;
                }
            }
            self.timeout_ms = earliest(
                self.timeout_ms,
                self.work.poll_timeout(&owned.state, now_ms),
            );
        }
        self.note_beginning(now_ms);
        self.settle(sent, worker)
    }

    /// Finishes all that can be, without waiting longer.
    pub(super) fn flush(&mut self, partitions: &[i32], worker: &Worker) -> Result<(), Exit> {
        let now_ms = worker.now_ms();
        for partition in partitions {
            let Some(owned) = self.partitions.get_mut(partition) else {
                continue;
            };
            let mut writer = Writer::new(&mut self.sink, *partition);
            let stand = self.work.flush(&mut owned.state, &mut writer);
            owned.touch(stand);
            let sent = add(&mut self.cadence, now_ms, stand, writer);
            self.note_beginning(now_ms);
            self.settle(sent, worker)?;
        }
        Ok(())
    }

    fn note_beginning(&mut self, now_ms: u64) {
        if self.cadence.is_open() {
            self.transaction_began_ms.get_or_insert(now_ms);
        }
    }
}

/// Tells the cadence what was done.
fn add(
    cadence: &mut Cadence,
    now_ms: u64,
    stand: Stand,
    writer: Writer<'_>,
) -> Result<(), Failure> {
    let (written, sent) = writer.finish();
    if stand == Stand::Done {
        cadence.add(now_ms, written.urgency, written.records, written.bytes);
    }
    sent
}

pub(super) fn earliest(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
