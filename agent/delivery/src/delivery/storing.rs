//! When something is written to the queue file, and what.
//!
//! One commit is under way at most. Proof that is due makes it a synced one.
//! Deletions ride along with any commit and make it a synced one too, so that
//! what the cloud may forget cannot come back; alone they wait for the flush
//! interval. While the link is up only what is due is written, since receipts
//! may make the rest needless; while it is down everything closed goes along,
//! as far as the flash budget has room for ordinary batches.

use alloc::vec::Vec;

use returnpath_shared::{BatchId, Class, Epoch, Sequence};

use super::{CommitOutcome, Delivery, Drop, Effect, File, First, Link, Phase};
use crate::{
    Durability, Op, Settled, StartRow, Uptime, budget::cost_of, effect::Commit, held::Place,
    storage::Committing,
};

impl Delivery {
    /// Commits what is due, unless a commit is under way.
    pub(super) fn store(&mut self) {
        if self.storage.sync_due.is_some() && !self.awaits_durable() {
            self.storage.sync_due = None;
        }
        if self.storage.committing.is_some() {
            return;
        }
        match self.storage.file {
            File::Good => {}
            File::Rebuilding => {
                self.stop_without_file();
                return;
            }
            File::Absent { until } => {
                self.answer_without_file();
                if until <= self.now {
                    self.storage.file = File::Rebuilding;
                    self.want_rebuild();
                }
                self.stop_without_file();
                return;
            }
        }
        let due = self.storing_due().is_some_and(|due| due <= self.now);
        if due || self.phase == Phase::Stopping {
            self.commit();
        }
    }

    /// When [`Self::store`] is due.
    pub(super) fn storing_due(&self) -> Option<Uptime> {
        if self.storage.committing.is_some() {
            return None;
        }
        let due = match self.storage.file {
            File::Good => self
                .proof_due()
                .into_iter()
                .chain(self.ordinary_due())
                .chain(self.tidy_due())
                .chain(self.storage.write_all.then_some(self.now))
                .chain(self.grown_due())
                .min()?
                .max(self.storage.retry_at),
            File::Rebuilding => return None,
            File::Absent { until } => self.proof_due().into_iter().chain([until]).min()?,
        };
        Some(due)
    }

    /// When proof has to be synced. Without a file it is when its clients are
    /// told so.
    fn proof_due(&self) -> Option<Uptime> {
        if self.syncs_at_once() {
            return self.storage.sync_due;
        }
        self.unwritten
            .iter()
            .filter_map(|(_, batch)| batch.durable_due)
            .min()
    }

    /// Whether any proof is in RAM whose clients wait for `durable`.
    pub(super) fn awaits_durable(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.added.class == Class::Proof)
            || self
                .unwritten
                .iter()
                .any(|(_, batch)| batch.durable_due.is_some())
    }

    /// When ordinary batches have waited long enough for their receipts.
    pub(super) fn ordinary_due(&self) -> Option<Uptime> {
        let interval = self.config.flush_interval;
        let oldest = self
            .unwritten
            .iter()
            .filter(|(place, _)| self.class_of(*place) == Some(Class::Ordinary))
            .map(|(_, batch)| batch.since)
            .min()?;
        let not_before = self
            .storage
            .ordinary_written_at
            .map_or(Uptime(0), |written| written.plus(interval));
        let due = oldest.plus(interval).max(not_before);
        Some(due.max(self.budget.open_from()))
    }

    /// When what only rides along has waited long enough.
    fn tidy_due(&self) -> Option<Uptime> {
        let since = self.storage.tidy_since?;
        if self.storage.tidy_now || self.leaving.is_full() {
            return Some(since);
        }
        let due = since.plus(self.config.flush_interval);
        Some(due.max(self.budget.open_from()))
    }

    fn class_of(&self, place: Place) -> Option<Class> {
        self.held.get(place).map(|view| view.batch.class)
    }

    fn commit(&mut self) {
        let due = |at: Option<Uptime>| at.is_some_and(|at| at <= self.now);
        let last = self.phase == Phase::Stopping;
        let everything = last || self.storage.write_all;
        let proof_due = due(self.proof_due());
        let ordinary_due = due(self.ordinary_due());
        let ordinary = everything
            || ordinary_due
            || (self.link == Link::Down && !self.budget.is_spent(self.now));
        // What is about to become due shares the sync.
        let soon = self.now.plus(self.config.group_commit);

        let mut inserts = Vec::new();
        let mut synced = everything || !self.leaving.is_empty();
        for (place, batch) in self.unwritten.iter() {
            let taken = match (self.class_of(place), batch.durable_due) {
                _ if batch.grown && self.link == Link::Up => true,
                (Some(Class::Ordinary) | None, _) => ordinary,
                // Its clients were told already that storage had failed.
                (Some(Class::Proof), None) => true,
                (Some(Class::Proof), Some(_)) if self.syncs_at_once() => everything || proof_due,
                (Some(Class::Proof), Some(at)) => everything || (proof_due && at <= soon),
            };
            if taken {
                synced |= self.class_of(place) == Some(Class::Proof);
                inserts.push(place);
            }
        }
        let durability = if synced {
            Durability::Synced
        } else {
            Durability::Behind
        };
        if ordinary_due {
            self.storage.ordinary_written_at = Some(self.now);
        }
        if self.syncs_at_once() && proof_due {
            self.storage.sync_due = None;
        }
        self.storage.tidy_since = None;
        self.storage.tidy_now = false;
        self.storage.write_all = false;

        let mut ops = Vec::new();
        self.leaving.take_ops(&mut ops);
        self.ledger.take_ops(&mut ops);
        self.proof_repeats.take_ops(
            |epoch, ordinal| {
                self.held
                    .place_of_event(epoch, ordinal)
                    .is_some_and(|place| inserts.binary_search(&place).is_ok())
            },
            &mut ops,
        );
        self.forget_anchors();
        self.anchors.take_ops(&mut ops);
        for epoch in core::mem::take(&mut self.storage.declared) {
            ops.push(Op::StartDelete(epoch));
        }
        ops.push(if last {
            Op::StartDelete(self.epoch)
        } else {
            Op::StartPut(StartRow {
                epoch: self.epoch,
                settled: self.settled_by(&inserts),
            })
        });
        ops.push(Op::PoweredPut(self.powered.mark(self.now)));

        let batch_bytes = inserts
            .iter()
            .filter_map(|place| self.unwritten.get(*place))
            .map(|unwritten| unwritten.bytes.len() as u64)
            .sum();
        self.budget.charge(cost_of(batch_bytes), self.now);
        let number = self.storage.take_number();
        self.storage.committing = Some(Committing {
            number,
            durability,
            inserts: inserts.clone(),
            ops: ops.clone(),
            last,
            everything,
        });
        for place in inserts {
            if let Some(unwritten) = self.unwritten.get_mut(place)
                && let Some(view) = self.held.get(place)
            {
                unwritten.may_be_in_file = true;
                if unwritten.grown {
                    ops.push(Op::DeleteBatches {
                        epoch: view.batch.id.epoch,
                        first: view.batch.id.sequence,
                        last: view.batch.id.sequence,
                    });
                }
                ops.push(Op::InsertBatch {
                    batch: view.batch,
                    bytes: unwritten.bytes.clone(),
                });
            }
        }
        self.totals.commits += 1;
        if durability == Durability::Synced {
            self.totals.commits_synced += 1;
        }
        self.effects.push_back(Effect::Commit(Commit {
            number,
            durability,
            ops,
        }));
    }

    /// What of this epoch is settled once these batches are in the file: all
    /// before the first that is only in RAM.
    fn settled_by(&self, inserts: &[Place]) -> Settled {
        let unwritten = self.unwritten.iter().filter_map(|(place, _)| {
            let batch = self.held.get(place)?.batch;
            (batch.id.epoch == self.epoch && inserts.binary_search(&place).is_err())
                .then_some((batch.first_ordinal, batch.id.sequence))
        });
        let open = self
            .open
            .as_ref()
            .map(|open| (open.first_ordinal, self.next_sequence));
        let (ordinal, sequence) = unwritten
            .chain(open)
            .min()
            .unwrap_or((self.next_ordinal, self.next_sequence));
        Settled {
            ordinal: ordinal.0 - 1,
            sequence: sequence.0 - 1,
        }
    }

    pub(super) fn committed(&mut self, number: u64, outcome: CommitOutcome) {
        let Some(committing) = self
            .storage
            .committing
            .take_if(|committing| committing.number == number)
        else {
            return;
        };
        match outcome {
            CommitOutcome::Done => self.commit_done(&committing),
            CommitOutcome::RolledBack => {
                self.commit_undone(&committing);
                for place in &committing.inserts {
                    if let Some(unwritten) = self.unwritten.get_mut(*place) {
                        unwritten.may_be_in_file = unwritten.grown;
                    }
                }
                self.ungrow();
                self.storage.rolled_back(self.now);
            }
            CommitOutcome::Failed => {
                self.commit_undone(&committing);
                if self.storage.failed(self.now) {
                    self.want_rebuild();
                }
            }
        }
        if committing.last {
            self.stop();
        }
    }

    fn commit_done(&mut self, committing: &Committing) {
        self.storage.committed();
        let synced = committing.durability == Durability::Synced;
        if synced {
            self.leaving.synced();
        }
        for place in &committing.inserts {
            let Some(unwritten) = self.unwritten.remove(*place) else {
                continue;
            };
            self.totals.batches_written += 1;
            self.totals.batch_bytes_written += unwritten.bytes.len() as u64;
            self.held.set_in_file(*place);
            if synced {
                self.answer(*place, First::Durable);
            }
        }
    }

    fn want_rebuild(&mut self) {
        let in_file = self.held.iter().filter(|view| view.in_file);
        let mut epochs: Vec<Epoch> = in_file.map(|view| view.batch.id.epoch).collect();
        if self.file_holds_beginning() {
            epochs.push(self.epoch);
        }
        epochs.dedup();
        self.effects.push_back(Effect::Rebuild { epochs });
    }

    /// Everything is as before; clients of proof are told what they have.
    fn commit_undone(&mut self, committing: &Committing) {
        self.totals.commits_failed += 1;
        self.storage.write_all |= committing.everything && !committing.last;
        self.leaving.restore(&committing.ops);
        self.ledger.restore(&committing.ops);
        self.anchors.rewrite();
        self.proof_repeats.rewrite();
        for op in &committing.ops {
            if let Op::StartDelete(epoch) = op
                && *epoch != self.epoch
            {
                self.storage.declared.push(*epoch);
            }
        }
        self.storage.tidy(self.now);
        for place in &committing.inserts {
            if let Some(unwritten) = self.unwritten.get_mut(*place)
                && unwritten.durable_due.take().is_some()
            {
                self.answer(*place, First::Accepted);
                self.storage.tidy_now = true;
            }
        }
    }

    /// The answer to [`Effect::Rebuild`]: there is a new queue file with this
    /// epoch (its start row synced), and these batches in it. What the core
    /// held in RAM is written to it; what only the old file had and is not
    /// among them is entered in the ledger as corrupt.
    ///
    /// `declared` are the numbers of the rows by which the new file declares
    /// whole epochs. They stand until the first commit replaces them by rows
    /// that say exactly which batches were lost.
    pub fn rebuilt(
        &mut self,
        epoch: Epoch,
        copied: impl IntoIterator<Item = BatchId>,
        declared: impl IntoIterator<Item = u64>,
        now: Uptime,
    ) {
        self.now = self.now.max(now);
        if self.phase == Phase::Stopped || self.storage.file == File::Good {
            return;
        }
        self.close();
        self.held.forget_file();
        for (_, unwritten) in self.unwritten.iter_mut() {
            unwritten.may_be_in_file = false;
        }
        for id in copied {
            match self.held.place_of(id) {
                Some(place) => {
                    if let Some(unwritten) = self.unwritten.get_mut(place) {
                        // It is inserted from RAM, with all that belongs to it.
                        unwritten.may_be_in_file = true;
                        self.leaving.delete(id);
                    } else {
                        self.held.set_in_file(place);
                    }
                }
                // It has left already.
                None => self.leaving.delete(id),
            }
        }
        let lost: Vec<Place> = self
            .held
            .iter()
            .filter(|view| !view.in_file && !self.unwritten.contains(view.place))
            .map(|view| view.place)
            .collect();
        for place in lost {
            self.drop_batch(place, Drop::Corrupt);
        }
        // The former epoch ends here, with nothing open: once all of it is
        // written there is nothing to declare.
        self.storage.declared.push(self.epoch);
        self.epoch = epoch;
        self.next_sequence = Sequence::FIRST;
        self.next_ordinal = returnpath_shared::Ordinal::FIRST;
        self.growing = None;
        self.held.begin_run(epoch, self.boot_id);
        self.ledger.rewrite(declared);
        self.proof_repeats.rewrite();
        self.anchors.rewrite();
        self.own.boot_owed = true;
        self.own.ask_again();
        self.drop_excess_incarnations();
        let copied = self.held.iter().filter(|view| view.in_file);
        let copied_bytes = copied.map(|view| u64::from(view.batch.size_bytes)).sum();
        self.budget.charge(cost_of(copied_bytes), self.now);
        self.storage.rebuilt(self.now);
        self.advance(now);
    }

    /// Without a file, proof that is due is answered with what is true.
    fn answer_without_file(&mut self) {
        if self.proof_due().is_none_or(|due| due > self.now) {
            return;
        }
        let at_once = self.syncs_at_once();
        let now = self.now;
        let mut told = Vec::new();
        for (place, unwritten) in self.unwritten.iter_mut() {
            if unwritten
                .durable_due
                .is_some_and(|due| at_once || due <= now)
            {
                unwritten.durable_due = None;
                told.push(place);
            }
        }
        if at_once {
            self.storage.sync_due = None;
        }
        for place in told {
            self.answer(place, First::Accepted);
        }
    }

    fn stop_without_file(&mut self) {
        if self.phase == Phase::Stopping {
            self.stop();
        }
    }

    fn stop(&mut self) {
        self.phase = Phase::Stopped;
        let unwritten: Vec<Place> = self.unwritten.iter().map(|(place, _)| place).collect();
        for place in unwritten {
            self.answer(place, First::Accepted);
        }
        self.effects
            .retain(|effect| matches!(effect, Effect::Answer { .. }));
        self.effects.push_back(Effect::Stopped);
    }
}
