//! CPU time of refine's core per batch, without Kafka: `cargo bench -p
//! returnpath-refinery`.
//!
//! Each case is run in rounds over all boxes, a transaction every
//! [`TRANSACTION_BATCHES`]; the median round is given, with the fastest and
//! the slowest. Time is the thread's own CPU clock, so that a busy machine
//! changes little.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that measures and prints"
)]

use prost::Message;
use returnpath_refinery::{Output, Partition, RawRecord};
use returnpath_shared::{
    Lane, pack,
    wire::{
        AdEvent, Batch, BatchId, Channel, Envelope, Epoch, Event, Source, Tune, ViewingHeartbeat,
        ad_event, event,
    },
};
use rustix::time::{ClockId, clock_gettime};

/// Boxes of one partition: 300,000 boxes over 60 partitions.
const BOXES: u64 = 5_000;

/// Batches of one box, so rounds of the measurement. Its proofs come to the
/// bound of what is remembered.
const ROUNDS: u64 = 100;

/// About what one poll gives under load.
const TRANSACTION_BATCHES: usize = 500;

const NOW_UNIX_MS: i64 = 1_772_323_200_000;

fn main() {
    println!("{BOXES} boxes, {ROUNDS} rounds, {TRANSACTION_BATCHES} batches a transaction");
    println!("µs of CPU per batch:              median  (fastest – slowest)");
    let viewing = |sequence| raw(sequence, &viewing_events(3));
    let twenty = |sequence| raw(sequence, &viewing_events(20));
    let proofs = |sequence| raw(sequence, &proof_events(sequence));
    measure("3 viewing events", 0, &viewing, Resend::No);
    measure("20 viewing events", 0, &twenty, Resend::No);
    measure("3 proofs", 0, &proofs, Resend::No);
    measure("3 viewing events, sent again", 0, &viewing, Resend::All);
    measure("3 viewing events, after 8 starts", 8, &viewing, Resend::No);
}

#[derive(Clone, Copy, PartialEq)]
enum Resend {
    No,
    All,
}

/// `starts` of the agent came before, each with one batch.
fn measure(name: &str, starts: u32, value: &dyn Fn(u64) -> Envelope, resend: Resend) {
    let keys: Vec<String> = (0..BOXES)
        .map(|number| format!("box-{number:06}"))
        .collect();
    let mut partition = Partition::new();
    let mut out = Output::new();
    let mut refined_bytes = 0;
    for start in 1..=starts {
        let bytes = in_start(value(1), start).encode_to_vec();
        round(&mut partition, &keys, &bytes, &mut out);
    }
    let mut nanoseconds: Vec<u64> = (1..=ROUNDS)
        .map(|sequence| {
            let bytes = in_start(value(sequence), starts + 1).encode_to_vec();
            if resend == Resend::All {
                round(&mut partition, &keys, &bytes, &mut out);
            }
            let begin = cpu_nanoseconds();
            refined_bytes += round(&mut partition, &keys, &bytes, &mut out);
            cpu_nanoseconds() - begin
        })
        .collect();
    nanoseconds.sort_unstable();
    let micros = |nanoseconds: u64| nanoseconds as f64 / BOXES as f64 / 1_000.0;
    println!(
        "  {name:<32} {:>5.2}  ({:.2} – {:.2}), {} bytes out",
        micros(nanoseconds[nanoseconds.len() / 2]),
        micros(nanoseconds[0]),
        micros(nanoseconds[nanoseconds.len() - 1]),
        refined_bytes / BOXES / ROUNDS,
    );
}

/// One batch of every box; gives the bytes that came out.
fn round(partition: &mut Partition, keys: &[String], value: &[u8], out: &mut Output) -> u64 {
    let mut bytes = 0;
    for keys in keys.chunks(TRANSACTION_BATCHES) {
        for (offset, key) in keys.iter().enumerate() {
            let record = RawRecord {
                key: key.as_bytes(),
                value,
                lane: Lane::Live,
                received_unix_ms: NOW_UNIX_MS,
                offset: offset as i64,
            };
            partition.refine(&record, 0, out);
        }
        partition.changes(out);
        bytes += out.bytes() as u64;
        out.clear();
        partition.commit();
    }
    bytes
}

fn cpu_nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

fn in_start(mut envelope: Envelope, start: u32) -> Envelope {
    for id in envelope.id.iter_mut().chain(&mut envelope.oldest_held) {
        id.epoch.as_mut().unwrap().start = start;
    }
    envelope.sender.as_mut().unwrap().start = start;
    envelope
}

fn raw(sequence: u64, events: &[Event]) -> Envelope {
    let epoch = Epoch {
        incarnation: 0x1234_5678_9abc_def0,
        start: 1,
    };
    let id = BatchId {
        epoch: Some(epoch),
        sequence,
    };
    let packed = pack(&Batch {
        boot_id: 77,
        first_ordinal: sequence * events.len() as u64,
        events: events.to_vec(),
    })
    .unwrap();
    Envelope {
        id: Some(id),
        class: 1,
        codec: packed.codec as i32,
        batch: packed.bytes,
        boot_id: 77,
        uptime_ms: 5_000_000 + sequence * 5_000,
        unix_ms: NOW_UNIX_MS + sequence as i64 * 5_000,
        clock_synchronised: true,
        sender: Some(epoch),
        oldest_held: vec![id],
    }
}

fn viewing_events(count: u64) -> Vec<Event> {
    let channel = |number: u64| Channel {
        network_id: 9_018,
        transport_stream_id: 4_164,
        service_id: 4_000 + number as u32,
        ..Channel::default()
    };
    (0..count)
        .map(|number| Event {
            uptime_ms: 4_990_000 + number * 700,
            kind: Some(if number % 2 == 0 {
                event::Kind::Tune(Tune {
                    channel: Some(channel(number)),
                    source: Source::Live as i32,
                    cause: 1,
                    tune_duration_ms: 900,
                    ..Tune::default()
                })
            } else {
                event::Kind::ViewingHeartbeat(ViewingHeartbeat {
                    channel: Some(channel(number)),
                    source: Source::Live as i32,
                    ..ViewingHeartbeat::default()
                })
            }),
            ..Event::default()
        })
        .collect()
}

fn proof_events(sequence: u64) -> Vec<Event> {
    let kinds = [
        ad_event::Kind::Start,
        ad_event::Kind::FirstQuartile,
        ad_event::Kind::Midpoint,
    ];
    kinds
        .into_iter()
        .map(|kind| Event {
            uptime_ms: 4_990_000,
            kind: Some(event::Kind::AdEvent(AdEvent {
                kind: kind as i32,
                decision_id: format!("decision-{sequence:016x}"),
                break_id: "break-1".into(),
                creative_id: "creative-0001".into(),
                ..AdEvent::default()
            })),
            ..Event::default()
        })
        .collect()
}
