//! The boxes of one partition, the askings under way, and the transaction on
//! what is known of them.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};
use bytes::Bytes;
use prost::Message as _;
use returnpath_shared::wire::Stage;

use crate::{
    answered::Answered,
    counts::Counts,
    device::{Device, Known, has_ad, has_stage},
    gates::{CallId, Gates},
    input::{Input, InputRecord},
    limit::{ASKINGS_MAX, Limits},
    now::Now,
    opportunity::{self, Read},
    output::{Destination, Output},
    push::{Push, Timing},
    settings::Settings,
    settlement::Settled,
    signer::{Pseudonyms, Signer},
    state::RestoreError,
};

mod asking;
mod closing;
mod deciding;

use asking::{Asking, PartState};
use closing::Closing;

/// Where a partition keeps a device.
type DeviceIndex = usize;

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
    /// What came of it: see [`Settings::read`].
    pub answered: Answered,
    /// When the request was begun to be sent, by the monotonic clock.
    pub sent_us: u64,
    /// When the answer was whole, or given up, likewise.
    pub ended_us: u64,
}

/// What is known of the boxes of one partition: exactly what has been
/// committed, plus the changes of the sealed transaction, which Kafka is about
/// to commit, and of the open one; and the askings that are under way, which
/// belong to no transaction. [`changes`](Self::changes) seals what is open,
/// [`commit`](Self::commit) keeps what is sealed, [`abort`](Self::abort) undoes
/// both.
#[derive(Debug)]
pub struct Partition {
    settings: Arc<Settings>,
    limits: Limits,
    devices: Vec<Device>,
    index: BTreeMap<Arc<str>, DeviceIndex>,
    /// Opportunities being decided, by their offset.
    askings: BTreeMap<u64, Asking>,
    /// When each of them must go on, on the monotonic clock.
    deadlines: BTreeSet<(u64, u64)>,
    /// Calls under way: the opportunity, and the place of the slot in it.
    calls: BTreeMap<u64, (u64, usize)>,
    /// Decisions to look at once they have expired without acknowledgement.
    closings: BTreeSet<Closing>,
    open: Transaction,
    /// What Kafka is about to commit.
    sealed: Transaction,
    /// Devices known to Kafka.
    devices_committed: usize,
}

/// What a transaction does.
#[derive(Debug)]
struct Transaction {
    /// To be pushed once it is committed.
    pushes: Vec<Pushing>,
    /// Devices that it has touched.
    touched: Vec<DeviceIndex>,
    /// Devices known at its end.
    devices: usize,
    counts: Counts,
}

/// A decision to be pushed once its transaction is committed.
#[derive(Debug)]
struct Pushing {
    device: DeviceIndex,
    decision_id: Arc<str>,
    timing: Option<Timing>,
}

impl Partition {
    /// One that knows no box.
    #[must_use]
    pub fn new(settings: Arc<Settings>) -> Self {
        Self::with_limits(settings, Limits::DEFAULT)
    }

    /// One that knows no box and remembers within other bounds.
    #[must_use]
    pub fn with_limits(settings: Arc<Settings>, limits: Limits) -> Self {
        let open = Transaction::new(&settings);
        let sealed = Transaction::new(&settings);
        Self {
            settings,
            limits,
            devices: Vec::new(),
            index: BTreeMap::new(),
            askings: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            calls: BTreeMap::new(),
            closings: BTreeSet::new(),
            open,
            sealed,
            devices_committed: 0,
        }
    }

    /// Takes one record of the changelog, oldest first; the last of a key
    /// wins, `None` forgets it. For loading on assignment only, before the
    /// first input; then call [`resume`](Self::resume) once.
    ///
    /// # Errors
    /// When key or value are not as this crate writes them.
    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), RestoreError> {
        let key = opportunity::device(key).ok_or(RestoreError::Key { length: key.len() })?;
        let known = Known::from_wire(value.unwrap_or_default())?;
        let device = self.device(key);
        self.devices[device].known.load(known);
        self.devices_committed = self.devices.len();
        Ok(())
    }

    /// After the last [`restore`](Self::restore): what was recorded, has not
    /// expired and was never acknowledged is to be pushed again.
    pub fn resume(&mut self, now: Now, pushes: &mut Vec<Push>) {
        for (index, device) in self.devices.iter().enumerate() {
            for open in &device.known.get().open {
                if has_ad(open) && !Closing::is_recorded(open) {
                    self.closings.insert(Closing::of_open(index, open));
                }
                if !has_stage(open, Stage::Acknowledged) && now.unix_ms < open.expiry_unix_ms {
                    pushes.extend(push(device, &open.decision_id, None));
                }
            }
        }
    }

    /// Takes one record of `rp.opportunities`, in the order of their offsets.
    /// Bad input is never an error here: it is counted and skipped.
    pub fn opportunity(&mut self, record: &InputRecord<'_>, mut lent: Lent<'_>, out: &mut Output) {
        let read = match Read::of(record, &self.settings) {
            Ok(read) => read,
            Err(opportunity::Undecodable) => {
                self.open.counts.undecodable_opportunities += 1;
                return;
            }
        };
        let index = self.device(&read.device);
        let device = &mut self.devices[index];
        let known = device.known.get();
        let is_reread = known.is_finished(read.number, read.received_unix_ms)
            || self.askings.contains_key(&read.number);
        if is_reread {
            self.open.counts.reread += 1;
            return;
        }
        device.read_to = read.number.saturating_add(1);
        let said = read.refined().and_then(|refined| {
            let settled = Settled::of(&read.opportunity, refined)?;
            device.settlement.say(refined, settled)
        });
        if let Some(settled) = said {
            self.settle(index, settled, lent.now, out);
        }
        self.open.counts.opportunities += 1;
        let device = &self.devices[index];
        let known = device.known.get();
        let mut room = known
            .room(&self.limits, lent.now.unix_ms)
            .saturating_sub(device.room_taken());
        let mut slots = Vec::with_capacity(read.slots.len());
        for slot in &read.slots {
            if let Some(open) = known.find(&slot.decision_id) {
                if open.signed.is_none() || lent.now.unix_ms >= open.expiry_unix_ms {
                    self.open.counts.repeated_late += 1;
                    continue;
                }
                self.open.counts.pushed_again += 1;
                out.urge();
                self.open.pushes.push(Pushing {
                    device: index,
                    decision_id: slot.decision_id.as_str().into(),
                    timing: None,
                });
            } else if device.is_asking(&slot.decision_id) {
                // The opportunity that asked first holds the offsets back.
                self.open.counts.joined += 1;
            } else {
                slots.push(self.slot_asking(slot, &read, &mut room, &lent));
            }
        }
        if slots.is_empty() {
            self.finish(index, read.received_unix_ms);
        } else {
            self.begin(index, read, slots, &mut lent, out);
        }
    }

    /// Takes one record of `rp.ads`, in the order of their offsets. Bad input
    /// is counted and skipped.
    pub fn ad_event(&mut self, record: &InputRecord<'_>, now: Now, out: &mut Output) {
        self.close(record, now, out);
    }

    /// Takes the end of a call. Every call must come back here once, also
    /// after an [`abort`](Self::abort), or to [`Gates::abandoned`] when the
    /// partition is gone: the gates count what is under way.
    pub fn answered(&mut self, ended: Ended, mut lent: Lent<'_>, out: &mut Output) {
        let Ended {
            call,
            answered,
            sent_us,
            ended_us,
        } = ended;
        let now_us = lent.now.monotonic_us;
        lent.gates.end(call, Some(answered.health()), now_us);
        let Some((number, place)) = self.calls.remove(&call.number) else {
            return;
        };
        let Some(mut asking) = self.take(number) else {
            return;
        };
        let slot = &mut asking.slots[place];
        let part = slot.parts.get_mut(call.aggregator);
        if let Some(part) = part
            && let PartState::UnderWay { number, .. } = part.state
            && number == call.number
        {
            part.record.asked_after_us = sent_us.saturating_sub(asking.taken_us);
            part.record.latency_us = ended_us.saturating_sub(sent_us);
            asking.waiting.add(sent_us, ended_us);
            part.answered(answered);
        }
        self.proceed(asking, &mut lent, out);
    }

    /// The broker has a decision (PUBACK).
    pub fn pushed(&mut self, device: &str, decision_id: &str, now: Now, out: &mut Output) {
        self.confirm_push(device, decision_id, now, out);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due, on the monotonic
    /// clock, in microseconds; `None` while nothing waits.
    #[must_use]
    pub fn poll_timeout(&self, now: Now) -> Option<u64> {
        let asking_us = self.deadlines.first().map(|(deadline_us, _)| *deadline_us);
        let closing_us = self.closings.first().map(|closing| {
            let left_ms = u64::try_from(closing.due_unix_ms.saturating_sub(now.unix_ms));
            now.monotonic_us
                .saturating_add(left_ms.unwrap_or(0).saturating_mul(1_000))
        });
        asking_us.into_iter().chain(closing_us).min()
    }

    /// Decides what has waited long enough, and closes what was never
    /// acknowledged.
    pub fn handle_timeout(&mut self, mut lent: Lent<'_>, out: &mut Output) {
        let now_us = lent.now.monotonic_us;
        let due = self.deadlines.range(..=(now_us, u64::MAX));
        let due: Vec<u64> = due.map(|(_, number)| *number).collect();
        for number in due {
            if let Some(asking) = self.take(number) {
                self.proceed(asking, &mut lent, out);
            }
        }
        self.close_unacknowledged(lent.now, out);
    }

    /// Whether the partition takes further opportunities: read on only then.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.askings.len() < ASKINGS_MAX
    }

    /// The lowest offset of an input that is not yet finished. Offsets from it
    /// on must not be committed: commit this, or the next offset where it is
    /// `None`. Records beyond it that are read again are recognised.
    #[must_use]
    pub fn lowest_unfinished_offset(&self, input: Input) -> Option<i64> {
        match input {
            Input::Opportunities => {
                let lowest = self.askings.first_key_value()?;
                i64::try_from(*lowest.0).ok()
            }
            // What it leads to is recorded at once.
            Input::Ads => None,
        }
    }

    /// Appends the changelog records of the open transaction, one a device, and
    /// seals it: what comes after belongs to the next. What became of the one
    /// sealed before must have been told. That a decision was pushed is written
    /// with what changes next: half of all changes would be that, and who
    /// restores a decision without it pushes it once more, which it would do
    /// all the same until the box has acknowledged it.
    pub fn changes(&mut self, out: &mut Output) {
        for index in &self.open.touched {
            let device = &mut self.devices[*index];
            let known = device.known.get();
            let before = device.known.before();
            if before.is_some_and(|before| !known.leads_to_the_same(before)) {
                put_state(device, out);
            }
            device.seal();
        }
        self.open.devices = self.devices.len();
        core::mem::swap(&mut self.open, &mut self.sealed);
    }

    /// Appends the whole state as changelog records, in the order of their
    /// keys: what a fresh partition needs to [`restore`](Self::restore).
    pub fn snapshot(&self, out: &mut Output) {
        for index in self.index.values() {
            let device = &self.devices[*index];
            if *device.known.get() != Known::default() {
                put_state(device, out);
            }
        }
    }

    /// Kafka has committed the sealed transaction: its changes stay, and its
    /// decisions are to be pushed. Returns what it did, for metrics. What is
    /// being asked goes on, and so does the open transaction.
    pub fn commit(&mut self, pushes: &mut Vec<Push>) -> Counts {
        for pushing in self.sealed.pushes.drain(..) {
            let device = &self.devices[pushing.device];
            pushes.extend(push(device, &pushing.decision_id, pushing.timing));
        }
        for device in self.sealed.touched.drain(..) {
            self.devices[device].commit();
        }
        self.devices_committed = self.devices_committed.max(self.sealed.devices);
        let none = Counts::of(self.settings.aggregators.len());
        core::mem::replace(&mut self.sealed.counts, none)
    }

    /// Kafka has aborted the sealed transaction, or nothing can be added to the
    /// open one: everything since the last commit is undone, as if it had never
    /// been. What is being asked is dropped too; the shell reads again from the
    /// committed offsets, which are not beyond it.
    pub fn abort(&mut self) {
        for device in self.devices.drain(self.devices_committed..) {
            self.index.remove(&device.key);
        }
        for device in &mut self.devices {
            device.abort();
        }
        let mut touched = core::mem::take(&mut self.sealed.touched);
        touched.append(&mut self.open.touched);
        for index in touched {
            // What was closed in a transaction is not closed.
            if let Some(device) = self.devices.get(index) {
                let open = device.known.get().open.iter();
                let open = open.filter(|open| has_ad(open) && !Closing::is_recorded(open));
                self.closings
                    .extend(open.map(|open| Closing::of_open(index, open)));
            }
        }
        let devices = self.devices.len();
        self.closings.retain(|closing| closing.device < devices);
        self.askings.clear();
        self.deadlines.clear();
        self.calls.clear();
        self.open = Transaction::new(&self.settings);
        self.sealed = Transaction::new(&self.settings);
    }

    /// Boxes known: for metrics.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Opportunities being decided: for metrics.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.askings.len()
    }

    fn device(&mut self, key: &str) -> DeviceIndex {
        if let Some(index) = self.index.get(key) {
            return *index;
        }
        let device = Device::new(key);
        let index = self.devices.len();
        self.index.insert(Arc::clone(&device.key), index);
        self.devices.push(device);
        index
    }

    /// Lists a device with what the open transaction changes.
    fn touch(&mut self, index: DeviceIndex) {
        let device = &mut self.devices[index];
        if !device.is_listed {
            device.is_listed = true;
            self.open.touched.push(index);
        }
    }

    /// Takes an opportunity that is being decided, to go on with it.
    fn take(&mut self, number: u64) -> Option<Asking> {
        let asking = self.askings.remove(&number)?;
        if let Some(deadline_us) = asking.deadline_us() {
            self.deadlines.remove(&(deadline_us, number));
        }
        Some(asking)
    }

    /// An opportunity of a device needs no reading again.
    fn finish(&mut self, index: DeviceIndex, received_unix_ms: i64) {
        self.touch(index);
        let device = &mut self.devices[index];
        let number = device.finished_to();
        device.known.change().finish(number, received_unix_ms);
    }
}

impl Transaction {
    fn new(settings: &Settings) -> Self {
        Self {
            pushes: Vec::new(),
            touched: Vec::new(),
            devices: 0,
            counts: Counts::of(settings.aggregators.len()),
        }
    }
}

fn put_state(device: &Device, out: &mut Output) {
    out.put_record(Destination::State, device.key.as_bytes(), |bytes| {
        device.known.get().encode(bytes);
    });
}

/// A decision as it is pushed; `None` where nothing is sent.
fn push(device: &Device, decision_id: &str, timing: Option<Timing>) -> Option<Push> {
    let open = device.known.get().find(decision_id)?;
    let signed = open.signed.as_ref()?;
    Some(Push {
        device: Arc::clone(&device.key),
        decision_id: decision_id.into(),
        payload: Bytes::from(signed.encode_to_vec()),
        expiry_unix_ms: open.expiry_unix_ms,
        timing,
    })
}
