//! The boxes of one partition, the askings under way, and the transaction on
//! what is known of them.

use alloc::{sync::Arc, vec::Vec};

use crate::{
    call::Answer,
    counts::Counts,
    gates::{CallId, Gates},
    input::{Input, InputRecord},
    now::Now,
    output::Output,
    push::Push,
    settings::Settings,
    signer::{Pseudonyms, Signer},
    state::RestoreError,
};

/// What the shell lends for one step.
pub struct Lent<'a> {
    /// The time.
    pub now: Now,
    /// The gates of the process.
    pub gates: &'a mut Gates,
    /// Signs what is decided.
    pub signer: &'a dyn Signer,
    /// Names the box towards those who are asked.
    pub pseudonyms: &'a dyn Pseudonyms,
}

/// How a call ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Which.
    pub call: CallId,
    /// What came of it.
    pub answer: Answer,
    /// When the request was begun to be sent, by the monotonic clock.
    pub sent_us: u64,
    /// When the answer was whole, or given up, likewise.
    pub ended_us: u64,
}

/// What is known of the boxes of one partition: exactly what has been
/// committed, plus the changes of the open transaction, which end with
/// [`commit`](Self::commit) or [`abort`](Self::abort); and the askings that are
/// under way, which belong to no transaction.
#[derive(Debug)]
pub struct Partition {
    settings: Arc<Settings>,
}

impl Partition {
    /// One that knows no box.
    #[must_use]
    pub fn new(settings: Arc<Settings>) -> Self {
        Self { settings }
    }

    /// Takes one record of the changelog, oldest first; the last of a key
    /// wins, `None` forgets it. For loading on assignment only, before the
    /// first input.
    ///
    /// # Errors
    /// When key or value are not as this crate writes them.
    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), RestoreError> {
        let _ = (key, value, &self.settings);
        Ok(())
    }

    /// After the last [`restore`](Self::restore): what was recorded, has not
    /// expired and was never acknowledged is pushed again.
    pub fn resume(&mut self, now: Now, pushes: &mut Vec<Push>) {
        let _ = (now, pushes);
    }

    /// Takes one record of `rp.opportunities`, in the order of their offsets.
    /// Bad input is never an error here: it is counted and skipped.
    pub fn opportunity(&mut self, record: &InputRecord<'_>, lent: Lent<'_>, out: &mut Output) {
        let _ = (record, lent.now, lent.gates, lent.signer, lent.pseudonyms, out);
    }

    /// Takes one record of `rp.ads`, in the order of their offsets. Bad input
    /// is counted and skipped.
    pub fn ad_event(&mut self, record: &InputRecord<'_>, now: Now, out: &mut Output) {
        let _ = (record, now, out);
    }

    /// Takes the end of a call. Every call must come back here once, also
    /// after an [`abort`](Self::abort), or to [`Gates::abandoned`] when the
    /// partition is gone: the gates count what is under way.
    pub fn answered(&mut self, ended: Ended, lent: Lent<'_>, out: &mut Output) {
        lent.gates.abandoned(ended.call, lent.now.monotonic_us);
        let _ = (lent.signer, lent.pseudonyms, out);
    }

    /// The broker has a decision (PUBACK).
    pub fn pushed(&mut self, device: &str, decision_id: &str, now: Now, out: &mut Output) {
        let _ = (device, decision_id, now, out);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due, on the monotonic
    /// clock, in microseconds; `None` while nothing waits.
    #[must_use]
    pub fn poll_timeout(&self, now: Now) -> Option<u64> {
        let _ = now;
        None
    }

    /// Decides what has waited long enough, and closes what was never
    /// acknowledged.
    pub fn handle_timeout(&mut self, lent: Lent<'_>, out: &mut Output) {
        let _ = (lent.now, lent.gates, lent.signer, lent.pseudonyms, out);
    }

    /// Whether the partition takes further opportunities: read on only then.
    #[must_use]
    pub fn has_room(&self) -> bool {
        true
    }

    /// The lowest offset of an input that is not yet finished. Offsets from it
    /// on must not be committed: commit this, or the next offset where it is
    /// `None`. Records beyond it that are read again are recognised.
    #[must_use]
    pub fn lowest_unfinished_offset(&self, input: Input) -> Option<i64> {
        let _ = input;
        None
    }

    /// Appends the changelog records of the open transaction, one a device.
    /// Call once, after the last input of the transaction.
    pub fn changes(&self, out: &mut Output) {
        let _ = out;
    }

    /// Appends the whole state as changelog records, in the order of their
    /// keys: what a fresh partition needs to [`restore`](Self::restore).
    pub fn snapshot(&self, out: &mut Output) {
        let _ = out;
    }

    /// Kafka has committed the transaction: its changes stay, and its decisions
    /// are to be pushed. Returns what it did, for metrics. What is being asked
    /// goes on.
    pub fn commit(&mut self, pushes: &mut Vec<Push>) -> Counts {
        let _ = pushes;
        Counts::default()
    }

    /// Kafka has aborted the transaction: everything since the last commit is
    /// undone, as if it had never been. What is being asked is dropped too; the
    /// shell reads again from the committed offsets, which are not beyond it.
    pub fn abort(&mut self) {}

    /// Boxes known: for metrics.
    #[must_use]
    pub fn devices(&self) -> usize {
        0
    }

    /// Opportunities being decided: for metrics.
    #[must_use]
    pub fn under_way(&self) -> usize {
        0
    }
}
