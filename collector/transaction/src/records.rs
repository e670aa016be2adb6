//! Records ready for Kafka.

use alloc::vec::Vec;
use core::ops::Range;

/// One record to produce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a, D> {
    /// Its topic, as its core calls it.
    pub destination: D,
    /// Kafka key.
    pub key: &'a [u8],
    /// Kafka value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
}

/// Records in the order in which they must be produced. Keep one and
/// [`clear`](Self::clear) it: its buffers are reused.
#[derive(Clone, Debug)]
pub struct Records<D> {
    bytes: Vec<u8>,
    records: Vec<Entry<D>>,
    is_urgent: bool,
}

#[derive(Clone, Debug)]
struct Entry<D> {
    destination: D,
    key: Range<usize>,
    value: Option<Range<usize>>,
}

impl<D> Default for Records<D> {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            records: Vec::new(),
            is_urgent: false,
        }
    }
}

impl<D: Copy> Records<D> {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The records, in order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'_, D>> {
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

    /// Whether someone waits for one of the records, so that their transaction
    /// should end soon.
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
    pub fn urge(&mut self) {
        self.is_urgent = true;
    }

    /// Appends a key, given in parts, for the records that follow: where in
    /// the buffer it stands, until the buffer is cleared.
    pub fn put_key(&mut self, parts: &[&[u8]]) -> Range<usize> {
        let start = self.bytes.len();
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        start..self.bytes.len()
    }

    /// Appends a record under a key of [`put_key`](Self::put_key); `put`
    /// appends its value to the buffer. Gives where in the buffer the value
    /// stands.
    pub fn put_record(
        &mut self,
        destination: D,
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

    /// Appends a record without a value, under a key of
    /// [`put_key`](Self::put_key).
    pub fn put_tombstone(&mut self, destination: D, key: &Range<usize>) {
        self.records.push(Entry {
            destination,
            key: key.clone(),
            value: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_were_put_and_are_gone_once_cleared() {
        let mut records = Records::new();
        let key = records.put_key(&[b"box-1", b"#clock"]);
        records.put_record('a', &key, |bytes| bytes.extend_from_slice(b"one"));
        let value = records.put_record('b', &key, |_bytes| {});
        assert!(value.is_empty());
        records.urge();
        let put: Vec<_> = records.records().collect();
        assert_eq!(
            put,
            [('a', &b"one"[..]), ('b', b"")].map(|(destination, value)| Record {
                destination,
                key: b"box-1#clock",
                value: Some(value),
            })
        );
        assert_eq!((records.len(), records.bytes()), (2, 14));
        assert!(records.is_urgent());
        records.put_tombstone('c', &key);
        assert_eq!(records.records().last().and_then(|last| last.value), None);
        records.clear();
        assert!(records.is_empty() && !records.is_urgent() && records.bytes() == 0);
    }
}
