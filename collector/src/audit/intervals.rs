//! A set of ordinals kept as intervals: contiguous runs cost one entry however
//! long they are. Owns the set algebra that the verdict is made of, and knows
//! nothing of what the ordinals mean.

use std::collections::BTreeMap;

/// Ordinals as disjoint, never adjacent, closed intervals.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Intervals {
    /// First ordinal of an interval to its last.
    last_by_first: BTreeMap<u64, u64>,
}

impl Intervals {
    /// Intervals held: what the set costs.
    pub(super) fn len(&self) -> usize {
        self.last_by_first.len()
    }

    /// Ordinals in the set.
    pub(super) fn count(&self) -> u64 {
        self.iter().fold(0, |count, (first, last)| {
            (last - first).saturating_add(1).saturating_add(count)
        })
    }

    /// The intervals, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.last_by_first
            .iter()
            .map(|(first, last)| (*first, *last))
    }

    /// Whether `ordinal` is in the set.
    pub(super) fn contains(&self, ordinal: u64) -> bool {
        self.last_by_first
            .range(..=ordinal)
            .next_back()
            .is_some_and(|(_, last)| *last >= ordinal)
    }

    /// Adds every ordinal of `first..=last`; nothing when `last` is below.
    pub(super) fn insert(&mut self, mut first: u64, mut last: u64) {
        if last < first {
            return;
        }
        // Joins an interval that reaches to `first`, or ends right before it.
        if let Some((below, end)) = self.last_by_first.range(..=first).next_back()
            && end.saturating_add(1) >= first
        {
            first = *below;
            last = last.max(*end);
            self.last_by_first.remove(&first);
        }
        // And every one that begins within, or right after.
        while let Some((above, end)) = self
            .last_by_first
            .range(first..=last.saturating_add(1))
            .next()
        {
            let above = *above;
            last = last.max(*end);
            self.last_by_first.remove(&above);
        }
        self.last_by_first.insert(first, last);
    }

    /// What is in this set and not in `other`.
    pub(super) fn without(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        for (mut first, last) in self.iter() {
            let overlapping = other
                .last_by_first
                .range(..=first)
                .next_back()
                .into_iter()
                .chain(other.last_by_first.range(first.saturating_add(1)..));
            let mut covered = false;
            for (begin, end) in overlapping {
                if *begin > last {
                    break;
                }
                if *end < first {
                    continue;
                }
                if *begin > first {
                    rest.last_by_first.insert(first, begin - 1);
                }
                if *end >= last {
                    covered = true;
                    break;
                }
                first = end + 1;
            }
            if !covered {
                rest.last_by_first.insert(first, last);
            }
        }
        rest
    }

    /// The ordinals of `first..=last`.
    pub(super) fn of(first: u64, last: u64) -> Self {
        let mut set = Self::default();
        set.insert(first, last);
        set
    }

    /// The highest ordinal.
    pub(super) fn last(&self) -> Option<u64> {
        self.last_by_first.values().next_back().copied()
    }

    /// What lies in `first..=last`.
    pub(super) fn within(&self, first: u64, last: u64) -> Self {
        let below = self.last_by_first.range(..first).next_back();
        let inside = self.last_by_first.range(first..=last.max(first));
        let mut rest = Self::default();
        for (begin, end) in below.into_iter().chain(inside) {
            let (begin, end) = ((*begin).max(first), (*end).min(last));
            if begin <= end {
                rest.last_by_first.insert(begin, end);
            }
        }
        rest
    }

    /// What lies above `ordinal`.
    pub(super) fn above(&self, ordinal: u64) -> Self {
        let mut rest = Self::default();
        for (first, last) in self.iter().filter(|(_, last)| *last > ordinal) {
            rest.last_by_first.insert(first.max(ordinal + 1), last);
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};
    use std::collections::BTreeSet;

    fn of(ranges: &[(u64, u64)]) -> Intervals {
        let mut set = Intervals::default();
        for (first, last) in ranges {
            set.insert(*first, *last);
        }
        set
    }

    #[test]
    fn neighbours_and_overlaps_become_one_interval() {
        for ranges in [
            &[(1, 3), (4, 6)][..],
            &[(4, 6), (1, 3)],
            &[(1, 2), (5, 6), (3, 4)],
            &[(2, 5), (1, 6)],
            &[(1, 6), (2, 5)],
            &[(1, 6), (9, 3)],
        ] {
            assert_eq!(of(ranges), of(&[(1, 6)]), "{ranges:?}");
            assert_eq!(of(ranges).len(), 1);
        }
    }

    #[test]
    fn the_ends_of_the_number_line_do_not_overflow() {
        let all = of(&[(0, u64::MAX)]);
        assert_eq!(all.count(), u64::MAX);
        assert_eq!(all.without(&all), Intervals::default());
        assert_eq!(all.above(u64::MAX), Intervals::default());
        assert_eq!(of(&[(u64::MAX, u64::MAX), (0, 4)]).len(), 2);
    }

    proptest! {
        #[test]
        fn the_algebra_is_that_of_sets(
            left in vec((0u64..60, 0u64..9), 0..12),
            right in vec((0u64..60, 0u64..9), 0..12),
            above in 0u64..70,
        ) {
            let interval = |ranges: &[(u64, u64)]| {
                of(&ranges.iter().map(|(first, length)| (*first, first + length)).collect::<Vec<_>>())
            };
            let plain = |set: &Intervals| -> BTreeSet<u64> {
                set.iter().flat_map(|(first, last)| first..=last).collect()
            };
            let (a, b) = (interval(&left), interval(&right));
            let expected: BTreeSet<u64> = left.iter().flat_map(|(first, length)| *first..=first + length).collect();
            prop_assert_eq!(plain(&a), expected.clone());
            prop_assert_eq!(a.count(), expected.len() as u64);
            prop_assert_eq!(plain(&a.without(&b)), &plain(&a) - &plain(&b));
            let higher: BTreeSet<u64> = plain(&a).into_iter().filter(|ordinal| *ordinal > above).collect();
            prop_assert_eq!(plain(&a.above(above)), higher);
            for ordinal in 0..80 {
                prop_assert_eq!(a.contains(ordinal), expected.contains(&ordinal));
            }
        }
    }
}
