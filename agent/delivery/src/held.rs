//! The index of every closed batch that has had no receipt, oldest first.
//!
//! It is what a full queue costs in RAM, so an entry is 32 bytes: the epoch
//! and the boot are kept once per run of the agent, the bytes of the batch in
//! the queue file, or in `unwritten.rs` until they are there.

use alloc::{collections::VecDeque, vec::Vec};

use returnpath_shared::{
    BatchId, Class, Epoch, INCARNATIONS_MAX, Incarnation, Ordinal, Sequence, wire,
};

use crate::{Powered, StoredBatch, status};

/// Where a batch stands in the order of age, across epochs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    run: u32,
    sequence: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    sequence: u64,
    first_ordinal: u64,
    opened: Powered,
    size_bytes: u32,
    events: u16,
    flags: u8,
    overdue: u8,
}

const PROOF: u8 = 1;
const VIEWING: u8 = 2;
const DEFLATE: u8 = 4;
const IN_FILE: u8 = 8;
const SENT: u8 = 16;

#[derive(Debug)]
struct Run {
    number: u32,
    epoch: Epoch,
    boot_id: u64,
    entries: VecDeque<Entry>,
}

/// A batch as the index knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct View {
    pub(crate) place: Place,
    pub(crate) batch: StoredBatch,
    /// Whether the queue file has it, as far as is known.
    pub(crate) in_file: bool,
    /// Whether it was published in this run of the agent.
    pub(crate) sent: bool,
    /// How often its receipt was overdue.
    pub(crate) overdue: u8,
}

#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Ascending by number; the last one is this run and never removed.
    runs: VecDeque<Run>,
    next_run: u32,
    ordinary: status::Held,
    proof: status::Held,
}

impl Held {
    pub(crate) fn begin_run(&mut self, epoch: Epoch, boot_id: u64) {
        self.runs.push_back(Run {
            number: self.next_run,
            epoch,
            boot_id,
            entries: VecDeque::new(),
        });
        self.next_run = self.next_run.saturating_add(1);
        self.remove_empty_runs();
    }

    /// Adds a batch; one whose id is there already is ignored.
    pub(crate) fn insert(&mut self, batch: &StoredBatch, in_file: bool) -> Option<Place> {
        if !self.runs.iter().any(|run| run.epoch == batch.id.epoch) {
            self.runs.push_back(Run {
                number: self.next_run,
                epoch: batch.id.epoch,
                boot_id: batch.boot_id,
                entries: VecDeque::new(),
            });
            self.next_run = self.next_run.saturating_add(1);
        }
        let run = self
            .runs
            .iter_mut()
            .rev()
            .find(|run| run.epoch == batch.id.epoch)?;
        let sequence = batch.id.sequence.0;
        let Err(index) = run
            .entries
            .binary_search_by_key(&sequence, |entry| entry.sequence)
        else {
            return None;
        };
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        run.entries.insert(
            index,
            Entry {
                sequence,
                first_ordinal: batch.first_ordinal.0,
                opened: batch.opened,
                size_bytes: batch.size_bytes,
                events: batch.events,
                flags: flag(batch.class == Class::Proof, PROOF)
                    | flag(batch.viewing, VIEWING)
                    | flag(batch.codec == wire::Codec::Deflate, DEFLATE)
                    | flag(in_file, IN_FILE),
                overdue: 0,
            },
        );
        let place = Place {
            run: run.number,
            sequence,
        };
        let total = self.total_mut(batch.class);
        total.batches += 1;
        total.bytes += u64::from(batch.size_bytes);
        Some(place)
    }

    pub(crate) fn remove(&mut self, place: Place) -> Option<View> {
        let (run, index) = self.find(place)?;
        let view = self.runs[run].view(index);
        self.runs[run].entries.remove(index);
        self.remove_empty_runs();
        let total = self.total_mut(view.batch.class);
        total.batches -= 1;
        total.bytes -= u64::from(view.batch.size_bytes);
        Some(view)
    }

    pub(crate) fn get(&self, place: Place) -> Option<View> {
        let (run, index) = self.find(place)?;
        Some(self.runs[run].view(index))
    }

    pub(crate) fn place_of(&self, id: BatchId) -> Option<Place> {
        self.first_within(id.epoch, id.sequence, id.sequence)
    }

    /// The first batch held with a sequence in the range.
    pub(crate) fn first_within(
        &self,
        epoch: Epoch,
        first: Sequence,
        last: Sequence,
    ) -> Option<Place> {
        let run = self.runs.iter().rev().find(|run| run.epoch == epoch)?;
        let index = run
            .entries
            .partition_point(|entry| entry.sequence < first.0);
        let entry = run.entries.get(index)?;
        (entry.sequence <= last.0).then_some(Place {
            run: run.number,
            sequence: entry.sequence,
        })
    }

    /// The batch that carries this event.
    pub(crate) fn place_of_event(&self, epoch: Epoch, ordinal: Ordinal) -> Option<Place> {
        let run = self.runs.iter().rev().find(|run| run.epoch == epoch)?;
        let index = run
            .entries
            .partition_point(|entry| entry.first_ordinal <= ordinal.0)
            .checked_sub(1)?;
        let entry = run.entries.get(index)?;
        (ordinal.0 - entry.first_ordinal < u64::from(entry.events)).then_some(Place {
            run: run.number,
            sequence: entry.sequence,
        })
    }

    pub(crate) fn set_in_file(&mut self, place: Place) {
        self.set(place, IN_FILE);
    }

    pub(crate) fn set_sent(&mut self, place: Place) {
        self.set(place, SENT);
    }

    pub(crate) fn count_overdue(&mut self, place: Place) {
        if let Some((run, index)) = self.find(place)
            && let Some(entry) = self.runs[run].entries.get_mut(index)
        {
            entry.overdue = entry.overdue.saturating_add(1);
        }
    }

    /// Forgets what the file was thought to have.
    pub(crate) fn forget_file(&mut self) {
        for run in &mut self.runs {
            for entry in &mut run.entries {
                entry.flags &= !IN_FILE;
            }
        }
    }

    /// All batches, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = View> {
        self.runs
            .iter()
            .flat_map(|run| (0..run.entries.len()).map(|index| run.view(index)))
    }

    /// Batches of one epoch opened at or after a time, oldest first.
    pub(crate) fn opened_since(&self, epoch: Epoch, opened: Powered) -> impl Iterator<Item = View> {
        self.runs
            .iter()
            .rev()
            .find(|run| run.epoch == epoch)
            .into_iter()
            .flat_map(move |run| {
                let first = run.entries.partition_point(|entry| entry.opened < opened);
                (first..run.entries.len()).map(|index| run.view(index))
            })
    }

    pub(crate) fn oldest(&self) -> Option<View> {
        self.iter().next()
    }

    /// The oldest batch of each incarnation of which any is held.
    pub(crate) fn oldest_of_incarnations(&self) -> Vec<(Place, BatchId)> {
        let mut oldest: Vec<(Place, BatchId)> = Vec::new();
        for run in &self.runs {
            let incarnation = run.epoch.incarnation;
            if !run.entries.is_empty()
                && oldest.len() < INCARNATIONS_MAX
                && !oldest
                    .iter()
                    .any(|(_, id)| id.epoch.incarnation == incarnation)
            {
                let view = run.view(0);
                oldest.push((view.place, view.batch.id));
            }
        }
        oldest
    }

    /// How many incarnations are held that are not this one.
    pub(crate) fn incarnations_beside(&self, own: Incarnation) -> usize {
        let mut seen = Vec::new();
        for run in &self.runs {
            let incarnation = run.epoch.incarnation;
            if !run.entries.is_empty() && incarnation != own && !seen.contains(&incarnation) {
                seen.push(incarnation);
            }
        }
        seen.len()
    }

    /// Boots of which batches are held.
    pub(crate) fn holds_boot(&self, boot_id: u64) -> bool {
        self.runs
            .iter()
            .any(|run| run.boot_id == boot_id && !run.entries.is_empty())
    }

    pub(crate) fn ordinary(&self) -> status::Held {
        self.ordinary
    }

    pub(crate) fn proof(&self) -> status::Held {
        self.proof
    }

    pub(crate) fn batches(&self) -> u64 {
        self.ordinary.batches + self.proof.batches
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.ordinary.bytes + self.proof.bytes
    }

    fn set(&mut self, place: Place, bit: u8) {
        if let Some((run, index)) = self.find(place)
            && let Some(entry) = self.runs[run].entries.get_mut(index)
        {
            entry.flags |= bit;
        }
    }

    fn find(&self, place: Place) -> Option<(usize, usize)> {
        let run = self
            .runs
            .binary_search_by_key(&place.run, |run| run.number)
            .ok()?;
        let index = self.runs[run]
            .entries
            .binary_search_by_key(&place.sequence, |entry| entry.sequence)
            .ok()?;
        Some((run, index))
    }

    fn remove_empty_runs(&mut self) {
        let last = self.runs.len().saturating_sub(1);
        let mut index = 0;
        self.runs.retain(|run| {
            index += 1;
            index > last || !run.entries.is_empty()
        });
    }

    fn total_mut(&mut self, class: Class) -> &mut status::Held {
        match class {
            Class::Ordinary => &mut self.ordinary,
            Class::Proof => &mut self.proof,
        }
    }
}

impl Run {
    fn view(&self, index: usize) -> View {
        let entry = &self.entries[index];
        let is = |bit: u8| entry.flags & bit != 0;
        View {
            place: Place {
                run: self.number,
                sequence: entry.sequence,
            },
            batch: StoredBatch {
                id: BatchId {
                    epoch: self.epoch,
                    sequence: Sequence(entry.sequence),
                },
                boot_id: self.boot_id,
                class: if is(PROOF) {
                    Class::Proof
                } else {
                    Class::Ordinary
                },
                codec: if is(DEFLATE) {
                    wire::Codec::Deflate
                } else {
                    wire::Codec::Identity
                },
                size_bytes: entry.size_bytes,
                first_ordinal: Ordinal(entry.first_ordinal),
                events: entry.events,
                viewing: is(VIEWING),
                opened: entry.opened,
            },
            in_file: is(IN_FILE),
            sent: is(SENT),
            overdue: entry.overdue,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(incarnation: u64, start: u32) -> Epoch {
        Epoch {
            incarnation: Incarnation::new(incarnation).unwrap(),
            start,
        }
    }

    fn batch(epoch: Epoch, sequence: u64) -> StoredBatch {
        StoredBatch {
            id: BatchId {
                epoch,
                sequence: Sequence(sequence),
            },
            boot_id: u64::from(epoch.start),
            class: if sequence.is_multiple_of(3) {
                Class::Proof
            } else {
                Class::Ordinary
            },
            codec: wire::Codec::Deflate,
            size_bytes: 100,
            first_ordinal: Ordinal(sequence * 10 - 9),
            events: 10,
            viewing: sequence.is_multiple_of(2),
            opened: Powered {
                seconds: u32::try_from(sequence * 5).unwrap(),
            },
        }
    }

    fn filled() -> Held {
        let mut held = Held::default();
        for sequence in [1, 2, 4] {
            held.insert(&batch(epoch(7, 1), sequence), true);
        }
        held.insert(&batch(epoch(3, 1), 6), true);
        held.begin_run(epoch(3, 2), 2);
        for sequence in 1..=3 {
            held.insert(&batch(epoch(3, 2), sequence), false);
        }
        held
    }

    #[test]
    fn an_entry_is_32_bytes_as_the_settings_promise() {
        assert_eq!(size_of::<Entry>(), 32);
    }

    #[test]
    fn what_goes_in_comes_out_oldest_first() {
        let held = filled();
        let ids: Vec<_> = held.iter().map(|view| view.batch.id).collect();
        assert_eq!(
            ids.iter()
                .map(|id| (id.epoch.incarnation.get(), id.epoch.start, id.sequence.0))
                .collect::<Vec<_>>(),
            [
                (7, 1, 1),
                (7, 1, 2),
                (7, 1, 4),
                (3, 1, 6),
                (3, 2, 1),
                (3, 2, 2),
                (3, 2, 3)
            ]
        );
        for view in held.iter() {
            assert_eq!(
                view.batch,
                batch(view.batch.id.epoch, view.batch.id.sequence.0)
            );
            assert_eq!(held.place_of(view.batch.id), Some(view.place));
        }
        assert!(held.iter().is_sorted_by_key(|view| view.place));
    }

    #[test]
    fn totals_follow_the_class() {
        let mut held = filled();
        assert_eq!((held.ordinary().batches, held.proof().batches), (5, 2));
        let proof = held.iter().find(|view| view.batch.class == Class::Proof);
        held.remove(proof.unwrap().place);
        assert_eq!((held.proof().batches, held.proof().bytes), (1, 100));
    }

    #[test]
    fn a_second_batch_of_the_same_id_is_ignored() {
        let mut held = filled();
        assert_eq!(held.insert(&batch(epoch(7, 1), 2), true), None);
        assert_eq!(held.batches(), 7);
    }

    #[test]
    fn events_are_found_by_ordinal_and_gaps_are_not() {
        let held = filled();
        let place = |ordinal| held.place_of_event(epoch(7, 1), Ordinal(ordinal));
        assert_eq!(place(1), place(10));
        assert!(place(11).is_some_and(|second| Some(second) != place(1)));
        assert_eq!(place(21), None);
        assert_eq!(place(41), None);
    }

    #[test]
    fn the_oldest_of_each_incarnation_is_named_once() {
        let mut held = filled();
        let named = |held: &Held| {
            held.oldest_of_incarnations()
                .iter()
                .map(|(_, id)| (id.epoch.incarnation.get(), id.epoch.start, id.sequence.0))
                .collect::<Vec<_>>()
        };
        assert_eq!(named(&held), [(7, 1, 1), (3, 1, 6)]);
        for view in held.iter().collect::<Vec<_>>() {
            if view.batch.id.epoch != epoch(3, 2) {
                held.remove(view.place);
            }
        }
        assert_eq!(named(&held), [(3, 2, 1)]);
        assert!(!held.holds_boot(1) && held.holds_boot(2));
    }
}
