//! Which sequences of one epoch have arrived: ascending runs, exact beyond
//! what has been forgotten, and what is known of the holes between them.
//! Sequences and ordinals are kept as plain numbers here.

use alloc::vec::Vec;

/// Consecutive sequences that have arrived, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// What is known of a hole beside its sequences.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Gap {
    /// Ordinals of its events, both ends included; 0 where the batch beside it
    /// has not been read.
    pub(super) first_ordinal: u64,
    pub(super) last_ordinal: u64,
    /// When the bridge took the batch that opened it.
    pub(super) since_unix_ms: i64,
}

/// What taking a batch does to the holes of its epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Growth {
    /// None has changed.
    Extends,
    /// One has become smaller.
    Shrinks,
    /// There is one more.
    Opens,
    /// There is one less.
    Closes,
}

/// Invariants: runs are ascending, do not touch each other, and lie beyond
/// `forgotten_through`; there is one gap a hole.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Runs {
    /// Which sequences up to this one arrived is not known any more.
    pub(super) forgotten_through: u64,
    pub(super) runs: Vec<Run>,
    /// One for each of [`holes`](Self::holes), in their order.
    pub(super) gaps: Vec<Gap>,
    /// Ordinal of the last event of the highest sequence; 0 while that has not
    /// been read.
    pub(super) highest_ordinal: u64,
}

impl Runs {
    pub(super) fn contains(&self, sequence: u64) -> bool {
        // Nearly always asked about the newest run.
        match self.runs.last() {
            None => false,
            Some(last) if sequence >= last.first => sequence <= last.last,
            Some(_) => {
                let at = self.runs.partition_point(|run| run.last < sequence);
                self.runs.get(at).is_some_and(|run| run.first <= sequence)
            }
        }
    }

    /// Whether everything from the first sequence to this one has arrived.
    /// Never so where something has been forgotten: runs lie beyond it.
    pub(super) fn begins_through(&self, sequence: u64) -> bool {
        let first = self.runs.first();
        first.is_some_and(|run| run.first == 1 && sequence <= run.last)
    }

    /// What taking `sequence`, which has not arrived, would do.
    pub(super) fn growth(&self, sequence: u64) -> Growth {
        self.around(sequence).growth()
    }

    /// Notes that `sequence`, which has not arrived, arrives.
    pub(super) fn insert(&mut self, sequence: u64, received_unix_ms: i64) -> Growth {
        let around = self.around(sequence);
        let Around {
            at,
            touches_before,
            touches_after,
            is_highest,
        } = around;
        let hole = self.hole_before(at);
        let growth = around.growth();
        // Until its ordinals are told, they bound no hole.
        match (growth, self.gaps.get_mut(hole)) {
            (Growth::Opens, Some(gap)) if !is_highest => {
                let upper = Gap {
                    first_ordinal: 0,
                    ..*gap
                };
                gap.last_ordinal = 0;
                self.gaps.insert(hole + 1, upper);
            }
            (Growth::Opens, _) => self.gaps.push(Gap {
                first_ordinal: self.next_ordinal(),
                last_ordinal: 0,
                since_unix_ms: received_unix_ms,
            }),
            (Growth::Closes, Some(_)) => {
                self.gaps.remove(hole);
            }
            (Growth::Shrinks, Some(gap)) if touches_before => gap.first_ordinal = 0,
            (Growth::Shrinks, Some(gap)) => gap.last_ordinal = 0,
            (Growth::Extends | Growth::Closes | Growth::Shrinks, _) => {}
        }
        if is_highest {
            self.highest_ordinal = 0;
        }
        match (at > 0 && touches_before, touches_after) {
            (true, true) => {
                self.runs[at - 1].last = self.runs[at].last;
                self.runs.remove(at);
            }
            (true, false) => self.runs[at - 1].last = sequence,
            (false, true) => self.runs[at].first = sequence,
            (false, false) => {
                let run = Run {
                    first: sequence,
                    last: sequence,
                };
                self.runs.insert(at, run);
            }
        }
        growth
    }

    /// The batch `sequence`, which has arrived, carries these ordinals.
    pub(super) fn tell(&mut self, sequence: u64, first_ordinal: u64, last_ordinal: u64) {
        let at = self.runs.partition_point(|run| run.last < sequence);
        let Some(run) = self.runs.get(at).copied() else {
            return;
        };
        if sequence == run.last {
            let hole = self.hole_before(at + 1);
            if at + 1 == self.runs.len() {
                self.highest_ordinal = last_ordinal;
            } else if let Some(gap) = self.gaps.get_mut(hole) {
                gap.first_ordinal = last_ordinal.saturating_add(1);
            }
        }
        let has_hole_before = at > 0 || self.begins_with_hole();
        if sequence == run.first && has_hole_before {
            let hole = self.hole_before(at);
            if let Some(gap) = self.gaps.get_mut(hole) {
                gap.last_ordinal = first_ordinal.saturating_sub(1);
            }
        }
    }

    /// The highest sequence that has arrived; 0 when none is remembered.
    pub(super) fn highest(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.last)
    }

    /// The ordinal that follows the highest sequence; 0 while that has not been
    /// read.
    pub(super) fn next_ordinal(&self) -> u64 {
        match (self.highest_ordinal, self.highest()) {
            // Nothing came before.
            (0, 0) if self.forgotten_through == 0 => 1,
            (0, _) => 0,
            (highest, _) => highest.saturating_add(1),
        }
    }

    fn around(&self, sequence: u64) -> Around {
        let at = self.runs.partition_point(|run| run.last < sequence);
        let before = match at.checked_sub(1) {
            Some(before) => self.runs[before].last,
            None => self.forgotten_through,
        };
        let after = self.runs.get(at);
        Around {
            at,
            touches_before: sequence == before + 1,
            touches_after: after.is_some_and(|after| sequence + 1 == after.first),
            is_highest: after.is_none(),
        }
    }

    /// Where in `gaps` the hole before a run stands, if there is one.
    fn hole_before(&self, run: usize) -> usize {
        run - usize::from(run > 0 && !self.begins_with_hole())
    }

    fn begins_with_hole(&self) -> bool {
        let first = self.runs.first();
        first.is_some_and(|run| run.first > self.forgotten_through + 1)
    }

    /// The stretches that are missing before a run, ascending.
    pub(super) fn holes(&self) -> impl Iterator<Item = Run> {
        let mut before = self.forgotten_through;
        self.runs.iter().filter_map(move |run| {
            let hole = Run {
                first: before + 1,
                last: run.first - 1,
            };
            before = run.last;
            (hole.first <= hole.last).then_some(hole)
        })
    }

    /// Forgets everything up to the end of the lowest hole.
    pub(super) fn forget_lowest_hole(&mut self) {
        let Some(hole) = self.holes().next() else {
            return;
        };
        self.forgotten_through = hole.last;
        self.runs.retain(|run| run.first > hole.last);
        self.gaps.remove(0);
    }
}

/// What stands beside a sequence that has not arrived.
#[derive(Clone, Copy)]
struct Around {
    /// The run after it.
    at: usize,
    /// The run before it, or what has been forgotten, ends beside it.
    touches_before: bool,
    touches_after: bool,
    is_highest: bool,
}

impl Around {
    fn growth(self) -> Growth {
        match (self.touches_before, self.touches_after) {
            (true, true) => Growth::Closes,
            (true, false) if self.is_highest => Growth::Extends,
            (true, false) | (false, true) => Growth::Shrinks,
            (false, false) => Growth::Opens,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{collections::BTreeSet, vec};

    use super::*;

    fn runs(pairs: &[(u64, u64)]) -> Vec<Run> {
        pairs
            .iter()
            .map(|(first, last)| Run {
                first: *first,
                last: *last,
            })
            .collect()
    }

    #[test]
    fn runs_grow_join_and_agree_with_a_set() {
        let mut taken = Runs::default();
        let mut set = BTreeSet::new();
        for sequence in [5, 1, 2, 9, 7, 8, 3, 4, 20, 19, 6] {
            let holes_before = taken.holes().count();
            let foretold = taken.growth(sequence);
            let growth = taken.insert(sequence, 0);
            set.insert(sequence);
            let holes = taken.holes().count();
            assert_eq!(foretold, growth);
            assert_eq!(growth == Growth::Opens, holes > holes_before, "{taken:?}");
            assert_eq!(growth == Growth::Closes, holes < holes_before, "{taken:?}");
            assert_eq!(taken.gaps.len(), holes, "{taken:?}");
            for asked in 0..25 {
                assert_eq!(taken.contains(asked), set.contains(&asked), "{asked}");
            }
        }
        assert_eq!(taken.runs, runs(&[(1, 9), (19, 20)]));
    }

    #[test]
    fn forgetting_takes_the_lowest_hole_with_what_is_below_it() {
        let mut taken = Runs {
            forgotten_through: 0,
            runs: runs(&[(1, 2), (5, 5), (9, 9)]),
            gaps: vec![Gap::default(); 2],
            highest_ordinal: 90,
        };
        assert_eq!(taken.holes().collect::<Vec<_>>(), runs(&[(3, 4), (6, 8)]));
        taken.forget_lowest_hole();
        assert_eq!(taken.forgotten_through, 4);
        assert_eq!(taken.runs, runs(&[(5, 5), (9, 9)]));
        taken.forget_lowest_hole();
        taken.forget_lowest_hole();
        assert_eq!(taken.forgotten_through, 8);
        assert_eq!(taken.runs, runs(&[(9, 9)]));
    }

    /// Batch n carries the ordinals from 10 n - 9 to 10 n.
    fn told(sequence: u64) -> (u64, u64) {
        (10 * sequence - 9, 10 * sequence)
    }

    #[test]
    fn holes_know_their_ordinals_whatever_the_order_of_arrival() {
        for order in [[2, 4, 9, 7], [9, 2, 7, 4], [7, 9, 4, 2], [4, 7, 2, 9]] {
            let mut taken = Runs::default();
            for sequence in order {
                taken.insert(sequence, 0);
                let (first, last) = told(sequence);
                taken.tell(sequence, first, last);
                for (hole, gap) in taken.holes().zip(&taken.gaps) {
                    let ordinals = (told(hole.first).0, told(hole.last).1);
                    assert_eq!((gap.first_ordinal, gap.last_ordinal), ordinals, "{order:?}");
                }
                assert_eq!(taken.highest_ordinal, told(taken.highest()).1);
            }
        }
    }

    #[test]
    fn a_batch_that_was_not_read_bounds_no_hole() {
        let mut taken = Runs::default();
        taken.insert(1, 5);
        assert_eq!(taken.highest_ordinal, 0);
        taken.insert(3, 6);
        taken.tell(3, 21, 30);
        let gap = Gap {
            first_ordinal: 0,
            last_ordinal: 20,
            since_unix_ms: 6,
        };
        assert_eq!(taken.gaps, [gap]);
        taken.insert(9, 7);
        taken.insert(5, 8);
        let gaps: Vec<_> = taken.gaps.iter().map(|gap| gap.since_unix_ms).collect();
        assert_eq!(gaps, [6, 7, 7], "a part of a hole is as old as the hole");
    }

    #[test]
    fn the_highest_sequences_do_not_overflow() {
        let mut taken = Runs::default();
        for sequence in [u64::MAX, u64::MAX - 1, 1] {
            assert!(!taken.contains(sequence));
            taken.insert(sequence, 0);
            assert!(taken.contains(sequence));
        }
        assert_eq!(
            taken.runs,
            vec![
                Run { first: 1, last: 1 },
                Run {
                    first: u64::MAX - 1,
                    last: u64::MAX
                }
            ]
        );
    }
}
