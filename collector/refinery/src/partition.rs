//! The state of the boxes of one partition, and the transaction on it.

use returnpath_shared::Lane;
use thiserror::Error;

use crate::{counts::Counts, output::Output, record::RawRecord};

/// Why a record of `rp.refine.state` cannot be loaded. Our own data: the shell
/// must not go on with a hole in its memory.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RestoreError {
    /// No key of ours: a device id, alone or followed by `#proof` or `#clock`,
    /// or `#unread`.
    #[error("key of {length} bytes is no state key")]
    Key {
        /// Length of the key in bytes.
        length: usize,
    },
    /// The value is no state message.
    #[error("value of the state record cannot be decoded")]
    Decode(#[source] prost::DecodeError),
    /// The value breaks a rule of `state.proto`.
    #[error("{field} of the state record breaks its rule")]
    Rule {
        /// Path of the field.
        field: &'static str,
    },
}

/// What is known of the boxes of one partition: exactly what has been
/// committed, plus the changes of the open transaction, which end with
/// [`commit`](Self::commit) or [`abort`](Self::abort).
#[derive(Debug, Default)]
pub struct Partition {}

impl Partition {
    /// One that knows no box.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one record of the changelog, oldest first; the last of a key
    /// wins, `None` forgets it. For loading on assignment only, before the
    /// first [`refine`](Self::refine).
    ///
    /// # Errors
    /// When key or value are not as this crate writes them.
    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), RestoreError> {
        let _ = (key, value);
        Ok(())
    }

    /// Refines one record, or lets it wait for the one before it.
    ///
    /// Records of a lane come in the order of their offsets. `now_ms` is a
    /// monotonic clock of the caller's choice, for waiting alone. Bad input is
    /// never an error here: it becomes a rejection in `out`.
    pub fn refine(&mut self, record: &RawRecord<'_>, now_ms: u64, out: &mut Output) {
        let _ = (record, now_ms, out);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due, on the clock of
    /// `now_ms`; `None` while nothing waits.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        None
    }

    /// Refines what has waited long enough.
    pub fn handle_timeout(&mut self, now_ms: u64, out: &mut Output) {
        let _ = (now_ms, out);
    }

    /// Refines all that waits, at once: before handing the partition over.
    pub fn flush(&mut self, out: &mut Output) {
        let _ = out;
    }

    /// The lowest offset of a lane that still waits. Offsets from it on must
    /// not be committed: commit this, or the next offset where it is `None`.
    /// Records beyond it that are read again are recognised as duplicates.
    #[must_use]
    pub fn lowest_waiting_offset(&self, lane: Lane) -> Option<i64> {
        let _ = lane;
        None
    }

    /// Appends the changelog records of the open transaction, one a key.
    /// Call once, after the last `refine` of the transaction.
    pub fn changes(&mut self, out: &mut Output) {
        let _ = out;
    }

    /// Kafka has committed the transaction: its changes stay. Returns what it
    /// did, for metrics. What waits goes on waiting.
    pub fn commit(&mut self) -> Counts {
        Counts::default()
    }

    /// Kafka has aborted the transaction: everything since the last commit is
    /// undone, as if it had never been. What waits is dropped too; the shell
    /// reads again from the committed offsets, which are not beyond it.
    pub fn abort(&mut self) {}

    /// Boxes known: for metrics.
    #[must_use]
    pub fn devices(&self) -> usize {
        0
    }

    /// Records that wait: for metrics.
    #[must_use]
    pub fn waiting(&self) -> usize {
        0
    }
}
