//! The only place where data leaves without a receipt: whatever goes, goes
//! into the ledger.

use returnpath_shared::{Class, INCARNATIONS_MAX};

use super::{Delivery, Drop};
use crate::{Uptime, held::Place, own::Own, repeat::First};

impl Delivery {
    pub(super) fn drop_batch(&mut self, place: Place, drop: Drop) {
        let Some(view) = self.held.remove(place) else {
            return;
        };
        let batch = view.batch;
        self.window.forget(place);
        let unwritten = self.unwritten.remove(place);
        if view.in_file || unwritten.is_some_and(|unwritten| unwritten.may_be_in_file) {
            self.leaving.add(place, batch.id);
        }
        self.ledger.enter(&batch, drop);
        self.storage.tidy(self.now);
        let dropped = &mut self.totals.dropped;
        *match drop {
            Drop::QueueFull => &mut dropped.queue_full,
            Drop::TooOld => &mut dropped.too_old,
            Drop::Consent => &mut dropped.consent,
            Drop::Corrupt => &mut dropped.corrupt,
            Drop::Refused(_) => &mut dropped.refused,
        } += u64::from(batch.events);
        self.answer_batch(place, &batch, First::Accepted);
        for own in self.own.take(place) {
            match own {
                Own::Boot => self.own.boot_owed = true,
                Own::UncleanStop(row) => self.own.unclean_owed.push(row),
                Own::Ledger(row) => self.ledger.untold(&row),
            }
        }
    }

    /// Evicts until a batch of this size fits. `has_room` has seen to it that
    /// enough is ordinary.
    pub(super) fn make_room(&mut self, size_bytes: u64) {
        while self.held.bytes() + size_bytes > self.config.queue_bytes_max
            || self.held.batches() + 1 > self.config.queue_batches_max as u64
        {
            let Some(oldest) = self.oldest_ordinary() else {
                return;
            };
            self.drop_batch(oldest, Drop::QueueFull);
        }
    }

    /// The oldest ordinary batch, one that is not under way where there is one.
    fn oldest_ordinary(&self) -> Option<Place> {
        let mut ordinary = self
            .held
            .iter()
            .filter(|view| view.batch.class == Class::Ordinary)
            .map(|view| view.place);
        let first = ordinary.next()?;
        core::iter::once(first)
            .chain(ordinary)
            .find(|place| self.window.flight(*place).is_none())
            .or(Some(first))
    }

    pub(super) fn drop_too_old(&mut self) {
        while self.age_due().is_some_and(|due| due <= self.now)
            && let Some(oldest) = self.held.oldest()
        {
            self.drop_batch(oldest.place, Drop::TooOld);
        }
    }

    /// When the oldest batch is too old.
    pub(super) fn age_due(&self) -> Option<Uptime> {
        let mut powered = self.held.oldest()?.batch.opened;
        let age_max_s = u32::try_from(self.config.age_max.as_secs()).unwrap_or(u32::MAX);
        powered.seconds = powered.seconds.saturating_add(age_max_s);
        Some(self.powered.uptime_of(powered))
    }

    /// Consent to measuring was withdrawn: nothing viewed before is sent, as
    /// far as it is not proof. The open batch is closed for it, so that it
    /// does not travel with the withdrawal.
    pub(super) fn withdraw_consent(&mut self) {
        if !self.grows() {
            self.split_open();
        }
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.viewing && open.class == Class::Ordinary)
        {
            self.close();
        }
        let viewing: alloc::vec::Vec<Place> = self
            .held
            .iter()
            .filter(|view| view.batch.viewing && view.batch.class == Class::Ordinary)
            .map(|view| view.place)
            .collect();
        for place in viewing {
            self.drop_batch(place, Drop::Consent);
        }
        // From flash too, and not only when something else is written.
        self.storage.tidy_now |= !self.leaving.is_empty();
    }

    /// An envelope names at most so many incarnations; of one that it cannot
    /// name the box would seem to hold nothing.
    pub(super) fn drop_excess_incarnations(&mut self) {
        while self.held.incarnations_beside(self.epoch.incarnation) >= INCARNATIONS_MAX
            && let Some(oldest) = self.held.oldest()
        {
            self.drop_batch(oldest.place, Drop::QueueFull);
        }
    }
}
