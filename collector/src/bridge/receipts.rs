//! Which box is owed a receipt for what, and when it is due.
//!
//! Pure: the time is an argument. Holds what Kafka confirmed and what was
//! refused until it is due, merged into ranges, one receipt a box. Knows
//! nothing of connections: a receipt is true whichever way it travels, so what
//! is pending outlives them. Losing a receipt costs the box a resend and
//! nothing else, which is why every bound here may forget.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use returnpath_shared::{
    BatchId, Class, DeviceId, Epoch, Lane,
    wire::{Receipt, Refusal, RefusalReason, SequenceRange},
};

/// Ranges and refusals that one box may be owed. A box sends in order, so it
/// has one range as a rule; at this many the receipt has some 2 KiB.
const ENTRIES_MAX: usize = 64;

/// Batches that wait for one receipt at most: a box that sends faster than one
/// batch in 5 s has a window to keep open.
const BATCHES_MAX: u32 = 8;

/// How long a receipt may wait for others of the same box.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Patience {
    /// Proof, and what was refused: the box writes proof to its flash when it
    /// has had no receipt 300 ms after sending.
    Proof,
    /// The backlog drains as fast as receipts open the window.
    Backlog,
    /// Ordinary batches of the live lane: below the box's flush interval, so
    /// that they never touch its flash.
    Ordinary,
}

impl Patience {
    /// Patience for a batch.
    pub(super) fn of(class: Class, lane: Lane) -> Self {
        match (class, lane) {
            (Class::Proof, _) => Self::Proof,
            (Class::Ordinary, Lane::Backlog) => Self::Backlog,
            (Class::Ordinary, Lane::Live) => Self::Ordinary,
        }
    }

    fn delay(self) -> Duration {
        match self {
            Self::Proof => Duration::from_millis(20),
            Self::Backlog => Duration::from_millis(500),
            Self::Ordinary => Duration::from_secs(30),
        }
    }
}

/// A confirmation or refusal that was not remembered; the box sends again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Forgotten;

/// What boxes are owed.
#[derive(Debug)]
pub(super) struct Receipts {
    boxes_max: usize,
    boxes: HashMap<DeviceId, Owed>,
    /// The same boxes by when they are due.
    due: BTreeSet<(Instant, DeviceId)>,
}

#[derive(Debug)]
struct Owed {
    due: Instant,
    batches: u32,
    confirmed: Vec<Range>,
    refused: Vec<(BatchId, RefusalReason)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    epoch: Epoch,
    first: u64,
    last: u64,
}

impl Receipts {
    /// Nothing owed, to `boxes_max` boxes at most.
    pub(super) fn new(boxes_max: usize) -> Self {
        Self {
            boxes_max,
            boxes: HashMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// Kafka has this batch.
    pub(super) fn confirmed(
        &mut self,
        device: &DeviceId,
        id: BatchId,
        patience: Patience,
        now: Instant,
    ) -> Result<(), Forgotten> {
        self.owe(device, patience, now, |owed| owed.confirm(id))
    }

    /// This batch will never be taken.
    pub(super) fn refused(
        &mut self,
        device: &DeviceId,
        id: BatchId,
        reason: RefusalReason,
        now: Instant,
    ) -> Result<(), Forgotten> {
        self.owe(device, Patience::Proof, now, |owed| owed.refuse(id, reason))
    }

    /// The next receipt that is due by `by`, oldest first.
    pub(super) fn take(&mut self, by: Instant) -> Option<(DeviceId, Receipt)> {
        if self.next_due()? > by {
            return None;
        }
        let (_, device) = self.due.pop_first()?;
        let owed = self.boxes.remove(&device)?;
        Some((device, owed.into_receipt()))
    }

    /// When the next receipt is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// When everything that is owed at `now` is due: [`take`](Self::take) by
    /// then empties it.
    pub(super) fn all_due(now: Instant) -> Instant {
        now + Patience::Ordinary.delay()
    }

    /// Boxes that are owed a receipt.
    pub(super) fn boxes(&self) -> usize {
        self.boxes.len()
    }

    fn owe(
        &mut self,
        device: &DeviceId,
        patience: Patience,
        now: Instant,
        enter: impl FnOnce(&mut Owed) -> Result<(), Forgotten>,
    ) -> Result<(), Forgotten> {
        let due = now + patience.delay();
        let Some(owed) = self.boxes.get_mut(device) else {
            if self.boxes.len() >= self.boxes_max {
                return Err(Forgotten);
            }
            let mut owed = Owed::new(due);
            enter(&mut owed)?;
            self.boxes.insert(device.clone(), owed);
            self.due.insert((due, device.clone()));
            return Ok(());
        };
        let entered = enter(owed);
        let full = owed.batches >= BATCHES_MAX || owed.entries() >= ENTRIES_MAX;
        let due = if full {
            now + Patience::Proof.delay()
        } else {
            due
        };
        if due < owed.due {
            let moved = (owed.due, device.clone());
            owed.due = due;
            self.due.remove(&moved);
            self.due.insert((due, moved.1));
        }
        entered
    }
}

impl Owed {
    fn new(due: Instant) -> Self {
        Self {
            due,
            batches: 0,
            confirmed: Vec::new(),
            refused: Vec::new(),
        }
    }

    fn entries(&self) -> usize {
        self.confirmed.len() + self.refused.len()
    }

    fn confirm(&mut self, id: BatchId) -> Result<(), Forgotten> {
        let (epoch, sequence) = (id.epoch, id.sequence.0);
        self.batches += 1;
        let neighbour = self.confirmed.iter().position(|range| {
            range.epoch == epoch
                && sequence >= range.first.saturating_sub(1)
                && sequence <= range.last.saturating_add(1)
        });
        let Some(position) = neighbour else {
            if self.entries() >= ENTRIES_MAX {
                return Err(Forgotten);
            }
            self.confirmed.push(Range {
                epoch,
                first: sequence,
                last: sequence,
            });
            return Ok(());
        };
        let mut range = self.confirmed[position];
        range.first = range.first.min(sequence);
        range.last = range.last.max(sequence);
        self.confirmed[position] = range;
        // The batch may have closed the gap to one other range.
        let other = self.confirmed.iter().position(|other| {
            *other != range
                && other.epoch == epoch
                && (other.first == range.last.saturating_add(1)
                    || range.first == other.last.saturating_add(1))
        });
        if let Some(other) = other {
            let other_range = self.confirmed[other];
            let joined = &mut self.confirmed[position];
            joined.first = range.first.min(other_range.first);
            joined.last = range.last.max(other_range.last);
            self.confirmed.swap_remove(other);
        }
        Ok(())
    }

    fn refuse(&mut self, id: BatchId, reason: RefusalReason) -> Result<(), Forgotten> {
        self.batches += 1;
        if self.refused.iter().any(|(refused, _)| *refused == id) {
            return Ok(());
        }
        if self.entries() >= ENTRIES_MAX {
            return Err(Forgotten);
        }
        self.refused.push((id, reason));
        Ok(())
    }

    fn into_receipt(self) -> Receipt {
        Receipt {
            confirmed: self
                .confirmed
                .into_iter()
                .map(|range| SequenceRange {
                    epoch: Some(range.epoch.into()),
                    first_sequence: range.first,
                    last_sequence: range.last,
                })
                .collect(),
            refused: self
                .refused
                .into_iter()
                .map(|(id, reason)| Refusal {
                    batch: Some(id.into()),
                    reason: reason.into(),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests;
