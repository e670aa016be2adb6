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
    /// Ranges and runs of which refine forgot what was declared of them.
    pub(crate) declarations_forgotten: u64,
    /// Ranges of batches of which it could not say therefore why they are
    /// missing.
    pub(crate) missing_forgotten: u64,
    pub(crate) opportunities: u64,
    pub(crate) settling: u64,
    /// Slots with an ad, slots without, and those that a player got.
    pub(crate) filled: u64,
    pub(crate) unfilled: u64,
    pub(crate) handed_over: u64,
    pub(crate) pushed: u64,
    /// Slots decided once more when they were over at their box.
    pub(crate) decided_again: u64,
    pub(crate) busy: u64,
    pub(crate) rebuilds: u64,
    pub(crate) unreadable: u64,
    pub(crate) faults: Faults,
}

impl Summary {
    /// What a world tells when it is over.
    pub(crate) fn of(world: &World) -> Self {
        let counts = &world.counts;
        let reference = &world.reference;
        let totals = reference.tally.verdict().totals();
        let [filled, unfilled, handed_over] = world.decisions.totals();
        Self {
            filled,
            unfilled,
            handed_over,
            pushed: world.decisions.pushed,
            decided_again: world.decisions.again,
            accepted: reference.answers[0],
            durable: reference.answers[1],
            batches: reference.batches_sent(),
            declared: totals.iter().map(|class| class.declared_total()).sum(),
            rejected: totals.iter().map(|class| class.rejected_total()).sum(),
            duplicate_batches: counts.duplicate_batches,
            declarations_forgotten: counts.declared_ranges_forgotten
                + counts.declared_epochs_forgotten,
            opportunities: reference.opportunities,
            settling: reference.settling,
            busy: reference.busy,
            rebuilds: reference.rebuilds,
            unreadable: reference.unreadable,
            faults: world.faults.clone(),
            ..Self::default()
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
        self.declarations_forgotten += other.declarations_forgotten;
        self.missing_forgotten += other.missing_forgotten;
        self.opportunities += other.opportunities;
        self.settling += other.settling;
        self.filled += other.filled;
        self.unfilled += other.unfilled;
        self.handed_over += other.handed_over;
        self.pushed += other.pushed;
        self.decided_again += other.decided_again;
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
