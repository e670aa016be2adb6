//! What goes out: records ready for Kafka, and the calls to be made at once.

use alloc::vec::Vec;
use core::mem;

use returnpath_transaction::{Record, Records};

use crate::{call::Request, gates::CallId};

/// Where a record goes. Always to the partition number of the input.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Destination {
    /// A decision, or what became of it: `rp.decisions`.
    Decisions,
    /// A change of state: the compacted `rp.decide.state`.
    State,
}

/// One call to an aggregator, to be made at once: before the transaction ends,
/// and whatever becomes of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Call {
    /// To be given back with the answer, exactly once.
    pub id: CallId,
    /// What to send.
    pub request: Request,
    /// Give up after this long.
    pub deadline_ms: u32,
    /// Of the slot that it is asked for, in ms: to read the answer by
    /// ([`Settings::read`](crate::Settings::read)).
    pub slot_duration_ms: u32,
}

/// Records to produce, and calls. Keep one and [`clear`](Self::clear) it: its
/// buffers are reused.
#[derive(Default)]
pub struct Output {
    records: Records<Destination>,
    calls: Vec<Call>,
}

impl Output {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The records, in order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'_, Destination>> {
        self.records.records()
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether someone waits for one of the records: a box for its decision.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.records.is_urgent()
    }

    /// The calls to be made; each is handed out once. Take them after every
    /// step: they wait for no transaction.
    pub fn take_calls(&mut self) -> Vec<Call> {
        mem::take(&mut self.calls)
    }

    /// Forgets the records and keeps the buffers. Calls that were not taken
    /// stay: they are counted as under way.
    pub fn clear(&mut self) {
        self.records.clear();
    }

    /// Someone waits for what was put.
    pub(crate) fn urge(&mut self) {
        self.records.urge();
    }

    pub(crate) fn call(&mut self, call: Call) {
        self.calls.push(call);
    }

    /// Appends a record; `put` appends its value to the buffer.
    pub(crate) fn put_record(
        &mut self,
        destination: Destination,
        key: &[u8],
        put: impl FnOnce(&mut Vec<u8>),
    ) {
        let key = self.records.put_key(&[key]);
        self.records.put_record(destination, &key, put);
    }
}
