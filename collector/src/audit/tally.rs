//! The pure core of the audit: answers, refined records and declarations go in
//! one by one, in any order; [`Tally::verdict`] says at any time what became of
//! everything that a client was answered.
//!
//! Owns the rules of what excuses a missing event. Keeps intervals of ordinals
//! for each (box, epoch) and no events; reads no file, no Kafka and no clock.
//! Each record of a topic must be fed once: one that is fed twice *is* a
//! duplicate.
//!
//! What became of an answered event is the first of these that holds:
//!
//! 1. it stands in a refined topic: *arrived*;
//! 2. it stands in `rp.rejected`, or its whole batch does: *rejected*, by
//!    reason; a proof that its client gave twice is found here as `repeated`;
//! 3. a ledger event of its box covers it: *declared*, by reason;
//! 4. it was only `accepted`, and lies above what its epoch's unclean stop
//!    knows to be durable: *declared* as died with the power;
//! 5. otherwise it is *missing*.

use std::collections::BTreeMap;

use prost::Message as _;
use returnpath_shared::{
    BatchId, Class, DeviceId, Epoch, IdError, Ordinal, unpack,
    wire::{self, event},
};
use thiserror::Error;

use super::{
    intervals::Intervals,
    verdict::{BoxVerdict, ClassVerdict, Missing, Verdict, declared_name, rejected_name},
};

/// Intervals that one tally keeps, about 40 bytes each: 320 MB. Proofs are
/// scattered among ordinary events and cost up to three intervals each, so this
/// is enough for about three million proofs; beyond it, facts are counted as
/// unaccounted and the verdict is never clean.
pub const INTERVALS_MAX: usize = 8_000_000;

/// Ranges of missing ordinals listed for one box; the counts go on beyond it.
pub const MISSING_RANGES_LISTED_MAX: usize = 100;

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
    boxes: BTreeMap<DeviceId, BoxTally>,
    intervals: usize,
    unaccounted: u64,
    unattributed_rejections: u64,
}

#[derive(Debug, Default)]
struct BoxTally {
    epochs: BTreeMap<Epoch, EpochTally>,
}

#[derive(Debug, Default)]
struct EpochTally {
    /// Answered, of either class.
    answered: Intervals,
    /// Answered `durable`.
    durable: Intervals,
    arrived: Intervals,
    /// Arrived more than once, by the class of the later record.
    duplicated_ordinary: Intervals,
    duplicated_proof: Intervals,
    /// By number of `RejectionReason`.
    rejected: BTreeMap<i32, Intervals>,
    /// By number of `DropReason`.
    declared: BTreeMap<i32, Intervals>,
    /// The reason of a ledger that declares whatever is missing as lost.
    whole_epoch: Option<i32>,
    /// The lowest `last_known_ordinal` of its unclean stops: each of them is a
    /// declaration, so together they declare what any of them does.
    unclean_above: Option<u64>,
}

impl Tally {
    /// Nothing known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A client was answered. The same answer again changes nothing.
    pub fn answered(&mut self, answer: &Answer) {
        if self.is_full() {
            return;
        }
        let known = self.boxes.entry(answer.device.clone()).or_default();
        let before = known.intervals(answer.epoch);
        let epoch = known.epochs.entry(answer.epoch).or_default();
        let ordinal = answer.ordinal.0;
        epoch.answered.insert(ordinal, ordinal);
        if answer.class == Class::Proof {
            epoch.durable.insert(ordinal, ordinal);
        }
        self.intervals = self.intervals + known.intervals(answer.epoch) - before;
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
        let declaration = declaration(record.event.as_ref())?;
        if self.is_full() {
            return Ok(());
        }
        let class = record.event.as_ref().map_or(Class::Ordinary, Class::of);
        let known = self.boxes.entry(device).or_default();
        let before = known.intervals(epoch);
        let tally = known.epochs.entry(epoch).or_default();
        if tally.arrived.contains(ordinal) {
            match class {
                Class::Ordinary => tally.duplicated_ordinary.insert(ordinal, ordinal),
                Class::Proof => tally.duplicated_proof.insert(ordinal, ordinal),
            }
        } else {
            tally.arrived.insert(ordinal, ordinal);
        }
        self.intervals = self.intervals + known.intervals(epoch) - before;
        if let Some(declaration) = declaration {
            known.declare(declaration, &mut self.intervals);
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
        let known = self.boxes.entry(device).or_default();
        let before = known.intervals(batch.epoch);
        let tally = known.epochs.entry(batch.epoch).or_default();
        tally
            .rejected
            .entry(record.reason)
            .or_default()
            .insert(first, last);
        self.intervals = self.intervals + known.intervals(batch.epoch) - before;
        for declaration in declarations_inside(record) {
            known.declare(declaration, &mut self.intervals);
        }
    }

    /// What became of everything that was answered, as far as is known.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict {
            unattributed_rejections: self.unattributed_rejections,
            unaccounted: self.unaccounted,
            ..Verdict::default()
        };
        for (device, known) in &self.boxes {
            verdict.boxes.push(known.verdict(device));
        }
        verdict
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

/// The declarations in a batch that was rejected whole, as far as it can be
/// read.
fn declarations_inside(record: &wire::Rejected) -> Vec<Declaration> {
    if record.index.is_some() {
        return Vec::new();
    }
    let Ok(envelope) = wire::Envelope::decode(record.envelope.clone()) else {
        return Vec::new();
    };
    let Ok(batch) = unpack(envelope.codec, envelope.batch) else {
        return Vec::new();
    };
    batch
        .events
        .iter()
        .filter_map(|event| declaration(Some(event)).ok().flatten())
        .collect()
}

struct Declaration {
    epoch: Epoch,
    what: Declared,
}

enum Declared {
    Dropped { reason: i32, first: u64, last: u64 },
    WholeEpoch { reason: i32 },
    UncleanAbove(u64),
}

fn declaration(event: Option<&wire::Event>) -> Result<Option<Declaration>, RecordError> {
    let epoch = |epoch: Option<wire::Epoch>| {
        epoch
            .ok_or(IdError::Missing { field: "epoch" })
            .and_then(Epoch::try_from)
            .map_err(RecordError::Declaration)
    };
    Ok(match event.and_then(|event| event.kind.as_ref()) {
        Some(event::Kind::Ledger(ledger)) => {
            let epoch = epoch(ledger.first_batch.and_then(|batch| batch.epoch))?;
            let what = match (ledger.whole_epoch, ledger.event_count) {
                (true, _) => Declared::WholeEpoch {
                    reason: ledger.reason,
                },
                // Declares batches without saying which events: excuses none.
                (false, 0) => return Ok(None),
                (false, count) => Declared::Dropped {
                    reason: ledger.reason,
                    first: ledger.first_ordinal,
                    last: ledger.first_ordinal.saturating_add(count - 1),
                },
            };
            Some(Declaration { epoch, what })
        }
        Some(event::Kind::UncleanStop(stop)) => Some(Declaration {
            epoch: epoch(stop.epoch)?,
            what: Declared::UncleanAbove(stop.last_known_ordinal),
        }),
        Some(_) | None => None,
    })
}

impl EpochTally {
    fn declare(&mut self, what: Declared) {
        match what {
            Declared::Dropped {
                reason,
                first,
                last,
            } => self.declared.entry(reason).or_default().insert(first, last),
            Declared::WholeEpoch { reason } => self.whole_epoch = Some(reason),
            Declared::UncleanAbove(ordinal) => {
                self.unclean_above =
                    Some(self.unclean_above.map_or(ordinal, |low| low.min(ordinal)));
            }
        }
    }

    fn intervals(&self) -> usize {
        let by_reason = |sets: &BTreeMap<i32, Intervals>| -> usize {
            sets.values().map(|set| 1 + set.len()).sum()
        };
        // One for the epoch itself, so that empty epochs are not free.
        1 + self.answered.len()
            + self.durable.len()
            + self.arrived.len()
            + self.duplicated_ordinary.len()
            + self.duplicated_proof.len()
            + by_reason(&self.rejected)
            + by_reason(&self.declared)
    }

    /// Adds what became of the answered events of one class to `verdict`, and
    /// returns those that are missing.
    fn judge(&self, class: Class, verdict: &mut ClassVerdict) -> Intervals {
        let answered = match class {
            Class::Ordinary => self.answered.without(&self.durable),
            Class::Proof => self.durable.clone(),
        };
        verdict.answered += answered.count();
        verdict.duplicated += match class {
            Class::Ordinary => self.duplicated_ordinary.count(),
            Class::Proof => self.duplicated_proof.count(),
        };
        let mut open = answered.without(&self.arrived);
        verdict.arrived += answered.count() - open.count();

        let mut settle = |excused: &Intervals, count: &mut u64| {
            let rest = open.without(excused);
            *count += open.count() - rest.count();
            open = rest;
        };
        for (reason, ordinals) in &self.rejected {
            settle(
                ordinals,
                verdict.rejected.entry(rejected_name(*reason)).or_default(),
            );
        }
        for (reason, ordinals) in &self.declared {
            settle(
                ordinals,
                verdict.declared.entry(declared_name(*reason)).or_default(),
            );
        }
        if let Some(reason) = self.whole_epoch {
            *verdict.declared.entry(declared_name(reason)).or_default() += open.count();
            open = Intervals::default();
        }
        if class == Class::Ordinary
            && let Some(known) = self.unclean_above
        {
            let died = open.above(known);
            *verdict.declared.entry("unclean_stop").or_default() += died.count();
            open = open.without(&died);
        }
        verdict.rejected.retain(|_, count| *count > 0);
        verdict.declared.retain(|_, count| *count > 0);
        verdict.missing += open.count();
        open
    }
}

impl BoxTally {
    fn intervals(&self, epoch: Epoch) -> usize {
        self.epochs.get(&epoch).map_or(0, EpochTally::intervals)
    }

    /// Takes a declaration, and keeps the count of all intervals.
    fn declare(&mut self, declaration: Declaration, intervals: &mut usize) {
        let before = self.intervals(declaration.epoch);
        self.epochs
            .entry(declaration.epoch)
            .or_default()
            .declare(declaration.what);
        *intervals = *intervals + self.intervals(declaration.epoch) - before;
    }

    fn verdict(&self, device: &DeviceId) -> BoxVerdict {
        let mut verdict = BoxVerdict {
            device: device.to_string(),
            ..BoxVerdict::default()
        };
        for (epoch, tally) in &self.epochs {
            verdict.unanswered += tally.arrived.without(&tally.answered).count();
            for class in [Class::Ordinary, Class::Proof] {
                let of_class = match class {
                    Class::Ordinary => &mut verdict.ordinary,
                    Class::Proof => &mut verdict.proof,
                };
                let missing = tally.judge(class, of_class);
                let room = MISSING_RANGES_LISTED_MAX - verdict.missing.len();
                verdict
                    .missing
                    .extend(missing.iter().take(room).map(|(first, last)| Missing {
                        epoch: epoch.to_string(),
                        class: class_name(class),
                        first_ordinal: first,
                        last_ordinal: last,
                    }));
            }
        }
        verdict
    }
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
