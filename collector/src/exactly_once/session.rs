//! The life of one set of clients, and of the state that belongs to it: from
//! joining the group to leaving it, or to an error after which everything has
//! to be read again from Kafka.
//!
//! Here is the loop that chooses what is done next, and how it ends. What is
//! done is in the modules below: `assignment` takes partitions over and gives
//! them up, `working` fills the transaction, `transaction` ends it; `owned` is
//! a partition that is ours, and `counts` tells metrics.

mod assignment;
mod counts;
mod owned;
mod transaction;
mod working;

use std::{collections::BTreeMap, mem, time::Duration};

use rdkafka::error::KafkaError;
use tracing::warn;

use super::{
    Error, Input, Work, Worker,
    cadence::{Cadence, Supply},
    committer::Committer,
    producer::Broken,
    sink::Sink,
    source::Source,
};
use counts::Read;
use owned::Owned;
use transaction::Sealed;

/// How a session ended.
pub(super) enum Ended {
    /// Told to stop; everything done is committed.
    Stopped,
    /// Nothing in memory can be trusted to be what Kafka has.
    Broken(String),
}

/// Clients and state.
pub(super) struct Session<'work, W: Work> {
    work: &'work mut W,
    source: Source,
    sink: Sink,
    partitions: BTreeMap<i32, Owned<W::Partition>>,
    cadence: Cadence,
    /// Where the role works ahead.
    committer: Option<&'work Committer<'work>>,
    /// What Kafka is committing.
    sealed: Option<Sealed>,
    /// When work that waits is due, at the earliest.
    timeout_ms: Option<u64>,
    transaction_began_ms: Option<u64>,
    read: [Read; Input::ALL.len()],
    aborts_in_a_row: u32,
    has_committed: bool,
}

impl<'work, W: Work> Session<'work, W> {
    /// Makes the clients. A role that works ahead has a `committer`.
    pub(super) fn open(
        worker: &Worker,
        work: &'work mut W,
        committer: Option<&'work Committer<'work>>,
    ) -> Result<Self, Error> {
        Ok(Self {
            work,
            sink: Sink::new(worker)?,
            source: Source::new(worker)?,
            partitions: BTreeMap::new(),
            cadence: Cadence::new(worker.terms.urgent_hold_ms),
            committer,
            sealed: None,
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
        self.abandon();
        for (_, owned) in mem::take(&mut self.partitions) {
            self.work.released(owned.state);
        }
        worker.metrics.partitions.set(0);
        worker.metrics.devices.set(0);
        ended
    }

    fn work(&mut self, worker: &Worker) -> Result<(), Exit> {
        if !self.sink.producer().claim(worker)? {
            return Ok(());
        }
        let mut supply = Supply::Dry;
        while !worker.is_stopping() {
            while let Some(rebalance) = self.source.rebalance() {
                self.rebalance(rebalance, worker)?;
            }
            self.look(Duration::ZERO, worker)?;
            let now_ms = worker.now_ms();
            self.expire_waits(now_ms, worker)?;
            if self.hear(now_ms, worker)? {
                // Records may have come with it: they go into the same
                // transaction.
                supply = Supply::Flowing;
            }
            // What is due while a commit is under way waits for its end; only
            // what is full makes everything wait.
            let is_due = match self.is_committing() {
                true => self.cadence.is_full(),
                false => self.cadence.is_due(now_ms, supply),
            };
            if is_due {
                self.seal(worker)?;
                continue;
            }
            supply = self.step(supply, worker)?;
        }
        self.drain(worker)
    }

    /// Leaves nothing waiting and nothing open.
    fn drain(&mut self, worker: &Worker) -> Result<(), Exit> {
        let all: Vec<i32> = self.partitions.keys().copied().collect();
        self.flush(&all, worker)?;
        self.close(worker)
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
