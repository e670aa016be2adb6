//! When a transaction ends. Pure: the time is an argument.
//!
//! A transaction has a price that does not depend on its size: five requests
//! of ours, and a marker that Kafka writes into every partition touched. So
//! under load they are made large, and rare; but an event that someone waits
//! for does not wait for company, and after a pause the first one never does.
//!
//! So an *urgent* event (an opportunity, a decision) shortens the transaction
//! that it is in: while nothing else is at hand it ends at once, and while
//! records keep coming it ends as long after the event as the role says
//! (`Terms::urgent_hold`), instead of [`ORDINARY_HOLD_MS`] after its beginning.
//! Where Kafka is slow, that is at least a quarter of what the last commit
//! took: a fifth of the time goes into work then, at least, and a slow Kafka
//! does not turn into a queue that makes every event late. What else is in the
//! transaction leaves with it. (A role that works ahead of a commit has waited
//! that long when it ends: its commits follow each other.)
//!
//! The price is their number: some 40 a second in place of 5 while urgent events
//! flow, each with its requests and markers, paid by Kafka's brokers first and
//! the same for one event or a thousand; and one commit is under way at a time,
//! so their number is bounded by Kafka's own pace.

use returnpath_shared::Urgency;

/// Records produced in one transaction, at most. One that is aborted is done
/// again, and its outputs are held in the producer's queue: both stay small.
pub(super) const RECORDS_MAX: usize = 20_000;

/// Bytes produced in one transaction, at most; as for their number.
pub(super) const BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long an ordinary event may wait for others, in ms. Analysts want
/// seconds; 5 transactions a second cost next to nothing.
pub(super) const ORDINARY_HOLD_MS: u64 = 200;

/// The part of the last commit's time that an urgent event waits for others at
/// least, while records keep coming.
const COMMIT_PART: u64 = 4;

/// Whether more records are at hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Supply {
    Flowing,
    Dry,
}

/// The open transaction, and when the last one ended.
#[derive(Debug)]
pub(super) struct Cadence {
    urgent_hold_ms: u64,
    last_end_ms: Option<u64>,
    last_commit_ms: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    since_ms: u64,
    urgent_since_ms: Option<u64>,
    records: usize,
    bytes: usize,
}

impl Cadence {
    /// Nothing is open. While records keep coming, an urgent event waits this
    /// long for others.
    pub(super) fn new(urgent_hold_ms: u64) -> Self {
        Self {
            urgent_hold_ms,
            last_end_ms: None,
            last_commit_ms: 0,
            open: None,
        }
    }

    /// Something was done that belongs to a transaction.
    pub(super) fn add(&mut self, now_ms: u64, urgency: Urgency, records: usize, bytes: usize) {
        let open = self.open.get_or_insert(Open {
            since_ms: now_ms,
            urgent_since_ms: None,
            records: 0,
            bytes: 0,
        });
        if urgency == Urgency::Urgent {
            open.urgent_since_ms.get_or_insert(now_ms);
        }
        open.records += records;
        open.bytes += bytes;
    }

    /// The open transaction is complete; what is added now belongs to the next.
    pub(super) fn seal(&mut self) {
        self.open = None;
    }

    /// What was sealed ended, one way or the other; ending it took so long.
    pub(super) fn ended(&mut self, now_ms: u64, commit_ms: u64) {
        self.last_end_ms = Some(now_ms);
        self.last_commit_ms = commit_ms;
    }

    /// Whether something was done since the last end.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether the open transaction is as large as it may be.
    pub(super) fn is_full(&self) -> bool {
        let open = self.open.as_ref();
        open.is_some_and(|open| open.records >= RECORDS_MAX || open.bytes >= BYTES_MAX)
    }

    /// Whether the open transaction must end now.
    pub(super) fn is_due(&self, now_ms: u64, supply: Supply) -> bool {
        self.is_full() || self.due_ms(supply).is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// When it must end at the latest; `None` while nothing is open.
    pub(super) fn due_ms(&self, supply: Supply) -> Option<u64> {
        let open = self.open.as_ref()?;
        let ordinary_ms = match (supply, self.last_end_ms) {
            (Supply::Flowing, _) => open.since_ms + ORDINARY_HOLD_MS,
            // After a pause at once; else as if held since the last end.
            (Supply::Dry, Some(end_ms)) => open.since_ms.max(end_ms + ORDINARY_HOLD_MS),
            (Supply::Dry, None) => open.since_ms,
        };
        let urgent_ms = open.urgent_since_ms.map(|since_ms| match supply {
            Supply::Flowing => {
                since_ms + self.urgent_hold_ms.max(self.last_commit_ms / COMMIT_PART)
            }
            Supply::Dry => since_ms,
        });
        Some(urgent_ms.map_or(ordinary_ms, |urgent_ms| ordinary_ms.min(urgent_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD_MS: u64 = 10;

    fn open_at(now_ms: u64, urgency: Urgency, last_end_ms: Option<u64>) -> Cadence {
        let mut cadence = Cadence {
            last_end_ms,
            ..Cadence::new(HOLD_MS)
        };
        cadence.add(now_ms, urgency, 1, 100);
        cadence
    }

    #[test]
    fn nothing_is_due_while_nothing_was_done() {
        let cadence = Cadence::new(HOLD_MS);
        assert!(!cadence.is_due(u64::MAX, Supply::Dry));
        assert_eq!(cadence.due_ms(Supply::Dry), None);
    }

    #[test]
    fn each_situation_has_its_time() {
        use Supply::{Dry, Flowing};
        use Urgency::{Batched, Urgent};

        // Opened at 1,000.
        for (urgency, last_end_ms, supply, due_ms) in [
            (Batched, None, Dry, 1_000),
            (Batched, None, Flowing, 1_200),
            (Batched, Some(500), Dry, 1_000),
            (Batched, Some(900), Dry, 1_100),
            (Batched, Some(1_000), Dry, 1_200),
            (Batched, Some(900), Flowing, 1_200),
            (Urgent, Some(999), Dry, 1_000),
            (Urgent, Some(999), Flowing, 1_010),
        ] {
            let cadence = open_at(1_000, urgency, last_end_ms);
            let case = (urgency, last_end_ms, supply);
            assert_eq!(cadence.due_ms(supply), Some(due_ms), "{case:?}");
            assert!(cadence.is_due(due_ms, supply), "{case:?}");
            assert!(!cadence.is_due(due_ms - 1, supply), "{case:?}");
        }
    }

    #[test]
    fn an_urgent_event_hurries_an_ordinary_transaction() {
        let mut cadence = open_at(1_000, Urgency::Batched, Some(999));
        cadence.add(1_050, Urgency::Urgent, 1, 100);
        cadence.add(1_055, Urgency::Urgent, 1, 100);
        assert_eq!(cadence.due_ms(Supply::Flowing), Some(1_060));
    }

    #[test]
    fn slow_commits_are_given_more_work() {
        for (commit_ms, due_ms) in [(5, 1_010), (40, 1_010), (80, 1_020), (5_000, 1_200)] {
            let mut cadence = Cadence::new(HOLD_MS);
            cadence.ended(900, commit_ms);
            cadence.add(1_000, Urgency::Urgent, 1, 100);
            assert_eq!(cadence.due_ms(Supply::Flowing), Some(due_ms));
            assert_eq!(cadence.due_ms(Supply::Dry), Some(1_000));
        }
    }

    #[test]
    fn a_full_transaction_ends_at_once() {
        for (records, bytes) in [(RECORDS_MAX - 1, 0), (0, BYTES_MAX - 100)] {
            let mut cadence = open_at(1_000, Urgency::Batched, None);
            assert!(!cadence.is_due(1_000, Supply::Flowing));
            cadence.add(1_000, Urgency::Batched, records, bytes);
            assert!(cadence.is_due(1_000, Supply::Flowing));
        }
    }
}
