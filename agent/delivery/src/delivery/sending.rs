//! Chooses what is sent next, and takes what comes back.
//!
//! There is no list of what is to be sent: it is everything held that is not
//! in flight, the oldest first within its lane. So a new link starts from the
//! queue's truth by forgetting the flights, and a lost batch is found again by
//! its flight being overdue.

use alloc::vec::Vec;

use bytes::Bytes;
use returnpath_shared::{BatchId, Class, Epoch, INCARNATIONS_MAX, Lane, Sequence, wire};

use super::{Delivery, Drop, File, First, Link};
use crate::{
    Effect, PubAckOutcome, Publish, Unreadable, Uptime,
    held::{Place, View},
    leaving::note_oldest,
    own::Own,
    time::ms,
    window::{Flight, Loaded},
};

impl Delivery {
    /// Sends what may go: live first, the backlog at its share.
    pub(super) fn send(&mut self) {
        if self.link == Link::Down {
            return;
        }
        for lane in Lane::ALL {
            while self.lane_open_from(lane).is_some_and(|at| at <= self.now)
                && let Some(view) = self.candidate(lane)
            {
                if lane == Lane::Backlog {
                    self.share.take(self.now);
                }
                let bytes = self
                    .unwritten
                    .get(view.place)
                    .map(|unwritten| &unwritten.bytes);
                if let Some(bytes) = bytes.cloned() {
                    self.publish(&view, lane, bytes);
                } else {
                    self.window.loading(view.place, lane);
                    self.effects.push_back(Effect::Load(view.batch.id));
                }
            }
        }
    }

    /// When [`Self::send`] or an overdue receipt is due next.
    pub(super) fn sending_due(&self) -> Option<Uptime> {
        if self.link == Link::Down {
            return None;
        }
        let lanes = Lane::ALL.into_iter().filter_map(|lane| {
            let at = self.lane_open_from(lane)?;
            self.candidate(lane).map(|_| at)
        });
        lanes.chain(self.window.next_due()).min()
    }

    pub(super) fn expire_flights(&mut self) {
        for place in self.window.expire(&mut self.jitter, self.now) {
            self.held.count_overdue(place);
        }
    }

    /// Whether a batch goes by the live lane: of this run, and young by its
    /// first event. What a start found in the file was held over an outage.
    pub(super) fn is_live(&self, view: &View, now: Uptime) -> bool {
        view.batch.id.epoch == self.epoch && view.batch.opened >= self.live_since(now)
    }

    fn live_since(&self, now: Uptime) -> crate::Powered {
        let age_ms = ms(self.config.live_age_max);
        let mut since = self.powered.at(now);
        let age_seconds = u32::try_from(age_ms / 1_000).unwrap_or(u32::MAX);
        since.seconds = since.seconds.saturating_sub(age_seconds);
        since
    }

    fn lane_open_from(&self, lane: Lane) -> Option<Uptime> {
        let window = self.window.open_from(lane)?;
        match lane {
            Lane::Live => Some(window),
            Lane::Backlog => Some(window.max(self.share.open_from()?)),
        }
    }

    /// The oldest batch of the lane that is not in flight. While the file is
    /// being rebuilt what is in it is waited for; without a file it is passed
    /// over. So is a batch of which the file holds only the beginning.
    fn candidate(&self, lane: Lane) -> Option<View> {
        let at_hand = |place: Place| {
            let unwritten = self.unwritten.get(place);
            unwritten.is_some_and(|unwritten| !unwritten.grown)
        };
        let waits = |view: &View| {
            self.window.flight(view.place).is_none()
                && (at_hand(view.place) || !matches!(self.storage.file, File::Absent { .. }))
        };
        let view = match lane {
            Lane::Live => self
                .held
                .opened_since(self.epoch, self.live_since(self.now))
                .find(waits),
            Lane::Backlog => self
                .held
                .iter()
                .take_while(|view| !self.is_live(view, self.now))
                .find(waits),
        }?;
        let sendable = if at_hand(view.place) {
            // Or it would overtake what is being read.
            !self.window.is_loading(lane)
        } else {
            self.storage.file == File::Good && !self.unwritten.contains(view.place)
        };
        sendable.then_some(view)
    }

    fn publish(&mut self, view: &View, lane: Lane, bytes: Bytes) {
        let prompt = lane == Lane::Backlog || view.batch.class == Class::Proof;
        let patience = if prompt {
            self.config.resend_after_prompt
        } else {
            self.config.resend_after
        };
        let patience = patience
            .saturating_mul(1 << view.overdue.min(16))
            .min(self.config.resend_after_max.max(patience));
        self.window.set(
            view.place,
            Flight::Sent {
                lane,
                at: self.now,
                due: self.now.plus(patience),
            },
        );
        self.held.set_sent(view.place);
        self.totals.batches_sent += 1;
        if view.sent {
            self.totals.batches_resent += 1;
        } else if let Some(unwritten) = self.unwritten.get_mut(view.place)
            && let Some(durable_due) = &mut unwritten.durable_due
        {
            *durable_due = self.now.plus(self.config.durable_after);
        }
        self.effects.push_back(Effect::Publish(Publish {
            id: view.batch.id,
            lane,
            class: view.batch.class,
            codec: view.batch.codec,
            bytes,
            sender: self.epoch,
            boot_id: self.boot_id,
            oldest_held: self.oldest_held(),
        }));
    }

    /// The oldest batch of each incarnation that is held, or may be again
    /// after a power cut. This run's incarnation is always among them, with
    /// the batch that it builds next where nothing is held: not to be listed
    /// means that nothing will ever come.
    fn oldest_held(&self) -> Vec<BatchId> {
        let mut oldest = self.held.oldest_of_incarnations();
        for (place, id) in self.leaving.may_return() {
            note_oldest(&mut oldest, place, id);
        }
        oldest.sort_unstable_by_key(|(place, _)| *place);
        let mut oldest: Vec<BatchId> = oldest.into_iter().map(|(_, id)| id).collect();
        let incarnation = self.epoch.incarnation;
        if !oldest.iter().any(|id| id.epoch.incarnation == incarnation) {
            oldest.push(BatchId {
                epoch: self.epoch,
                sequence: self.next_sequence,
            });
        }
        // `drop_excess_incarnations` keeps what is held below the bound; past
        // it can only be what is leaving.
        oldest.truncate(INCARNATIONS_MAX);
        oldest
    }

    pub(super) fn loaded(&mut self, id: BatchId, bytes: Result<Bytes, Unreadable>) {
        let Some(place) = self.held.place_of(id) else {
            return;
        };
        let loaded = self.window.loaded(place, self.now);
        match (loaded, bytes) {
            (Loaded::Unwanted, _) => {}
            (Loaded::Send(lane), Ok(bytes)) => {
                if let Some(view) = self.held.get(place) {
                    self.publish(&view, lane, bytes);
                }
            }
            (Loaded::NoRoom, Ok(_)) => {}
            // While the file is being rebuilt, that will tell what is lost.
            (Loaded::Send(_) | Loaded::NoRoom, Err(Unreadable)) => {
                if self.storage.file == File::Good {
                    self.drop_batch(place, Drop::Corrupt);
                }
            }
        }
    }

    pub(super) fn acknowledged(&mut self, id: BatchId, outcome: PubAckOutcome) {
        let Some(place) = self.held.place_of(id) else {
            return;
        };
        match outcome {
            // The broker has it, and may lose it: only a receipt counts.
            PubAckOutcome::Ok => {}
            PubAckOutcome::Refused(reason) => self.refused(place, reason),
            PubAckOutcome::Retry => {
                self.window.not_taken(place, &mut self.jitter, self.now);
            }
        }
    }

    pub(super) fn receipt(&mut self, receipt: &wire::Receipt) {
        for range in &receipt.confirmed {
            let epoch = range.epoch.and_then(|epoch| Epoch::try_from(epoch).ok());
            if let Some(epoch) = epoch
                && range.first_sequence <= range.last_sequence
            {
                self.confirmed(epoch, range.first_sequence, range.last_sequence);
            } else {
                self.totals.receipts_ignored += 1;
            }
        }
        for refusal in &receipt.refused {
            let id = refusal.batch.and_then(|id| BatchId::try_from(id).ok());
            match id.and_then(|id| self.receiptable(id)) {
                Some(place) => self.refused(place, refusal.reason()),
                None => self.totals.receipts_ignored += 1,
            }
        }
    }

    fn confirmed(&mut self, epoch: Epoch, first: u64, last: u64) {
        let mut next = Sequence(first);
        while let Some(place) = self.held.first_within(epoch, next, Sequence(last))
            && let Some(view) = self.held.get(place)
        {
            match self.receiptable(view.batch.id) {
                Some(place) => self.receipted(place),
                None => self.totals.receipts_ignored += 1,
            }
            if view.batch.id.sequence.0 == last {
                return;
            }
            next = view.batch.id.sequence.next();
        }
    }

    /// A batch that the collector can know: sent in this run, or perhaps in an
    /// earlier one.
    fn receiptable(&self, id: BatchId) -> Option<Place> {
        let view = self.held.get(self.held.place_of(id)?)?;
        (view.sent || id.epoch != self.epoch).then_some(view.place)
    }

    fn receipted(&mut self, place: Place) {
        self.window.receipted(place, self.now);
        let Some(view) = self.held.remove(place) else {
            return;
        };
        self.totals.batches_receipted += 1;
        self.totals.events_receipted += u64::from(view.batch.events);
        let unwritten = self.unwritten.remove(place);
        if view.in_file || unwritten.is_some_and(|unwritten| unwritten.may_be_in_file) {
            self.leaving.add(place, view.batch.id);
            self.storage.tidy(self.now);
        }
        self.answer_batch(place, &view.batch, First::Durable);
        for own in self.own.take(place) {
            match own {
                Own::Boot => {}
                Own::UncleanStop(row) => {
                    self.storage.declared.push(row.epoch);
                    self.storage.tidy(self.now);
                }
                Own::Ledger(row) => {
                    self.ledger.told(&row);
                    if self.ledger.is_dirty() {
                        self.storage.tidy(self.now);
                    }
                }
            }
        }
    }

    fn refused(&mut self, place: Place, reason: wire::RefusalReason) {
        self.window.receipted(place, self.now);
        self.drop_batch(place, Drop::Refused(reason));
    }
}
