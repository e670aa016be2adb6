//! Records that wait for the one before them in their epoch. Bounded in
//! number, bytes and time; keeps what the caller would otherwise read again.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
};

use returnpath_shared::{BatchId, Lane, Sequence};

use crate::{
    limit::{WAIT_MS, WAITING_BYTES_MAX, WAITING_RECORDS_MAX, WAITING_RECORDS_PER_DEVICE_MAX},
    record::RawRecord,
};

/// Where a partition keeps a device.
pub(super) type DeviceIndex = usize;

/// Names a record that waits. Ordered by device, epoch, sequence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Slot {
    pub(super) device: DeviceIndex,
    pub(super) id: BatchId,
}

/// A record kept while it waits.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) value: Box<[u8]>,
    pub(super) lane: Lane,
    pub(super) received_unix_ms: i64,
    pub(super) offset: i64,
}

#[derive(Clone, Default, Debug)]
pub(super) struct Waiting {
    records: BTreeMap<Slot, Kept>,
    bytes: usize,
    /// When each must go on, in the order of arrival. The front waits still.
    deadlines: VecDeque<(u64, Slot)>,
    /// A clock that runs backwards does not lengthen a wait.
    now_ms: u64,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn contains(&self, slot: Slot) -> bool {
        !self.records.is_empty() && self.records.contains_key(&slot)
    }

    /// Keeps a record, or says that there is no room.
    pub(super) fn keep(&mut self, slot: Slot, record: &RawRecord<'_>, now_ms: u64) -> Keep {
        let of_device = self
            .records
            .keys()
            .filter(|other| other.device == slot.device)
            .count();
        if self.records.len() >= WAITING_RECORDS_MAX
            || self.bytes + record.value.len() > WAITING_BYTES_MAX
            || of_device >= WAITING_RECORDS_PER_DEVICE_MAX
        {
            return Keep::NoRoom;
        }
        self.now_ms = self.now_ms.max(now_ms);
        self.deadlines
            .push_back((self.now_ms.saturating_add(WAIT_MS), slot));
        self.bytes += record.value.len();
        let kept = Kept {
            value: record.value.into(),
            lane: record.lane,
            received_unix_ms: record.received_unix_ms,
            offset: record.offset,
        };
        self.records.insert(slot, kept);
        Keep::Kept
    }

    /// Takes one record out.
    pub(super) fn take(&mut self, slot: Slot) -> Option<Kept> {
        if self.records.is_empty() {
            return None;
        }
        let kept = self.records.remove(&slot)?;
        self.bytes -= kept.value.len();
        while let Some((_, front)) = self.deadlines.front()
            && !self.records.contains_key(front)
        {
            self.deadlines.pop_front();
        }
        Some(kept)
    }

    /// The lowest record that waits in the epoch of `slot`, up to `slot`.
    pub(super) fn lowest_up_to(&self, slot: Slot) -> Option<Slot> {
        if self.records.is_empty() {
            return None;
        }
        let lowest = Slot {
            device: slot.device,
            id: BatchId {
                epoch: slot.id.epoch,
                sequence: Sequence(0),
            },
        };
        let (found, _) = self.records.range(lowest..=slot).next()?;
        Some(*found)
    }

    /// The record that has waited longest, whatever the time.
    pub(super) fn oldest(&self) -> Option<Slot> {
        self.deadlines.front().map(|(_, slot)| *slot)
    }

    /// The record that has waited longest, if its time is over.
    pub(super) fn due(&self, now_ms: u64) -> Option<Slot> {
        let (deadline_ms, slot) = self.deadlines.front()?;
        (*deadline_ms <= now_ms).then_some(*slot)
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.deadlines.front().map(|(deadline_ms, _)| *deadline_ms)
    }

    pub(super) fn lowest_offset(&self, lane: Lane) -> Option<i64> {
        let of_lane = self.records.values().filter(|kept| kept.lane == lane);
        of_lane.map(|kept| kept.offset).min()
    }

    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.deadlines.clear();
        self.bytes = 0;
    }
}

/// Whether a record waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keep {
    Kept,
    NoRoom,
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use returnpath_shared::{Epoch, Incarnation, RAW_RECORD_BYTES_MAX};

    use super::*;

    fn slot(number: usize) -> Slot {
        Slot {
            device: number,
            id: BatchId {
                epoch: Epoch {
                    incarnation: Incarnation::new(1).unwrap(),
                    start: 1,
                },
                sequence: Sequence(2),
            },
        }
    }

    fn keep(waiting: &mut Waiting, number: usize, value: &[u8]) -> Keep {
        let record = RawRecord {
            key: b"box",
            value,
            lane: Lane::Live,
            received_unix_ms: 0,
            offset: 0,
        };
        waiting.keep(slot(number), &record, 0)
    }

    /// Keeps records of one size until there is no room, and says how many.
    fn fill(waiting: &mut Waiting, value: &[u8]) -> usize {
        (0..)
            .take_while(|number| keep(waiting, *number, value) == Keep::Kept)
            .count()
    }

    #[test]
    fn room_is_bounded_in_number_and_bytes_and_comes_back() {
        let mut waiting = Waiting::default();
        let large: Vec<u8> = alloc::vec![0; RAW_RECORD_BYTES_MAX];
        let expected = WAITING_BYTES_MAX / RAW_RECORD_BYTES_MAX;
        for _ in 0..2 {
            assert_eq!(fill(&mut waiting, &large), expected);
            for number in 0..expected {
                assert!(waiting.take(slot(number)).is_some());
            }
            assert_eq!(waiting.next_deadline(), None);
        }
        assert_eq!(fill(&mut waiting, b"small"), WAITING_RECORDS_MAX);
        waiting.clear();
        assert_eq!(fill(&mut waiting, &large), expected);
    }

    #[test]
    fn a_clock_that_runs_backwards_lengthens_no_wait() {
        let mut waiting = Waiting::default();
        let record = |now_ms, number, waiting: &mut Waiting| {
            let record = RawRecord {
                key: b"box",
                value: b"",
                lane: Lane::Live,
                received_unix_ms: 0,
                offset: 0,
            };
            waiting.keep(slot(number), &record, now_ms)
        };
        record(1_000, 1, &mut waiting);
        record(10, 2, &mut waiting);
        assert_eq!(waiting.due(1_000 + WAIT_MS - 1), None);
        assert_eq!(waiting.due(1_000 + WAIT_MS), Some(slot(1)));
        waiting.take(slot(1));
        assert_eq!(waiting.due(1_000 + WAIT_MS), Some(slot(2)));
    }
}
