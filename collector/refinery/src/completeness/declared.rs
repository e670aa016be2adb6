//! What a box has declared lost of one epoch, and what was turned away of it at
//! a bound. A declaration may come twice,
//! and may grow; nothing of it is taken back.

use alloc::vec::Vec;

use super::Declaration;
use crate::arrivals::Told;

/// Everything declared of one epoch.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Declared {
    /// Ascending; they do not overlap.
    pub(super) ranges: Vec<Range>,
    /// How many ranges were forgotten to make room.
    pub(super) ranges_forgotten: u32,
    /// Number of the reason for which all that is missing was declared lost;
    /// 0 when it was not.
    pub(super) whole_epoch_reason: i32,
    pub(super) unclean: Option<Unclean>,
    /// When the bridge took the first declaration.
    pub(super) since_unix_ms: i64,
}

/// Consecutive batches that were dropped for one reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Range {
    /// Sequences, both ends included.
    pub(super) first: u64,
    pub(super) last: u64,
    /// Ordinals, both ends included.
    pub(super) first_ordinal: u64,
    pub(super) last_ordinal: u64,
    /// Enum numbers, perhaps of a later version.
    pub(super) reason: i32,
    pub(super) refusal: i32,
    /// Not 0: refine rejected them at a bound for this reason, and the box
    /// declares nothing.
    pub(super) rejection: i32,
}

/// An end without a clean stop: what was durable then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Unclean {
    pub(super) last_known_ordinal: u64,
    pub(super) last_known_sequence: u64,
}

impl Declared {
    pub(super) fn since(received_unix_ms: i64) -> Self {
        Self {
            since_unix_ms: received_unix_ms,
            ..Self::default()
        }
    }

    /// Takes a declaration; says whether it was news.
    pub(super) fn add(&mut self, declaration: Declaration) -> bool {
        match declaration {
            Declaration::Dropped(range) => self.add_range(range),
            Declaration::WholeEpoch(reason) => {
                core::mem::replace(&mut self.whole_epoch_reason, reason) != reason
            }
            Declaration::UncleanStop(unclean) => {
                // Each of them declares: together they declare what any does.
                let lowest = self.unclean.map_or(unclean, |known| Unclean {
                    last_known_ordinal: known.last_known_ordinal.min(unclean.last_known_ordinal),
                    last_known_sequence: known.last_known_sequence.min(unclean.last_known_sequence),
                });
                self.unclean.replace(lowest) != Some(lowest)
            }
        }
    }

    /// Joins a range with those that it overlaps, and with those of its reason
    /// that it touches.
    fn add_range(&mut self, mut range: Range) -> bool {
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
    pub(super) fn forget_idle(&mut self, told: &Told<'_>, ranges_max: usize) -> usize {
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
    pub(super) fn forget_lowest(&mut self, _told: &Told<'_>, ranges_max: usize) -> usize {
        let forgotten = ranges_max.min(self.ranges.len());
        self.ranges.drain(..forgotten);
        self.count_forgotten(forgotten)
    }

    fn count_forgotten(&mut self, ranges: usize) -> usize {
        let count = u32::try_from(ranges).unwrap_or(u32::MAX);
        self.ranges_forgotten = self.ranges_forgotten.saturating_add(count);
        ranges
    }

    /// The highest sequence that must have been built, by what was declared.
    pub(super) fn known_through(&self) -> u64 {
        let declared = self.ranges.last().map_or(0, |range| range.last);
        let durable = self
            .unclean
            .map_or(0, |unclean| unclean.last_known_sequence);
        declared.max(durable)
    }

    /// The ordinal with which [`known_through`](Self::known_through) ends.
    pub(super) fn known_through_ordinal(&self) -> u64 {
        let through = self.known_through();
        match (self.ranges.last(), self.unclean) {
            (Some(range), _) if range.last == through => range.last_ordinal,
            (_, Some(unclean)) => unclean.last_known_ordinal,
            (_, None) => 0,
        }
    }
}

impl Range {
    /// As many as it declares; at least 1, and no more than a number holds.
    pub(super) fn event_count(&self) -> u64 {
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
        let mut declared = Declared::default();
        for range in ranges {
            assert!(declared.add(Declaration::Dropped(*range)), "{range:?}");
            assert!(!declared.add(Declaration::Dropped(*range)), "{range:?}");
        }
        declared.ranges
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
    fn the_lowest_of_unclean_stops_holds() {
        let stop = |ordinal, sequence| {
            Declaration::UncleanStop(Unclean {
                last_known_ordinal: ordinal,
                last_known_sequence: sequence,
            })
        };
        let mut declared = Declared::default();
        assert!(declared.add(stop(50, 5)));
        assert!(!declared.add(stop(60, 6)));
        assert!(declared.add(stop(40, 4)));
        assert_eq!(declared.known_through(), 4);
        assert_eq!(declared.known_through_ordinal(), 40);
        declared.add(Declaration::Dropped(range(7, 9, 1)));
        assert_eq!(declared.known_through(), 9);
        assert_eq!(declared.known_through_ordinal(), 90);
    }
}
