//! What goes out: records ready for Kafka, in one buffer that is reused.

use alloc::vec::Vec;
use core::ops::Range;

use returnpath_shared::Stream;

/// Where a record goes. Always to the partition number of the input.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Destination {
    /// A refined event: `rp.viewing`, `rp.ads`, `rp.health`, `rp.custom`.
    Refined(Stream),
    /// What failed, with its reason: `rp.rejected`.
    Rejected,
    /// A change of state: the compacted `rp.refine.state`.
    State,
    /// What is known of a box: the compacted `rp.devices`.
    Device,
    /// An ad opportunity with what is known of its box: `rp.opportunities`.
    Opportunity,
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

/// Records in the order in which they must be produced. Keep one and
/// [`clear`](Self::clear) it: its buffers are reused.
#[derive(Clone, Default, Debug)]
pub struct Output {
    bytes: Vec<u8>,
    records: Vec<Entry>,
    is_urgent: bool,
}

#[derive(Clone, Debug)]
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

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of all keys and values: tells the shell when to produce.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether someone waits for one of the records: an urgent event of the
    /// live lane. What waited out an outage can wait a little more.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    /// Forgets the records and keeps the buffers.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.is_urgent = false;
    }

    /// Someone waits for what was put.
    pub(crate) fn urge(&mut self) {
        self.is_urgent = true;
    }

    /// Appends a key, to be used by the records that follow.
    pub(crate) fn put_key(&mut self, parts: &[&[u8]]) -> Range<usize> {
        let start = self.bytes.len();
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        start..self.bytes.len()
    }

    /// Appends a record; `put` appends its value to the buffer. Gives where in
    /// the buffer the value stands.
    pub(crate) fn put_record(
        &mut self,
        destination: Destination,
        key: &Range<usize>,
        put: impl FnOnce(&mut Vec<u8>),
    ) -> Range<usize> {
        let start = self.bytes.len();
        put(&mut self.bytes);
        let value = start..self.bytes.len();
        self.records.push(Entry {
            destination,
            key: key.clone(),
            value: Some(value.clone()),
        });
        value
    }
}
