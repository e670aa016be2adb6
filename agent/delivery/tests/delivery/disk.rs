//! The queue file as a model: what is synced, and what a power cut may take.

use std::collections::BTreeMap;

use bytes::Bytes;
use returnpath_delivery::{
    Durability, LedgerRow, Op, PoweredMark, ProofId, Settled, StartRow, StoredBatch,
};
use returnpath_shared::{BatchId, Epoch, Ordinal, wire::ClockAnchor};

#[derive(Clone, Default)]
pub(crate) struct File {
    pub(crate) batches: BTreeMap<BatchId, (StoredBatch, Bytes)>,
    /// Rows in the order of their insertion.
    pub(crate) order: Vec<BatchId>,
    pub(crate) ledger: BTreeMap<u64, LedgerRow>,
    pub(crate) proof_ids: BTreeMap<u64, ProofId>,
    pub(crate) anchors: BTreeMap<u64, ClockAnchor>,
    pub(crate) starts: BTreeMap<Epoch, Settled>,
    pub(crate) powered: Option<PoweredMark>,
}

impl File {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::InsertBatch { batch, bytes } => {
                let former = self.batches.insert(batch.id, (*batch, bytes.clone()));
                assert!(former.is_none(), "{} inserted twice", batch.id);
                assert_eq!(bytes.len(), batch.size_bytes as usize);
                self.order.push(batch.id);
            }
            Op::DeleteBatches { epoch, first, last } => {
                assert!(first <= last);
                self.batches.retain(|id, _| {
                    id.epoch != *epoch || id.sequence < *first || id.sequence > *last
                });
                self.order.retain(|id| self.batches.contains_key(id));
            }
            Op::LedgerPut(row) => {
                self.ledger.insert(row.number, *row);
            }
            Op::LedgerDelete { number } => {
                self.ledger.remove(number);
            }
            Op::ProofIdPut(id) => {
                self.proof_ids.insert(id.number, *id);
            }
            Op::ProofIdsDeleteThrough { number } => {
                self.proof_ids.retain(|known, _| known > number);
            }
            Op::AnchorPut(anchor) => {
                self.anchors.insert(anchor.boot_id, *anchor);
            }
            Op::AnchorDelete { boot_id } => {
                self.anchors.remove(boot_id);
            }
            Op::StartPut(StartRow { epoch, settled }) => {
                self.starts.insert(*epoch, *settled);
            }
            Op::StartDelete(epoch) => {
                self.starts.remove(epoch);
            }
            Op::PoweredPut(mark) => self.powered = Some(*mark),
        }
    }

    fn apply_all(&mut self, ops: &[Op]) {
        for op in ops {
            self.apply(op);
        }
    }

    /// Start rows of other runs.
    pub(crate) fn unclean(&self, own: Epoch) -> Vec<StartRow> {
        let rows = self.starts().into_iter();
        rows.filter(|row| row.epoch != own).collect()
    }

    pub(crate) fn starts(&self) -> Vec<StartRow> {
        let rows = self.starts.iter().map(|(epoch, settled)| StartRow {
            epoch: *epoch,
            settled: *settled,
        });
        rows.collect()
    }

    /// What the shell writes into a new file for epochs of which it could not
    /// read everything. Gives the numbers of the rows.
    pub(crate) fn declare(&mut self, epochs: impl IntoIterator<Item = Epoch>) -> Vec<u64> {
        let mut numbers = Vec::new();
        for epoch in epochs {
            let mut rows = self.ledger.values();
            if rows.any(|row| row.epoch == epoch && row.whole_epoch) {
                continue;
            }
            let number = self.ledger.last_key_value().map_or(1, |(last, _)| last + 1);
            self.ledger
                .insert(number, LedgerRow::corrupt_epoch(number, epoch));
            numbers.push(number);
        }
        numbers
    }

    pub(crate) fn holds(&self, epoch: Epoch, ordinal: Ordinal) -> bool {
        self.batches.values().any(|(batch, _)| {
            batch.id.epoch == epoch
                && batch.first_ordinal <= ordinal
                && ordinal < batch.first_ordinal.plus(u64::from(batch.events))
        })
    }

    pub(crate) fn ledger_covers(&self, epoch: Epoch, ordinal: Ordinal) -> bool {
        self.ledger.values().any(|row| {
            row.epoch == epoch
                && (row.whole_epoch
                    || (row.first_ordinal <= ordinal
                        && ordinal < row.first_ordinal.plus(row.event_count)))
        })
    }
}

/// A file and the commits that were reported as done without a sync.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) synced: File,
    behind: Vec<Vec<Op>>,
}

impl Disk {
    /// As a reader sees it while the power is on.
    pub(crate) fn current(&self) -> File {
        let mut file = self.synced.clone();
        for ops in &self.behind {
            file.apply_all(ops);
        }
        file
    }

    pub(crate) fn commit(&mut self, ops: &[Op], durability: Durability) {
        self.behind.push(ops.to_vec());
        if durability == Durability::Synced {
            self.synced = self.current();
            self.behind.clear();
        }
    }

    /// The power goes: so many of the commits behind survive.
    pub(crate) fn cut(&mut self, survive: usize) {
        self.behind.truncate(survive);
        self.synced = self.current();
        self.behind.clear();
    }

    pub(crate) fn commits_behind(&self) -> usize {
        self.behind.len()
    }

    pub(crate) fn replace(&mut self, file: File) {
        self.synced = file;
        self.behind.clear();
    }
}
