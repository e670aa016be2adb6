//! The transaction as it is filled: outputs and changelogs, held back to be
//! given to Kafka's client together. Which calls that leads to, and what their
//! errors mean, is `producer`'s.

use std::sync::Arc;

use rdkafka::producer::BaseRecord;
use returnpath_transaction::Records;

use super::{
    Error, Worker,
    producer::{Broken, Failure, Producer},
};

/// Records and bytes that are held back, to be given to the client together.
/// One by one, each wakes a thread of the client's, and a transaction of a few
/// records costs as many wake-ups as it has records: most of its price. A large
/// transaction is handed over piece by piece, so that its first records are
/// under way while the last are made; only what is added while another is being
/// committed waits as a whole, up to the bounds of a transaction.
const HELD_RECORDS_MAX: usize = 256;
const HELD_BYTES_MAX: usize = 256 * 1024;

/// The open transaction, on its way to the client.
pub(super) struct Sink {
    producer: Arc<Producer>,
    /// Whether the client has a transaction.
    is_begun: bool,
    /// Whether that one is complete: what comes now belongs to the next, which
    /// the client takes once it has ended. All of it is held back until then;
    /// the cadence says how much there may be.
    is_sealed: bool,
    /// Not given to the client yet.
    held: Records<Place>,
    /// Topics written to so far; no more than the role has.
    topics: Vec<Box<str>>,
}

/// Where a held record goes.
#[derive(Clone, Copy)]
struct Place {
    /// In `Sink::topics`.
    topic: usize,
    partition: i32,
}

impl Sink {
    /// With a client of its own; nothing is asked of Kafka yet.
    pub(super) fn new(worker: &Worker) -> Result<Self, Error> {
        Ok(Self {
            producer: Arc::new(Producer::new(worker)?),
            is_begun: false,
            is_sealed: false,
            held: Records::new(),
            topics: Vec::new(),
        })
    }

    /// The client, to commit what was sealed.
    pub(super) fn producer(&self) -> &Arc<Producer> {
        &self.producer
    }

    /// Adds a record to the transaction. It may be given to the client later,
    /// when the transaction is sealed at the latest.
    pub(super) fn send(
        &mut self,
        topic: &str,
        partition: i32,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), Failure> {
        let place = Place {
            topic: self.topic(topic),
            partition,
        };
        let key = self.held.put_key(&[key]);
        match value {
            Some(value) => {
                self.held
                    .put_record(place, &key, |bytes| bytes.extend_from_slice(value));
            }
            None => self.held.put_tombstone(place, &key),
        }
        let is_much = self.held.len() >= HELD_RECORDS_MAX || self.held.bytes() >= HELD_BYTES_MAX;
        if is_much && !self.is_sealed {
            self.hand_over()?;
        }
        Ok(())
    }

    /// The transaction is complete: gives the client the rest of it. To be
    /// committed then; [`ended`](Self::ended) says that it was.
    pub(super) fn seal(&mut self) -> Result<(), Failure> {
        self.hand_over()?;
        self.is_sealed = true;
        Ok(())
    }

    /// What was sealed is committed, or aborted.
    pub(super) fn ended(&mut self) {
        self.is_begun = false;
        self.is_sealed = false;
    }

    /// Drops what is held back and undoes what the client has.
    pub(super) fn abort(&mut self, worker: &Worker) -> Result<(), Broken> {
        self.clear();
        if self.is_begun {
            self.producer.abort(worker)?;
        }
        self.ended();
        Ok(())
    }

    /// Drops what is held back.
    pub(super) fn clear(&mut self) {
        self.held.clear();
    }

    fn topic(&mut self, name: &str) -> usize {
        let known = self.topics.iter().position(|topic| **topic == *name);
        known.unwrap_or_else(|| {
            self.topics.push(name.into());
            self.topics.len() - 1
        })
    }

    /// Gives the client what is held back, and begins a transaction where it
    /// has none.
    fn hand_over(&mut self) -> Result<(), Failure> {
        if !self.is_begun {
            self.producer.begin()?;
            self.is_begun = true;
        }
        for held in self.held.records() {
            let Place { topic, partition } = held.destination;
            let mut record = BaseRecord::<[u8], [u8]>::to(&self.topics[topic])
                .partition(partition)
                .key(held.key);
            if let Some(value) = held.value {
                record = record.payload(value);
            }
            self.producer.give(record)?;
        }
        self.held.clear();
        Ok(())
    }
}
