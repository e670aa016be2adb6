//! The queue file as a model: what SQLite promises, and no more. A commit
//! survives its process; it survives the power only once it, or a later one,
//! was synced; of the others a power cut leaves a prefix.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use returnpath_delivery::{
    Commit, Durability, LedgerRow, Op, PoweredMark, ProofId, Settled, StartRow, StoredBatch,
};
use returnpath_shared::{BatchId, Epoch, Incarnation, Sequence, wire::ClockAnchor};
use returnpath_slots::{HELD_MAX, Row, Slot};

use crate::random::Random;

/// Ordinals of a run.
#[derive(Clone, Copy)]
pub(crate) struct Stretch {
    pub(crate) epoch: Epoch,
    pub(crate) first: u64,
    pub(crate) end: u64,
}

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
    pub(crate) slots: BTreeMap<Slot, Row>,
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

    /// What an operation takes away.
    fn leaving(&self, op: &Op, taken: &mut Vec<Stretch>) {
        match op {
            Op::DeleteBatches { epoch, first, last } => {
                let id = |sequence: &Sequence| BatchId {
                    epoch: *epoch,
                    sequence: *sequence,
                };
                let leaving = self.batches.range(id(first)..=id(last));
                taken.extend(leaving.map(|(id, (batch, _))| Stretch {
                    epoch: id.epoch,
                    first: batch.first_ordinal.0,
                    end: batch.first_ordinal.0 + u64::from(batch.events),
                }));
            }
            Op::LedgerDelete { number } => {
                taken.extend(self.ledger.get(number).map(|row| Stretch {
                    epoch: row.epoch,
                    first: if row.whole_epoch {
                        0
                    } else {
                        row.first_ordinal.0
                    },
                    end: if row.whole_epoch {
                        u64::MAX
                    } else {
                        row.first_ordinal.0 + row.event_count
                    },
                }));
            }
            Op::InsertBatch { .. }
            | Op::LedgerPut(_)
            | Op::ProofIdPut(_)
            | Op::ProofIdsDeleteThrough { .. }
            | Op::AnchorPut(_)
            | Op::AnchorDelete { .. }
            | Op::StartPut(_)
            | Op::StartDelete(_)
            | Op::PoweredPut(_) => {}
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
    /// Stretches of ordinals that left what is synced, batches or rows.
    taken: Vec<Stretch>,
    /// Batches whose pages went bad.
    unreadable: BTreeSet<BatchId>,
    /// Slots that leave with the next row.
    forgotten: Vec<Slot>,
    /// Rows that stand although it was said that they do not.
    unsaid: usize,
}

impl QueueFile {
    /// Opens it for a run: the start counter and its row are synced.
    pub(crate) fn open(&mut self, random: &mut Random) -> Epoch {
        let incarnation = self
            .current
            .incarnation
            .unwrap_or_else(|| Incarnation::new(random.next() | 1).unwrap());
        self.sync();
        self.forgotten.clear();
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

    /// Puts a bound slot into it, synced, in place of one of the same name.
    pub(crate) fn bind(&mut self, row: Row) {
        self.sync();
        for contents in [&mut self.synced, &mut self.current] {
            for slot in &self.forgotten {
                contents.slots.remove(slot);
            }
            contents.slots.insert(row.slot.clone(), row.clone());
        }
        self.forgotten.clear();
        let rows_max = HELD_MAX + self.unsaid;
        assert!(self.synced.slots.len() <= rows_max, "the file grows");
    }

    /// The same, and it is said to have failed.
    pub(crate) fn bind_unsaid(&mut self, row: Row) {
        self.unsaid += 1;
        self.bind(row);
    }

    pub(crate) fn forget(&mut self, slot: Slot) {
        self.forgotten.push(slot);
    }

    /// Whether the medium has a slot bound to this decision.
    pub(crate) fn holds(&self, slot: &Slot, decision_id: &str) -> bool {
        let row = self.synced.slots.get(slot);
        row.is_some_and(|row| row.decision_id == decision_id)
    }

    pub(crate) fn sync(&mut self) {
        let all = self.unsynced.len();
        self.sync_first(all);
    }

    /// The first commits reach the medium; later ones never do.
    fn sync_first(&mut self, commits: usize) {
        for op in self.unsynced.drain(..).take(commits).flatten() {
            self.synced.leaving(&op, &mut self.taken);
            self.synced.apply(&op);
        }
    }

    /// What has left the medium since this was asked last.
    pub(crate) fn taken(&mut self) -> Vec<Stretch> {
        std::mem::take(&mut self.taken)
    }

    /// Whether it took anything.
    pub(crate) fn power_cut(&mut self, random: &mut Random) -> bool {
        let commits = self.unsynced.len();
        let survive = random.index(commits + 1);
        self.sync_first(survive);
        self.current = self.synced.clone();
        survive < commits
    }

    pub(crate) fn load(&self, id: BatchId) -> Option<Bytes> {
        if self.unreadable.contains(&id) {
            return None;
        }
        let (_, bytes) = self.current.batches.get(&id)?;
        Some(bytes.clone())
    }

    /// A batch cannot be read from now on, if there is one. Its row still can.
    pub(crate) fn page_goes_bad(&mut self, random: &mut Random) -> bool {
        if self.current.batches.is_empty() {
            return false;
        }
        let victim = random.index(self.current.batches.len());
        let id = *self.current.batches.keys().nth(victim).unwrap();
        self.unreadable.insert(id)
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
