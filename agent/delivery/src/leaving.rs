//! Batches that leave the queue file: which deletions wait for a commit, and
//! what may still come back.
//!
//! A deletion that is not synced may be undone by a power cut, and the batch
//! would then be held again. So until a synced commit has carried it, the
//! envelope goes on naming it as held: what the cloud was told it may forget
//! must never return.

use alloc::vec::Vec;

use returnpath_shared::{BatchId, Epoch, Sequence};

use crate::{Op, held::Place};

/// Runs of deletions that wait; beyond it a commit is due at once. Receipts
/// come in order, so that a drain of thousands of batches is a few runs.
const RUNS_MAX: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    epoch: Epoch,
    first: Sequence,
    last: Sequence,
}

#[derive(Debug, Default)]
pub(crate) struct Leaving {
    runs: Vec<Run>,
    /// The oldest batch of each incarnation whose deletion is in no commit
    /// yet, or only in ones that were not synced.
    unsynced: Vec<(Place, BatchId)>,
    /// The same, for what the synced commit under way carries.
    syncing: Vec<(Place, BatchId)>,
}

impl Leaving {
    pub(crate) fn add(&mut self, place: Place, id: BatchId) {
        note_oldest(&mut self.unsynced, place, id);
        self.delete(id);
    }

    /// Deletes what may be in the file and is held no longer, or is about to
    /// be inserted anew.
    pub(crate) fn delete(&mut self, id: BatchId) {
        let joined = self.runs.iter_mut().rev().find(|run| {
            run.epoch == id.epoch
                && (run.last.next() == id.sequence || id.sequence.next() == run.first)
        });
        match joined {
            Some(run) => {
                run.first = run.first.min(id.sequence);
                run.last = run.last.max(id.sequence);
            }
            None => self.runs.push(Run {
                epoch: id.epoch,
                first: id.sequence,
                last: id.sequence,
            }),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.runs.len() >= RUNS_MAX
    }

    /// A synced commit begins, and carries everything that waits.
    pub(crate) fn take_ops(&mut self, ops: &mut Vec<Op>) {
        for run in self.runs.drain(..) {
            ops.push(Op::DeleteBatches {
                epoch: run.epoch,
                first: run.first,
                last: run.last,
            });
        }
        for (place, id) in core::mem::take(&mut self.unsynced) {
            note_oldest(&mut self.syncing, place, id);
        }
    }

    /// The synced commit is done.
    pub(crate) fn synced(&mut self) {
        self.syncing.clear();
    }

    /// It is not.
    pub(crate) fn restore(&mut self, ops: &[Op]) {
        for (place, id) in core::mem::take(&mut self.syncing) {
            note_oldest(&mut self.unsynced, place, id);
        }
        for op in ops {
            if let Op::DeleteBatches { epoch, first, last } = op {
                self.runs.push(Run {
                    epoch: *epoch,
                    first: *first,
                    last: *last,
                });
            }
        }
    }

    /// Batches that may come back, at most one or two of an incarnation.
    pub(crate) fn may_return(&self) -> impl Iterator<Item = (Place, BatchId)> {
        self.unsynced.iter().chain(&self.syncing).copied()
    }
}

/// Keeps the oldest of each incarnation.
pub(crate) fn note_oldest(oldest: &mut Vec<(Place, BatchId)>, place: Place, id: BatchId) {
    let known = oldest
        .iter_mut()
        .find(|(_, known)| known.epoch.incarnation == id.epoch.incarnation);
    match known {
        Some(known) if known.0 > place => *known = (place, id),
        Some(_) => {}
        None => oldest.push((place, id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held::Held;
    use crate::{Powered, StoredBatch};
    use alloc::vec;
    use returnpath_shared::{Class, Incarnation, Ordinal, wire};

    fn places() -> Vec<(Place, BatchId)> {
        let epoch = Epoch {
            incarnation: Incarnation::new(1).unwrap(),
            start: 1,
        };
        let mut held = Held::default();
        (1..=9)
            .map(|sequence| {
                let id = BatchId {
                    epoch,
                    sequence: Sequence(sequence),
                };
                let batch = StoredBatch {
                    id,
                    boot_id: 1,
                    class: Class::Ordinary,
                    codec: wire::Codec::Identity,
                    size_bytes: 1,
                    first_ordinal: Ordinal(sequence),
                    events: 1,
                    viewing: false,
                    opened: Powered::default(),
                };
                (held.insert(&batch, true).unwrap(), id)
            })
            .collect()
    }

    #[test]
    fn deletions_in_order_are_one_run() {
        let mut leaving = Leaving::default();
        for (place, id) in [0, 1, 2, 4].map(|index| places()[index]) {
            leaving.add(place, id);
        }
        let mut ops = vec![];
        leaving.take_ops(&mut ops);
        assert_eq!(ops.len(), 2);
        assert!(matches!(
            ops[0],
            Op::DeleteBatches {
                first: Sequence(1),
                last: Sequence(3),
                ..
            }
        ));
        assert!(leaving.is_empty());
    }

    #[test]
    fn what_left_counts_as_held_until_a_commit_carried_it() {
        let places = places();
        let mut leaving = Leaving::default();
        leaving.add(places[3].0, places[3].1);
        leaving.add(places[1].0, places[1].1);
        let oldest = |leaving: &Leaving| leaving.may_return().map(|(_, id)| id).min();
        assert_eq!(oldest(&leaving), Some(places[1].1));
        leaving.take_ops(&mut vec![]);
        assert_eq!(oldest(&leaving), Some(places[1].1));
        leaving.add(places[0].0, places[0].1);
        leaving.synced();
        assert_eq!(oldest(&leaving), Some(places[0].1));
        let mut ops = vec![];
        leaving.take_ops(&mut ops);
        leaving.restore(&ops);
        assert_eq!(oldest(&leaving), Some(places[0].1));
        assert!(!leaving.is_empty());
    }
}
