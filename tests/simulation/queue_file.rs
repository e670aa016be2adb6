//! The queue file as a model: what SQLite promises, and no more. A commit
//! survives its process; it survives the power only once it, or a later one,
//! was synced; of the others a power cut leaves a prefix.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use returnpath_delivery::{
    Commit, Durability, LedgerRow, Op, PoweredMark, ProofId, Settled, StartRow, StoredBatch,
};
use returnpath_shared::{BatchId, Epoch, Incarnation, Sequence, wire::ClockAnchor};

use crate::random::Random;

/// What the file holds.
#[derive(Clone, Default)]
pub(crate) struct Contents {
    incarnation: Option<Incarnation>,
    start: u32,
    /// Epochs in the order in which they began.
    epochs: Vec<Epoch>,
    pub(crate) batches: BTreeMap<BatchId, (StoredBatch, Bytes)>,
    /// Batches by the ordinal of their first event.
    by_ordinal: BTreeMap<(Epoch, u64), BatchId>,
    pub(crate) ledger: BTreeMap<u64, LedgerRow>,
    pub(crate) proof_ids: BTreeMap<u64, ProofId>,
    pub(crate) anchors: BTreeMap<u64, ClockAnchor>,
    pub(crate) starts: BTreeMap<Epoch, StartRow>,
    pub(crate) powered: Option<PoweredMark>,
}

impl Contents {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::InsertBatch { batch, bytes } => {
                self.by_ordinal
                    .insert((batch.id.epoch, batch.first_ordinal.0), batch.id);
                let before = self.batches.insert(batch.id, (*batch, bytes.clone()));
                assert!(before.is_none(), "{} is inserted twice", batch.id);
                assert_eq!(batch.size_bytes as usize, bytes.len(), "{}", batch.id);
            }
            Op::DeleteBatches { epoch, first, last } => {
                let id = |sequence: &Sequence| BatchId {
                    epoch: *epoch,
                    sequence: *sequence,
                };
                let leaving: Vec<BatchId> = self
                    .batches
                    .range(id(first)..=id(last))
                    .map(|(id, _)| *id)
                    .collect();
                for id in leaving {
                    self.remove(id);
                }
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
                self.proof_ids.retain(|held, _| held > number);
            }
            Op::AnchorPut(anchor) => {
                self.anchors.insert(anchor.boot_id, *anchor);
            }
            Op::AnchorDelete { boot_id } => {
                self.anchors.remove(boot_id);
            }
            Op::StartPut(row) => {
                self.starts.insert(row.epoch, *row);
            }
            Op::StartDelete(epoch) => {
                self.starts.remove(epoch);
            }
            Op::PoweredPut(mark) => self.powered = Some(*mark),
        }
    }

    fn remove(&mut self, id: BatchId) {
        if let Some((batch, _)) = self.batches.remove(&id) {
            self.by_ordinal.remove(&(id.epoch, batch.first_ordinal.0));
        }
    }

    /// Enters a whole epoch, unless a row says so already. Gives its number.
    fn declare(&mut self, epoch: Epoch) -> Option<u64> {
        let mut rows = self.ledger.values();
        if rows.any(|row| row.epoch == epoch && row.whole_epoch) {
            return None;
        }
        let number = self.ledger.last_key_value().map_or(1, |(last, _)| last + 1);
        self.ledger
            .insert(number, LedgerRow::corrupt_epoch(number, epoch));
        Some(number)
    }

    fn begin(&mut self, incarnation: Incarnation) -> Epoch {
        if self.incarnation == Some(incarnation) {
            self.start += 1;
        } else {
            self.incarnation = Some(incarnation);
            self.start = 1;
        }
        let epoch = Epoch {
            incarnation,
            start: self.start,
        };
        self.epochs.push(epoch);
        let settled = Settled::default();
        self.starts.insert(epoch, StartRow { epoch, settled });
        epoch
    }

    /// Oldest first.
    pub(crate) fn batches_in_order(&self) -> Vec<StoredBatch> {
        let mut batches: Vec<_> = self.batches.values().map(|(batch, _)| *batch).collect();
        batches.sort_by_key(|batch| {
            let began = self
                .epochs
                .iter()
                .position(|epoch| *epoch == batch.id.epoch);
            (began, batch.id.sequence)
        });
        batches
    }

    /// Whether an event lies in a stored batch or is declared by a row.
    pub(crate) fn accounts_for(&self, epoch: Epoch, ordinal: u64) -> bool {
        let within =
            |first: u64, count: u64| (first..first.saturating_add(count)).contains(&ordinal);
        let below = self.by_ordinal.range(..=(epoch, ordinal)).next_back();
        below.is_some_and(|((of, first), id)| {
            *of == epoch && within(*first, u64::from(self.batches[id].0.events))
        }) || self.ledger.values().any(|row| {
            row.epoch == epoch && (row.whole_epoch || within(row.first_ordinal.0, row.event_count))
        })
    }
}

#[derive(Default)]
pub(crate) struct QueueFile {
    pub(crate) synced: Contents,
    /// As the process sees it.
    pub(crate) current: Contents,
    /// Commits that a power cut may take, oldest first.
    unsynced: Vec<Vec<Op>>,
    /// Batches whose pages went bad.
    unreadable: BTreeSet<BatchId>,
}

impl QueueFile {
    /// Opens it for a run: the start counter and its row are synced.
    pub(crate) fn open(&mut self, random: &mut Random) -> Epoch {
        let incarnation = self
            .current
            .incarnation
            .unwrap_or_else(|| Incarnation::new(random.next() | 1).unwrap());
        self.sync();
        self.synced.begin(incarnation);
        self.current.begin(incarnation)
    }

    pub(crate) fn commit(&mut self, commit: &Commit) {
        for op in &commit.ops {
            self.current.apply(op);
        }
        self.unsynced.push(commit.ops.clone());
        if commit.durability == Durability::Synced {
            self.sync();
        }
    }

    pub(crate) fn sync(&mut self) {
        for ops in self.unsynced.drain(..) {
            for op in &ops {
                self.synced.apply(op);
            }
        }
    }

    pub(crate) fn power_cut(&mut self, random: &mut Random) {
        let survive = random.index(self.unsynced.len() + 1);
        for ops in self.unsynced.drain(..).take(survive) {
            for op in &ops {
                self.synced.apply(op);
            }
        }
        self.current = self.synced.clone();
    }

    pub(crate) fn load(&self, id: BatchId) -> Option<Bytes> {
        if self.unreadable.contains(&id) {
            return None;
        }
        let (_, bytes) = self.current.batches.get(&id)?;
        Some(bytes.clone())
    }

    /// A batch cannot be read from now on. Its row still can.
    pub(crate) fn page_goes_bad(&mut self, random: &mut Random) {
        if self.current.batches.is_empty() {
            return;
        }
        let victim = random.index(self.current.batches.len());
        let id = *self.current.batches.keys().nth(victim).unwrap();
        self.unreadable.insert(id);
    }

    /// Copies what reads to a new file with a new incarnation, which declares
    /// the epochs of what does not. Returns its first epoch, the batches
    /// copied, and the numbers of the declarations.
    pub(crate) fn rebuild(&mut self, random: &mut Random) -> (Epoch, Vec<BatchId>, Vec<u64>) {
        let mut declared = Vec::new();
        for id in &self.unreadable {
            if self.current.batches.contains_key(id) {
                self.current.remove(*id);
                declared.extend(self.current.declare(id.epoch));
            }
        }
        let copied = self
            .current
            .batches_in_order()
            .iter()
            .map(|batch| batch.id)
            .collect();
        let incarnation = Incarnation::new(random.next() | 1).unwrap();
        let epoch = self.current.begin(incarnation);
        self.unsynced.clear();
        self.synced = self.current.clone();
        (epoch, copied, declared)
    }
}
