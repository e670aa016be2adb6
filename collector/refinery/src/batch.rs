//! Reads a batch without copying and judges its structure. The events inside
//! stay bytes; each is judged alone, later.

use alloc::format;

use returnpath_shared::{BATCH_EVENTS_MAX, Sequence, wire::RejectionReason};

use crate::{
    fields::{Fields, Malformed},
    rejection::Rejection,
};

// Field numbers of batch.proto, Batch.
const BOOT_ID: u32 = 1;
const FIRST_ORDINAL: u32 = 2;
const EVENTS: u32 = 3;

/// What could be read of a batch, good or not.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct BatchHead {
    pub(crate) boot_id: u64,
    pub(crate) first_ordinal: u64,
    pub(crate) event_count: u32,
}

/// Reads a batch up to its events and judges its structure.
pub(crate) fn read_head(
    bytes: &[u8],
    sequence: Sequence,
) -> Result<BatchHead, (BatchHead, Rejection)> {
    let mut head = BatchHead::default();
    if head.read(bytes).is_err() {
        let detail = "the unpacked bytes must be a returnpath.v1.Batch";
        return Err((head, Rejection::new(RejectionReason::Batch, detail)));
    }
    match head.judge(sequence) {
        Ok(()) => Ok(head),
        Err(rejection) => Err((head, rejection)),
    }
}

/// The encoded events of a batch that [`read_head`] took, in order.
pub(crate) fn events(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut fields = Fields::of(bytes);
    core::iter::from_fn(move || {
        loop {
            let (number, value) = fields.next().ok().flatten()?;
            if number == EVENTS {
                return value.bytes().ok();
            }
        }
    })
}

impl BatchHead {
    fn read(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut fields = Fields::of(bytes);
        while let Some((number, value)) = fields.next()? {
            match number {
                BOOT_ID => self.boot_id = value.fixed64()?,
                FIRST_ORDINAL => self.first_ordinal = value.varint()?,
                EVENTS => {
                    value.bytes()?;
                    self.event_count = self.event_count.saturating_add(1);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn judge(&self, sequence: Sequence) -> Result<(), Rejection> {
        let batch = |detail| Err(Rejection::new(RejectionReason::Batch, detail));
        if self.event_count == 0 || self.event_count as usize > BATCH_EVENTS_MAX {
            return batch(format!(
                "events: expected 1 to {BATCH_EVENTS_MAX}, got {}",
                self.event_count
            ));
        }
        if self
            .first_ordinal
            .checked_add(u64::from(self.event_count))
            .is_none()
        {
            return batch(format!(
                "firstOrdinal: {} and {} events pass the highest ordinal",
                self.first_ordinal, self.event_count
            ));
        }
        // Each of the batches before it carried at least one event.
        if self.first_ordinal < sequence.0 {
            return batch(format!(
                "firstOrdinal: expected at least the sequence {}, got {}",
                sequence.0, self.first_ordinal
            ));
        }
        Ok(())
    }
}
