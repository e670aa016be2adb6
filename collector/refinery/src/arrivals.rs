//! Which batches of one box have arrived: exact removal of duplicates, and
//! what may be forgotten.
//!
//! A box *releases* what it no longer holds, by the oldest-held ids in its
//! envelopes. Released is not forgotten: a released batch may have its receipt
//! and still lie in the other lane's topic, so it is taken as long as it is
//! known not to have come. Forgetting happens only to released things, oldest
//! first, when a bound of `limit.rs` asks for the room; what then comes of
//! them cannot be judged any more and is rejected, never called a duplicate.

use alloc::{boxed::Box, vec::Vec};

use returnpath_shared::{BatchId, Epoch, Incarnation};

use crate::limit::{INCARNATION_ORDER_MS, Limits};

mod restore;
mod runs;
mod tell;

pub(crate) use tell::{Hole, Told};

use runs::{Growth, Runs};

/// What is known of a batch before it is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// Has not arrived.
    New,
    /// Has not arrived, and the box has released it since.
    Late,
    /// Has arrived.
    Duplicate,
    /// Of a stretch that has been forgotten.
    Forgotten,
}

/// Which bound leaves no room for a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Full {
    Incarnations,
    Epochs,
    Holes,
}

/// What was forgotten to make room.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Forgotten {
    pub(crate) holes: u64,
    pub(crate) epochs: u64,
}

/// What taking a batch, or hearing what the box holds, led to.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Outcome {
    pub(crate) forgotten: Forgotten,
    /// Epochs that began or ended, of which a hole opened, closed or was
    /// released, or everything was released. Not those that merely grew.
    pub(crate) turned: Vec<Epoch>,
}

/// What has arrived from one box.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Arrivals {
    /// In the order of `first_received_unix_ms`.
    incarnations: Vec<Known>,
    /// Incarnations of which nothing else is remembered, none of them among the
    /// others; the first that was forgotten comes first. Nearly always empty, and
    /// so kept in as little as that takes.
    forgotten: Box<[Incarnation]>,
}

/// What has arrived of one incarnation.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Known {
    incarnation: Incarnation,
    first_received_unix_ms: i64,
    held_from: Place,
    forgotten_below_start: u32,
    /// By start, ascending; none below `forgotten_below_start`.
    epochs: Vec<Arrived>,
}

/// What has arrived of one epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Arrived {
    start: u32,
    sequences: Runs,
}

/// A batch within its incarnation. Ordered as the box built them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    start: u32,
    sequence: u64,
}

impl Place {
    /// Below every batch.
    const NOTHING: Self = Self {
        start: 0,
        sequence: 0,
    };
    /// Above every batch.
    const ALL: Self = Self {
        start: u32::MAX,
        sequence: u64::MAX,
    };

    fn of(id: BatchId) -> Self {
        Self {
            start: id.epoch.start,
            sequence: id.sequence.0,
        }
    }
}

impl Arrivals {
    /// What is known of a batch.
    pub(crate) fn standing(&self, id: BatchId) -> Standing {
        let Some(known) = self.known(id.epoch.incarnation) else {
            return if self.forgotten.contains(&id.epoch.incarnation) {
                Standing::Forgotten
            } else {
                Standing::New
            };
        };
        if id.epoch.start < known.forgotten_below_start {
            return Standing::Forgotten;
        }
        if let Some(arrived) = known.epoch(id.epoch.start) {
            if id.sequence.0 <= arrived.sequences.forgotten_through {
                return Standing::Forgotten;
            }
            if arrived.sequences.contains(id.sequence.0) {
                return Standing::Duplicate;
            }
        }
        if Place::of(id) < known.held_from {
            Standing::Late
        } else {
            Standing::New
        }
    }

    /// Takes a batch that is [`New`](Standing::New) or
    /// [`Late`](Standing::Late): from here on it is a duplicate.
    ///
    /// # Errors
    /// Says which bound leaves no room; nothing has changed then.
    pub(crate) fn take(
        &mut self,
        id: BatchId,
        received_unix_ms: i64,
        limits: &Limits,
    ) -> Result<Outcome, Full> {
        let Epoch { incarnation, start } = id.epoch;
        let late = self.standing(id) == Standing::Late;
        let new_epoch = self
            .known(incarnation)
            .is_none_or(|known| known.epoch(start).is_none());
        let opens_hole = self
            .known(incarnation)
            .and_then(|known| known.epoch(start))
            .map_or(id.sequence.0 > 1, |arrived| {
                arrived.sequences.growth(id.sequence.0) == Growth::Opens
            });
        if new_epoch && !late && self.held_epochs() >= limits.epochs_max {
            return Err(Full::Epochs);
        }
        if opens_hole && !late && self.held_holes() >= limits.holes_max {
            return Err(Full::Holes);
        }
        let mut outcome = Outcome::default();
        let at = self
            .enter(
                incarnation,
                received_unix_ms,
                limits,
                &mut outcome.forgotten,
            )
            .ok_or(Full::Incarnations)?;
        let growth = self.incarnations[at]
            .epoch_entered(start)
            .sequences
            .insert(id.sequence.0, received_unix_ms);
        match growth {
            _ if new_epoch => {
                outcome.turned.push(id.epoch);
                outcome.turned.extend(self.ended_by(at, start));
            }
            Growth::Opens | Growth::Closes => outcome.turned.push(id.epoch),
            Growth::Extends | Growth::Shrinks => {}
        }
        self.forget_beyond_bounds(limits, &mut outcome);
        Ok(outcome)
    }

    /// A batch that has been taken carries these ordinals. Of one that cannot
    /// be read nobody tells.
    pub(crate) fn tell_ordinals(&mut self, id: BatchId, first_ordinal: u64, last_ordinal: u64) {
        let known = self
            .incarnations
            .iter_mut()
            .find(|known| known.incarnation == id.epoch.incarnation);
        if let Some(known) = known
            && let Some(at) = known.position(id.epoch.start)
        {
            known.epochs[at]
                .sequences
                .tell(id.sequence.0, first_ordinal, last_ordinal);
        }
    }

    /// The box has said, in the run `sender`, what it held of each
    /// incarnation. Only incarnations up to the sender's are spoken of, and of
    /// the sender's own only starts up to it: an old envelope that comes late
    /// releases nothing newer. One of a forgotten incarnation says nothing.
    pub(crate) fn release(
        &mut self,
        sender: Epoch,
        oldest_held: &[BatchId],
        received_unix_ms: i64,
        limits: &Limits,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        if self.forgotten.contains(&sender.incarnation) {
            return outcome;
        }
        // Where there is no room for the sender, what it releases makes some.
        let entered = self.enter(
            sender.incarnation,
            received_unix_ms,
            limits,
            &mut outcome.forgotten,
        );
        let sender_first_ms = entered.map_or(received_unix_ms, |at| {
            self.incarnations[at].first_received_unix_ms
        });
        for known in &mut self.incarnations {
            let listed = oldest_held
                .iter()
                .find(|id| id.epoch.incarnation == known.incarnation);
            let held_from = if let Some(oldest) = listed {
                Place::of(*oldest)
            } else if known.incarnation == sender.incarnation {
                // Of the run itself it may have built more since.
                Place {
                    start: sender.start,
                    sequence: 0,
                }
            } else if known
                .first_received_unix_ms
                .saturating_add(INCARNATION_ORDER_MS)
                <= sender_first_ms
            {
                Place::ALL
            } else {
                Place::NOTHING
            };
            known.release(held_from, &mut outcome.turned);
        }
        self.forget_beyond_bounds(limits, &mut outcome);
        outcome
    }

    /// Whether every batch of the epoch up to this one has arrived, without
    /// anything forgotten.
    pub(crate) fn has_all_up_to(&self, id: BatchId) -> bool {
        self.known(id.epoch.incarnation)
            .and_then(|known| known.epoch(id.epoch.start))
            .is_some_and(|arrived| arrived.sequences.begins_through(id.sequence.0))
    }

    /// Incarnations, in the order in which they came to be.
    pub(crate) fn incarnations(&self) -> impl Iterator<Item = Incarnation> {
        self.incarnations.iter().map(|known| known.incarnation)
    }

    fn known(&self, incarnation: Incarnation) -> Option<&Known> {
        self.incarnations
            .iter()
            .find(|known| known.incarnation == incarnation)
    }

    /// Index of an incarnation that is not forgotten, entered where its arrival
    /// puts it; `None` where the bound leaves no room.
    fn enter(
        &mut self,
        incarnation: Incarnation,
        received_unix_ms: i64,
        limits: &Limits,
        forgotten: &mut Forgotten,
    ) -> Option<usize> {
        let found = self
            .incarnations
            .iter()
            .position(|known| known.incarnation == incarnation);
        let entry = match found {
            Some(at) if self.incarnations[at].first_received_unix_ms <= received_unix_ms => {
                return Some(at);
            }
            // It reached the collector earlier than was known: the lanes are
            // not read in the order of arrival.
            Some(at) => Known {
                first_received_unix_ms: received_unix_ms,
                ..self.incarnations.remove(at)
            },
            None => {
                if self.incarnations.len() >= limits.incarnations_max {
                    let released = self
                        .incarnations
                        .iter()
                        .position(|known| known.held_from == Place::ALL)?;
                    forgotten.epochs += self.forget_incarnation(released, limits);
                }
                Known {
                    incarnation,
                    first_received_unix_ms: received_unix_ms,
                    held_from: Place::NOTHING,
                    forgotten_below_start: 0,
                    epochs: Vec::new(),
                }
            }
        };
        let at = self
            .incarnations
            .partition_point(|known| known.first_received_unix_ms <= entry.first_received_unix_ms);
        self.incarnations.insert(at, entry);
        Some(at)
    }

    /// Forgets all but the number of an incarnation. Says how many epochs that
    /// are: where a run was only heard of, that one.
    fn forget_incarnation(&mut self, at: usize, limits: &Limits) -> u64 {
        let known = self.incarnations.remove(at);
        let mut forgotten = core::mem::take(&mut self.forgotten).into_vec();
        forgotten.push(known.incarnation);
        let excess = forgotten
            .len()
            .saturating_sub(limits.forgotten_incarnations_max);
        forgotten.drain(..excess);
        self.forgotten = forgotten.into();
        let only_heard_of = known.epochs.is_empty() && known.forgotten_below_start == 0;
        known.epochs.len() as u64 + u64::from(only_heard_of)
    }

    /// The epoch that ends with the arrival of `start`, the first of it, in the
    /// incarnation at `at`.
    fn ended_by(&self, at: usize, start: u32) -> Option<Epoch> {
        let known = &self.incarnations[at];
        let (latest, before) = known.epochs.split_last()?;
        if latest.start != start {
            return None;
        }
        let ended = match before.last() {
            Some(before) => (known.incarnation, before.start),
            None => {
                let former = self.incarnations[..at].last()?;
                (former.incarnation, former.epochs.last()?.start)
            }
        };
        Some(Epoch {
            incarnation: ended.0,
            start: ended.1,
        })
    }

    fn held_epochs(&self) -> usize {
        self.incarnations
            .iter()
            .map(|known| known.epochs.len() - known.released_epochs())
            .sum()
    }

    fn held_holes(&self) -> usize {
        self.incarnations
            .iter()
            .flat_map(|known| {
                known.epochs.iter().map(|arrived| {
                    arrived.sequences.holes().count() - known.released_holes(arrived)
                })
            })
            .sum()
    }

    fn forget_beyond_bounds(&mut self, limits: &Limits, outcome: &mut Outcome) {
        let mut released_epochs: usize = self.incarnations.iter().map(Known::released_epochs).sum();
        for known in &mut self.incarnations {
            while released_epochs > limits.released_epochs_max && known.released_epochs() > 0 {
                known.forget_oldest_epoch();
                released_epochs -= 1;
                outcome.forgotten.epochs += 1;
            }
            outcome.forgotten.holes +=
                known.forget_holes_beyond(limits.released_holes_max, &mut outcome.turned);
        }
    }
}

impl Known {
    fn epoch(&self, start: u32) -> Option<&Arrived> {
        self.position(start).map(|at| &self.epochs[at])
    }

    fn position(&self, start: u32) -> Option<usize> {
        // Nearly always asked about the newest.
        if let Some(newest) = self.epochs.last()
            && newest.start == start
        {
            return Some(self.epochs.len() - 1);
        }
        self.epochs
            .binary_search_by_key(&start, |arrived| arrived.start)
            .ok()
    }

    /// The box has released what is below `held_from`.
    fn release(&mut self, held_from: Place, turned: &mut Vec<Epoch>) {
        if held_from <= self.held_from {
            return;
        }
        let released = self.held_from..held_from;
        self.held_from = held_from;
        let touched = self
            .epochs
            .partition_point(|arrived| arrived.start < released.start.start);
        for arrived in &self.epochs[touched..] {
            if arrived.start > released.end.start {
                break;
            }
            let is_whole = arrived.start < released.end.start;
            let place = |sequence| Place {
                start: arrived.start,
                sequence,
            };
            if is_whole
                || arrived.sequences.holes().any(|hole| {
                    released.contains(&place(hole.first)) || released.contains(&place(hole.last))
                })
            {
                turned.push(Epoch {
                    incarnation: self.incarnation,
                    start: arrived.start,
                });
            }
        }
    }

    fn epoch_entered(&mut self, start: u32) -> &mut Arrived {
        let at = match self
            .epochs
            .binary_search_by_key(&start, |arrived| arrived.start)
        {
            Ok(at) => at,
            Err(at) => {
                let arrived = Arrived {
                    start,
                    sequences: Runs::default(),
                };
                self.epochs.insert(at, arrived);
                at
            }
        };
        &mut self.epochs[at]
    }

    /// How many of the epochs, all of them the lowest, the box has released.
    fn released_epochs(&self) -> usize {
        self.epochs
            .partition_point(|arrived| arrived.start < self.held_from.start)
    }

    /// How many of the holes of an epoch, all of them the lowest, the box has
    /// released.
    fn released_holes(&self, arrived: &Arrived) -> usize {
        arrived
            .sequences
            .holes()
            .take_while(|hole| {
                let last = Place {
                    start: arrived.start,
                    sequence: hole.last,
                };
                last < self.held_from
            })
            .count()
    }

    fn forget_oldest_epoch(&mut self) {
        let oldest = self.epochs.remove(0);
        self.forgotten_below_start = oldest.start.saturating_add(1);
    }

    fn forget_holes_beyond(&mut self, released_holes_max: usize, turned: &mut Vec<Epoch>) -> u64 {
        let mut forgotten = 0;
        for at in 0..self.epochs.len() {
            let before = forgotten;
            while self.epochs[at].sequences.runs.len() > released_holes_max
                && self.released_holes(&self.epochs[at]) > released_holes_max
            {
                self.epochs[at].sequences.forget_lowest_hole();
                forgotten += 1;
            }
            if forgotten > before {
                turned.push(Epoch {
                    incarnation: self.incarnation,
                    start: self.epochs[at].start,
                });
            }
        }
        forgotten
    }
}
