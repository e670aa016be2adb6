//! The seam between the engine and a role: what a role does with a partition.

use std::{error::Error, time::Instant};

use super::Writer;

/// The two topics that a role reads, the same partitions of both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Input {
    /// Its partitions are assigned by the group; its records go first.
    Assigned,
    /// Read beside it, at a bounded share.
    Followed,
}

impl Input {
    /// Both, in the order of their numbers.
    pub(crate) const ALL: [Self; 2] = [Self::Assigned, Self::Followed];
}

/// One record that was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) input: Input,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    /// Its time in Kafka, milliseconds since 1970-01-01T00:00:00Z; 0 where it
    /// has none.
    pub(crate) timestamp_unix_ms: i64,
}

/// How the work stands with something that it was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stand {
    /// It led to something, or to nothing more: a transaction has to end for
    /// it, with its outputs or its offset alone.
    Done,
    /// It will lead to something later; until then nothing was written and no
    /// offset moves, so it needs no transaction.
    Pending,
}

/// What a role does with the partitions that it owns. Owns what they share;
/// what is known of one partition is a [`Partition`](Self::Partition), which
/// the engine keeps for it.
///
/// Between two ends of a transaction the engine gives records and news in any
/// order; then either
///
/// ```text
/// lowest_unfinished → changes → Kafka commits → committed
/// ```
///
/// or `aborted`, after which the inputs are read again from what was committed
/// last. Nothing in here may fail because of the world: what is bad becomes a
/// record. Nothing may wait.
///
/// `now_ms` is a clock of the engine's: since the role began, never backwards.
pub(crate) trait Work {
    /// Whether it takes records and news while Kafka commits a transaction:
    /// they belong to the next one, and `changes` separates the two. Then what
    /// someone waits for is done with when its own turn comes to be committed,
    /// for the price of a thread, and of a state that knows both.
    const WORKS_AHEAD: bool;

    /// What is known of one partition: what has been committed, on top of it
    /// what Kafka is committing, where the role works ahead, and what the open
    /// transaction did.
    type Partition;

    /// What comes from other threads; they ring the [`Bell`](super::Bell).
    type News;

    /// A partition of which nothing is known yet.
    fn partition(&mut self, number: i32) -> Self::Partition;

    /// Takes one record of a changelog, oldest first; the last of a key wins,
    /// no value forgets it. `changelog` is its place in the terms.
    ///
    /// # Errors
    /// When it cannot be read: our own data, so the role must not go on.
    fn restore(
        &mut self,
        partition: &mut Self::Partition,
        changelog: usize,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// All that was remembered is there, and reading begins.
    fn resumed(&mut self, partition: &mut Self::Partition, now_ms: u64) {
        let _ = (partition, now_ms);
    }

    /// Whether a further record of the assigned input can be taken now. While
    /// it cannot, none of any partition is: what bounds it must pass by itself.
    fn has_room(&self) -> bool {
        true
    }

    /// Takes one record; those of an input come by rising offset.
    fn take(
        &mut self,
        partition: &mut Self::Partition,
        record: &Record<'_>,
        now_ms: u64,
        writer: &mut Writer<'_>,
    ) -> Stand;

    /// When [`handle_timeout`](Self::handle_timeout) is due, on the clock of
    /// `now_ms`; `None` while nothing waits for a time.
    fn poll_timeout(&self, partition: &Self::Partition, now_ms: u64) -> Option<u64>;

    /// Does what is due.
    fn handle_timeout(
        &mut self,
        partition: &mut Self::Partition,
        now_ms: u64,
        writer: &mut Writer<'_>,
    ) -> Stand;

    /// The next thing that came from outside, and the partition it is for.
    fn news(&mut self) -> Option<(i32, Self::News)>;

    /// What came from outside is for a partition that is not ours.
    fn disregard(&mut self, news: Self::News);

    /// Takes what came from outside.
    fn hear(
        &mut self,
        partition: &mut Self::Partition,
        news: Self::News,
        now_ms: u64,
        writer: &mut Writer<'_>,
    ) -> Stand;

    /// The partition is to be handed over, or the role to end: does what can
    /// be done at once with all that still waits. What cannot is read again by
    /// the next owner.
    fn flush(&mut self, partition: &mut Self::Partition, writer: &mut Writer<'_>) -> Stand;

    /// The lowest offset of an input that is not finished: it and what follows
    /// is not committed.
    fn lowest_unfinished(&self, partition: &Self::Partition, input: Input) -> Option<i64>;

    /// Writes what the open transaction changed in the state, one record a
    /// key. Called once, as the last before its end; what comes after belongs
    /// to the next.
    fn changes(&mut self, partition: &mut Self::Partition, writer: &mut Writer<'_>);

    /// Kafka has the transaction of the last `changes`, since `at`: what it did
    /// stays.
    fn committed(&mut self, partition: &mut Self::Partition, at: Instant);

    /// Kafka has nothing of the transaction: all since the last commit has
    /// never been, and what waits is given again.
    fn aborted(&mut self, partition: &mut Self::Partition);

    /// The partition is no longer ours, or all is read again from Kafka.
    fn released(&mut self, partition: Self::Partition) {
        drop(partition);
    }

    /// The loop is about to sleep, as it does many times a second: what hinders
    /// the role although it has partitions, for its readiness.
    fn hindrance(&mut self, now_ms: u64) -> Option<&'static str> {
        let _ = now_ms;
        None
    }

    /// Boxes known in a partition: for metrics.
    fn devices(&self, partition: &Self::Partition) -> usize;
}
