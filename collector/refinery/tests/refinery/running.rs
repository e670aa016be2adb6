//! A partition with a caller around it, and batches to feed it with.

use std::collections::BTreeMap;

use prost::Message;
use returnpath_refinery::{Counts, Destination, Limits, Output, Partition, RawRecord};
use returnpath_shared::{
    BatchId, Epoch, Incarnation, Lane, Sequence, Stream,
    wire::{self, Event, event},
};

/// When the collector receives, unless a test says otherwise: 2026-03-01.
pub(crate) const NOW_UNIX_MS: i64 = 1_772_323_200_000;

/// The boot in which batches are made and sent, unless a test says otherwise.
pub(crate) const BOOT: u64 = 77;

/// Uptime at sending, likewise.
pub(crate) const SENT_UPTIME_MS: u64 = 5_000_000;

pub(crate) fn epoch(incarnation: u64, start: u32) -> Epoch {
    Epoch {
        incarnation: Incarnation::new(incarnation).unwrap(),
        start,
    }
}

pub(crate) fn id(incarnation: u64, start: u32, sequence: u64) -> BatchId {
    BatchId {
        epoch: epoch(incarnation, start),
        sequence: Sequence(sequence),
    }
}

/// An event, as short as can be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Short {
    /// A tune at this uptime.
    TuneAt(u64),
    /// A tune without a channel.
    BadTune,
    /// The start of an ad of this decision.
    AdStart(&'static str),
    /// A consent under this client id.
    Consent(&'static str),
    Custom,
    Health,
    /// A boot that tells of one clock: boot, uptime, unix.
    Boot(u64, u64, i64),
    /// Nothing at all.
    Empty,
}

pub(crate) const TUNE: Short = Short::TuneAt(SENT_UPTIME_MS - 1_000);

impl Short {
    pub(crate) fn event(self) -> Event {
        let with = |kind| Event {
            uptime_ms: SENT_UPTIME_MS - 1_000,
            kind: Some(kind),
            ..Event::default()
        };
        match self {
            Self::TuneAt(uptime_ms) => Event {
                uptime_ms,
                ..with(event::Kind::Tune(wire::Tune {
                    source: wire::Source::Live as i32,
                    channel: Some(wire::Channel {
                        network_id: 9_018,
                        service_id: 4_164,
                        ..wire::Channel::default()
                    }),
                    ..wire::Tune::default()
                }))
            },
            Self::BadTune => with(event::Kind::Tune(wire::Tune {
                source: wire::Source::Live as i32,
                ..wire::Tune::default()
            })),
            Self::AdStart(decision_id) => with(event::Kind::AdEvent(wire::AdEvent {
                kind: wire::ad_event::Kind::Start as i32,
                decision_id: decision_id.into(),
                ..wire::AdEvent::default()
            })),
            Self::Consent(client_id) => Event {
                client_id: client_id.into(),
                ..with(event::Kind::Consent(wire::Consent {
                    version: "1".into(),
                    ..wire::Consent::default()
                }))
            },
            Self::Custom => with(event::Kind::Custom(wire::Custom {
                name: "app.launch".into(),
                ..wire::Custom::default()
            })),
            Self::Health => with(event::Kind::Health(wire::Health::default())),
            Self::Boot(boot_id, uptime_ms, unix_ms) => with(event::Kind::Boot(wire::Boot {
                anchors: vec![wire::ClockAnchor {
                    boot_id,
                    uptime_ms,
                    unix_ms,
                }],
                ..wire::Boot::default()
            })),
            Self::Empty => Event::default(),
        }
    }
}

/// One record of rp.raw in the making: a good one until it is changed.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) key: Vec<u8>,
    pub(crate) envelope: wire::Envelope,
    pub(crate) boot_id: u64,
    pub(crate) first_ordinal: u64,
    pub(crate) events: Vec<Vec<u8>>,
    pub(crate) lane: Lane,
    pub(crate) received_unix_ms: i64,
}

impl Batch {
    /// Sequence `sequence` of incarnation 1, start 1, carrying one tune; the
    /// box holds everything.
    pub(crate) fn new(sequence: u64) -> Self {
        Self::of(id(1, 1, sequence))
    }

    pub(crate) fn of(id: BatchId) -> Self {
        let first = BatchId {
            sequence: Sequence::FIRST,
            ..id
        };
        Self {
            key: b"box-1".to_vec(),
            envelope: wire::Envelope {
                id: Some(id.into()),
                codec: wire::Codec::Identity as i32,
                boot_id: BOOT,
                uptime_ms: SENT_UPTIME_MS,
                unix_ms: NOW_UNIX_MS,
                clock_synchronised: true,
                sender: Some(id.epoch.into()),
                oldest_held: vec![first.into()],
                ..wire::Envelope::default()
            },
            boot_id: BOOT,
            first_ordinal: id.sequence.0,
            events: vec![TUNE.event().encode_to_vec()],
            lane: Lane::Live,
            received_unix_ms: NOW_UNIX_MS,
        }
    }

    /// Carries these events.
    pub(crate) fn carries(mut self, events: impl IntoIterator<Item = Event>) -> Self {
        let events = events.into_iter();
        self.events = events.map(|event| event.encode_to_vec()).collect();
        self
    }

    pub(crate) fn events(mut self, events: impl IntoIterator<Item = Short>) -> Self {
        let events = events.into_iter();
        self.events = events.map(|short| short.event().encode_to_vec()).collect();
        self
    }

    pub(crate) fn lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    pub(crate) fn first_ordinal(mut self, first_ordinal: u64) -> Self {
        self.first_ordinal = first_ordinal;
        self
    }

    /// What the box says that it holds, and in which run.
    pub(crate) fn declares(mut self, sender: Epoch, oldest_held: &[BatchId]) -> Self {
        self.envelope.sender = Some(sender.into());
        self.envelope.oldest_held = oldest_held.iter().map(|id| (*id).into()).collect();
        self
    }

    pub(crate) fn received_unix_ms(mut self, received_unix_ms: i64) -> Self {
        self.received_unix_ms = received_unix_ms;
        self
    }

    /// Changes anything about the envelope.
    pub(crate) fn envelope(mut self, change: impl FnOnce(&mut wire::Envelope)) -> Self {
        change(&mut self.envelope);
        self
    }

    /// The encoded envelope; its batch is built from the events unless the
    /// test has put one there.
    pub(crate) fn value(&self) -> Vec<u8> {
        let mut envelope = self.envelope.clone();
        if envelope.batch.is_empty() {
            let mut batch = wire::Batch {
                boot_id: self.boot_id,
                first_ordinal: self.first_ordinal,
                events: Vec::new(),
            }
            .encode_to_vec();
            for event in &self.events {
                prost::encoding::bytes::encode(3, event, &mut batch);
            }
            envelope.batch = batch.into();
        }
        envelope.encode_to_vec()
    }
}

/// What came out of one call.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Out {
    pub(crate) refined: Vec<wire::Refined>,
    pub(crate) streams: Vec<Stream>,
    pub(crate) rejected: Vec<wire::Rejected>,
    pub(crate) opportunities: Vec<wire::Opportunity>,
}

impl Out {
    pub(crate) fn refined_ordinals(&self) -> Vec<u64> {
        self.refined.iter().map(|refined| refined.ordinal).collect()
    }

    pub(crate) fn reasons(&self) -> Vec<wire::RejectionReason> {
        self.rejected.iter().map(wire::Rejected::reason).collect()
    }
}

/// The changelog and the profiles as compacted topics keep them.
pub(crate) type Changelog = BTreeMap<(Destination, Vec<u8>), Option<Vec<u8>>>;

/// A partition and what its shell keeps.
pub(crate) struct Running {
    pub(crate) partition: Partition,
    pub(crate) changelog: Changelog,
    pub(crate) now_ms: u64,
    limits: Limits,
    next_offset: i64,
}

impl Running {
    pub(crate) fn new() -> Self {
        Self::with_limits(Limits::DEFAULT)
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self {
            partition: Partition::with_limits(limits),
            changelog: Changelog::new(),
            now_ms: 1_000,
            limits,
            next_offset: 0,
        }
    }

    pub(crate) fn refine(&mut self, batch: &Batch) -> Out {
        let offset = self.next_offset;
        self.next_offset += 1;
        self.refine_at(batch, offset)
    }

    pub(crate) fn refine_at(&mut self, batch: &Batch, offset: i64) -> Out {
        let mut out = Output::new();
        let record = RawRecord {
            key: &batch.key,
            value: &batch.value(),
            lane: batch.lane,
            received_unix_ms: batch.received_unix_ms,
            offset,
        };
        self.partition.refine(&record, self.now_ms, &mut out);
        read(&out)
    }

    /// Lets time pass, and what waits go on.
    pub(crate) fn pass_ms(&mut self, ms: u64) -> Out {
        self.now_ms += ms;
        let mut out = Output::new();
        self.partition.handle_timeout(self.now_ms, &mut out);
        read(&out)
    }

    /// Ends the transaction as Kafka would.
    pub(crate) fn commit(&mut self) -> Counts {
        let mut out = Output::new();
        self.partition.changes(&mut out);
        for record in out.records() {
            let value = record.value.map(<[u8]>::to_vec);
            let key = (record.destination, record.key.to_vec());
            self.changelog.insert(key, value);
        }
        self.partition.commit()
    }

    /// A partition on another node, loaded from the changelog.
    pub(crate) fn restored(&self) -> Partition {
        let mut partition = Partition::with_limits(self.limits);
        for ((destination, key), value) in &self.changelog {
            restore(&mut partition, *destination, key, value.as_deref());
        }
        partition
    }
}

/// The whole state of a partition, comparable.
pub(crate) fn snapshot(partition: &Partition) -> Changelog {
    let mut out = Output::new();
    partition.snapshot(&mut out);
    let records = out.records();
    records
        .map(|record| {
            let value = record.value.map(<[u8]>::to_vec);
            ((record.destination, record.key.to_vec()), value)
        })
        .collect()
}

/// Gives back one record that a partition wrote of itself.
pub(crate) fn restore(
    partition: &mut Partition,
    destination: Destination,
    key: &[u8],
    value: Option<&[u8]>,
) {
    match destination {
        Destination::State => partition.restore(key, value).unwrap(),
        Destination::Device => partition.restore_profile(key, value).unwrap(),
        Destination::Completeness => partition.restore_completeness(key, value).unwrap(),
        Destination::Refined(_) | Destination::Rejected | Destination::Opportunity => {
            panic!("an output among the state")
        }
    }
}

/// The profile of a box, as a snapshot tells it.
pub(crate) fn profile(partition: &Partition, device: &str) -> wire::DeviceProfile {
    let key = (Destination::Device, device.as_bytes().to_vec());
    snapshot(partition)[&key]
        .as_deref()
        .map(|value| wire::DeviceProfile::decode(value).unwrap())
        .unwrap()
}

/// The accounts of a box in a changelog or a snapshot, by epoch.
pub(crate) fn accounts(changelog: &Changelog, device: &str) -> BTreeMap<Epoch, wire::Completeness> {
    let records = changelog.iter().filter_map(|((destination, key), value)| {
        let key = std::str::from_utf8(key).unwrap();
        let epoch = key.strip_prefix(device)?.strip_prefix('#')?;
        let is_account = *destination == Destination::Completeness;
        let value = value.as_deref().filter(|_| is_account)?;
        let account = wire::Completeness::decode(value).unwrap();
        assert_eq!(account.device_id, device);
        let epoch: Epoch = epoch.parse().unwrap();
        assert_eq!(account.epoch, Some(epoch.into()));
        Some((epoch, account))
    });
    records.collect()
}

pub(crate) fn read(out: &Output) -> Out {
    let mut read = Out::default();
    for record in out.records() {
        let value = record.value.unwrap();
        match record.destination {
            Destination::Refined(stream) => {
                let refined = wire::Refined::decode(value).unwrap();
                assert_eq!(record.key, refined.device_id.as_bytes());
                read.streams.push(stream);
                read.refined.push(refined);
            }
            Destination::Rejected => {
                let rejected = wire::Rejected::decode(value).unwrap();
                assert_eq!(record.key, rejected.key);
                read.rejected.push(rejected);
            }
            Destination::Opportunity => {
                let opportunity = wire::Opportunity::decode(value).unwrap();
                let profile = opportunity.profile.as_ref().unwrap();
                assert_eq!(record.key, profile.device_id.as_bytes());
                assert_eq!(opportunity.refined.as_ref(), read.refined.last());
                read.opportunities.push(opportunity);
            }
            Destination::State | Destination::Device | Destination::Completeness => {
                panic!("state among the outputs")
            }
        }
    }
    read
}
