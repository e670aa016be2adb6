//! The pure core of the audit: answers, refined records and declarations go in
//! one by one; [`Tally::verdict`] says at any time what became of every event
//! that is known of.
//!
//! Owns the rules of what excuses a missing event. Keeps intervals of ordinals
//! for each (box, epoch) and no events; reads no file, no Kafka and no clock.
//! Each record of a topic must be fed once: one that is fed twice *is* a
//! duplicate. Records of one partition must come in its order, or their order
//! is judged wrongly; all else may come in any order.
//!
//! An event is known of when a client was answered for it, or when a later one
//! of its epoch is: ordinals leave no gaps. What became of it is the first of
//! these that holds:
//!
//! 1. it stands in a refined topic: *arrived*;
//! 2. it stands in `rp.rejected`, or its whole batch does: *rejected*, by
//!    reason; a proof that its client gave twice is found here as `repeated`;
//! 3. a ledger event of its box covers it: *declared*, by reason;
//! 4. it was not answered `durable`, and lies above what its epoch's unclean
//!    stop knows to be durable: it died with the power (*unclean stop*);
//! 5. otherwise it is *missing*.

use std::collections::BTreeMap;

use returnpath_shared::{BatchId, Class, DeviceId, Epoch, IdError, Kind, Ordinal, wire};
use thiserror::Error;

use super::{
    declaration::{Declaration, declaration, declarations_inside},
    stretch::Stretch,
    verdict::{BoxVerdict, Ordinals, RANGES_LISTED_MAX, Verdict},
};

mod epoch;

use epoch::{Arrival, EpochTally};

/// Intervals that one tally keeps, about 40 bytes each: 640 MB. A run of an
/// agent costs 14 where nothing is amiss, so there is room for 300,000 boxes
/// with three each. Proofs are scattered among ordinary events and cost up to
/// three intervals each where answers are given: three million of them. Beyond
/// it facts are counted as unaccounted and the verdict is never clean.
pub const INTERVALS_MAX: usize = 16_000_000;

/// What a client was answered for one event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The box whose agent answered.
    pub device: DeviceId,
    /// Run of the agent, as answered.
    pub epoch: Epoch,
    /// The event's place in it, as answered.
    pub ordinal: Ordinal,
    /// What was promised: `Ordinary` when the answer was `accepted`, `Proof`
    /// when it was `durable`. Once durable, an event stays so.
    pub class: Class,
}

/// Why a record from a refined topic says nothing to the tally.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RecordError {
    /// It names no box.
    #[error("device id is wrong")]
    Device(#[source] IdError),
    /// It names no batch.
    #[error("batch id is wrong")]
    Batch(#[source] IdError),
    /// Ordinals count from 1.
    #[error("ordinal must be greater than 0")]
    Ordinal,
    /// A ledger or an unclean stop that names no epoch.
    #[error("declaration names no epoch")]
    Declaration(#[source] IdError),
}

/// Everything known of every box.
#[derive(Debug, Default)]
pub struct Tally {
    stretch: Stretch,
    boxes: BTreeMap<DeviceId, BoxTally>,
    intervals: usize,
    unaccounted: u64,
    unattributed_rejections: u64,
}

#[derive(Debug, Default)]
struct BoxTally {
    epochs: BTreeMap<Epoch, EpochTally>,
}

impl Tally {
    /// Nothing known yet; everything is judged.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing known yet; only what belongs to `stretch` is judged. What is fed
    /// from around it excuses what would be missing in it.
    #[must_use]
    pub fn of(stretch: Stretch) -> Self {
        Self {
            stretch,
            ..Self::default()
        }
    }

    /// A client was answered. The same answer again changes nothing.
    pub fn answered(&mut self, answer: &Answer) {
        if self.is_full() {
            return;
        }
        let ordinal = answer.ordinal.0;
        self.change(&answer.device, answer.epoch, |tally| {
            tally.answered(ordinal, answer.class);
        });
    }

    /// A record stands in `rp.viewing`, `rp.ads`, `rp.health` or `rp.custom`.
    /// Declarations among them are taken in as such.
    ///
    /// # Errors
    /// When it does not say which event it is; nothing is changed then.
    pub fn refined(&mut self, record: &wire::Refined) -> Result<(), RecordError> {
        let device: DeviceId = record.device_id.parse().map_err(RecordError::Device)?;
        let epoch = batch(record.batch)?.epoch;
        let ordinal = record.ordinal;
        if ordinal == 0 {
            return Err(RecordError::Ordinal);
        }
        let declaration = declaration(record.event.as_ref()).map_err(RecordError::Declaration)?;
        if self.is_full() {
            return Ok(());
        }
        let arrival = Arrival {
            ordinal,
            class: record.event.as_ref().map_or(Class::Ordinary, Class::of),
            lane: record.lane(),
            stream: record.event.as_ref().and_then(Kind::of).map(Kind::stream),
            place: self.stretch.place(record.received_unix_ms),
        };
        self.change(&device, epoch, |tally| tally.arrived(&arrival));
        if let Some(declaration) = declaration {
            self.declare(&device, declaration);
        }
        Ok(())
    }

    /// A record stands in `rp.rejected`. One that names no events (its envelope
    /// could not be read) is counted as unattributed. What a batch rejected
    /// whole declares counts: its original bytes stand there.
    pub fn rejected(&mut self, record: &wire::Rejected) {
        let named = std::str::from_utf8(&record.key)
            .ok()
            .and_then(|key| key.parse::<DeviceId>().ok())
            .zip(batch(record.batch).ok())
            .zip(rejected_ordinals(record));
        let Some(((device, batch), (first, last))) = named else {
            self.unattributed_rejections += 1;
            return;
        };
        if self.is_full() {
            return;
        }
        let place = self.stretch.place(record.received_unix_ms);
        self.change(&device, batch.epoch, |tally| {
            tally.rejected(record.reason, first, last, place);
        });
        for declaration in declarations_inside(record) {
            self.declare(&device, declaration);
        }
    }

    /// What became of every event that is known of, as far as can be told.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict {
            unattributed_rejections: self.unattributed_rejections,
            unaccounted: self.unaccounted,
            ..Verdict::default()
        };
        for (device, known) in &self.boxes {
            verdict.boxes.push(known.verdict(device, self.stretch));
        }
        verdict
    }

    fn declare(&mut self, device: &DeviceId, declaration: Declaration) {
        self.change(device, declaration.epoch, |tally| {
            tally.declare(declaration.what);
        });
    }

    /// Changes what is known of an epoch, and keeps the count of all intervals.
    fn change(&mut self, device: &DeviceId, epoch: Epoch, change: impl FnOnce(&mut EpochTally)) {
        let known = match self.boxes.get_mut(device) {
            Some(known) => known,
            None => self.boxes.entry(device.clone()).or_default(),
        };
        let mut before = 0;
        let tally = known
            .epochs
            .entry(epoch)
            .and_modify(|tally| before = tally.intervals())
            .or_default();
        change(tally);
        self.intervals = self.intervals + tally.intervals() - before;
    }

    /// Whether there is no room for another fact; counts it if so.
    fn is_full(&mut self) -> bool {
        let full = self.intervals >= INTERVALS_MAX;
        self.unaccounted += u64::from(full);
        full
    }
}

fn batch(id: Option<wire::BatchId>) -> Result<BatchId, RecordError> {
    id.ok_or(IdError::Missing { field: "batch" })
        .and_then(BatchId::try_from)
        .map_err(RecordError::Batch)
}

fn rejected_ordinals(record: &wire::Rejected) -> Option<(u64, u64)> {
    match (record.ordinal, record.first_ordinal, record.event_count) {
        (0, 0, _) | (0, _, 0) => None,
        (0, first, count) => Some((first, first.saturating_add(u64::from(count) - 1))),
        (ordinal, _, _) => Some((ordinal, ordinal)),
    }
}

impl BoxTally {
    fn verdict(&self, device: &DeviceId, stretch: Stretch) -> BoxVerdict {
        let mut verdict = BoxVerdict {
            device: device.to_string(),
            ..BoxVerdict::default()
        };
        for (epoch, tally) in &self.epochs {
            let (of_epoch, findings) = tally.verdict(*epoch, stretch);
            for (all, of_epoch) in verdict.classes_mut().into_iter().zip(of_epoch.classes()) {
                *all += of_epoch;
            }
            verdict.outside += of_epoch.outside;
            list(&mut verdict.missing, findings.missing);
            list(&mut verdict.duplicated, findings.duplicated);
            list(&mut verdict.out_of_order, findings.out_of_order);
            list(&mut verdict.excused, findings.excused);
            verdict.epochs.push(of_epoch);
        }
        verdict
    }
}

fn list(listed: &mut Vec<Ordinals>, more: Vec<Ordinals>) {
    let room = RANGES_LISTED_MAX - listed.len();
    listed.extend(more.into_iter().take(room));
}

/// Name of a class in answers and verdicts.
#[must_use]
pub fn class_name(class: Class) -> &'static str {
    match class {
        Class::Ordinary => "ordinary",
        Class::Proof => "proof",
    }
}

#[cfg(test)]
mod tests;
