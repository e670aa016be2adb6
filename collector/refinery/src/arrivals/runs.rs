//! Which sequences of one epoch have arrived: ascending runs, exact beyond
//! what has been forgotten. Sequences are kept as plain numbers here.

use alloc::vec::Vec;

/// Consecutive sequences that have arrived, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// Invariants: runs are ascending, do not touch each other, and lie beyond
/// `forgotten_through`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Runs {
    /// Which sequences up to this one arrived is not known any more.
    pub(super) forgotten_through: u64,
    pub(super) runs: Vec<Run>,
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

    /// Whether taking `sequence`, which has not arrived, makes one more hole.
    pub(super) fn opens_hole(&self, sequence: u64) -> bool {
        let at = self.runs.partition_point(|run| run.last < sequence);
        let before = match at.checked_sub(1) {
            Some(before) => self.runs[before].last,
            None => self.forgotten_through,
        };
        let touches_before = sequence == before + 1;
        let touches_after = self
            .runs
            .get(at)
            .is_some_and(|after| sequence + 1 == after.first);
        !touches_before && !touches_after
    }

    /// Notes that `sequence`, which has not arrived, arrives.
    pub(super) fn insert(&mut self, sequence: u64) {
        let at = self.runs.partition_point(|run| run.last < sequence);
        let touches_before = at > 0 && self.runs[at - 1].last + 1 == sequence;
        let touches_after = at < self.runs.len() && sequence + 1 == self.runs[at].first;
        match (touches_before, touches_after) {
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
            let opens = taken.opens_hole(sequence);
            taken.insert(sequence);
            set.insert(sequence);
            assert_eq!(
                opens,
                taken.holes().count() > holes_before,
                "after {sequence}: {taken:?}"
            );
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

    #[test]
    fn the_highest_sequences_do_not_overflow() {
        let mut taken = Runs::default();
        for sequence in [u64::MAX, u64::MAX - 1, 1] {
            assert!(!taken.contains(sequence));
            taken.opens_hole(sequence);
            taken.insert(sequence);
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
