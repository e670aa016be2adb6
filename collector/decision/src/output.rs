//! What goes out: records ready for Kafka, in one buffer that is reused, and
//! the calls to be made at once.

use alloc::vec::Vec;
use core::{mem, ops::Range};

use crate::{call::Request, gates::CallId};

/// Where a record goes. Always to the partition number of the input.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Destination {
    /// A decision, or what became of it: `rp.decisions`.
    Decisions,
    /// A change of state: the compacted `rp.decide.state`.
    State,
}

/// One record to produce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Its topic.
    pub destination: Destination,
    /// Kafka key.
    pub key: &'a [u8],
    /// Kafka value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
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
}

/// Records in the order in which they must be produced, and calls. Keep one
/// and [`clear`](Self::clear) it: its buffers are reused.
#[derive(Default)]
pub struct Output {
    bytes: Vec<u8>,
    records: Vec<Entry>,
    calls: Vec<Call>,
    is_urgent: bool,
}

struct Entry {
    destination: Destination,
    key: Range<usize>,
    value: Option<Range<usize>>,
}

impl Output {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The records, in order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        self.records.iter().map(|entry| Record {
            destination: entry.destination,
            key: &self.bytes[entry.key.clone()],
            value: entry.value.clone().map(|range| &self.bytes[range]),
        })
    }

    /// The calls to be made; each is handed out once. Take them after every
    /// step: they wait for no transaction.
    pub fn take_calls(&mut self) -> Vec<Call> {
        mem::take(&mut self.calls)
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

    /// Bytes of all keys and values: tells the shell when to produce.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether someone waits for one of the records: a box for its decision.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    /// Forgets the records and keeps the buffers. Calls that were not taken
    /// stay: they are counted as under way.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.is_urgent = false;
    }

    /// Someone waits for what was put.
    pub(crate) fn urge(&mut self) {
        self.is_urgent = true;
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
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let middle = self.bytes.len();
        put(&mut self.bytes);
        self.records.push(Entry {
            destination,
            key: start..middle,
            value: Some(middle..self.bytes.len()),
        });
    }
}
