//! What stands for the queue file of a simulated box: the bytes of its
//! batches, in memory. The other rows are read at a start only, and a
//! simulated box starts once; so it cannot lose power either.

use std::collections::BTreeMap;

use bytes::Bytes;
use returnpath_delivery::{Commit, Op, Unreadable};
use returnpath_shared::BatchId;

/// Bounded by the box's own `queue_bytes_max`.
#[derive(Debug, Default)]
pub(super) struct Memory {
    batches: BTreeMap<BatchId, Bytes>,
}

impl Memory {
    pub(super) fn commit(&mut self, commit: Commit) {
        for op in commit.ops {
            match op {
                Op::InsertBatch { batch, bytes } => {
                    self.batches.insert(batch.id, bytes);
                }
                Op::DeleteBatches { epoch, first, last } => {
                    let id = |sequence| BatchId { epoch, sequence };
                    // Deletions of many rows at once are rare, holes common.
                    let leaving: Vec<_> = self
                        .batches
                        .range(id(first)..=id(last))
                        .map(|(id, _)| *id)
                        .collect();
                    for id in leaving {
                        self.batches.remove(&id);
                    }
                }
                Op::LedgerPut(_)
                | Op::LedgerDelete { .. }
                | Op::ProofIdPut(_)
                | Op::ProofIdsDeleteThrough { .. }
                | Op::AnchorPut(_)
                | Op::AnchorDelete { .. }
                | Op::StartPut(_)
                | Op::StartDelete(_)
                | Op::PoweredPut(_) => {}
            }
        }
    }

    pub(super) fn load(&self, id: BatchId) -> Result<Bytes, Unreadable> {
        self.batches.get(&id).cloned().ok_or(Unreadable)
    }
}
