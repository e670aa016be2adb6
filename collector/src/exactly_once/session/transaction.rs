//! The end of a transaction: sealed, and given to Kafka; then committed, so
//! that what was done in it stays; undone, so that it has never been; or
//! unknown, and then the session is broken and everything is read again from
//! Kafka.
//!
//! A role that works ahead fills the next transaction meanwhile; any other
//! waits here. When a transaction is due to end is `cadence`'s, the calls to
//! Kafka and the reading of their errors are `producer`'s.

use std::{
    mem,
    time::{Duration, Instant},
};

use super::{Exit, Session, broken, counts::Read};
use crate::exactly_once::{
    Input, Work, Worker, Writer,
    committer::{Commit, Committed},
    producer::{Broken, Ending, Failure},
    source::Positions,
};

/// Pause after an aborted transaction, for the cause to pass; doubles with
/// each in a row up to the bound.
const ABORT_PAUSE: Duration = Duration::from_millis(50);
const ABORT_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Step of waiting for a commit that nothing goes on without. It ends by itself:
/// Kafka answers, or the role is told to stop.
const COMMIT_STEP: Duration = Duration::from_secs(1);

/// A transaction that Kafka is committing.
pub(super) struct Sealed {
    /// Its partitions, and how far it takes their inputs.
    touched: Vec<(i32, Positions)>,
    read: [Read; Input::ALL.len()],
    began_ms: u64,
    sealed: Instant,
}

impl<W: Work> Session<'_, W> {
    /// Aborts where a record could not be added to the transaction.
    pub(super) fn settle(
        &mut self,
        sent: Result<(), Failure>,
        worker: &Worker,
    ) -> Result<(), Exit> {
        match sent {
            Ok(()) => Ok(()),
            Err(Failure::Abort) => {
                self.sink.abort(worker)?;
                self.undo(worker)
            }
            Err(Failure::Broken(broken)) => Err(broken.into()),
        }
    }

    /// Ends the open transaction, and waits until Kafka has answered.
    pub(super) fn close(&mut self, worker: &Worker) -> Result<(), Exit> {
        self.seal(worker)?;
        self.await_commit(worker)
    }

    /// Ends the open transaction: changes, offsets, commit; or undoes it. Where
    /// the role works ahead, what became of the commit is seen later.
    pub(super) fn seal(&mut self, worker: &Worker) -> Result<(), Exit> {
        self.await_commit(worker)?;
        if !self.cadence.is_open() {
            // Nothing was, or it was undone with the one before.
            return Ok(());
        }
        let sealed = Instant::now();
        let touched: Vec<(i32, Positions)> = self
            .partitions
            .iter()
            .filter(|(_, owned)| owned.is_touched)
            .map(|(partition, owned)| (*partition, owned.to_commit(self.work)))
            .collect();
        let mut sent = Ok(());
        for (partition, _) in &touched {
            let Some(owned) = self.partitions.get_mut(partition) else {
                continue;
            };
            let mut writer = Writer::new(&mut self.sink, *partition);
            self.work.changes(&mut owned.state, &mut writer);
            owned.seal();
            (_, sent) = writer.finish();
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
        // Asked last: whatever takes our place in the group from us is told of
        // by then. Kafka would fence a commit under a place that is gone, but
        // not one under none at all, which is how older clients commit.
        if self.source.has_lost_partitions() {
            self.sink.abort(worker)?;
            return self.undo(worker);
        }
        let sent = self.sink.seal();
        if sent.is_err() {
            return self.settle(sent, worker);
        }
        let commit = Commit {
            producer: self.sink.producer().clone(),
            offsets: self.source.offsets(&touched).map_err(broken)?,
            group,
        };
        let now_ms = worker.now_ms();
        self.cadence.seal();
        self.sealed = Some(Sealed {
            touched,
            read: mem::take(&mut self.read),
            began_ms: self.transaction_began_ms.take().unwrap_or(now_ms),
            sealed,
        });
        match self.committer {
            Some(committer) => Ok(committer.begin(commit)?),
            None => self.conclude(commit.carry_out(worker), worker),
        }
    }

    /// Whether a commit is under way.
    pub(super) fn is_committing(&self) -> bool {
        self.sealed.is_some()
    }

    /// Waits for the commit under way, if there is one.
    pub(super) fn await_commit(&mut self, worker: &Worker) -> Result<(), Exit> {
        while self.is_committing() {
            self.look(COMMIT_STEP, worker)?;
        }
        Ok(())
    }

    /// Sees to what became of the commit under way; waits for it at most as
    /// long as told.
    pub(super) fn look(&mut self, limit: Duration, worker: &Worker) -> Result<(), Exit> {
        if self.is_committing()
            && let Some(committer) = self.committer
            && let Some(committed) = committer.wait(limit)?
        {
            self.conclude(committed, worker)?;
        }
        Ok(())
    }

    /// Lets nothing be under way when the session ends: whoever builds it anew
    /// reads from Kafka how that ended.
    pub(super) fn abandon(&mut self) {
        if self.sealed.take().is_some()
            && let Some(committer) = self.committer
        {
            while let Ok(None) = committer.wait(COMMIT_STEP) {}
        }
    }

    fn conclude(&mut self, committed: Committed, worker: &Worker) -> Result<(), Exit> {
        // Gone in any case: nothing is under way any more.
        let sealed = self.sealed.take();
        match (committed.ending?, sealed) {
            (Ending::Committed, Some(sealed)) => {
                self.sink.ended();
                self.keep(&sealed, committed.at, worker);
                Ok(())
            }
            (Ending::Committed, None) => Ok(()),
            (Ending::Aborted, _) => {
                self.sink.ended();
                self.sink.clear();
                self.undo(worker)
            }
        }
    }

    /// What was done in the transaction stays.
    fn keep(&mut self, sealed: &Sealed, committed: Instant, worker: &Worker) {
        let metrics = &worker.metrics;
        for (partition, positions) in &sealed.touched {
            if let Some(owned) = self.partitions.get_mut(partition) {
                self.work.committed(&mut owned.state, committed);
                owned.commit(*positions);
            }
        }
        let now_ms = worker.now_ms();
        let took = Duration::from_millis(now_ms.saturating_sub(sealed.began_ms));
        metrics.transactions_committed.inc();
        metrics.transaction_seconds.observe(took.as_secs_f64());
        let commit = committed.saturating_duration_since(sealed.sealed);
        metrics.commit_seconds.observe(commit.as_secs_f64());
        self.count_read(&sealed.read, worker);
        self.count_devices(worker);
        let commit_ms = u64::try_from(commit.as_millis()).unwrap_or(u64::MAX);
        self.cadence.ended(now_ms, commit_ms);
        self.aborts_in_a_row = 0;
        self.has_committed = true;
        worker.health.progressed();
    }

    /// What was done since the last commit has never been: the state forgets
    /// it, and its input is read again.
    fn undo(&mut self, worker: &Worker) -> Result<(), Exit> {
        worker.metrics.transactions_aborted.inc();
        let mut back = Vec::new();
        for (partition, owned) in &mut self.partitions {
            if owned.is_in_doubt() {
                self.work.aborted(&mut owned.state);
                owned.abort();
                back.push((*partition, owned.committed));
            }
        }
        self.source.seek(&back).map_err(broken)?;
        self.transaction_began_ms = None;
        self.read = Default::default();
        self.cadence.seal();
        self.cadence.ended(worker.now_ms(), 0);
        let pause = (ABORT_PAUSE * 2_u32.saturating_pow(self.aborts_in_a_row)).min(ABORT_PAUSE_MAX);
        self.aborts_in_a_row += 1;
        worker.pause(pause);
        Ok(())
    }
}
