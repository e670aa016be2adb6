//! What fails, with which reason, and that nothing beside it suffers.

use prost::Message;
use returnpath_refinery::{Destination, EPOCHS_MAX, HOLES_MAX, PROOF_KEYS_MAX};
use returnpath_shared::{
    BATCH_EVENTS_MAX, Lane, Stream, UNPACKED_BYTES_MAX,
    wire::{self, Codec, RejectionReason},
};

use crate::running::{BOOT, Batch, Out, Running, Short, TUNE, epoch, id, snapshot};

/// A batch that takes a wait, so that tests of order do not meddle here.
fn refine(running: &mut Running, batch: &Batch) -> Out {
    let out = running.refine(batch);
    let later = running.pass_ms(1_000);
    if out == Out::default() { later } else { out }
}

/// Refines one batch that must be rejected whole, twice: the second time it
/// must be a duplicate.
fn rejected_once(batch: &Batch) -> wire::Rejected {
    let mut running = Running::new();
    let out = refine(&mut running, batch);
    assert_eq!(out.refined, []);
    let [rejected] = &out.rejected[..] else {
        panic!("expected one rejection: {out:?}");
    };
    assert_eq!(
        refine(&mut running, batch),
        Out::default(),
        "rejected twice"
    );
    let counts = running.commit();
    assert_eq!(counts.rejected(rejected.reason()), 1);
    assert_eq!(counts.duplicate_batches, 1);
    rejected.clone()
}

#[test]
fn each_fault_of_a_batch_has_its_reason_and_keeps_the_original_bytes() {
    let good = || Batch::new(3).events([TUNE, TUNE]);
    let with_batch = |bytes: Vec<u8>| good().envelope(|envelope| envelope.batch = bytes.into());
    let codec = |codec: i32| good().envelope(|envelope| envelope.codec = codec);
    let many = vec![TUNE; BATCH_EVENTS_MAX + 1];
    let bomb = miniz_oxide::deflate::compress_to_vec(&vec![0; UNPACKED_BYTES_MAX + 1], 9);
    for (batch, reason, detail, first_ordinal, event_count) in [
        (codec(0), RejectionReason::Codec, "codec 0", 0, 0),
        (codec(9), RejectionReason::Codec, "codec 9", 0, 0),
        (
            codec(Codec::Deflate as i32),
            RejectionReason::Codec,
            "deflate",
            0,
            0,
        ),
        (
            with_batch(bomb).envelope(|envelope| envelope.codec = Codec::Deflate as i32),
            RejectionReason::TooLarge,
            "more than",
            0,
            0,
        ),
        (
            with_batch(vec![0xff; 5]),
            RejectionReason::Batch,
            "returnpath.v1.Batch",
            0,
            0,
        ),
        (
            good().events([]),
            RejectionReason::Batch,
            "events: expected 1 to",
            3,
            0,
        ),
        (
            good().events(many),
            RejectionReason::Batch,
            "events: expected 1 to",
            3,
            BATCH_EVENTS_MAX as u32 + 1,
        ),
        (
            good().first_ordinal(0),
            RejectionReason::Batch,
            "firstOrdinal: expected at least",
            0,
            2,
        ),
        (
            good().first_ordinal(2),
            RejectionReason::Batch,
            "firstOrdinal: expected at least",
            2,
            2,
        ),
        (
            good().first_ordinal(u64::MAX - 1),
            RejectionReason::Batch,
            "pass the highest ordinal",
            u64::MAX - 1,
            2,
        ),
    ] {
        let batch = batch.lane(Lane::Backlog);
        let rejected = rejected_once(&batch);
        assert_eq!(rejected.reason(), reason, "{rejected:?}");
        assert!(rejected.detail.contains(detail), "{}", rejected.detail);
        assert_eq!(rejected.key, b"box-1"[..]);
        assert_eq!(rejected.envelope, batch.value());
        assert_eq!(rejected.batch, Some(id(1, 1, 3).into()));
        assert_eq!(rejected.index, None);
        assert_eq!(rejected.lane(), wire::Lane::Backlog);
        assert_eq!(rejected.first_ordinal, first_ordinal, "{reason:?}");
        assert_eq!(rejected.event_count, event_count, "{reason:?}");
    }
}

#[test]
fn records_without_a_readable_id_are_rejected_once_although_read_again() {
    let no_id = |change: fn(&mut wire::BatchId)| {
        Batch::new(1).envelope(|envelope| change(envelope.id.as_mut().unwrap()))
    };
    let key = |key: &[u8]| Batch {
        key: key.to_vec(),
        ..Batch::new(1)
    };
    let long = [b'x'; 65];
    for (batch, reason) in [
        (key(b""), RejectionReason::Key),
        (key(b"a/b"), RejectionReason::Key),
        (key(b"\xff\xfe"), RejectionReason::Key),
        (key(&long), RejectionReason::Key),
        (
            Batch::new(1).envelope(|envelope| envelope.id = None),
            RejectionReason::Envelope,
        ),
        (no_id(|id| id.epoch = None), RejectionReason::Envelope),
        (no_id(|id| id.sequence = 0), RejectionReason::Envelope),
        (
            no_id(|id| id.epoch.as_mut().unwrap().incarnation = 0),
            RejectionReason::Envelope,
        ),
        (
            no_id(|id| id.epoch.as_mut().unwrap().start = 0),
            RejectionReason::Envelope,
        ),
    ] {
        let mut running = Running::new();
        let out = running.refine_at(&batch, 5);
        assert_eq!(out.reasons(), [reason]);
        assert_eq!(out.rejected[0].key, batch.key);
        assert_eq!(out.rejected[0].envelope, batch.value());
        assert_eq!(out.rejected[0].batch, None);
        running.commit();
        running.partition = running.restored();
        assert_eq!(running.refine_at(&batch, 5), Out::default(), "read again");
        assert_eq!(
            running.refine_at(&batch, 6).reasons(),
            [reason],
            "sent again"
        );
    }
}

#[test]
fn bytes_that_are_no_envelope_are_rejected() {
    let mut running = Running::new();
    let mut out = returnpath_refinery::Output::new();
    for (offset, value) in [&b"\xff"[..], b"", b"\x0a\x05", b"\x08\x01"]
        .iter()
        .enumerate()
    {
        out.clear();
        let record = returnpath_refinery::RawRecord {
            key: b"box-1",
            value,
            lane: Lane::Live,
            received_unix_ms: 1,
            offset: offset as i64,
        };
        running.partition.refine(&record, 0, &mut out);
        let read = crate::running::read(&out);
        assert_eq!(read.reasons(), [RejectionReason::Envelope], "{value:?}");
        assert_eq!(read.rejected[0].envelope, *value);
    }
}

#[test]
fn a_bad_event_is_rejected_alone_with_its_place() {
    let batch =
        Batch::new(4)
            .first_ordinal(40)
            .events([TUNE, Short::BadTune, Short::Custom, Short::Empty]);
    let mut running = Running::new();
    let out = refine(&mut running, &batch);
    assert_eq!(out.refined_ordinals(), [40, 42]);
    assert_eq!(out.streams, [Stream::Viewing, Stream::Custom]);
    assert_eq!(
        out.reasons(),
        [RejectionReason::Event, RejectionReason::Event]
    );
    let bad = &out.rejected[0];
    assert!(bad.detail.starts_with("tune.channel"), "{}", bad.detail);
    assert_eq!(bad.batch, Some(id(1, 1, 4).into()));
    assert_eq!(bad.index, Some(1));
    assert_eq!(bad.ordinal, 41);
    assert_eq!(bad.boot_id, BOOT);
    assert_eq!(bad.event, Short::BadTune.event().encode_to_vec());
    let envelope = wire::Envelope::decode(bad.envelope.clone()).unwrap();
    assert!(envelope.batch.is_empty(), "the other events came along");
    assert_eq!(
        wire::Envelope {
            batch: envelope.batch.clone(),
            ..wire::Envelope::decode(&batch.value()[..]).unwrap()
        },
        envelope
    );
    assert_eq!(out.rejected[1].index, Some(3));
    assert_eq!(refine(&mut running, &batch), Out::default(), "sent again");
}

#[test]
fn events_that_do_not_decode_and_kinds_of_later_versions_leave_the_others_alone() {
    let mut later = Vec::new();
    prost::encoding::uint64::encode(1, &5, &mut later);
    prost::encoding::bytes::encode(31, &b"new".to_vec(), &mut later);
    let mut batch = Batch::new(1).events([TUNE, TUNE, TUNE]);
    batch.events[0] = vec![0xff];
    batch.events[1].clone_from(&later);
    let out = Running::new().refine(&batch);
    assert_eq!(out.refined_ordinals(), [3]);
    assert_eq!(
        out.reasons(),
        [RejectionReason::Event, RejectionReason::UnknownKind]
    );
    assert_eq!(out.rejected[1].event, later);
    assert!(out.rejected[1].detail.contains("31"));
}

#[test]
fn fields_of_later_versions_pass_through_in_a_refined_event() {
    let mut batch = Batch::new(1);
    let mut event = batch.events[0].clone();
    prost::encoding::bytes::encode(400, &b"new".to_vec(), &mut event);
    batch.events[0].clone_from(&event);
    let mut out = returnpath_refinery::Output::new();
    let record = returnpath_refinery::RawRecord {
        key: b"box-1",
        value: &batch.value(),
        lane: Lane::Live,
        received_unix_ms: 1,
        offset: 0,
    };
    Running::new().partition.refine(&record, 0, &mut out);
    let refined = out.records().next().unwrap();
    let value = refined.value.unwrap();
    assert!(value.windows(event.len()).any(|window| window == event));
}

#[test]
fn a_proof_told_twice_is_refined_once_and_its_repeat_accounted_for() {
    let mut running = Running::new();
    let told = [Short::AdStart("d1"), Short::Consent("c1")];
    let first = running.refine(&Batch::new(1).events(told));
    assert_eq!(first.streams, [Stream::Ads, Stream::Health]);
    running.commit();
    running.partition = running.restored();
    let again = running.refine(&Batch::of(id(1, 2, 1)).events(told));
    assert!(again.refined.is_empty());
    assert_eq!(again.reasons(), [RejectionReason::Repeated; 2]);
    assert_eq!(again.rejected[1].ordinal, 2);
    let other = running.refine(&Batch::of(id(1, 2, 2)).events([Short::AdStart("d2")]));
    assert_eq!(other.refined.len(), 1);
    assert_eq!(running.commit().rejected(RejectionReason::Repeated), 2);
}

#[test]
fn what_the_agent_tells_again_of_itself_is_a_repeat_and_a_clients_ordinary_event_is_not() {
    let named = |event: Short| {
        let event = returnpath_shared::wire::Event {
            client_id: "boot/1".into(),
            ..event.event()
        };
        event.encode_to_vec()
    };
    let mut running = Running::new();
    let mut refine = |sequence, event: Short| {
        let mut batch = Batch::new(sequence);
        batch.events = vec![named(event)];
        running.refine(&batch).reasons()
    };
    assert_eq!(refine(1, Short::Custom), []);
    assert_eq!(refine(2, Short::Custom), []);
    let boot = Short::Boot(5, 0, 0);
    assert_eq!(refine(3, boot), []);
    assert_eq!(refine(4, boot), [RejectionReason::Repeated]);
}

#[test]
fn repeats_are_recognised_within_the_window_of_proofs() {
    let consents = (0..=PROOF_KEYS_MAX).map(|number| format!("c{number}").leak() as &_);
    let events: Vec<_> = consents.map(Short::Consent).collect();
    let mut running = Running::new();
    let all = running.refine(&Batch::new(1).events(events.iter().copied()));
    assert_eq!(all.refined.len(), PROOF_KEYS_MAX + 1);
    let second = Batch::new(2).first_ordinal(1_000).events([events[1]]);
    let second = running.refine(&second);
    assert_eq!(second.reasons(), [RejectionReason::Repeated]);
    let oldest = Batch::new(3).first_ordinal(2_000).events([events[0]]);
    assert_eq!(running.refine(&oldest).refined.len(), 1);
}

#[test]
fn boots_share_no_state_and_no_faults() {
    let mut running = Running::new();
    let of = |key: &str| Batch {
        key: key.as_bytes().to_vec(),
        ..Batch::new(1).events([Short::AdStart("d")])
    };
    for key in ["a", "b", "A", "a-b"] {
        assert_eq!(running.refine(&of(key)).refined.len(), 1, "{key}");
    }
    assert_eq!(running.partition.devices(), 4);
}

#[test]
fn holes_beyond_the_bound_are_rejected_and_never_called_duplicates() {
    let mut running = Running::new();
    let last = 2 * HOLES_MAX as u64;
    for sequence in (2..=last).step_by(2) {
        assert_eq!(refine(&mut running, &Batch::new(sequence)).refined.len(), 1);
    }
    let one_more = Batch::new(last + 2);
    for _ in 0..2 {
        let out = refine(&mut running, &one_more);
        assert_eq!(out.reasons(), [RejectionReason::StateBound]);
        assert_eq!(out.rejected[0].first_ordinal, last + 2);
        assert_eq!(out.rejected[0].event_count, 1);
    }
    // What fills a hole, and what the box says it has released, makes room.
    assert_eq!(running.refine(&Batch::new(1)).refined.len(), 1);
    assert_eq!(refine(&mut running, &one_more).refined.len(), 1);
    let released = Batch::new(last + 4).declares(epoch(1, 1), &[id(1, 1, last)]);
    assert_eq!(refine(&mut running, &released).refined.len(), 1);
    let counts = running.commit();
    assert_eq!(counts.duplicate_batches, 0);
    assert!(counts.holes_forgotten > 0);
}

#[test]
fn starts_beyond_the_bound_are_rejected_until_the_box_releases_some() {
    let mut running = Running::new();
    let starts = EPOCHS_MAX as u32;
    let holds_all = |start| Batch::of(id(1, start, 1)).declares(epoch(1, start), &[id(1, 1, 1)]);
    for start in 1..=starts {
        assert_eq!(running.refine(&holds_all(start)).refined.len(), 1);
    }
    let one_more = holds_all(starts + 1);
    assert_eq!(
        running.refine(&one_more).reasons(),
        [RejectionReason::StateBound]
    );
    let releases =
        Batch::of(id(1, starts + 1, 1)).declares(epoch(1, starts + 1), &[id(1, starts, 1)]);
    assert_eq!(running.refine(&releases).refined.len(), 1);
    assert_eq!(
        running.refine(&holds_all(1)).reasons(),
        [RejectionReason::Retired]
    );
    let state = snapshot(&running.partition);
    let key = (Destination::State, b"box-1".to_vec());
    assert!(state[&key].as_ref().unwrap().len() < 256);
}
