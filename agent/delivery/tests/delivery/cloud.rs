//! The collector as a model: what has arrived and what boxes declared.

use std::collections::BTreeMap;

use returnpath_delivery::Publish;
use returnpath_shared::{
    BatchId, Epoch, Incarnation, Ordinal, check, unpack,
    wire::{Ledger, UncleanStop, event},
};

#[derive(Default)]
pub(crate) struct Cloud {
    /// First ordinal and number of events of what arrived.
    batches: BTreeMap<BatchId, (Ordinal, u64)>,
    ledger: Vec<Ledger>,
    unclean: Vec<UncleanStop>,
}

impl Cloud {
    pub(crate) fn take(&mut self, publish: &Publish) {
        let batch = unpack(publish.codec as i32, publish.bytes.clone()).unwrap();
        let arrived = (Ordinal(batch.first_ordinal), batch.events.len() as u64);
        self.batches.insert(publish.id, arrived);
        for event in batch.events {
            check(&event).unwrap();
            match event.kind.unwrap() {
                event::Kind::Ledger(ledger) => self.ledger.push(ledger),
                event::Kind::UncleanStop(stop) => self.unclean.push(stop),
                _ => {}
            }
        }
    }

    pub(crate) fn has(&self, epoch: Epoch, ordinal: Ordinal) -> bool {
        self.batches.iter().any(|(id, (first, count))| {
            id.epoch == epoch && *first <= ordinal && ordinal < first.plus(*count)
        })
    }

    pub(crate) fn ledger_covers(&self, epoch: Epoch, ordinal: Ordinal) -> bool {
        self.ledger.iter().any(|row| {
            let first = BatchId::try_from(row.first_batch.unwrap()).unwrap();
            first.epoch == epoch
                && (row.whole_epoch
                    || (row.first_ordinal..row.first_ordinal + row.event_count)
                        .contains(&ordinal.0))
        })
    }

    /// Whether the box said that this event died with the power.
    pub(crate) fn declared_lost(&self, epoch: Epoch, ordinal: Ordinal) -> bool {
        self.unclean.iter().any(|stop| {
            Epoch::try_from(stop.epoch.unwrap()).unwrap() == epoch
                && stop.last_known_ordinal < ordinal.0
        })
    }
}

/// What envelopes have told the cloud it may forget.
#[derive(Default)]
pub(crate) struct Forgettable {
    /// Below this (start, sequence) the box holds nothing.
    floors: BTreeMap<Incarnation, (u32, u64)>,
}

impl Forgettable {
    pub(crate) fn invariant_what_was_told_gone_never_returns(&mut self, publish: &Publish) {
        let at = |id: &BatchId| (id.epoch.start, id.sequence.0);
        let floor = self.floors.get(&publish.id.epoch.incarnation);
        assert!(
            floor.is_none_or(|floor| *floor <= at(&publish.id)),
            "{} is sent, but only {floor:?} and above were said to be held",
            publish.id,
        );
        assert!(
            publish.oldest_held.iter().any(|id| {
                id.epoch.incarnation == publish.id.epoch.incarnation && at(id) <= at(&publish.id)
            }),
            "{} is not among what its envelope says is held",
            publish.id
        );
        let before = self.floors.clone();
        for floor in self.floors.values_mut() {
            *floor = (u32::MAX, u64::MAX);
        }
        for id in &publish.oldest_held {
            let floor = before.get(&id.epoch.incarnation).copied();
            let floor = floor.map_or(at(id), |floor| floor.max(at(id)));
            self.floors.insert(id.epoch.incarnation, floor);
        }
    }
}
