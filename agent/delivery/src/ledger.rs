//! What was dropped and why, in runs of consecutive batches.
//!
//! A row is committed with the deletion that it describes, and stays until a
//! batch that carries it as an event is receipted; a row that grew meanwhile
//! is sent again with what it says then, never with less. Rows are never
//! evicted. Each replaces at least one batch in the index, and runs merge, so
//! that there can be no more of them than batches; past [`ROWS_MAX`] the
//! queue evicts nothing more and clients are answered `busy` instead.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use returnpath_shared::{BatchId, Epoch, LEDGER_ROWS_MAX, Ordinal, Sequence, wire};

use crate::{LedgerRow, Op, StoredBatch};

/// Rows beyond which nothing is evicted for want of space; they take 120 KiB of
/// RAM.
pub(crate) const ROWS_MAX: usize = LEDGER_ROWS_MAX;

/// Rows under way to the cloud at once: as many events as a batch takes twice
/// over would say nothing sooner.
const UNDER_WAY_MAX: usize = 128;

/// Why batches were dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Drop {
    QueueFull,
    TooOld,
    Consent,
    Corrupt,
    Refused(wire::RefusalReason),
}

#[derive(Debug)]
struct Kept {
    row: LedgerRow,
    /// What the event under way says; `None` when none is.
    told: Option<LedgerRow>,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    /// By epoch and first sequence; runs never overlap.
    rows: BTreeMap<(Epoch, Sequence), Kept>,
    next_number: u64,
    under_way: usize,
    /// To be written with the next commit.
    changed: BTreeSet<u64>,
    removed: Vec<u64>,
}

impl Ledger {
    pub(crate) fn new(rows: Vec<LedgerRow>) -> Self {
        let next_number = rows.iter().map(|row| row.number).max().unwrap_or(0) + 1;
        let rows = rows
            .into_iter()
            .map(|row| ((row.epoch, row.first_sequence), Kept { row, told: None }))
            .collect();
        Self {
            rows,
            next_number,
            under_way: 0,
            changed: BTreeSet::new(),
            removed: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() >= ROWS_MAX
    }

    /// Whether the next commit has something to write for it.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.changed.is_empty() || !self.removed.is_empty()
    }

    /// Enters a batch, into the run before or after it where there is one.
    pub(crate) fn enter(&mut self, batch: &StoredBatch, drop: Drop) {
        let (reason, refusal) = drop.to_wire();
        let epoch = batch.id.epoch;
        let sequence = batch.id.sequence;
        let mut row = LedgerRow {
            number: 0,
            reason,
            refusal,
            epoch,
            first_sequence: sequence,
            last_sequence: sequence,
            first_ordinal: batch.first_ordinal,
            event_count: u64::from(batch.events),
            whole_epoch: false,
        };
        let before = self.adjoining(&row, |other| other.last_sequence.next() == sequence);
        let after = self.adjoining(&row, |other| sequence.next() == other.first_sequence);
        let mut number = None;
        if let Some(after) = after {
            row.last_sequence = after.last_sequence;
            row.event_count += after.event_count;
            number = Some(after.number);
            self.forget((epoch, after.first_sequence));
        }
        if let Some(before) = before {
            row.first_sequence = before.first_sequence;
            row.first_ordinal = before.first_ordinal;
            row.event_count += before.event_count;
            if let Some(merged) = number.replace(before.number) {
                self.changed.remove(&merged);
                self.removed.push(merged);
            }
        }
        self.put(row, number);
    }

    /// A row that no event under way tells; it counts as told from here on.
    pub(crate) fn next_untold(&mut self) -> Option<LedgerRow> {
        if self.under_way >= UNDER_WAY_MAX || self.under_way >= self.rows.len() {
            return None;
        }
        let kept = self.rows.values_mut().find(|kept| kept.told.is_none())?;
        kept.told = Some(kept.row);
        self.under_way += 1;
        Some(kept.row)
    }

    /// The cloud has an event that tells this row.
    pub(crate) fn told(&mut self, told: &LedgerRow) {
        let key = (told.epoch, told.first_sequence);
        if self.rows.get(&key).is_some_and(|kept| kept.row == *told) {
            self.forget(key);
            self.changed.remove(&told.number);
            self.removed.push(told.number);
        } else {
            self.untold(told);
        }
    }

    /// The event that told this row was dropped itself.
    pub(crate) fn untold(&mut self, told: &LedgerRow) {
        let under_way = self
            .rows
            .values_mut()
            .find(|kept| kept.told.as_ref() == Some(told));
        if let Some(kept) = under_way {
            kept.told = None;
            self.under_way -= 1;
        }
    }

    /// The rows that changed since the last commit, and those that left.
    pub(crate) fn take_ops(&mut self, ops: &mut Vec<Op>) {
        for number in core::mem::take(&mut self.removed) {
            ops.push(Op::LedgerDelete { number });
        }
        let changed = core::mem::take(&mut self.changed);
        for kept in self.rows.values() {
            if changed.contains(&kept.row.number) {
                ops.push(Op::LedgerPut(kept.row));
            }
        }
    }

    /// A commit did not happen: what it did is to be written again.
    pub(crate) fn restore(&mut self, ops: &[Op]) {
        for op in ops {
            if let Op::LedgerDelete { number } = op {
                self.removed.push(*number);
            } else if let Op::LedgerPut(row) = op
                && self.rows.values().any(|kept| kept.row.number == row.number)
            {
                self.changed.insert(row.number);
            }
        }
    }

    /// The file is another one: write every row, and remove those of these
    /// numbers in the same commit. A number may be in both, since removals
    /// come first.
    pub(crate) fn rewrite(&mut self, replaced: impl IntoIterator<Item = u64>) {
        self.removed.extend(replaced);
        self.changed = self.rows.values().map(|kept| kept.row.number).collect();
    }

    fn adjoining(
        &self,
        row: &LedgerRow,
        adjoins: impl Fn(&LedgerRow) -> bool,
    ) -> Option<LedgerRow> {
        let key = (row.epoch, row.first_sequence);
        let before = self.rows.range(..key).next_back();
        let after = self.rows.range(key..).next();
        before
            .into_iter()
            .chain(after)
            .map(|(_, kept)| kept.row)
            .find(|other| {
                other.epoch == row.epoch
                    && !other.whole_epoch
                    && other.reason == row.reason
                    && other.refusal == row.refusal
                    && adjoins(other)
            })
    }

    fn put(&mut self, mut row: LedgerRow, number: Option<u64>) {
        row.number = number.unwrap_or(self.next_number);
        self.next_number = self.next_number.max(row.number + 1);
        self.changed.insert(row.number);
        self.rows
            .entry((row.epoch, row.first_sequence))
            .or_insert(Kept { row, told: None })
            .row = row;
    }

    fn forget(&mut self, key: (Epoch, Sequence)) {
        if let Some(kept) = self.rows.remove(&key)
            && kept.told.is_some()
        {
            self.under_way -= 1;
        }
    }
}

impl Drop {
    pub(crate) fn to_wire(self) -> (wire::DropReason, wire::RefusalReason) {
        let unsaid = wire::RefusalReason::Unspecified;
        match self {
            Self::QueueFull => (wire::DropReason::QueueFull, unsaid),
            Self::TooOld => (wire::DropReason::TooOld, unsaid),
            Self::Consent => (wire::DropReason::Consent, unsaid),
            Self::Corrupt => (wire::DropReason::Corrupt, unsaid),
            Self::Refused(refusal) => (wire::DropReason::Refused, refusal),
        }
    }
}

impl LedgerRow {
    /// A row for an epoch of which the queue file held something that could
    /// not be read.
    #[must_use]
    pub fn corrupt_epoch(number: u64, epoch: Epoch) -> Self {
        Self {
            number,
            reason: wire::DropReason::Corrupt,
            refusal: wire::RefusalReason::Unspecified,
            epoch,
            first_sequence: Sequence(0),
            last_sequence: Sequence(0),
            first_ordinal: Ordinal(0),
            event_count: 0,
            whole_epoch: true,
        }
    }

    /// The row as the message that travels.
    #[must_use]
    pub fn to_wire(&self) -> wire::Ledger {
        let first_batch = BatchId {
            epoch: self.epoch,
            // A whole epoch begins with its first batch.
            sequence: self.first_sequence.max(Sequence::FIRST),
        };
        wire::Ledger {
            reason: self.reason as i32,
            first_batch: Some(first_batch.into()),
            last_sequence: self.last_sequence.0,
            first_ordinal: self.first_ordinal.0,
            event_count: self.event_count,
            refusal: self.refusal as i32,
            whole_epoch: self.whole_epoch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use returnpath_shared::{Class, Incarnation};

    use crate::Powered;

    fn epoch() -> Epoch {
        Epoch {
            incarnation: Incarnation::new(1).unwrap(),
            start: 1,
        }
    }

    fn batch(sequence: u64) -> StoredBatch {
        StoredBatch {
            id: BatchId {
                epoch: epoch(),
                sequence: Sequence(sequence),
            },
            boot_id: 1,
            class: Class::Ordinary,
            codec: wire::Codec::Deflate,
            size_bytes: 100,
            first_ordinal: Ordinal(sequence * 10),
            events: 10,
            viewing: false,
            opened: Powered::default(),
        }
    }

    /// (reason, first, last, first ordinal, events)
    fn runs(ledger: &Ledger) -> Vec<(wire::DropReason, u64, u64, u64, u64)> {
        let rows = ledger.rows.values().map(|kept| kept.row);
        rows.map(|row| {
            (
                row.reason,
                row.first_sequence.0,
                row.last_sequence.0,
                row.first_ordinal.0,
                row.event_count,
            )
        })
        .collect()
    }

    fn filled(sequences: &[u64]) -> Ledger {
        let mut ledger = Ledger::new(vec![]);
        for sequence in sequences {
            ledger.enter(&batch(*sequence), Drop::QueueFull);
        }
        ledger
    }

    #[test]
    fn consecutive_drops_are_one_run_in_whatever_order_they_come() {
        let full = wire::DropReason::QueueFull;
        for order in [[1, 2, 3], [3, 2, 1], [1, 3, 2], [2, 1, 3]] {
            assert_eq!(runs(&filled(&order)), [(full, 1, 3, 10, 30)], "{order:?}");
        }
        assert_eq!(
            runs(&filled(&[1, 3])),
            [(full, 1, 1, 10, 10), (full, 3, 3, 30, 10)]
        );
    }

    #[test]
    fn other_reasons_and_other_refusals_are_other_runs() {
        let mut ledger = filled(&[1]);
        ledger.enter(&batch(2), Drop::TooOld);
        ledger.enter(&batch(3), Drop::Refused(wire::RefusalReason::TooLarge));
        ledger.enter(&batch(4), Drop::Refused(wire::RefusalReason::NotAllowed));
        assert_eq!(ledger.len(), 4);
    }

    #[test]
    fn a_row_that_merges_away_leaves_the_file_too() {
        let mut ledger = filled(&[1, 3]);
        let mut ops = vec![];
        ledger.take_ops(&mut ops);
        assert_eq!(ops.len(), 2);
        ledger.enter(&batch(2), Drop::QueueFull);
        let mut ops = vec![];
        ledger.take_ops(&mut ops);
        assert!(
            matches!(
                ops[..],
                [
                    Op::LedgerDelete { number: 2 },
                    Op::LedgerPut(LedgerRow {
                        number: 1,
                        event_count: 30,
                        ..
                    })
                ]
            ),
            "{ops:?}"
        );
    }

    #[test]
    fn a_row_leaves_when_the_cloud_has_it_and_comes_again_when_it_grew() {
        let mut ledger = filled(&[1]);
        let told = ledger.next_untold().unwrap();
        assert_eq!(ledger.next_untold(), None);
        ledger.enter(&batch(2), Drop::QueueFull);
        assert_eq!(ledger.next_untold(), None, "one event of a row at a time");
        ledger.told(&told);
        let more = ledger.next_untold().unwrap();
        assert_eq!((more.number, more.event_count), (told.number, 20));
        ledger.told(&more);
        assert_eq!((ledger.len(), ledger.under_way), (0, 0));
    }

    #[test]
    fn a_row_whose_event_was_dropped_is_told_again() {
        let mut ledger = filled(&[1]);
        let told = ledger.next_untold().unwrap();
        ledger.untold(&told);
        assert_eq!(ledger.next_untold(), Some(told));
    }

    #[test]
    fn a_row_that_grew_at_its_front_is_told_again() {
        let mut ledger = filled(&[2]);
        let told = ledger.next_untold().unwrap();
        ledger.enter(&batch(1), Drop::QueueFull);
        ledger.told(&told);
        assert_eq!(ledger.next_untold().map(|row| row.event_count), Some(20));
    }

    #[test]
    fn so_many_rows_are_under_way_at_once() {
        let mut ledger = filled(&(1..1_000).step_by(2).collect::<Vec<_>>());
        let mut told = vec![];
        while let Some(row) = ledger.next_untold() {
            told.push(row);
        }
        assert_eq!(told.len(), UNDER_WAY_MAX);
        ledger.told(&told[0]);
        assert!(ledger.next_untold().is_some());
    }
}
