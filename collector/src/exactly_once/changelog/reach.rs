//! How far a client has read, by what it says of itself.
//!
//! That a partition has ended is no proof of it: the client says so wherever
//! the node that it asks has nothing more to give, and a node that has just
//! become the leader may for a moment know of less than was committed. The
//! place of the end is told in the client's statistics alone.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rdkafka::{
    ClientContext, Statistics, config::RDKafkaLogLevel, consumer::ConsumerContext,
    error::KafkaError,
};

use crate::kafka::Context;

/// How often the client speaks, in ms: what a changelog may take longer by.
/// Each time costs a fraction of a millisecond, and only while state is loaded.
pub(super) const TELL_EVERY_MS: &str = "25";

/// The context of a client that reads.
pub(super) struct Reach {
    context: Context,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// By topic, then partition: the next offset where the client last found
    /// an end; negative where it found none.
    ends: BTreeMap<String, BTreeMap<i32, i64>>,
    /// How often it has told anything at all.
    times: u64,
}

impl Reach {
    pub(super) fn new(context: Context) -> Self {
        Self {
            context,
            told: Mutex::default(),
        }
    }

    /// How often the client has told anything. Where this did not change while
    /// a poll found nothing, there was nothing: what is told comes before what
    /// was read, and may end a poll too.
    pub(super) fn times_told(&self) -> u64 {
        self.lock().times
    }

    /// Whether the client had everything below `end` when it last spoke.
    pub(super) fn is_beyond(&self, topic: &str, partition: i32, end: i64) -> bool {
        let told = self.lock();
        let reached = told.ends.get(topic).and_then(|ends| ends.get(&partition));
        reached.is_some_and(|reached| *reached >= end)
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        // Written in one go.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Reach {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.lock().times += 1;
        self.context.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.lock().times += 1;
        self.context.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let ends = statistics.topics.into_iter().map(|(name, topic)| {
            let partitions = topic.partitions.into_values();
            let ends = partitions.map(|partition| (partition.partition, partition.eof_offset));
            (name, ends.collect())
        });
        let mut told = self.lock();
        told.times += 1;
        told.ends = ends.collect();
    }
}

impl ConsumerContext for Reach {}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::{Partition, Topic};

    use super::*;

    fn statistics(eof_offset: i64) -> Statistics {
        let partition = Partition {
            partition: 3,
            eof_offset,
            ..Partition::default()
        };
        let topic = Topic {
            partitions: [(3, partition)].into(),
            ..Topic::default()
        };
        Statistics {
            topics: [("state".to_owned(), topic)].into(),
            ..Statistics::default()
        }
    }

    #[test]
    fn an_end_that_lies_below_what_was_committed_is_none() {
        let reach = Reach::new(Context { owner: "test" });
        assert!(!reach.is_beyond("state", 3, 10));
        // Before the first end there is a negative number.
        reach.stats(statistics(-1_001));
        assert!(!reach.is_beyond("state", 3, 10));
        reach.stats(statistics(9));
        assert!(!reach.is_beyond("state", 3, 10));
        reach.stats(statistics(10));
        assert!(reach.is_beyond("state", 3, 10));
        assert!(!reach.is_beyond("state", 2, 10));
        assert!(!reach.is_beyond("other", 3, 10));
        assert_eq!(reach.times_told(), 3);
    }
}
