//! Fills the open batch and closes it.

use returnpath_shared::{BatchId, Class, Ordinal, Urgency, wire};

use prost::Message as _;

use super::{Delivery, File, Link, Phase};
use crate::{
    StoredBatch, SyncPolicy, Uptime,
    open::Open,
    own::{self, Own},
    unwritten::Unwritten,
};

/// The longest of the agent's own events: a boot with its facts and all
/// anchors of 30 bytes.
const OWN_EVENT_BYTES_MAX: u64 = 3_072;

impl Delivery {
    /// Appends an event to the open batch, closing a full one first.
    pub(super) fn push(&mut self, event: &wire::Event, length: usize) -> Ordinal {
        self.reopen(length);
        if self.open.as_ref().is_some_and(|open| !open.fits(length)) {
            self.close();
        }
        let ordinal = self.next_ordinal;
        let open = self
            .open
            .get_or_insert_with(|| Open::new(self.boot_id, ordinal, self.now));
        open.push(event);
        self.next_ordinal = ordinal.plus(1);
        self.totals.events_accepted += 1;
        ordinal
    }

    /// Makes the open batch immutable and gives it its sequence.
    pub(super) fn close(&mut self) {
        if !self.grows() {
            self.split_open();
        }
        let Some(open) = self.open.take() else {
            return;
        };
        let mut batch = StoredBatch {
            id: BatchId {
                epoch: self.epoch,
                sequence: self.next_sequence,
            },
            boot_id: self.boot_id,
            class: open.class,
            codec: wire::Codec::Identity,
            size_bytes: 0,
            first_ordinal: open.first_ordinal,
            events: open.events,
            viewing: open.viewing,
            opened: self.powered.at(open.opened_at),
        };
        let (since, grown) = (open.added.since, open.stored.is_some());
        let awaits_durable = open.added.class == Class::Proof;
        let growing = self.may_grow(&open).then(|| open.clone());
        let packed = open.pack();
        batch.codec = packed.codec;
        batch.size_bytes = u32::try_from(packed.bytes.len()).unwrap_or(u32::MAX);
        self.make_room(u64::from(batch.size_bytes));
        self.next_sequence = self.next_sequence.next();
        let Some(place) = self.held.insert(&batch, false) else {
            return;
        };
        let durable_due = awaits_durable.then(|| self.now.plus(self.config.durable_after));
        self.unwritten.insert(
            place,
            Unwritten {
                bytes: packed.bytes,
                since,
                durable_due,
                may_be_in_file: grown,
                grown,
            },
        );
        self.keep_growing(place, growing);
        self.waiting.close(place);
        self.own.close(place);
    }

    /// When the open batch is to be closed.
    pub(super) fn close_due(&self) -> Option<Uptime> {
        let open = self.open.as_ref()?;
        let urgent = open.added.urgency == Urgency::Urgent && self.link == Link::Up;
        if urgent || self.phase != Phase::Running {
            return Some(self.now);
        }
        let mut due = match self.link {
            Link::Up => open.added.since.plus(self.config.pace.batch_interval),
            // Or until what is closed already has to be written; see below.
            Link::Down => open.added.since.plus(self.config.flush_interval),
        };
        // While nothing can be committed, events gather in the open batch.
        if self.storage.committing.is_none() && self.storage.file != File::Rebuilding {
            if self.link == Link::Down {
                due = self
                    .ordinary_due()
                    .map_or(due, |ordinary| due.min(ordinary));
            }
            if open.added.class == Class::Proof {
                due = self.storage.sync_due.map_or(due, |sync| due.min(sync));
            }
        }
        Some(due)
    }

    /// Whether proof is synced without waiting for a receipt.
    pub(super) fn syncs_at_once(&self) -> bool {
        self.link == Link::Down || self.config.sync == SyncPolicy::Always
    }

    /// Proof was accepted, or lost its link: sync it soon, unless a receipt
    /// may come first.
    pub(super) fn want_sync(&mut self) {
        if self.syncs_at_once() {
            let due = self.now.plus(self.config.group_commit);
            self.storage.sync_due.get_or_insert(due);
        }
    }

    /// Puts the events that the agent owes into the open batch.
    pub(super) fn make_own_events(&mut self) {
        if self.phase != Phase::Running {
            return;
        }
        while self.has_room_for_own()
            && let Some(row) = self.own.unclean_owed.pop()
        {
            let event = own::unclean_stop_event(&row, self.now);
            self.push_own(&event, Own::UncleanStop(row));
            self.want_sync();
        }
        if self.own.boot_owed && self.has_room_for_own() {
            self.own.boot_owed = false;
            self.forget_anchors();
            self.own.boots = self.own.boots.saturating_add(1);
            let anchors = self.anchors.all();
            let number = self.own.boots;
            let event = own::boot_event(&self.facts, anchors, self.epoch, number, self.now);
            self.push_own(&event, Own::Boot);
        }
        if self.link == Link::Up {
            while self.has_room_for_own()
                && let Some(row) = self.ledger.next_untold()
            {
                let event = own::ledger_event(&row, self.now);
                self.push_own(&event, Own::Ledger(row));
            }
        }
    }

    /// Whether what is kept free for the agent's own events suffices for one
    /// more. What finds no room stays owed; it lies in the queue file as a row.
    fn has_room_for_own(&self) -> bool {
        let proof = self.held.proof();
        let open_bytes = self.open.as_ref().map_or(0, |open| open.bytes() as u64);
        proof.bytes + open_bytes + OWN_EVENT_BYTES_MAX <= self.config.queue_bytes_max
            && proof.batches + 1 < self.config.queue_batches_max as u64
    }

    fn push_own(&mut self, event: &wire::Event, own: Own) {
        self.push(event, event.encoded_len());
        self.own.put_in_open(own);
    }

    /// Anchors of boots of which nothing is held any more.
    pub(super) fn forget_anchors(&mut self) {
        let (held, boot_id) = (&self.held, self.boot_id);
        self.anchors
            .retain(|anchored| anchored == boot_id || held.holds_boot(anchored));
    }
}
