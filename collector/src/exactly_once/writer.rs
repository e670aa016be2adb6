//! What the work writes into the open transaction, for one partition.
//!
//! Writing does not fail for the work: the first record that Kafka's client
//! does not take is remembered, what follows is dropped, and the engine then
//! undoes the transaction.

use returnpath_shared::Urgency;

use super::{producer::Failure, sink::Sink};

/// Adds records to the transaction, all to the partition number of the input.
pub(crate) struct Writer<'a> {
    sink: &'a mut Sink,
    partition: i32,
    written: Written,
    sent: Result<(), Failure>,
}

/// What was written, for the cadence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Written {
    pub(super) records: usize,
    pub(super) bytes: usize,
    pub(super) urgency: Urgency,
}

impl<'a> Writer<'a> {
    pub(super) fn new(sink: &'a mut Sink, partition: i32) -> Self {
        Self {
            sink,
            partition,
            written: Written {
                records: 0,
                bytes: 0,
                urgency: Urgency::Batched,
            },
            sent: Ok(()),
        }
    }

    /// Adds a record; no value is a tombstone.
    pub(crate) fn write(&mut self, topic: &str, key: &[u8], value: Option<&[u8]>) {
        self.written.records += 1;
        self.written.bytes += key.len() + value.map_or(0, <[u8]>::len);
        if self.sent.is_ok() {
            self.sent = self.sink.send(topic, self.partition, key, value);
        }
    }

    /// Someone waits for the end of this transaction.
    pub(crate) fn urge(&mut self) {
        self.written.urgency = Urgency::Urgent;
    }

    pub(super) fn finish(self) -> (Written, Result<(), Failure>) {
        (self.written, self.sent)
    }
}
