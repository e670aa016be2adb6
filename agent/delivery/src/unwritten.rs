//! Closed batches whose bytes are only in RAM.

use alloc::collections::BTreeMap;

use bytes::Bytes;

use crate::{Uptime, held::Place};

#[derive(Debug)]
pub(crate) struct Unwritten {
    pub(crate) bytes: Bytes,
    /// When the first event of it was taken that the file does not hold.
    pub(crate) since: Uptime,
    /// For proof: when it goes to flash, link or no link. `None` for ordinary
    /// batches, and once its clients were told that storage failed.
    pub(crate) durable_due: Option<Uptime>,
    /// Whether the file may hold it without our knowing: the commit under way
    /// inserts it, or one that failed did.
    pub(crate) may_be_in_file: bool,
    /// The file holds its beginning under its sequence. It is sent only when
    /// the file holds all of it: what a power cut brings back must be what
    /// was sent under that name.
    pub(crate) grown: bool,
}

#[derive(Debug, Default)]
pub(crate) struct AllUnwritten {
    batches: BTreeMap<Place, Unwritten>,
    bytes: usize,
}

impl AllUnwritten {
    pub(crate) fn insert(&mut self, place: Place, batch: Unwritten) {
        self.bytes += batch.bytes.len();
        self.batches.insert(place, batch);
    }

    pub(crate) fn remove(&mut self, place: Place) -> Option<Unwritten> {
        let batch = self.batches.remove(&place)?;
        self.bytes -= batch.bytes.len();
        Some(batch)
    }

    pub(crate) fn get(&self, place: Place) -> Option<&Unwritten> {
        self.batches.get(&place)
    }

    pub(crate) fn get_mut(&mut self, place: Place) -> Option<&mut Unwritten> {
        self.batches.get_mut(&place)
    }

    pub(crate) fn contains(&self, place: Place) -> bool {
        self.batches.contains_key(&place)
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Place, &Unwritten)> {
        self.batches.iter().map(|(place, batch)| (*place, batch))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Place, &mut Unwritten)> {
        self.batches
            .iter_mut()
            .map(|(place, batch)| (*place, batch))
    }

    /// Packed bytes held in RAM.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
