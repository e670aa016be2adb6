//! Clients that wait for `durable`, by the batch that carries their event.

use alloc::{collections::BTreeMap, vec::Vec};

use returnpath_shared::Ordinal;

use crate::{ClientToken, held::Place};

/// Requests that may wait at once; beyond it clients are answered `busy`.
/// Each takes 16 bytes, and a client rarely has more than a few under way.
pub(crate) const WAITING_MAX: usize = 4_096;

/// A request and the event that it waits for.
pub(crate) type Request = (ClientToken, Ordinal);

#[derive(Debug, Default)]
pub(crate) struct Waiting {
    open: Vec<Request>,
    closed: BTreeMap<Place, Vec<Request>>,
    count: usize,
}

impl Waiting {
    pub(crate) fn is_full(&self) -> bool {
        self.count >= WAITING_MAX
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Waits for an event in the open batch.
    pub(crate) fn for_open(&mut self, token: ClientToken, ordinal: Ordinal) {
        self.count += 1;
        self.open.push((token, ordinal));
    }

    /// Waits for an event in a closed batch.
    pub(crate) fn for_closed(&mut self, place: Place, token: ClientToken, ordinal: Ordinal) {
        self.count += 1;
        self.closed.entry(place).or_default().push((token, ordinal));
    }

    /// The open batch was closed and stands here.
    pub(crate) fn close(&mut self, place: Place) {
        if !self.open.is_empty() {
            self.closed.entry(place).or_default().append(&mut self.open);
        }
    }

    /// Those that waited for this batch.
    pub(crate) fn take(&mut self, place: Place) -> Vec<Request> {
        let requests = self.closed.remove(&place).unwrap_or_default();
        self.count -= requests.len();
        requests
    }
}
