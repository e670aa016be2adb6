//! Exactness across duplicates, releases, aborts and restarts.

use prost::Message as _;
use returnpath_refinery::{
    Destination, FORGOTTEN_INCARNATIONS_MAX, INCARNATION_ORDER_MS, Moment, Output,
    RELEASED_EPOCHS_MAX,
};
use returnpath_shared::{
    Lane, Ordinal,
    wire::{self, RejectionReason},
};

use crate::running::{
    Batch, Changelog, NOW_UNIX_MS, Out, Running, Short, TUNE, epoch, id, restore, snapshot,
};

#[test]
fn a_batch_sent_again_is_a_duplicate_in_either_lane_and_after_a_restart() {
    let mut running = Running::new();
    let batch = Batch::new(1);
    assert_eq!(running.refine(&batch).refined.len(), 1);
    assert_eq!(running.refine(&batch), Out::default());
    running.commit();
    running.partition = running.restored();
    assert_eq!(
        running.refine(&batch.clone().lane(Lane::Backlog)),
        Out::default()
    );
    assert_eq!(running.commit().duplicate_batches, 1);
}

#[test]
fn an_abort_leaves_no_trace() {
    let mut running = Running::new();
    running.refine(&Batch::new(1).events([Short::AdStart("d"), TUNE]));
    running.commit();
    let before = snapshot(&running.partition);
    let devices = running.partition.devices();

    running.refine(&Batch::new(2).events([Short::AdStart("e")]));
    running.refine(&Batch::of(id(1, 9, 1)).declares(epoch(1, 9), &[id(1, 9, 1)]));
    running.refine(&Batch::of(id(2, 1, 1)).received_unix_ms(NOW_UNIX_MS + 100_000));
    running.refine(&Batch {
        key: b"box-2".to_vec(),
        ..Batch::new(1)
    });
    running.refine(&Batch {
        key: b"no device".to_vec(),
        ..Batch::new(1)
    });
    assert_ne!(snapshot(&running.partition), before);
    running.partition.abort();
    assert_eq!(snapshot(&running.partition), before);
    assert_eq!(running.partition.devices(), devices);

    let mut out = Output::new();
    running.partition.changes(&mut out);
    assert!(out.is_empty());
    assert_eq!(running.commit(), returnpath_refinery::Counts::default());
    let again = running.refine(&Batch::new(2).events([Short::AdStart("e")]));
    assert_eq!(again.refined.len(), 1);
}

#[test]
fn a_transaction_writes_each_changed_record_once_and_unchanged_ones_never() {
    let mut running = Running::new();
    for sequence in 1..=5 {
        running.refine(&Batch::new(sequence));
    }
    let mut out = Output::new();
    running.partition.changes(&mut out);
    let keys: Vec<_> = out.records().map(|record| record.key.to_vec()).collect();
    let account = &b"box-1#0000000000000001.1"[..];
    assert_eq!(keys, [b"box-1", &b"box-1#clock"[..], b"box-1", account]);
    let destinations: Vec<_> = out.records().map(|record| record.destination).collect();
    let state = Destination::State;
    let expected = [state, state, Destination::Device, Destination::Completeness];
    assert_eq!(destinations, expected);
    running.commit();

    running.refine(&Batch::new(5));
    out.clear();
    running.partition.changes(&mut out);
    assert_eq!(out.len(), 0, "a duplicate changes nothing");
}

#[test]
fn what_the_box_released_is_taken_while_it_is_known_not_to_have_come() {
    // Batches 1 to 9 lie in the backlog's topic, with receipts; the live lane
    // is read first and says that the box holds nothing below 10.
    let mut running = Running::new();
    let live = Batch::new(10).declares(epoch(1, 1), &[id(1, 1, 10)]);
    assert_eq!(running.refine(&live).refined.len(), 1);
    for sequence in 1..10 {
        let late = Batch::new(sequence).lane(Lane::Backlog);
        assert_eq!(running.refine(&late).refined_ordinals(), [sequence]);
        assert_eq!(running.refine(&late), Out::default());
    }
    let counts = running.commit();
    assert_eq!((counts.late_batches, counts.duplicate_batches), (9, 9));
}

#[test]
fn starts_that_were_forgotten_are_rejected_as_retired() {
    let mut running = Running::new();
    let last = RELEASED_EPOCHS_MAX as u32 + 3;
    for start in 1..=last {
        let batch = Batch::of(id(1, start, 1)).declares(epoch(1, start), &[id(1, start, 1)]);
        assert_eq!(running.refine(&batch).refined.len(), 1);
    }
    // Forgotten are 1 and 2; the released ones above are remembered.
    for start in 1..=last {
        let resent = Batch::of(id(1, start, 1)).events([TUNE, TUNE]);
        let out = running.refine(&resent);
        if start <= 2 {
            assert_eq!(out.reasons(), [RejectionReason::Retired], "{start}");
            assert_eq!(out.rejected[0].event_count, 2);
        } else {
            assert_eq!(out, Out::default(), "{start}");
        }
    }
    assert_eq!(running.commit().epochs_forgotten, 2);
}

#[test]
fn an_old_envelope_that_comes_late_releases_nothing_newer() {
    let mut running = Running::new();
    let holds_more = |batch| Batch::of(batch).declares(epoch(1, 5), &[id(1, 2, 1)]);
    running.refine(&holds_more(id(1, 5, 1)));
    // Sent in start 2, when the box held start 2 alone.
    let stale = Batch::of(id(1, 2, 1)).declares(epoch(1, 2), &[id(1, 2, 1)]);
    assert_eq!(running.refine(&stale).refined.len(), 1);
    for batch in [id(1, 5, 2), id(1, 3, 1), id(1, 2, 2)] {
        assert_eq!(running.refine(&holds_more(batch)).refined.len(), 1);
    }
    let counts = running.commit();
    assert_eq!(counts.late_batches, 0);
    assert_eq!(counts.declarations_refused, 0);
}

#[test]
fn a_new_queue_file_speaks_for_older_ones_and_never_the_reverse() {
    let mut running = Running::new();
    let later_ms = NOW_UNIX_MS + 100_000;
    running.refine(&Batch::of(id(8, 1, 1)));
    // The old file is gone: the new one lists itself alone.
    running.refine(&Batch::of(id(3, 1, 1)).received_unix_ms(later_ms));
    // A batch of the old file comes late, with what it held then.
    running.refine(&Batch::of(id(8, 1, 2)).received_unix_ms(later_ms + 1));
    assert_eq!(running.commit().late_batches, 1, "the old file is released");
    running.refine(&Batch::of(id(3, 1, 2)).received_unix_ms(later_ms + 2));
    assert_eq!(running.commit().late_batches, 0, "the new one is not");
}

#[test]
fn declarations_that_contradict_themselves_release_nothing_and_stop_nothing() {
    let own = id(1, 3, 4);
    let many: Vec<_> = (1..=17).map(|incarnation| id(incarnation, 1, 1)).collect();
    for (what, batch) in [
        (
            "own batch unlisted",
            Batch::of(own).declares(epoch(1, 3), &[]),
        ),
        (
            "own batch below the oldest",
            Batch::of(own).declares(epoch(1, 3), &[id(1, 3, 5)]),
        ),
        (
            "own batch later than the sender",
            Batch::of(own).declares(epoch(1, 2), &[id(1, 2, 1)]),
        ),
        (
            "listed later than the sender",
            Batch::of(own).declares(epoch(2, 1), &[own, id(2, 2, 1)]),
        ),
        (
            "listed twice",
            Batch::of(own).declares(epoch(1, 3), &[own, id(1, 1, 1)]),
        ),
        ("too many", Batch::of(own).declares(epoch(1, 3), &many)),
        (
            "no sender",
            Batch::of(own).envelope(|envelope| envelope.sender = None),
        ),
        (
            "no good id",
            Batch::of(own).envelope(|envelope| {
                envelope.oldest_held[0].sequence = 0;
            }),
        ),
    ] {
        let mut running = Running::new();
        running.refine(&Batch::of(id(1, 2, 1)));
        running.refine(&batch);
        let out = running.pass_ms(1_000);
        assert_eq!(out.refined_ordinals(), [4], "{what}");
        running.refine(&Batch::of(id(1, 2, 2)));
        let counts = running.commit();
        assert_eq!(counts.declarations_refused, 1, "{what}");
        assert_eq!(counts.late_batches, 0, "{what}");
    }
}

#[test]
fn queue_files_lost_again_and_again_do_not_silence_a_box() {
    let mut running = Running::new();
    for incarnation in 1..=100 {
        let received_unix_ms = NOW_UNIX_MS + 100_000 * i64::try_from(incarnation).unwrap();
        let batch = Batch::of(id(incarnation, 1, 1)).received_unix_ms(received_unix_ms);
        assert_eq!(running.refine(&batch).refined.len(), 1, "{incarnation}");
    }
    running.commit();
    assert_eq!(snapshot(&running.restored()), snapshot(&running.partition));
}

#[test]
fn what_comes_again_of_a_forgotten_queue_file_is_retired_and_says_nothing() {
    let mut running = Running::new();
    let files = returnpath_shared::INCARNATIONS_MAX as u64 + 1;
    let nth = |file: u64, sequence| {
        let received_unix_ms = NOW_UNIX_MS + 100_000 * i64::try_from(file).unwrap();
        Batch::of(id(file, 1, sequence)).received_unix_ms(received_unix_ms)
    };
    for file in 1..=files {
        assert_eq!(running.refine(&nth(file, 1)).refined.len(), 1, "{file}");
    }
    running.refine(&nth(files, 3));
    running.commit();
    running.partition = running.restored();
    // The broker had it minutes longer than its like.
    let again = nth(1, 1).received_unix_ms(NOW_UNIX_MS + 100_000 * 100);
    let out = running.refine(&again);
    assert_eq!(out.reasons(), [RejectionReason::Retired]);
    assert_eq!(out.refined, []);
    assert_eq!(running.refine(&nth(files - 1, 1)), Out::default());
    running.pass_ms(1_000);
    // Nothing was released by it: what the box holds is not late.
    assert_eq!(running.refine(&nth(files, 2)).refined.len(), 1);
    assert_eq!(running.commit().late_batches, 0);
    assert_eq!(snapshot(&running.restored()), snapshot(&running.partition));
}

#[test]
fn so_many_forgotten_queue_files_are_known_by_their_number() {
    let mut running = Running::new();
    let known = returnpath_shared::INCARNATIONS_MAX + FORGOTTEN_INCARNATIONS_MAX;
    for file in 1..=known as u64 + 5 {
        let received_unix_ms = NOW_UNIX_MS + 100_000 * i64::try_from(file).unwrap();
        running.refine(&Batch::of(id(file, 1, 1)).received_unix_ms(received_unix_ms));
    }
    running.commit();
    let state = &running.changelog[&(Destination::State, b"box-1".to_vec())];
    let state = wire::DeviceState::decode(state.as_deref().unwrap()).unwrap();
    let numbers: Vec<u64> = (6..6 + FORGOTTEN_INCARNATIONS_MAX as u64).collect();
    assert_eq!(state.forgotten_incarnations, numbers);
    assert_eq!(snapshot(&running.restored()), snapshot(&running.partition));
}

#[test]
fn more_queue_files_at_once_than_are_remembered_are_taken_when_their_order_is_clear() {
    let mut running = Running::new();
    let files = returnpath_shared::INCARNATIONS_MAX as u64;
    for incarnation in 1..=files {
        assert_eq!(
            running
                .refine(&Batch::of(id(incarnation, 1, 1)))
                .refined
                .len(),
            1
        );
    }
    let one_more = Batch::of(id(files + 1, 1, 1));
    let out = running.refine(&one_more);
    assert_eq!(out.reasons(), [RejectionReason::StateBound]);
    let later = one_more.received_unix_ms(NOW_UNIX_MS + INCARNATION_ORDER_MS);
    assert_eq!(running.refine(&later).refined.len(), 1);
    assert_eq!(running.refine(&later), Out::default());
}

#[test]
fn a_partition_is_restored_from_its_changelog() {
    let mut running = Running::new();
    running.refine(&Batch::new(1).events([Short::AdStart("d"), Short::Consent("c")]));
    running.refine(&Batch::new(5));
    running.pass_ms(1_000);
    running.refine(&Batch::of(id(1, 2, 1)).declares(epoch(1, 2), &[id(1, 1, 5)]));
    running.refine(&Batch {
        key: b"no device".to_vec(),
        ..Batch::new(1)
    });
    running.commit();
    assert_eq!(snapshot(&running.restored()), snapshot(&running.partition));
    assert_eq!(running.changelog, snapshot(&running.partition));

    let mut emptied = running.restored();
    for (destination, key) in running.changelog.keys() {
        restore(&mut emptied, *destination, key, None);
    }
    assert_eq!(snapshot(&emptied), Changelog::new());
}

#[test]
fn state_records_that_are_not_ours_are_refused() {
    let mut partition = Running::new().partition;
    for (key, value) in [
        (&b"a b"[..], &b""[..]),
        (b"box-1", b"\xff"),
        (b"box-1#proof", b"\x0a\x01x"),
        (b"box-1", b"\x0a\x00"),
    ] {
        assert!(partition.restore(key, Some(value)).is_err(), "{key:?}");
    }
}

#[test]
fn only_a_higher_start_and_ordinal_is_later() {
    let mut running = Running::new();
    running.refine(&Batch::of(id(9, 1, 1)));
    running.refine(&Batch::of(id(4, 1, 1)).received_unix_ms(NOW_UNIX_MS + 1));
    let device = "box-1".parse().unwrap();
    let moment = |incarnation, start, ordinal| Moment {
        epoch: epoch(incarnation, start),
        ordinal: Ordinal(ordinal),
    };
    let is_later = |event, than| running.partition.is_later(&device, event, than);
    assert!(is_later(moment(9, 1, 2), moment(9, 1, 1)));
    assert!(!is_later(moment(9, 1, 1), moment(9, 1, 1)));
    assert!(!is_later(moment(9, 1, 9), moment(9, 2, 1)));
    assert!(is_later(moment(4, 1, 1), moment(9, 7, 9)), "a later file");
    assert!(!is_later(moment(9, 7, 9), moment(4, 1, 1)));
    assert!(
        !is_later(moment(5, 1, 1), moment(4, 1, 1)),
        "an unknown file"
    );
    // The lanes are not read in the order of arrival: what the bridge took
    // first was the other file.
    let earlier = Batch::of(id(4, 1, 2)).received_unix_ms(NOW_UNIX_MS - 1);
    running.refine(&earlier.lane(Lane::Backlog));
    let is_later = |event, than| running.partition.is_later(&device, event, than);
    assert!(is_later(moment(9, 7, 9), moment(4, 1, 1)));
    assert!(!is_later(moment(4, 1, 1), moment(9, 7, 9)));
    let other = "box-2".parse().unwrap();
    let of_nobody = running
        .partition
        .is_later(&other, moment(9, 1, 2), moment(9, 1, 1));
    assert!(!of_nobody);
}
