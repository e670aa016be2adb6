//! What a box says about events that do not come: ledgers and unclean stops,
//! as they stand among refined events and inside rejected batches.

use prost::Message as _;
use returnpath_shared::{
    Epoch, IdError, unpack,
    wire::{self, event},
};

/// Something declared of one epoch.
pub(super) struct Declaration {
    pub(super) epoch: Epoch,
    pub(super) what: Declared,
}

/// What is declared.
pub(super) enum Declared {
    /// These ordinals were dropped, for the `DropReason` of this number.
    Dropped { reason: i32, first: u64, last: u64 },
    /// Whatever has not come is lost.
    WholeEpoch { reason: i32 },
    /// The agent ended without a clean stop: what was only accepted may be
    /// lost above this ordinal.
    UncleanAbove(u64),
}

/// What an event declares, if it does.
///
/// # Errors
/// When it declares something of no epoch.
pub(super) fn declaration(event: Option<&wire::Event>) -> Result<Option<Declaration>, IdError> {
    let epoch = |epoch: Option<wire::Epoch>| {
        epoch
            .ok_or(IdError::Missing { field: "epoch" })
            .and_then(Epoch::try_from)
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

/// The declarations in a batch that was rejected whole, as far as it can be
/// read.
pub(super) fn declarations_inside(record: &wire::Rejected) -> Vec<Declaration> {
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
