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
