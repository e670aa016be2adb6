//! What was dropped of one epoch, range by range, and what of that is no longer
//! remembered.

use alloc::vec::Vec;

use crate::arrivals::Told;

/// Ranges that were declared as dropped, or turned away at a bound. Most epochs
/// have none.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Dropped {
    /// Ascending; they do not overlap.
    pub(crate) ranges: Vec<Range>,
    /// How many ranges were forgotten to make room.
    pub(crate) ranges_forgotten: u32,
    /// Where such ranges lay that something may be missing of.
    pub(crate) forgotten_within: Option<Stretch>,
    /// Of how many runs of the queue file, up to this one, everything declared
    /// was forgotten. Only of the last of them.
    pub(crate) runs_forgotten: u32,
}

/// Consecutive batches that were dropped for one reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Range {
    /// Sequences, both ends included.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Ordinals, both ends included.
    pub(crate) first_ordinal: u64,
    pub(crate) last_ordinal: u64,
    /// Enum numbers, perhaps of a later version.
    pub(crate) reason: i32,
    pub(crate) refusal: i32,
    /// Not 0: refine rejected them at a bound for this reason, and the box
    /// declares nothing.
    pub(crate) rejection: i32,
}

/// Sequences, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stretch {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Stretch {
    /// However many there are of an epoch.
    pub(crate) const ALL: Self = Self {
        first: 1,
        last: u64::MAX,
    };

    /// With what lies between the two.
    fn joined(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }
}

impl Dropped {
    /// Joins a range with those that it overlaps, and with those of its reason
    /// that it touches. Says whether it was news.
    pub(super) fn add(&mut self, mut range: Range) -> bool {
        // Those that overlap it or touch it stand side by side.
        let from = self
            .ranges
            .partition_point(|known| known.last.saturating_add(1) < range.first);
        let beside = self.ranges[from..]
            .iter()
            .take_while(|known| known.first <= range.last.saturating_add(1))
            .count();
        let beside = from..from + beside;
        if self.ranges[beside.clone()]
            .iter()
            .any(|known| known.says_all_of(&range))
        {
            return false;
        }
        let mut apart = Vec::new();
        for known in self.ranges.drain(beside) {
            if known.overlaps(&range) || known.continues(&range) {
                range.first = range.first.min(known.first);
                range.last = range.last.max(known.last);
                range.first_ordinal = range.first_ordinal.min(known.first_ordinal);
                range.last_ordinal = range.last_ordinal.max(known.last_ordinal);
            } else {
                apart.push(known);
            }
        }
        apart.push(range);
        apart.sort_unstable_by_key(|range| range.first);
        self.ranges.splice(from..from, apart);
        true
    }

    /// Forgets up to `ranges_max` ranges of which nothing is missing: all of
    /// them arrived, or nobody remembers whether. Says how many.
    pub(crate) fn forget_idle(&mut self, told: &Told<'_>, ranges_max: usize) -> usize {
        let mut holes = told.holes().peekable();
        let mut forgotten = 0;
        self.ranges.retain(|range| {
            while holes.next_if(|hole| hole.last < range.first).is_some() {}
            let is_needed = range.last > told.highest_sequence()
                || holes.peek().is_some_and(|hole| hole.first <= range.last);
            if is_needed || forgotten == ranges_max {
                return true;
            }
            forgotten += 1;
            false
        });
        self.count_forgotten(forgotten)
    }

    /// Forgets up to `ranges_max` ranges, the lowest. Says how many.
    pub(crate) fn forget_lowest(&mut self, ranges_max: usize) -> usize {
        let forgotten = ranges_max.min(self.ranges.len());
        for range in self.ranges.drain(..forgotten) {
            let lay = Stretch {
                first: range.first,
                last: range.last,
            };
            let before = self.forgotten_within.unwrap_or(lay);
            self.forgotten_within = Some(before.joined(lay));
        }
        self.count_forgotten(forgotten)
    }

    fn count_forgotten(&mut self, ranges: usize) -> usize {
        let count = u32::try_from(ranges).unwrap_or(u32::MAX);
        self.ranges_forgotten = self.ranges_forgotten.saturating_add(count);
        ranges
    }
}

impl Range {
    /// As many as it declares; at least 1, and no more than a number holds.
    pub(crate) fn event_count(&self) -> u64 {
        (self.last_ordinal - self.first_ordinal).saturating_add(1)
    }

    fn says_all_of(&self, other: &Self) -> bool {
        self.first <= other.first
            && self.last >= other.last
            && self.first_ordinal <= other.first_ordinal
            && self.last_ordinal >= other.last_ordinal
            && self.has_reason_of(other)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// One begins where the other ends, and both have one reason.
    fn continues(&self, other: &Self) -> bool {
        let touches = |low: &Self, high: &Self| {
            low.last
                .checked_add(1)
                .is_some_and(|next| next == high.first)
        };
        self.has_reason_of(other) && (touches(self, other) || touches(other, self))
    }

    fn has_reason_of(&self, other: &Self) -> bool {
        self.reason == other.reason
            && self.refusal == other.refusal
            && self.rejection == other.rejection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batch n carries the ordinals from 10 n - 9 to 10 n.
    fn range(first: u64, last: u64, reason: i32) -> Range {
        Range {
            first,
            last,
            first_ordinal: 10 * first - 9,
            last_ordinal: 10 * last,
            reason,
            refusal: 0,
            rejection: 0,
        }
    }

    fn after(ranges: &[Range]) -> Vec<Range> {
        let mut dropped = Dropped::default();
        for range in ranges {
            assert!(dropped.add(*range), "{range:?}");
            assert!(!dropped.add(*range), "{range:?}");
        }
        dropped.ranges
    }

    #[test]
    fn declarations_that_grow_or_continue_become_one() {
        let one = [range(1, 9, 1)];
        assert_eq!(after(&[range(1, 3, 1), range(1, 9, 1)]), one);
        assert_eq!(after(&[range(1, 3, 1), range(4, 9, 1)]), one);
        assert_eq!(
            after(&[range(7, 9, 1), range(1, 2, 1), range(3, 6, 1)]),
            one
        );
        assert_eq!(after(&one)[0].event_count(), 90);
        let two = [range(1, 3, 1), range(4, 9, 2)];
        assert_eq!(after(&[two[1], two[0]]), two);
    }

    #[test]
    fn it_is_remembered_between_which_batches_ranges_were_forgotten() {
        let mut dropped = Dropped::default();
        for first in [5, 8, 20] {
            dropped.add(range(first, first + 1, 1));
        }
        assert_eq!(dropped.forget_lowest(2), 2);
        let within = Stretch { first: 5, last: 9 };
        assert_eq!(dropped.forgotten_within, Some(within));
        dropped.add(range(2, 2, 1));
        assert_eq!(dropped.forget_lowest(1), 1);
        let within = Stretch { first: 2, last: 9 };
        assert_eq!(dropped.forgotten_within, Some(within));
        assert_eq!(dropped.ranges_forgotten, 3);
        assert_eq!(dropped.ranges, [range(20, 21, 1)]);
    }
}
