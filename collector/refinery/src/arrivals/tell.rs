//! What arrivals tell of one epoch: how far it has come and what is missing.

use returnpath_shared::{Epoch, Incarnation};

use super::{Arrivals, Arrived, Known, Place, runs::Run};

/// One epoch as far as arrivals know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    /// `None` where nothing of it has arrived, or it is forgotten.
    arrived: Option<&'a Arrived>,
    /// What arrived of it is no longer remembered, or its queue file never was.
    pub(crate) is_forgotten: bool,
    /// A later run of the agent is known.
    pub(crate) is_ended: bool,
    /// The box has released the sequences below this one; all of them at the
    /// highest number.
    held_from: u64,
}

/// Consecutive batches that have not arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hole {
    /// Sequences, both ends included.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Ordinals, both ends included; 0 where it is not known.
    pub(crate) first_ordinal: u64,
    pub(crate) last_ordinal: u64,
    pub(crate) since_unix_ms: i64,
}

impl Arrivals {
    /// What is known of an epoch.
    pub(crate) fn tell(&self, epoch: Epoch) -> Told<'_> {
        let at = self
            .incarnations
            .iter()
            .position(|known| known.incarnation == epoch.incarnation);
        let Some(at) = at else {
            return Told {
                arrived: None,
                is_forgotten: true,
                is_ended: true,
                held_from: 0,
            };
        };
        let known = &self.incarnations[at];
        let arrived = known.epoch(epoch.start);
        let latest = known.epochs.last().map_or(0, |arrived| arrived.start);
        Told {
            arrived,
            is_forgotten: arrived.is_none() && epoch.start < known.forgotten_below_start,
            is_ended: arrived.is_none()
                || latest.max(known.held_from.start) > epoch.start
                || at + 1 < self.incarnations.len(),
            held_from: known.held_from(epoch.start),
        }
    }

    /// Whether a batch may be missing that is known of, or the order of queue
    /// files may change which run is the last.
    pub(crate) fn may_be_missing(&self) -> bool {
        let mut epochs = self.incarnations.iter().flat_map(|known| &known.epochs);
        self.incarnations.len() > 1 || epochs.any(|arrived| !arrived.sequences.gaps.is_empty())
    }

    /// Whether anything of an epoch has arrived and is remembered.
    pub(crate) fn remembers(&self, epoch: Epoch) -> bool {
        self.known(epoch.incarnation)
            .is_some_and(|known| known.epoch(epoch.start).is_some())
    }

    /// Whether what arrived of an epoch is forgotten for good: what comes of it
    /// is rejected.
    pub(crate) fn has_forgotten(&self, epoch: Epoch) -> bool {
        match self.known(epoch.incarnation) {
            Some(known) => epoch.start < known.forgotten_below_start,
            None => self.forgotten.contains(&epoch.incarnation),
        }
    }

    /// Every epoch of which something has arrived, those of one incarnation by
    /// their start.
    pub(crate) fn epochs(&self) -> impl Iterator<Item = Epoch> {
        self.incarnations.iter().flat_map(|known| {
            let of = |incarnation: Incarnation| move |start| Epoch { incarnation, start };
            known
                .epochs
                .iter()
                .map(|arrived| arrived.start)
                .map(of(known.incarnation))
        })
    }
}

impl Known {
    fn held_from(&self, start: u32) -> u64 {
        if self.held_from == Place::ALL || self.held_from.start > start {
            u64::MAX
        } else if self.held_from.start == start {
            self.held_from.sequence
        } else {
            0
        }
    }
}

impl Told<'_> {
    /// The box holds nothing of the epoch any more.
    pub(crate) fn is_released(&self) -> bool {
        self.held_from == u64::MAX
    }

    /// The highest sequence that the box has released; 0 when none.
    pub(crate) fn released_through(&self) -> u64 {
        if self.is_released() {
            u64::MAX
        } else {
            self.held_from.saturating_sub(1)
        }
    }

    pub(crate) fn highest_sequence(&self) -> u64 {
        self.arrived
            .map_or(0, |arrived| arrived.sequences.highest())
    }

    /// 0 where it could not be read.
    pub(crate) fn highest_ordinal(&self) -> u64 {
        self.arrived
            .map_or(0, |arrived| arrived.sequences.highest_ordinal)
    }

    /// The ordinal behind the highest sequence; 0 where it is not known.
    pub(crate) fn next_ordinal(&self) -> u64 {
        self.arrived
            .map_or(1, |arrived| arrived.sequences.next_ordinal())
    }

    pub(crate) fn forgotten_through(&self) -> u64 {
        self.arrived
            .map_or(0, |arrived| arrived.sequences.forgotten_through)
    }

    /// What is missing below the highest sequence, ascending.
    pub(crate) fn holes(&self) -> impl Iterator<Item = Hole> {
        self.arrived.into_iter().flat_map(|arrived| {
            let sequences = &arrived.sequences;
            sequences
                .holes()
                .zip(&sequences.gaps)
                .map(|(Run { first, last }, gap)| Hole {
                    first,
                    last,
                    first_ordinal: gap.first_ordinal,
                    last_ordinal: gap.last_ordinal,
                    since_unix_ms: gap.since_unix_ms,
                })
        })
    }
}
