//! Records of the changelogs, which a node loads before it takes a partition
//! over: whose they are in the first byte, their key, then their value. They
//! are our own, and a disk may still have turned a bit.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message as _;
use returnpath_decision as decision;
use returnpath_refinery as refinery;
use returnpath_shared::{
    Lane,
    wire::{
        BootClock, ClockAnchor, ClockState, Completeness, DecideState, DeviceState, EpochState,
        EventMoment, Exposure, HoleState, IncarnationState, OpenDecision, ProofState, UnreadState,
    },
};

use super::opportunity::settings;
use crate::{
    script::{Script, ScriptWriter},
    seed,
};

const DECIDE: u8 = 0;
const REFINE: u8 = 1;
const PROFILE: u8 = 2;
const COMPLETENESS: u8 = 3;
const OWNERS: u8 = 4;

/// What is loaded can be written and loaded again, and the next input of its
/// box is taken.
pub fn run(input: &[u8]) {
    let mut script = Script::of(input);
    let owner = script.byte() % OWNERS;
    let key = script.message();
    let value = script.rest();
    if owner == DECIDE {
        decide(key, value);
    } else {
        refine(owner, key, value);
    }
}

fn decide(key: &[u8], value: &[u8]) {
    let settings = settings();
    let new = || decision::Partition::new(Arc::clone(&settings));
    let mut partition = new();
    if let Err(error) = partition.restore(key, Some(value)) {
        assert!(!error.to_string().is_empty());
        return;
    }
    let written = |partition: &decision::Partition| {
        let mut out = decision::Output::new();
        partition.snapshot(&mut out);
        let records = out.records();
        let records = records.map(|it| (it.key.to_vec(), it.value.unwrap().to_vec()));
        records.collect::<BTreeMap<_, _>>()
    };
    let first = written(&partition);
    let mut again = new();
    for (key, value) in &first {
        again
            .restore(key, Some(value))
            .expect("what it wrote can be loaded");
    }
    assert_eq!(written(&again), first);

    let now = decision::Now {
        monotonic_us: 5_000_000,
        unix_ms: seed::NOW_UNIX_MS,
    };
    let mut pushes = Vec::new();
    partition.resume(now, &mut pushes);
    let due_us = partition.poll_timeout(now);
    assert!(due_us.is_none_or(|due_us| due_us >= now.monotonic_us));
}

fn refine(owner: u8, key: &[u8], value: &[u8]) {
    use refinery::{Destination, Output, Partition};
    let restore = |partition: &mut Partition, owner, key: &[u8], value: &[u8]| match owner {
        PROFILE => partition.restore_profile(key, Some(value)),
        COMPLETENESS => partition.restore_completeness(key, Some(value)),
        _ => partition.restore(key, Some(value)),
    };
    let owner_of = |destination| match destination {
        Destination::Device => PROFILE,
        Destination::Completeness => COMPLETENESS,
        Destination::State
        | Destination::Refined(_)
        | Destination::Rejected
        | Destination::Opportunity => REFINE,
    };
    let mut partition = Partition::new();
    if let Err(error) = restore(&mut partition, owner, key, value) {
        assert!(!error.to_string().is_empty());
        return;
    }
    let written = |partition: &Partition| {
        let mut out = Output::new();
        partition.snapshot(&mut out);
        let mut written = BTreeMap::new();
        for it in out.records() {
            let key = (it.destination, it.key.to_vec());
            written.insert(key, it.value.unwrap().to_vec());
        }
        written
    };
    let first = written(&partition);
    let mut again = Partition::new();
    for ((destination, key), value) in &first {
        restore(&mut again, owner_of(*destination), key, value)
            .expect("what it wrote can be loaded");
    }
    assert_eq!(written(&again), first);

    let envelope = seed::envelope(1, &seed::batch(1, seed::events())).encode_to_vec();
    for offset in 0..2 {
        let record = refinery::RawRecord {
            key: seed::DEVICE.as_bytes(),
            value: &envelope,
            lane: Lane::Live,
            received_unix_ms: seed::NOW_UNIX_MS,
            offset,
        };
        let mut out = Output::new();
        partition.refine(&record, 1_000, &mut out);
        partition.flush(&mut out);
        partition.changes(&mut out);
        assert!(
            offset == 0
                || out
                    .records()
                    .all(|it| it.destination != Destination::Opportunity)
        );
        partition.commit();
    }
}

/// One record of each kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let record = |owner: u8, key: &str, value: Vec<u8>| {
        ScriptWriter::default()
            .byte(owner)
            .message(key.as_bytes())
            .rest(&value)
    };
    let moment = EventMoment {
        epoch: Some(seed::epoch(1)),
        ordinal: 4,
    };
    let arrivals = DeviceState {
        incarnations: vec![IncarnationState {
            incarnation: 9,
            first_received_unix_ms: seed::NOW_UNIX_MS,
            held_from_start: 1,
            held_from_sequence: 1,
            forgotten_below_start: 0,
            epochs: vec![EpochState {
                start: 1,
                forgotten_through: 0,
                intervals: vec![3, 4, 7, 7],
                highest_ordinal: 90,
                holes: vec![
                    HoleState {
                        first_ordinal: 1,
                        last_ordinal: 12,
                        since_unix_ms: seed::NOW_UNIX_MS,
                    },
                    HoleState::default(),
                ],
            }],
        }],
        viewing_told: Some(moment),
        forgotten_incarnations: vec![7, 8],
    };
    let account = Completeness {
        device_id: seed::DEVICE.into(),
        epoch: Some(seed::epoch(1)),
        as_of_unix_ms: seed::NOW_UNIX_MS,
        revision: 2,
        first_received_unix_ms: seed::NOW_UNIX_MS,
        highest_sequence: 21,
        highest_ordinal: 90,
        ..Completeness::default()
    };
    let clocks = ClockState {
        boots: vec![BootClock {
            anchor: Some(ClockAnchor {
                boot_id: seed::BOOT,
                uptime_ms: 5,
                unix_ms: seed::NOW_UNIX_MS,
            }),
            sender: Some(seed::epoch(1)),
        }],
    };
    let unread = UnreadState {
        live_next_offset: 4,
        live_received_unix_ms: seed::NOW_UNIX_MS,
        ..UnreadState::default()
    };
    let decided = DecideState {
        open: vec![OpenDecision {
            decision_id: "0123456789abcdef0123456789abcdef".into(),
            boot_id: seed::BOOT,
            break_id: "b-17".into(),
            expiry_uptime_ms: seed::UPTIME_MS + 9_000,
            expiry_unix_ms: seed::NOW_UNIX_MS + 9_000,
            decided_unix_ms: seed::NOW_UNIX_MS,
            signed: Some(returnpath_shared::wire::SignedDecision {
                decision: seed::decision(0).encode_to_vec().into(),
                key_id: "k".into(),
                signature: vec![1; 64].into(),
            }),
            stages: 2,
            aggregator: "north".into(),
            advertiser: "brand.example".into(),
            ..OpenDecision::default()
        }],
        exposures: vec![Exposure {
            advertiser: "brand.example".into(),
            decided_unix_ms: seed::NOW_UNIX_MS,
            reserved_by_decision_id: "0123456789abcdef0123456789abcdef".into(),
            ..Exposure::default()
        }],
        finished_number: 4,
        finished_received_unix_ms: seed::NOW_UNIX_MS,
    };
    let mut profile = seed::opportunity().profile.unwrap();
    profile.device_id = seed::DEVICE.into();
    profile.viewing_moved = Some(moment);
    profile.boot_moved = Some(moment);
    profile.consent_moved = Some(moment);
    for impression in &mut profile.recent_impressions {
        impression.moment = Some(moment);
    }
    vec![
        record(DECIDE, seed::DEVICE, decided.encode_to_vec()),
        record(REFINE, seed::DEVICE, arrivals.encode_to_vec()),
        record(
            REFINE,
            &format!("{}#clock", seed::DEVICE),
            clocks.encode_to_vec(),
        ),
        record(
            REFINE,
            &format!("{}#proof", seed::DEVICE),
            ProofState {
                keys: vec![7; 32].into(),
            }
            .encode_to_vec(),
        ),
        record(REFINE, "#unread", unread.encode_to_vec()),
        record(PROFILE, seed::DEVICE, profile.encode_to_vec()),
        record(
            COMPLETENESS,
            &format!("{}#{}", seed::DEVICE, "0000000000000009.1"),
            account.encode_to_vec(),
        ),
    ]
}
