//! What worlds came to.

use crate::{faults::Faults, world::World};

#[derive(Default, Debug)]
pub(crate) struct Summary {
    /// Time for which boxes had power while viewers watched and things went
    /// wrong: neither the time in which a world settles, nor a box unplugged.
    pub(crate) lived_ms: u64,
    pub(crate) steps: u64,
    pub(crate) accepted: u64,
    pub(crate) durable: u64,
    pub(crate) batches: u64,
    pub(crate) declared: u64,
    pub(crate) rejected: u64,
    pub(crate) duplicate_batches: u64,
    pub(crate) opportunities: u64,
    pub(crate) settling: u64,
    pub(crate) busy: u64,
    pub(crate) rebuilds: u64,
    pub(crate) unreadable: u64,
    pub(crate) faults: Faults,
}

impl Summary {
    pub(crate) fn of(world: &World, lived_ms: u64, steps: u64) -> Self {
        let reference = &world.reference;
        let totals = reference.tally.verdict().totals();
        Self {
            lived_ms,
            steps,
            accepted: reference.answers[0],
            durable: reference.answers[1],
            batches: reference.batches_sent(),
            declared: totals.iter().map(|class| class.declared_total()).sum(),
            rejected: totals.iter().map(|class| class.rejected_total()).sum(),
            duplicate_batches: world.counts.duplicate_batches,
            opportunities: reference.opportunities,
            settling: reference.settling,
            busy: reference.busy,
            rebuilds: reference.rebuilds,
            unreadable: reference.unreadable,
            faults: world.faults.clone(),
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.lived_ms += other.lived_ms;
        self.steps += other.steps;
        self.accepted += other.accepted;
        self.durable += other.durable;
        self.batches += other.batches;
        self.declared += other.declared;
        self.rejected += other.rejected;
        self.duplicate_batches += other.duplicate_batches;
        self.opportunities += other.opportunities;
        self.settling += other.settling;
        self.busy += other.busy;
        self.rebuilds += other.rebuilds;
        self.unreadable += other.unreadable;
        self.faults.add(&other.faults);
    }

    pub(crate) fn box_hours(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let lived_ms = self.lived_ms as f64;
        lived_ms / 3_600_000.0
    }

    /// Events answered, a box-hour.
    pub(crate) fn events_an_hour(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let events = (self.accepted + self.durable) as f64;
        events / self.box_hours()
    }
}
