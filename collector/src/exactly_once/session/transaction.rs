//! The open transaction and its end: committed, so that what was done in it
//! stays; undone, so that it has never been; or unknown, and then the session is
//! broken and everything is read again from Kafka.
//!
//! When it is due to end is `cadence`'s, the calls to Kafka and the reading of
//! their errors are `sink`'s.

use std::time::{Duration, Instant};

use super::{Exit, Session, broken};
use crate::exactly_once::{
    Work, Worker, Writer,
    sink::{Broken, Ending, Failure},
    source::Positions,
};

/// Pause after an aborted transaction, for the cause to pass; doubles with
/// each in a row up to the bound.
const ABORT_PAUSE: Duration = Duration::from_millis(50);
const ABORT_PAUSE_MAX: Duration = Duration::from_secs(5);

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

    /// Ends the open transaction: changes, offsets, commit; or undoes it.
    pub(super) fn close(&mut self, worker: &Worker) -> Result<(), Exit> {
        let commit_began = Instant::now();
        let touched: Vec<(i32, Positions)> = self
            .partitions
            .iter()
            .filter(|(_, owned)| owned.is_touched)
            .map(|(partition, owned)| (*partition, owned.to_commit(self.work)))
            .collect();
        let mut sent = Ok(());
        for (partition, _) in &touched {
            let Some(owned) = self.partitions.get(partition) else {
                continue;
            };
            let mut writer = Writer::new(&mut self.sink, *partition);
            self.work.changes(&owned.state, &mut writer);
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
                self.work.committed(&mut owned.state);
                owned.committed = *positions;
                owned.is_touched = false;
            }
        }
        let now_ms = worker.now_ms();
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
                self.work.aborted(&mut owned.state);
                owned.next = owned.committed;
                owned.is_touched = false;
                back.push((*partition, owned.committed));
            }
        }
        self.source.seek(&back).map_err(broken)?;
        self.transaction_began_ms = None;
        self.read = Default::default();
        self.cadence.end(worker.now_ms(), 0);
        let pause = (ABORT_PAUSE * 2_u32.saturating_pow(self.aborts_in_a_row)).min(ABORT_PAUSE_MAX);
        self.aborts_in_a_row += 1;
        worker.pause(pause);
        Ok(())
    }
}
