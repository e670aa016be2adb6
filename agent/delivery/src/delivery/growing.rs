//! While a box is offline, a batch of proof grows in the queue file.
//!
//! Each proof event is synced at once when no receipt can come. A batch for
//! each would fill the bound on batches within a day, pack badly, and drain
//! one by one. So the batch that was closed last is opened again as long as it
//! is small and was never offered to a link: the next commit replaces it, under
//! its own sequence, by one that also holds what came since.
//!
//! That a sequence names one batch for ever stays true because nothing is sent
//! of which the queue file might bring back something else: what the file
//! holds only the beginning of waits for its commit, and what has been added
//! when the link comes up becomes a batch of its own.
//!
//! It grows by proof, and by what came before it: ordinary events that no proof
//! follows stay a batch of their own, which may be evicted and which consent,
//! withdrawn, takes back. Ordinary batches do not grow: they are written at most
//! once in a flush interval and without a sync, which growing would ask for.

use returnpath_shared::Class;

use super::{Delivery, File, Link};
use crate::{Uptime, held::Place, open::Open, unwritten::Unwritten};

/// A batch of at least so many packed bytes does not grow. With its row it
/// fills most of a page of 1 KiB, so that replacing it writes no more pages
/// than a new row beside it would; larger would pack little better.
const GROWN_BYTES: u32 = 768;

/// Encoded bytes of a batch of which a copy is kept in RAM so that it can
/// grow. What packs to less than [`GROWN_BYTES`] takes a third of this, unless
/// it says the same again and again.
const GROWING_BYTES_MAX: usize = 16 * 1024;

/// A closed batch and what it holds, not packed.
#[derive(Debug)]
pub(super) struct Growing {
    place: Place,
    open: Open,
}

impl Delivery {
    /// Whether a batch that is being closed may be opened again.
    pub(super) fn may_grow(&self, open: &Open) -> bool {
        let small = open.class == Class::Proof && open.bytes() <= GROWING_BYTES_MAX;
        self.link == Link::Down && (small || open.stored.is_some())
    }

    /// The batch that has been closed stands here.
    pub(super) fn keep_growing(&mut self, place: Place, open: Option<Open>) {
        self.growing = open.map(|open| Growing { place, open });
    }

    /// Goes on with the batch that was closed last, where the file holds it,
    /// nobody was told of it, and it is still small.
    pub(super) fn reopen(&mut self, event_bytes: usize) {
        if self.link == Link::Up || self.open.is_some() || self.storage.file != File::Good {
            return;
        }
        let Some(growing) = &self.growing else {
            return;
        };
        let place = growing.place;
        let Some(view) = self.held.get(place) else {
            return;
        };
        let is_last = view.batch.id.epoch == self.epoch
            && view.batch.id.sequence.next() == self.next_sequence;
        let is_small = view.batch.size_bytes < GROWN_BYTES
            && growing.open.bytes() <= GROWING_BYTES_MAX
            && growing.open.fits(event_bytes);
        if !view.in_file || view.sent || !is_last || !is_small {
            return;
        }
        self.held.remove(place);
        self.next_sequence = view.batch.id.sequence;
        self.open = self.growing.take().map(|growing| growing.open);
        if let Some(open) = &mut self.open {
            open.reopen(view.batch, self.own.count(place), self.now);
        }
    }

    /// Whether the open batch, when it is closed, replaces what the file holds
    /// of it.
    pub(super) fn grows(&self) -> bool {
        let with_proof = |open: &Open| open.added.class == Class::Proof;
        self.link == Link::Down
            && self.storage.file == File::Good
            && self.open.as_ref().is_some_and(with_proof)
    }

    /// From here on, the open batch is what the file does not hold of it.
    pub(super) fn split_open(&mut self) {
        let split = |open: &Open| open.split(self.boot_id);
        let Some((stored, rest)) = self.open.as_ref().and_then(split) else {
            return;
        };
        let batch = stored.batch;
        let whole = self.open.replace(rest);
        self.next_sequence = batch.id.sequence.next();
        let in_file = self.storage.file == File::Good;
        if let Some(place) = self.held.insert(&batch, in_file)
            && let Some(whole) = whole
            && !in_file
        {
            // The file is given up: what it held is still at hand.
            let unwritten = Unwritten {
                bytes: whole.pack_stored().bytes,
                since: self.now,
                durable_due: None,
                may_be_in_file: true,
                grown: false,
            };
            self.unwritten.insert(place, unwritten);
        }
    }

    /// The file holds what it held before: what was to be added goes back into
    /// the open batch, so that nothing waits for a disk that stays full. Only
    /// where another batch has been closed meanwhile, or the two do not fit
    /// into one, it waits.
    pub(super) fn ungrow(&mut self) {
        let Some(growing) = &self.growing else {
            return;
        };
        let place = growing.place;
        let is_last = self.held.get(place).is_some_and(|view| {
            view.batch.id.epoch == self.epoch && view.batch.id.sequence.next() == self.next_sequence
        });
        let is_grown = self
            .unwritten
            .get(place)
            .is_some_and(|unwritten| unwritten.grown);
        let Some((stored, mut rest)) = growing.open.split(self.boot_id) else {
            return;
        };
        if !is_last || !is_grown {
            return;
        }
        if let Some(later) = &self.open {
            if !rest.fits_all(later) {
                return;
            }
            rest.append(later);
        }
        self.growing = None;
        self.held.remove(place);
        self.unwritten.remove(place);
        self.held.insert(&stored.batch, true);
        self.own.reopen_after(place, stored.own_events);
        self.open = Some(rest);
        self.want_sync();
    }

    /// When a batch has to be written of which the file holds only the
    /// beginning, so that it can be sent.
    pub(super) fn grown_due(&self) -> Option<Uptime> {
        let waits =
            self.link == Link::Up && self.unwritten.iter().any(|(_, unwritten)| unwritten.grown);
        waits.then_some(self.now)
    }

    /// Whether the file holds the beginning of a batch of this run, and what
    /// is held says otherwise.
    pub(super) fn file_holds_beginning(&self) -> bool {
        let open = self.open.as_ref();
        open.is_some_and(|open| open.stored.is_some())
            || self.unwritten.iter().any(|(_, unwritten)| unwritten.grown)
    }
}
