//! Records of `rp.raw` as any box, or whoever can write there, may fill them:
//! several in one life of a partition, committed, aborted and taken over.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use returnpath_refinery::{Destination, Limits, Output, Partition, RawRecord};
use returnpath_shared::{
    BatchId, DeviceId, Lane, RAW_RECORD_BYTES_MAX, REJECTED_RECORD_BYTES_MAX, check,
    wire::{self, Event, Opportunity, Refined, Rejected, RejectionReason},
};

use crate::{
    script::{Script, ScriptWriter},
    seed,
};

/// Steps of one input.
const STEPS_MAX: usize = 48;

const RECORD: u8 = 0;
const TIME: u8 = 1;
const COMMIT: u8 = 2;
const ABORT: u8 = 3;
const TAKE_OVER: u8 = 4;
const STEPS: u8 = 5;

/// Each record is refined once or rejected with its reason; an abort leaves no
/// trace; a partition that another takes over is the same.
pub fn run(input: &[u8]) {
    let mut script = Script::of(input);
    let mut running = Running::new(script.byte());
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            break;
        }
        match script.byte() % STEPS {
            RECORD => {
                let how = script.byte();
                let record = Kept {
                    key: match how & 3 {
                        0 | 1 => seed::DEVICE.into(),
                        2 => "box-2".into(),
                        _ => script.message().to_vec(),
                    },
                    lane: if how & 4 == 0 {
                        Lane::Live
                    } else {
                        Lane::Backlog
                    },
                    received_unix_ms: seed::NOW_UNIX_MS + i64::from(how >> 3) * 1_000,
                    offset: i64::try_from(running.records.len()).unwrap(),
                    value: script.message().to_vec(),
                };
                running.records.push(record);
                running.read();
            }
            TIME => {
                running.now_ms += u64::from(script.byte());
                running.step(|partition, now_ms, out| partition.handle_timeout(now_ms, out));
            }
            COMMIT => running.commit(),
            ABORT => running.abort(),
            _ => running.take_over(),
        }
    }
    running.step(|partition, _, out| partition.flush(out));
    running.commit();
    running.take_over();
    assert_eq!(running.read_from, running.records.len(), "all is finished");
}

struct Kept {
    key: Vec<u8>,
    lane: Lane,
    received_unix_ms: i64,
    offset: i64,
    value: Vec<u8>,
}

/// Device, batch, ordinal: a box that gives two batches the same ordinals lies
/// about itself alone.
type EventName = (String, BatchId, u64);

type Changelog = BTreeMap<(Destination, Vec<u8>), Option<Vec<u8>>>;

struct Running {
    partition: Partition,
    limits: Limits,
    now_ms: u64,
    /// The topic; both lanes in one, for the sake of the test.
    records: Vec<Kept>,
    /// The first that is not read.
    next: usize,
    /// The first that is read again after an abort.
    read_from: usize,
    changelog: Changelog,
    /// Refined in committed transactions, and in the open one.
    refined: BTreeSet<EventName>,
    refined_now: BTreeSet<EventName>,
}

impl Running {
    fn new(bounds: u8) -> Self {
        let limits = match bounds % 2 {
            0 => Limits::DEFAULT,
            _ => Limits {
                epochs_max: 2,
                released_epochs_max: 1,
                holes_max: 2,
                released_holes_max: 1,
                declared_epochs_max: 2,
                declared_ranges_max: 2,
                ..Limits::DEFAULT
            },
        };
        Self {
            partition: Partition::with_limits(limits),
            limits,
            now_ms: 1_000,
            records: Vec::new(),
            next: 0,
            read_from: 0,
            changelog: Changelog::new(),
            refined: BTreeSet::new(),
            refined_now: BTreeSet::new(),
        }
    }

    /// Reads all there is.
    fn read(&mut self) {
        while let Some(kept) = self.records.get(self.next) {
            self.next += 1;
            let (mut out, before) = (Output::new(), self.partition.waiting());
            let record = RawRecord {
                key: &kept.key,
                value: &kept.value,
                lane: kept.lane,
                received_unix_ms: kept.received_unix_ms,
                offset: kept.offset,
            };
            assert!(kept.value.len() <= RAW_RECORD_BYTES_MAX);
            self.partition.refine(&record, self.now_ms, &mut out);
            if !DeviceId::is_valid(&kept.key) {
                assert_eq!(self.partition.waiting(), before, "it waits for nothing");
            }
            self.look(&out);
        }
    }

    fn step(&mut self, step: impl FnOnce(&mut Partition, u64, &mut Output)) {
        let mut out = Output::new();
        step(&mut self.partition, self.now_ms, &mut out);
        self.look(&out);
    }

    fn look(&mut self, out: &Output) {
        let mut last = None;
        for record in out.records() {
            let value = record.value.unwrap();
            assert!(
                value.len() <= REJECTED_RECORD_BYTES_MAX,
                "{} bytes",
                value.len()
            );
            match record.destination {
                Destination::Refined(_) => {
                    let refined = Refined::decode(value).unwrap();
                    assert_eq!(record.key, refined.device_id.as_bytes());
                    check(refined.event.as_ref().unwrap()).expect("what is refined is good");
                    let name = name(&refined);
                    assert!(!self.refined.contains(&name), "{name:?} twice");
                    assert!(self.refined_now.insert(name.clone()), "{name:?} twice");
                    last = Some(refined);
                }
                Destination::Opportunity => {
                    let opportunity = Opportunity::decode(value).unwrap();
                    assert_eq!(opportunity.refined, last);
                    let profile = opportunity.profile.unwrap();
                    assert_eq!(record.key, profile.device_id.as_bytes());
                }
                Destination::Rejected => {
                    let rejected = Rejected::decode(value).unwrap();
                    assert_eq!(record.key, rejected.key);
                    assert_ne!(rejected.reason(), RejectionReason::Unspecified);
                    assert!(!rejected.detail.is_empty());
                }
                Destination::State | Destination::Device | Destination::Completeness => {
                    panic!("state among outputs")
                }
            }
        }
    }

    fn commit(&mut self) {
        let mut out = Output::new();
        self.partition.changes(&mut out);
        for record in out.records() {
            let key = (record.destination, record.key.to_vec());
            let value = record.value.map(<[u8]>::to_vec);
            self.changelog.insert(key, value);
        }
        self.partition.commit();
        self.refined.append(&mut self.refined_now);
        let waiting = Lane::ALL.map(|lane| self.partition.lowest_waiting_offset(lane));
        let lowest = waiting.into_iter().flatten().min();
        self.read_from = lowest.map_or(self.next, |offset| usize::try_from(offset).unwrap());
        assert_eq!(snapshot(&self.restored()), snapshot(&self.partition));
    }

    fn abort(&mut self) {
        self.partition.abort();
        assert_eq!(snapshot(&self.restored()), snapshot(&self.partition));
        self.read_again();
    }

    /// Another process loads what was committed, and reads on from there.
    fn take_over(&mut self) {
        self.partition = self.restored();
        self.read_again();
    }

    fn read_again(&mut self) {
        self.refined_now.clear();
        self.next = self.read_from;
        self.read();
    }

    fn restored(&self) -> Partition {
        let mut partition = Partition::with_limits(self.limits);
        for ((destination, key), value) in &self.changelog {
            let value = value.as_deref();
            let restored = match destination {
                Destination::Device => partition.restore_profile(key, value),
                Destination::Completeness => partition.restore_completeness(key, value),
                Destination::State
                | Destination::Refined(_)
                | Destination::Rejected
                | Destination::Opportunity => partition.restore(key, value),
            };
            restored.expect("what it wrote can be loaded");
        }
        partition
    }
}

fn snapshot(partition: &Partition) -> Changelog {
    let mut out = Output::new();
    partition.snapshot(&mut out);
    let records = out.records();
    records
        .map(|record| {
            let key = (record.destination, record.key.to_vec());
            (key, record.value.map(<[u8]>::to_vec))
        })
        .collect()
}

fn name(refined: &Refined) -> EventName {
    let batch = refined.batch.unwrap().try_into().unwrap();
    (refined.device_id.clone(), batch, refined.ordinal)
}

/// Lives of a box or two.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let events = seed::events();
    let envelope = |sequence: u64, events: &[Event]| {
        let batch = seed::batch(sequence * 100, events.to_vec());
        seed::envelope(sequence, &batch).encode_to_vec()
    };
    let begin = || ScriptWriter::default().byte(0);
    let record =
        |script: ScriptWriter, how: u8, value: &[u8]| script.byte(RECORD).byte(how).message(value);
    let all = envelope(1, &events);
    let mut seeds = vec![
        record(begin(), 0, &all).rest(&[]),
        // In the wrong order, with one missing, and twice.
        [3, 1, 4, 4]
            .into_iter()
            .fold(begin(), |script, sequence| {
                record(script, 0, &envelope(sequence, &events[..2]))
            })
            .rest(&[TIME, 60, COMMIT, ABORT]),
        record(record(begin(), 0, &all).byte(COMMIT), 4, &all).rest(&[TAKE_OVER]),
        record(begin().byte(ABORT), 3, b"no box").rest(&all),
        record(begin(), 2, b"no envelope").rest(&[COMMIT]),
    ];
    // Single events, one life each.
    seeds.extend(events.iter().map(|event| {
        record(begin(), 0, &envelope(1, std::slice::from_ref(event))).rest(&[COMMIT])
    }));
    // Other epochs, within small bounds.
    let other = |start: u32, sequence: u64| {
        let mut envelope = seed::envelope(sequence, &seed::batch(sequence, events[..1].to_vec()));
        let id = wire::BatchId {
            epoch: Some(seed::epoch(start)),
            sequence,
        };
        envelope.id = Some(id);
        envelope.sender = Some(seed::epoch(4));
        envelope.oldest_held = vec![id];
        envelope.encode_to_vec()
    };
    let bounds = [(1, 1), (2, 5), (3, 9), (4, 2), (1, 7)];
    seeds.push(
        bounds
            .into_iter()
            .fold(
                ScriptWriter::default().byte(1),
                |script, (start, sequence)| record(script, 0, &other(start, sequence)).byte(COMMIT),
            )
            .rest(&[TIME, 100]),
    );
    seeds
}
