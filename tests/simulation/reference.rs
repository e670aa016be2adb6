//! What is true in the world, kept beside it in the simplest form: what was
//! answered, what happened when, what stands in Kafka. The real audit judges
//! it; what the audit cannot see is asserted here, at once.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use bytes::Bytes;
use prost::Message as _;
use returnpath_collector::audit::{self, Tally};
use returnpath_delivery::Publish;
use returnpath_shared::{
    BatchId, Class, DeviceId, Epoch, Kind, Ordinal, ProofKey, Sequence, Stream, unpack,
    wire::{self, TimeQuality, event},
};

use crate::{queue_file::Stretch, set_top_box::unix_ms, transition::BoxIndex, viewer::Report};

/// An event of a box.
pub(crate) type EventName = (BoxIndex, Epoch, u64);

/// How far a time that is said to be synchronised may be off: the boxes'
/// clocks are up to 100 ms wrong, twice, and refine follows them in steps of
/// at most a second.
const TIME_OFF_MS_MAX: u64 = 1_500;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Promise {
    Accepted,
    Durable,
}

/// What a batch holds.
struct Sent {
    bytes: Bytes,
    first_ordinal: u64,
    end: u64,
    ledger: Vec<wire::Ledger>,
}

impl Sent {
    fn of(publish: &Publish) -> Self {
        let batch = unpack(publish.codec as i32, publish.bytes.clone()).unwrap();
        let end = batch.first_ordinal + batch.events.len() as u64;
        let ledger = batch
            .events
            .into_iter()
            .filter_map(|event| match event.kind {
                Some(event::Kind::Ledger(ledger)) => Some(ledger),
                _ => None,
            });
        Self {
            bytes: publish.bytes.clone(),
            first_ordinal: batch.first_ordinal,
            end,
            ledger: ledger.collect(),
        }
    }
}

/// The number in a box's name.
pub(crate) fn index(device_id: &str) -> BoxIndex {
    device_id.strip_prefix("box-").unwrap().parse().unwrap()
}

#[derive(Default)]
pub(crate) struct Reference {
    pub(crate) tally: Tally,
    /// Answered durable, and not seen in Kafka.
    durable_open: BTreeSet<EventName>,
    /// Events in rp.raw: the first of each batch, and where it ends.
    in_kafka: BTreeMap<EventName, u64>,
    /// First ordinals declared there, and where each stretch ends.
    declared: BTreeSet<(BoxIndex, Epoch, u64, u64)>,
    /// When it happened, and what it is recognised by.
    happened: BTreeMap<EventName, (u64, Option<ProofKey>)>,
    /// Boots in which a clock that was called synchronised was not. What they
    /// say of the time may be wrong, and of nothing else.
    lying_boots: BTreeSet<u64>,
    batches: BTreeMap<(BoxIndex, BatchId), Sent>,
    /// The last batch of each run that reached a bridge.
    last_arrived: BTreeMap<(BoxIndex, Epoch), Sequence>,
    refined: BTreeSet<EventName>,
    /// Below which ordinal nothing of a run may be refined any more.
    settled: BTreeMap<(BoxIndex, Epoch), u64>,
    pub(crate) opportunities: u64,
    /// Of these, such as call something settled.
    pub(crate) settling: u64,
    pub(crate) busy: u64,
    pub(crate) unreadable: u64,
    pub(crate) rebuilds: u64,
    pub(crate) answers: [u64; 2],
}

impl Reference {
    pub(crate) fn happened(&mut self, name: EventName, report: &Report) {
        let this = (report.happened_ms, ProofKey::of(&report.event));
        match self.happened.insert(name, this) {
            None => {}
            // Proof that is not durable yet may be given again.
            Some(first) => assert!(
                first == this && this.1.is_some(),
                "{name:?} was given to two events"
            ),
        }
    }

    pub(crate) fn its_clock_lies(&mut self, boot_id: u64) {
        self.lying_boots.insert(boot_id);
    }

    pub(crate) fn answered(
        &mut self,
        of: BoxIndex,
        device: &DeviceId,
        epoch: Epoch,
        ordinal: Ordinal,
        promise: Promise,
    ) {
        self.answers[promise as usize] += 1;
        self.tally.answered(&audit::Answer {
            device: device.clone(),
            epoch,
            ordinal,
            class: match promise {
                Promise::Accepted => Class::Ordinary,
                Promise::Durable => Class::Proof,
            },
        });
        let name = (of, epoch, ordinal.0);
        if promise == Promise::Durable && !self.is_in_kafka(name) {
            self.durable_open.insert(name);
        }
    }

    /// A batch stands in rp.raw or rp.raw.backlog.
    pub(crate) fn stands_in_kafka(&mut self, of: BoxIndex, id: BatchId) {
        let sent = &self.batches[&(of, id)];
        let first = (of, id.epoch, sent.first_ordinal);
        if self.in_kafka.insert(first, sent.end).is_some() {
            return;
        }
        for ordinal in sent.first_ordinal..sent.end {
            self.durable_open.remove(&(of, id.epoch, ordinal));
        }
        for ledger in sent.ledger.clone() {
            self.declared(of, &ledger);
        }
    }

    /// Whether a later batch of its run came before it.
    pub(crate) fn arrives_out_of_order(&mut self, of: BoxIndex, id: BatchId) -> bool {
        let last = self
            .last_arrived
            .entry((of, id.epoch))
            .or_insert(id.sequence);
        let is_late = *last > id.sequence;
        *last = id.sequence.max(*last);
        is_late
    }

    pub(crate) fn batches_sent(&self) -> u64 {
        self.batches.len() as u64
    }

    fn declared(&mut self, of: BoxIndex, ledger: &wire::Ledger) {
        let epoch = ledger.first_batch.and_then(|batch| batch.epoch).unwrap();
        let epoch = Epoch::try_from(epoch).unwrap();
        let (first, end) = if ledger.whole_epoch {
            (0, u64::MAX)
        } else {
            let first = ledger.first_ordinal;
            (first, first + ledger.event_count)
        };
        if self.declared.insert((of, epoch, first, end)) {
            self.durable_open.retain(|(by, other, ordinal)| {
                (*by, *other) != (of, epoch) || !(first..end).contains(ordinal)
            });
        }
    }

    /// Whether rp.raw holds it, or its declaration.
    pub(crate) fn is_in_kafka(&self, name: EventName) -> bool {
        let (of, epoch, ordinal) = name;
        let batch = self.in_kafka.range(..=name).next_back();
        batch.is_some_and(|((by, other, _), end)| (*by, *other) == (of, epoch) && ordinal < *end)
            || self
                .declared
                .range((of, epoch, 0, 0)..=(of, epoch, ordinal, u64::MAX))
                .any(|(_, _, _, end)| ordinal < *end)
    }

    /// Events of a box that were answered durable and are only on the box.
    pub(crate) fn durable_not_in_kafka(
        &self,
        of: BoxIndex,
    ) -> impl Iterator<Item = EventName> + '_ {
        self.durable_open
            .iter()
            .skip_while(move |(other, _, _)| *other < of)
            .take_while(move |(other, _, _)| *other == of)
            .copied()
    }

    /// Of these, those of one stretch.
    pub(crate) fn durable_within(
        &self,
        of: BoxIndex,
        Stretch { epoch, first, end }: Stretch,
    ) -> impl Iterator<Item = EventName> + '_ {
        self.durable_open
            .range((of, epoch, first)..(of, epoch, end))
            .copied()
    }

    pub(crate) fn refined(&mut self, stream: Stream, key: &[u8], value: &[u8]) -> wire::Refined {
        let record = wire::Refined::decode(value).unwrap();
        assert_eq!(record.device_id.as_bytes(), key);
        let event = record.event.as_ref().unwrap();
        assert_eq!(Kind::of(event).map(Kind::stream), Some(stream));
        self.invariant_no_event_is_refined_twice_or_too_late(&record);
        self.invariant_times_are_as_good_as_they_say(&record);
        self.tally.refined(&record).unwrap();
        record
    }

    /// An opportunity went out; what it calls settled stays so.
    pub(crate) fn asked(&mut self, key: &[u8], value: &[u8]) {
        let opportunity = wire::Opportunity::decode(value).unwrap();
        let profile = opportunity.profile.unwrap();
        assert_eq!(profile.device_id.as_bytes(), key);
        self.opportunities += 1;
        if opportunity.settled_uptime_ms == 0 {
            return;
        }
        self.settling += 1;
        let record = opportunity.refined.unwrap();
        let epoch = BatchId::try_from(record.batch.unwrap()).unwrap().epoch;
        let of = index(&record.device_id);
        let through = self.settled.entry((of, epoch)).or_default();
        *through = record.ordinal.max(*through);
    }

    pub(crate) fn rejected(&mut self, value: &[u8]) {
        let record = wire::Rejected::decode(value).unwrap();
        self.tally.rejected(&record);
    }

    fn invariant_no_event_is_refined_twice_or_too_late(&mut self, record: &wire::Refined) {
        let of = index(&record.device_id);
        let epoch = BatchId::try_from(record.batch.unwrap()).unwrap().epoch;
        let settled = self.settled.get(&(of, epoch));
        assert!(
            settled.is_none_or(|through| record.ordinal > *through),
            "{record:?} came after an opportunity had called it settled"
        );
        let name = (of, epoch, record.ordinal);
        assert!(self.refined.insert(name), "{name:?} was refined twice");
    }

    fn invariant_times_are_as_good_as_they_say(&self, record: &wire::Refined) {
        let of = index(&record.device_id);
        let epoch = BatchId::try_from(record.batch.unwrap()).unwrap().epoch;
        let Some((happened_ms, _)) = self.happened.get(&(of, epoch, record.ordinal)) else {
            return;
        };
        if self.lying_boots.contains(&record.boot_id) {
            return;
        }
        let happened = unix_ms(*happened_ms);
        match record.time_quality() {
            TimeQuality::Synchronised | TimeQuality::Corrected => assert!(
                record.event_unix_ms.abs_diff(happened) <= TIME_OFF_MS_MAX,
                "happened at {happened}: {record:?}"
            ),
            TimeQuality::Bounded => assert!(
                (record.earliest_unix_ms..=record.latest_unix_ms).contains(&happened)
                    || record.earliest_unix_ms.abs_diff(happened) <= TIME_OFF_MS_MAX
                    || record.latest_unix_ms.abs_diff(happened) <= TIME_OFF_MS_MAX,
                "happened at {happened}: {record:?}"
            ),
            TimeQuality::Unspecified => panic!("no quality: {record:?}"),
        }
    }

    pub(crate) fn invariant_an_id_names_one_batch(&mut self, of: BoxIndex, publish: &Publish) {
        let id = publish.id;
        let first = match self.batches.entry((of, id)) {
            Entry::Vacant(entry) => entry.insert(Sent::of(publish)),
            Entry::Occupied(entry) => entry.into_mut(),
        };
        assert_eq!(
            first.bytes, publish.bytes,
            "{id} of box {of} names two batches"
        );
    }

    pub(crate) fn invariant_a_repeat_gets_the_first_answer(
        &self,
        name: EventName,
        report: &Report,
    ) {
        let first = self.happened.get(&name).and_then(|(_, key)| *key);
        assert_eq!(
            first,
            ProofKey::of(&report.event),
            "the answer names {name:?}, which is another event"
        );
    }
}
