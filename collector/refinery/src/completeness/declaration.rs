//! What a box declares lost, read from its events, and what refine itself turns
//! away.

use returnpath_shared::{
    BatchId, Epoch, Sequence,
    wire::{Ledger, RejectionReason, UncleanStop, event},
};

use super::declared::{Range, Unclean};

/// What is said of one epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Declaration {
    /// The box dropped these batches, or they were rejected at a bound.
    Dropped(Range),
    /// Of the epoch everything that has not arrived is lost, for the reason of
    /// this number.
    WholeEpoch(i32),
    /// The epoch ended without a clean stop.
    UncleanStop(Unclean),
}

impl Declaration {
    /// What an event declares, and of which epoch; `None` where it declares
    /// nothing. Expects what [`check`](returnpath_shared::check) takes.
    pub(crate) fn read(kind: &event::Kind) -> Option<(Epoch, Self)> {
        match kind {
            event::Kind::Ledger(ledger) => Self::read_ledger(ledger),
            event::Kind::UncleanStop(stop) => Self::read_stop(stop),
            event::Kind::Tune(_)
            | event::Kind::ViewingHeartbeat(_)
            | event::Kind::TrickPlay(_)
            | event::Kind::Power(_)
            | event::Kind::Display(_)
            | event::Kind::UserActivity(_)
            | event::Kind::AdOpportunity(_)
            | event::Kind::AdEvent(_)
            | event::Kind::Consent(_)
            | event::Kind::Custom(_)
            | event::Kind::Health(_)
            | event::Kind::Boot(_) => None,
        }
    }

    /// A batch is rejected without being remembered; `None` where nobody knows
    /// its events.
    pub(crate) fn rejected(
        sequence: Sequence,
        first_ordinal: u64,
        event_count: u32,
        reason: RejectionReason,
    ) -> Option<Self> {
        let events_beyond = event_count.checked_sub(1)?;
        let range = Range {
            first: sequence.0,
            last: sequence.0,
            first_ordinal,
            last_ordinal: first_ordinal.checked_add(events_beyond.into())?,
            reason: 0,
            refusal: 0,
            rejection: reason.into(),
        };
        (first_ordinal > 0).then_some(Self::Dropped(range))
    }

    fn read_ledger(ledger: &Ledger) -> Option<(Epoch, Self)> {
        let first_batch = ledger.first_batch?;
        if ledger.whole_epoch {
            // It may name no sequence.
            let epoch = Epoch::try_from(first_batch.epoch?).ok()?;
            return Some((epoch, Self::WholeEpoch(ledger.reason)));
        }
        let BatchId { epoch, sequence } = BatchId::try_from(first_batch).ok()?;
        let events_beyond = ledger.event_count.checked_sub(1)?;
        let is_good = sequence.0 <= ledger.last_sequence && ledger.first_ordinal > 0;
        let range = Range {
            first: sequence.0,
            last: ledger.last_sequence,
            first_ordinal: ledger.first_ordinal,
            last_ordinal: ledger.first_ordinal.checked_add(events_beyond)?,
            reason: ledger.reason,
            refusal: ledger.refusal,
            rejection: 0,
        };
        is_good.then_some((epoch, Self::Dropped(range)))
    }

    fn read_stop(stop: &UncleanStop) -> Option<(Epoch, Self)> {
        let epoch = Epoch::try_from(stop.epoch?).ok()?;
        let unclean = Unclean {
            last_known_ordinal: stop.last_known_ordinal,
            last_known_sequence: stop.last_known_sequence,
        };
        Some((epoch, Self::UncleanStop(unclean)))
    }
}
