//! Reads an envelope without copying: the batch stays where it is.

use alloc::vec::Vec;

use returnpath_shared::{
    BatchId, Epoch, INCARNATIONS_MAX, Incarnation, Sequence, wire::RejectionReason,
};

use crate::{
    fields::{Fields, Malformed, Value},
    rejection::Rejection,
};

// Field numbers of batch.proto, Envelope, and of id.proto.
const ID: u32 = 1;
const CODEC: u32 = 3;
const BATCH: u32 = 4;
const BOOT_ID: u32 = 5;
const UPTIME_MS: u32 = 6;
const UNIX_MS: u32 = 7;
const CLOCK_SYNCHRONISED: u32 = 8;
const SENDER: u32 = 9;
const OLDEST_HELD: u32 = 10;

/// An envelope whose batch has a good id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Envelope<'a> {
    pub(crate) id: BatchId,
    pub(crate) codec: i32,
    pub(crate) batch: &'a [u8],
    pub(crate) boot_id: u64,
    pub(crate) uptime_ms: u64,
    pub(crate) unix_ms: i64,
    pub(crate) clock_synchronised: bool,
    /// What the box says of itself; `None` where it contradicts itself.
    pub(crate) declaration: Option<Declaration>,
}

/// Which run of the agent sends, and what it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Declaration {
    pub(crate) sender: Epoch,
    pub(crate) oldest_held: Vec<BatchId>,
}

impl<'a> Envelope<'a> {
    /// Reads an envelope.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Rejection> {
        let raw = Raw::read(bytes).map_err(|Malformed| {
            Rejection::new(
                RejectionReason::Envelope,
                "the value must be a returnpath.v1.Envelope",
            )
        })?;
        let id = batch_id(raw.id).ok_or_else(|| {
            Rejection::new(
                RejectionReason::Envelope,
                "id must name an incarnation, a start and a sequence, each greater than 0",
            )
        })?;
        Ok(Self {
            id,
            codec: raw.codec,
            batch: raw.batch,
            boot_id: raw.boot_id,
            uptime_ms: raw.uptime_ms,
            unix_ms: raw.unix_ms,
            clock_synchronised: raw.clock_synchronised,
            declaration: raw.declaration(id),
        })
    }

    /// Whether the box itself says that it holds nothing before this batch.
    pub(crate) fn is_oldest_held(&self) -> bool {
        self.declaration
            .as_ref()
            .is_some_and(|declaration| declaration.oldest_held.contains(&self.id))
    }

    /// Whether the box itself says that it holds nothing of the runs before the
    /// one that made this batch: neither what they left in its queue nor what
    /// was salvaged from an older one.
    pub(crate) fn holds_nothing_before_run(&self) -> bool {
        let run = self.id.epoch;
        self.declaration.as_ref().is_some_and(|declaration| {
            let mut held = declaration.oldest_held.iter().map(|held| held.epoch);
            held.all(|held| held.incarnation == run.incarnation && held.start >= run.start)
        })
    }
}

/// An envelope without its batch, for a rejection that carries one event.
pub(crate) fn without_batch(bytes: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    let mut fields = Fields::of(bytes);
    loop {
        let before = fields.rest();
        let Ok(Some((number, _))) = fields.next() else {
            return rest;
        };
        if number != BATCH {
            rest.extend_from_slice(&before[..before.len() - fields.rest().len()]);
        }
    }
}

/// The fields as they stand, the ids not judged yet.
#[derive(Default)]
struct Raw<'a> {
    id: RawId,
    codec: i32,
    batch: &'a [u8],
    boot_id: u64,
    uptime_ms: u64,
    unix_ms: i64,
    clock_synchronised: bool,
    sender: RawEpoch,
    oldest_held: Vec<RawId>,
    /// More than [`INCARNATIONS_MAX`]; the rest has not been kept.
    oldest_held_overflows: bool,
}

#[derive(Clone, Copy, Default)]
struct RawId {
    epoch: RawEpoch,
    sequence: u64,
}

#[derive(Clone, Copy, Default)]
struct RawEpoch {
    incarnation: u64,
    start: u32,
}

impl<'a> Raw<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut raw = Self::default();
        let mut fields = Fields::of(bytes);
        while let Some((number, value)) = fields.next()? {
            match number {
                ID => raw.id = RawId::read(value)?,
                CODEC => raw.codec = enum_number(value.varint()?),
                BATCH => raw.batch = value.bytes()?,
                BOOT_ID => raw.boot_id = value.fixed64()?,
                UPTIME_MS => raw.uptime_ms = value.varint()?,
                UNIX_MS => raw.unix_ms = value.varint()?.cast_signed(),
                CLOCK_SYNCHRONISED => raw.clock_synchronised = value.varint()? != 0,
                SENDER => raw.sender = RawEpoch::read(value)?,
                OLDEST_HELD if raw.oldest_held.len() < INCARNATIONS_MAX => {
                    raw.oldest_held.push(RawId::read(value)?);
                }
                OLDEST_HELD => raw.oldest_held_overflows = true,
                _ => {}
            }
        }
        Ok(raw)
    }

    /// What the box says of itself, where it makes sense: the batch at hand
    /// is held, nothing is later than the sender, no incarnation comes twice.
    fn declaration(&self, id: BatchId) -> Option<Declaration> {
        let sender = epoch(self.sender)?;
        let not_later =
            |epoch: Epoch| epoch.incarnation != sender.incarnation || epoch.start <= sender.start;
        if self.oldest_held_overflows || !not_later(id.epoch) {
            return None;
        }
        let mut oldest_held: Vec<BatchId> = Vec::with_capacity(self.oldest_held.len());
        for raw in &self.oldest_held {
            let oldest = batch_id(*raw)?;
            let twice = oldest_held
                .iter()
                .any(|other| other.epoch.incarnation == oldest.epoch.incarnation);
            if twice || !not_later(oldest.epoch) {
                return None;
            }
            oldest_held.push(oldest);
        }
        let holds_this = oldest_held
            .iter()
            .any(|oldest| oldest.epoch.incarnation == id.epoch.incarnation && *oldest <= id);
        holds_this.then_some(Declaration {
            sender,
            oldest_held,
        })
    }
}

impl RawId {
    fn read(value: Value<'_>) -> Result<Self, Malformed> {
        let mut id = Self::default();
        let mut fields = Fields::of(value.bytes()?);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => id.epoch = RawEpoch::read(value)?,
                2 => id.sequence = value.varint()?,
                _ => {}
            }
        }
        Ok(id)
    }
}

impl RawEpoch {
    fn read(value: Value<'_>) -> Result<Self, Malformed> {
        let mut epoch = Self::default();
        let mut fields = Fields::of(value.bytes()?);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => epoch.incarnation = value.fixed64()?,
                // A number that is no uint32 is no start.
                2 => epoch.start = u32::try_from(value.varint()?).map_err(|_| Malformed)?,
                _ => {}
            }
        }
        Ok(epoch)
    }
}

fn epoch(raw: RawEpoch) -> Option<Epoch> {
    let incarnation = Incarnation::new(raw.incarnation)?;
    (raw.start > 0).then_some(Epoch {
        incarnation,
        start: raw.start,
    })
}

fn batch_id(raw: RawId) -> Option<BatchId> {
    let epoch = epoch(raw.epoch)?;
    (raw.sequence > 0).then_some(BatchId {
        epoch,
        sequence: Sequence(raw.sequence),
    })
}

/// An enum's number; one that no enum has where it does not fit.
fn enum_number(value: u64) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
