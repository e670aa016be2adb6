//! What goes through the refinery into the open transaction: a record that was
//! read, one that has waited long enough, and all that waits before a partition
//! is given up.
//!
//! Each way adds to the transaction and tells the cadence of it; when it ends,
//! and how, is not decided here.

use std::time::Duration;

use prost::Message as _;
use rdkafka::Message as _;
use returnpath_refinery::{Destination, Output, Record};
use returnpath_shared::{Lane, Urgency};
use tracing::debug;

use super::{Exit, Session, transaction::send};
use crate::refine::{Worker, cadence::Supply};

/// Longest wait for a record: bounds how late a stop, or a backlog record, is
/// seen while nothing happens.
const IDLE: Duration = Duration::from_millis(50);

impl Session {
    /// Takes one record, or waits for one.
    pub(super) fn step(&mut self, supply: Supply, worker: &Worker) -> Result<Supply, Exit> {
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
    pub(super) fn expire_waits(&mut self, now_ms: u64, worker: &Worker) -> Result<(), Exit> {
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

    /// Refines all that waits, without waiting longer.
    pub(super) fn flush(&mut self, partitions: &[i32], worker: &Worker) -> Result<(), Exit> {
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
}

fn urgency(out: &Output) -> Urgency {
    if out.is_urgent() {
        Urgency::Urgent
    } else {
        Urgency::Batched
    }
}

fn earliest(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
