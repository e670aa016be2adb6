//! The boxes of one partition, and the transaction on what is known of them.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};
use core::cmp::Ordering;

use returnpath_shared::{BatchId, DeviceId, Lane, Sequence, wire::RejectionReason};
use returnpath_transaction::Versioned;

use crate::{
    arrivals::Standing,
    batch::BatchHead,
    completeness::{self, BoxCompleteness},
    counts::Counts,
    device::{self, Device},
    encode::{Rejected, put_rejected},
    envelope::Envelope,
    limit::Limits,
    order::Moment,
    output::{Destination, Output},
    record::RawRecord,
    refining::Refining,
    rejection::Rejection,
    state::{RestoreError, StateKey, UNREAD_KEY},
    unpack::Unpacker,
    unread::Unread,
};

mod waiting;

use waiting::{DeviceIndex, Keep, Slot, Waiting};

/// What is known of the boxes of one partition: exactly what has been
/// committed, plus the changes of the open transaction, which end with
/// [`commit`](Self::commit) or [`abort`](Self::abort).
#[derive(Debug, Default)]
pub struct Partition {
    devices: Vec<Device>,
    index: BTreeMap<Box<[u8]>, DeviceIndex>,
    limits: Limits,
    unread: Versioned<Unread>,
    waiting: Waiting,
    /// Devices that the open transaction has touched.
    touched: Vec<DeviceIndex>,
    /// Devices known when the open transaction began.
    devices_committed: usize,
    counts: Counts,
    unpacker: Unpacker,
    shared: Vec<u8>,
}

impl Partition {
    /// One that knows no box.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One that knows no box and remembers within other bounds.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Takes one record of the changelog, oldest first; the last of a key
    /// wins, `None` forgets it. For loading on assignment only, before the
    /// first [`refine`](Self::refine).
    ///
    /// # Errors
    /// When key or value are not as this crate writes them.
    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), RestoreError> {
        match StateKey::read(key)? {
            StateKey::Arrivals(device) => self.known(device).restore_arrivals(value)?,
            StateKey::Clocks(device) => self.known(device).restore_clocks(value)?,
            StateKey::Proofs(device) => self.known(device).restore_proofs(value)?,
            StateKey::Unread => self.unread.load(Unread::from_wire(&device::decode(value)?)),
        }
        self.devices_committed = self.devices.len();
        Ok(())
    }

    /// Takes one record of `rp.devices`, as [`restore`](Self::restore) takes
    /// those of the changelog: the topic is the only copy of the profiles.
    ///
    /// # Errors
    /// When key or value are not as this crate writes them.
    pub fn restore_profile(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), RestoreError> {
        if !DeviceId::is_valid(key) {
            return Err(RestoreError::Key { length: key.len() });
        }
        self.known(key).restore_profile(value)?;
        self.devices_committed = self.devices.len();
        Ok(())
    }

    /// Takes one record of `rp.completeness`, as [`restore`](Self::restore)
    /// takes those of the changelog: the topic is the only copy of what boxes
    /// declared lost.
    ///
    /// # Errors
    /// When key or value are not as this crate writes them.
    pub fn restore_completeness(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), RestoreError> {
        let (device, epoch) = completeness::key_epoch(key)?;
        self.known(device).restore_completeness(epoch, value)?;
        self.devices_committed = self.devices.len();
        Ok(())
    }

    /// Refines one record, or lets it wait for the one before it.
    ///
    /// Records of a lane come in the order of their offsets. `now_ms` is a
    /// monotonic clock of the caller's choice, for waiting alone. Bad input is
    /// never an error here: it becomes a rejection in `out`.
    pub fn refine(&mut self, record: &RawRecord<'_>, now_ms: u64, out: &mut Output) {
        if !DeviceId::is_valid(record.key) {
            let detail = "the key must be a device id, 1 to 64 of [A-Za-z0-9_-]";
            self.reject_unread(record, &Rejection::new(RejectionReason::Key, detail), out);
            return;
        }
        let envelope = match Envelope::read(record.value) {
            Ok(envelope) => envelope,
            Err(why) => return self.reject_unread(record, &why, out),
        };
        let slot = Slot {
            device: self.touch(record.key),
            id: envelope.id,
        };
        match self.standing(slot) {
            Standing::Duplicate => {
                self.refining(slot.device, record, &envelope, out).hear();
                self.counts.duplicate_batches += 1;
                return;
            }
            Standing::New | Standing::Late if self.waiting.contains(slot) => {
                self.counts.duplicate_batches += 1;
                return;
            }
            Standing::New if self.has_gap_before(slot) && !envelope.is_oldest_held() => {
                match self.waiting.keep(slot, record, now_ms) {
                    Keep::Kept => {
                        self.counts.waited += 1;
                        return;
                    }
                    Keep::NoRoom => self.counts.waits_refused += 1,
                }
            }
            Standing::New | Standing::Late | Standing::Forgotten => {}
        }
        self.release_up_to(slot, out);
        self.refining(slot.device, record, &envelope, out).run();
        self.release_after(slot, out);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due, on the clock of
    /// `now_ms`; `None` while nothing waits.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        self.waiting.next_deadline()
    }

    /// Refines what has waited long enough.
    pub fn handle_timeout(&mut self, now_ms: u64, out: &mut Output) {
        while let Some(slot) = self.waiting.due(now_ms) {
            self.counts.waits_expired += 1;
            self.release_up_to(slot, out);
            self.release_after(slot, out);
        }
    }

    /// Refines all that waits, at once: before handing the partition over.
    pub fn flush(&mut self, out: &mut Output) {
        while let Some(slot) = self.waiting.oldest() {
            self.counts.waits_expired += 1;
            self.release_up_to(slot, out);
            self.release_after(slot, out);
        }
    }

    /// The lowest offset of a lane that still waits. Offsets from it on must
    /// not be committed: commit this, or the next offset where it is `None`.
    /// Records beyond it that are read again are recognised as duplicates.
    #[must_use]
    pub fn lowest_waiting_offset(&self, lane: Lane) -> Option<i64> {
        self.waiting.lowest_offset(lane)
    }

    /// Appends the changelog records, profiles and accounts of the open
    /// transaction, one a key and topic.
    /// Call once, after the last `refine` of the transaction.
    pub fn changes(&self, out: &mut Output) {
        for device in &self.touched {
            self.devices[*device].put_changes(out);
        }
        if self.unread.is_changed() {
            device::put(out, &[UNREAD_KEY], &self.unread.get().to_wire());
        }
    }

    /// Appends the whole state as changelog records, profiles and accounts, in
    /// the order of the boxes: what a fresh partition needs to
    /// [`restore`](Self::restore), [`restore_profile`](Self::restore_profile)
    /// and [`restore_completeness`](Self::restore_completeness).
    pub fn snapshot(&self, out: &mut Output) {
        if *self.unread.get() != Unread::default() {
            device::put(out, &[UNREAD_KEY], &self.unread.get().to_wire());
        }
        for device in self.index.values() {
            self.devices[*device].put_all(out);
        }
    }

    /// Kafka has committed the transaction: its changes stay. Returns what it
    /// did, for metrics. What waits goes on waiting.
    pub fn commit(&mut self) -> Counts {
        for device in self.touched.drain(..) {
            self.devices[device].commit();
        }
        self.unread.commit();
        self.devices_committed = self.devices.len();
        core::mem::take(&mut self.counts)
    }

    /// Kafka has aborted the transaction: everything since the last commit is
    /// undone, as if it had never been. What waits is dropped too; the shell
    /// reads again from the committed offsets, which are not beyond it.
    pub fn abort(&mut self) {
        for device in self.touched.drain(..) {
            self.devices[device].abort();
        }
        for device in self.devices.drain(self.devices_committed..) {
            self.index.remove(&device.key);
        }
        self.unread.abort();
        self.waiting.clear();
        self.counts = Counts::default();
    }

    /// Whether an event of a box is later than another of its events: by start
    /// and ordinal, between queue files by the arrival of their first batches.
    /// Not later where that is not known.
    #[must_use]
    pub fn is_later(&self, device: &DeviceId, event: Moment, than: Moment) -> bool {
        let Some(known) = self.index.get(device.as_str().as_bytes()) else {
            return false;
        };
        event.compare(than, self.devices[*known].arrivals.get()) == Some(Ordering::Greater)
    }

    /// What has arrived of each box, and what has not: for metrics. Goes over
    /// everything that is known, so not to be called with each transaction.
    pub fn completeness(&self) -> impl Iterator<Item = BoxCompleteness<'_>> {
        self.devices.iter().map(Device::tell_completeness)
    }

    /// Boxes known: for metrics.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Records that wait: for metrics.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn standing(&self, slot: Slot) -> Standing {
        self.devices[slot.device].arrivals.get().standing(slot.id)
    }

    /// Whether the record before this one in its epoch may still come soon.
    fn has_gap_before(&self, slot: Slot) -> bool {
        let before = Slot {
            id: BatchId {
                sequence: Sequence(slot.id.sequence.0 - 1),
                ..slot.id
            },
            ..slot
        };
        before.id.sequence.0 > 0 && self.standing(before) == Standing::New
    }

    /// Refines what waits in the epoch of `slot` up to it, in order.
    fn release_up_to(&mut self, slot: Slot, out: &mut Output) {
        while let Some(lowest) = self.waiting.lowest_up_to(slot) {
            self.release(lowest, out);
        }
    }

    /// Refines what waited for `slot`, and what waited for that.
    fn release_after(&mut self, mut slot: Slot, out: &mut Output) {
        while let Some(next) = slot.id.sequence.0.checked_add(1) {
            slot.id.sequence = Sequence(next);
            if !self.release(slot, out) {
                return;
            }
        }
    }

    /// Refines one record that waits; says whether there was one.
    fn release(&mut self, slot: Slot, out: &mut Output) -> bool {
        let Some(kept) = self.waiting.take(slot) else {
            return false;
        };
        let key = self.devices[slot.device].key.clone();
        self.touch_known(slot.device);
        let record = RawRecord {
            key: &key,
            value: &kept.value,
            lane: kept.lane,
            received_unix_ms: kept.received_unix_ms,
            offset: kept.offset,
        };
        match Envelope::read(&kept.value) {
            Ok(envelope) => self.refining(slot.device, &record, &envelope, out).run(),
            // It was read before it waited.
            Err(why) => self.reject_unread(&record, &why, out),
        }
        true
    }

    fn refining<'a>(
        &'a mut self,
        device: DeviceIndex,
        record: &'a RawRecord<'a>,
        envelope: &'a Envelope<'a>,
        out: &'a mut Output,
    ) -> Refining<'a> {
        Refining {
            record,
            envelope,
            device: &mut self.devices[device],
            limits: &self.limits,
            unpacker: &mut self.unpacker,
            shared: &mut self.shared,
            counts: &mut self.counts,
            out,
        }
    }

    /// Rejects a record of which no batch id can be read.
    fn reject_unread(&mut self, record: &RawRecord<'_>, why: &Rejection, out: &mut Output) {
        let RawRecord {
            lane,
            offset,
            received_unix_ms,
            ..
        } = *record;
        if self.unread.get().contains(lane, offset, received_unix_ms) {
            self.counts.duplicate_batches += 1;
            return;
        }
        self.unread.change().insert(lane, offset, received_unix_ms);
        let rejected = Rejected {
            record,
            envelope: record.value,
            id: None,
            head: BatchHead::default(),
            event: None,
        };
        let key = out.put_key(&[record.key]);
        out.put_record(Destination::Rejected, &key, |value| {
            put_rejected(value, &rejected, why);
        });
        self.counts.rejected[why.reason as usize] += 1;
    }

    /// The device of a key, entered in the open transaction.
    fn touch(&mut self, key: &[u8]) -> DeviceIndex {
        let device = match self.index.get(key) {
            Some(device) => *device,
            None => self.enter(key),
        };
        self.touch_known(device);
        device
    }

    fn touch_known(&mut self, device: DeviceIndex) {
        if !self.devices[device].is_listed {
            self.devices[device].is_listed = true;
            self.touched.push(device);
        }
    }

    fn known(&mut self, key: &[u8]) -> &mut Device {
        let device = match self.index.get(key) {
            Some(device) => *device,
            None => self.enter(key),
        };
        &mut self.devices[device]
    }

    fn enter(&mut self, key: &[u8]) -> DeviceIndex {
        let device = self.devices.len();
        self.devices.push(Device::new(key));
        self.index.insert(key.into(), device);
        device
    }
}
