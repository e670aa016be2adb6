//! What a box has declared lost of one epoch, and what was turned away of it at
//! a bound. A declaration may come twice, and may grow; nothing of it is taken
//! back, but there is room for so many, and it is remembered where others were.

use alloc::boxed::Box;

use super::Declaration;

mod dropped;

pub(super) use dropped::{Dropped, Range, Stretch};

/// Everything declared of one epoch.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Declared {
    pub(super) dropped: Option<Box<Dropped>>,
    /// Number of the reason for which all that is missing was declared lost;
    /// 0 when it was not.
    pub(super) whole_epoch_reason: i32,
    pub(super) unclean: Option<Unclean>,
    /// When the bridge took the first declaration that is remembered; 0 where
    /// all of them are forgotten.
    pub(super) since_unix_ms: i64,
}

/// An end without a clean stop: what was durable then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Unclean {
    pub(super) last_known_ordinal: u64,
    pub(super) last_known_sequence: u64,
}

impl Declared {
    /// Whatever was declared of the epoch is forgotten, and so is everything on
    /// this many runs of its queue file.
    pub(super) fn forgotten(runs: u32) -> Self {
        let dropped = Dropped {
            forgotten_within: Some(Stretch::ALL),
            runs_forgotten: runs,
            ..Dropped::default()
        };
        Self {
            dropped: Some(Box::new(dropped)),
            ..Self::default()
        }
    }

    /// Takes a declaration; says whether it was news.
    pub(super) fn add(&mut self, declaration: Declaration, received_unix_ms: i64) -> bool {
        if self.since_unix_ms == 0 {
            self.since_unix_ms = received_unix_ms;
        }
        match declaration {
            Declaration::Dropped(range) => self.dropped.get_or_insert_default().add(range),
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

    /// Whether nothing that was declared is remembered.
    pub(super) fn says_nothing(&self) -> bool {
        self.ranges().is_empty() && self.whole_epoch_reason == 0 && self.unclean.is_none()
    }

    pub(super) fn ranges(&self) -> &[Range] {
        self.dropped.as_ref().map_or(&[], |dropped| &dropped.ranges)
    }

    /// Between which batches ranges were forgotten that something may be
    /// missing of.
    pub(super) fn forgotten_within(&self) -> Option<Stretch> {
        self.dropped.as_ref()?.forgotten_within
    }

    /// Of how many runs of the queue file, up to this one, everything declared
    /// was forgotten.
    pub(super) fn runs_forgotten(&self) -> u32 {
        self.dropped
            .as_ref()
            .map_or(0, |dropped| dropped.runs_forgotten)
    }

    /// The highest sequence that must have been built, by what was declared.
    pub(super) fn known_through(&self) -> u64 {
        let declared = self.ranges().last().map_or(0, |range| range.last);
        let forgotten = self
            .forgotten_within()
            .filter(|within| *within != Stretch::ALL)
            .map_or(0, |within| within.last);
        let durable = self
            .unclean
            .map_or(0, |unclean| unclean.last_known_sequence);
        declared.max(forgotten).max(durable)
    }

    /// The ordinal with which [`known_through`](Self::known_through) ends; 0
    /// where it is not known.
    pub(super) fn known_through_ordinal(&self) -> u64 {
        let through = self.known_through();
        match (self.ranges().last(), self.unclean) {
            (Some(range), _) if range.last == through => range.last_ordinal,
            (_, Some(unclean)) if unclean.last_known_sequence == through => {
                unclean.last_known_ordinal
            }
            (_, _) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(ordinal: u64, sequence: u64) -> Declaration {
        Declaration::UncleanStop(Unclean {
            last_known_ordinal: ordinal,
            last_known_sequence: sequence,
        })
    }

    fn drop(first: u64, last: u64) -> Declaration {
        Declaration::Dropped(Range {
            first,
            last,
            first_ordinal: 10 * first - 9,
            last_ordinal: 10 * last,
            reason: 1,
            refusal: 0,
            rejection: 0,
        })
    }

    #[test]
    fn the_lowest_of_unclean_stops_holds() {
        let mut declared = Declared::default();
        assert!(declared.add(stop(50, 5), 1));
        assert!(!declared.add(stop(60, 6), 2));
        assert!(declared.add(stop(40, 4), 3));
        assert_eq!(declared.since_unix_ms, 1);
        assert_eq!(declared.known_through(), 4);
        assert_eq!(declared.known_through_ordinal(), 40);
        declared.add(drop(7, 9), 4);
        assert_eq!(declared.known_through(), 9);
        assert_eq!(declared.known_through_ordinal(), 90);
    }

    #[test]
    fn what_is_forgotten_was_built_all_the_same() {
        let mut declared = Declared::default();
        declared.add(stop(30, 3), 1);
        declared.add(drop(7, 9), 1);
        declared.dropped.as_mut().unwrap().forget_lowest(1);
        assert_eq!(declared.known_through(), 9);
        assert_eq!(declared.known_through_ordinal(), 0);
        // Where nobody knows what was, nothing is known to have been built.
        assert_eq!(Declared::forgotten(1).known_through(), 0);
    }

    #[test]
    fn what_a_run_declares_is_small_where_nothing_was_dropped() {
        // A box that loses its power has as many as runs that are remembered.
        assert!(size_of::<Declared>() <= 48, "{}", size_of::<Declared>());
    }
}
