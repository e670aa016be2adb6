//! The life of one set of clients, and of the state that belongs to it: from
//! joining the group to leaving it, or to an error after which everything has
//! to be read again from Kafka.
//!
//! Here is the loop that chooses what is done next, and how it ends. What is
//! done is in the modules below: `assignment` takes partitions over and gives
//! them up, `refining` fills the transaction, `transaction` ends it; `owned` is
//! a partition that is ours, and `counts` tells metrics.

mod assignment;
mod counts;
mod owned;
mod refining;
mod transaction;

use std::{collections::BTreeMap, time::Instant};

use rdkafka::error::KafkaError;
use returnpath_refinery::Output;
use returnpath_shared::Lane;
use tracing::warn;

use super::{
    Error, Worker,
    cadence::{Cadence, Supply},
    sink::{Broken, Sink},
    source::Source,
};
use counts::Read;
use owned::Owned;

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

    /// Leaves nothing waiting and nothing open.
    fn drain(&mut self, worker: &Worker) -> Result<(), Exit> {
        let all: Vec<i32> = self.partitions.keys().copied().collect();
        self.flush(&all, worker)?;
        if self.cadence.is_open() {
            self.close(worker)?;
        }
        Ok(())
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

fn broken(error: KafkaError) -> Exit {
    Exit::Broken(Broken(error.to_string()))
}
