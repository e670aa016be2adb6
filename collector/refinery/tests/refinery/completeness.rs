//! What `rp.completeness` says of a box, step by step.

use returnpath_refinery::{
    COMPLETENESS_REFRESH_MS, DECLARED_EPOCHS_MAX, DECLARED_RANGES_MAX, Destination, Limits,
    MISSING_RANGES_MAX, Output, RELEASED_EPOCHS_MAX,
};
use returnpath_shared::{
    BatchId, Epoch,
    wire::{self, Completeness, DropReason, Missing, RejectionReason, event},
};

use crate::running::{
    Batch, NOW_UNIX_MS, Running, SENT_UPTIME_MS, Short, accounts, epoch, id, snapshot,
};

/// Batch n of a start carries the ordinals 2 n - 1 and 2 n.
fn batch(start: u32, sequence: u64) -> Batch {
    Batch::of(id(1, start, sequence))
        .first_ordinal(2 * sequence - 1)
        .events([crate::TUNE, crate::TUNE])
}

fn told_by(kind: event::Kind, client_id: &str) -> wire::Event {
    wire::Event {
        uptime_ms: SENT_UPTIME_MS - 1_000,
        client_id: client_id.into(),
        kind: Some(kind),
    }
}

fn dropped(reason: DropReason, first: BatchId, last_sequence: u64) -> wire::Event {
    let sequence = first.sequence.0;
    let ledger = wire::Ledger {
        reason: reason.into(),
        first_batch: Some(first.into()),
        last_sequence,
        first_ordinal: 2 * sequence - 1,
        event_count: 2 * (last_sequence - sequence + 1),
        ..wire::Ledger::default()
    };
    let client_id = format!("ledger/{first:?}/{last_sequence}");
    told_by(
        event::Kind::Ledger(ledger),
        &client_id[client_id.len() - 20..],
    )
}

fn unclean(of: Epoch, last_known_sequence: u64) -> wire::Event {
    let stop = wire::UncleanStop {
        epoch: Some(of.into()),
        last_known_ordinal: 2 * last_known_sequence,
        last_known_sequence,
    };
    told_by(event::Kind::UncleanStop(stop), &format!("unclean/{of}"))
}

/// The account in the topic.
fn account(running: &Running, of: Epoch) -> Completeness {
    accounts(&running.changelog, "box-1")[&of].clone()
}

fn ranges(account: &Completeness) -> Vec<(u64, u64, Missing, DropReason, u64)> {
    let ranges = account.missing.iter();
    ranges
        .map(|range| {
            let sequences = (range.first_sequence, range.last_sequence);
            let cause = (range.missing(), range.reason());
            (
                sequences.0,
                sequences.1,
                cause.0,
                cause.1,
                range.event_count,
            )
        })
        .collect()
}

const NONE: DropReason = DropReason::Unspecified;

/// Where declarations are forgotten of a whole epoch.
const ANYTHING: (u64, u64) = (1, u64::MAX);

/// How many ranges are forgotten, where they were, and how many runs are.
fn forgotten(account: &Completeness) -> (u32, (u64, u64), u32) {
    let within = (
        account.declared_forgotten_first_sequence,
        account.declared_forgotten_last_sequence,
    );
    let ranges = account.declared_ranges_forgotten;
    (ranges, within, account.declared_runs_forgotten)
}

#[test]
fn a_box_that_loses_nothing_costs_a_record_in_ten_minutes() {
    let mut running = Running::new();
    let mut out = Output::new();
    let mut written = Vec::new();
    for sequence in 1..=300 {
        let received_unix_ms = NOW_UNIX_MS + 5_000 * (sequence as i64 - 1);
        running.refine(&batch(1, sequence).received_unix_ms(received_unix_ms));
        out.clear();
        running.partition.changes(&mut out);
        let mut records = out.records();
        if records.any(|record| record.destination == Destination::Completeness) {
            written.push(received_unix_ms - NOW_UNIX_MS);
        }
        running.commit();
    }
    let refresh = COMPLETENESS_REFRESH_MS;
    assert_eq!(written, [0, refresh, 2 * refresh]);
    let told = account(&running, epoch(1, 1));
    assert_eq!((told.highest_sequence, told.highest_ordinal), (241, 482));
    assert_eq!(told.as_of_unix_ms, NOW_UNIX_MS + 2 * refresh);
    assert_eq!(told.first_received_unix_ms, NOW_UNIX_MS);
    assert_eq!((told.missing, told.missing_totals), (vec![], vec![]));
    assert_eq!((told.ended, told.released), (false, false));
}

#[test]
fn an_account_names_model_and_firmware() {
    let mut running = Running::new();
    let boot = wire::Boot {
        model: "m".into(),
        firmware: "f".into(),
        ..wire::Boot::default()
    };
    running.refine(&Batch::new(1).carries([told_by(event::Kind::Boot(boot), "boot")]));
    running.commit();
    let told = account(&running, epoch(1, 1));
    assert_eq!((&*told.model, &*told.firmware), ("m", "f"));
}

#[test]
fn a_hole_is_told_when_it_opens_and_when_it_closes() {
    let mut running = Running::new();
    running.refine(&batch(1, 1));
    running.commit();
    running.refine(&batch(1, 5).received_unix_ms(NOW_UNIX_MS + 7));
    running.pass_ms(50);
    running.commit();
    let told = account(&running, epoch(1, 1));
    assert_eq!(ranges(&told), [(2, 4, Missing::Held, NONE, 6)]);
    assert_eq!(told.missing[0].since_unix_ms, NOW_UNIX_MS + 7);
    // It fills from an edge: nothing that anybody waits for.
    running.refine(&batch(1, 2));
    running.commit();
    assert_eq!(account(&running, epoch(1, 1)), told);
    for sequence in [3, 4] {
        running.refine(&batch(1, sequence));
    }
    running.commit();
    let told = account(&running, epoch(1, 1));
    assert_eq!(ranges(&told), []);
    assert_eq!(told.highest_sequence, 5);
}

#[test]
fn what_the_box_released_without_a_word_is_unexplained_until_it_is_declared() {
    let mut running = Running::new();
    running.refine(&batch(1, 1));
    running.refine(&batch(1, 9).declares(epoch(1, 1), &[id(1, 1, 6)]));
    running.pass_ms(50);
    running.commit();
    // Where in the hole the ordinals of batch 6 begin nobody knows.
    let told = account(&running, epoch(1, 1));
    let lost = (2, 5, Missing::Unexplained, NONE, 0);
    assert_eq!(ranges(&told), [lost, (6, 8, Missing::Held, NONE, 0)]);
    let total = &told.missing_totals[0];
    assert_eq!((total.ranges, total.batches, total.events), (1, 3, 0));
    assert_eq!(total.ranges_uncounted, 1);

    let full = DropReason::QueueFull;
    let ledger = dropped(full, id(1, 1, 3), 5);
    let later = batch(1, 10).carries([ledger]).first_ordinal(19);
    running.refine(&later.declares(epoch(1, 1), &[id(1, 1, 6)]));
    running.commit();
    let told = account(&running, epoch(1, 1));
    assert_eq!(
        ranges(&told),
        [
            (2, 2, Missing::Unexplained, NONE, 2),
            (3, 5, Missing::Declared, full, 6),
            (6, 8, Missing::Held, NONE, 6),
        ]
    );
    assert_eq!(told.declared.len(), 1);
    assert_eq!(told.declared[0].event_count, 6);
    assert_eq!(told.first_declared_unix_ms, NOW_UNIX_MS);
}

#[test]
fn each_hole_that_is_released_is_told_though_another_was_before() {
    let mut running = Running::new();
    for sequence in [1, 4, 7] {
        running.refine(&batch(1, sequence));
        running.pass_ms(50);
    }
    running.refine(&batch(1, 8).declares(epoch(1, 1), &[id(1, 1, 4)]));
    running.commit();
    let unexplained = |first, last| (first, last, Missing::Unexplained, NONE, 4);
    let held = (5, 6, Missing::Held, NONE, 4);
    let now = account(&running, epoch(1, 1));
    assert_eq!(ranges(&now), [unexplained(2, 3), held]);
    running.refine(&batch(1, 9).declares(epoch(1, 1), &[id(1, 1, 9)]));
    running.commit();
    let now = account(&running, epoch(1, 1));
    assert_eq!(ranges(&now), [unexplained(2, 3), unexplained(5, 6)]);
}

#[test]
fn an_unclean_stop_declares_what_was_not_durable_and_is_not_held() {
    let mut running = Running::new();
    for sequence in [1, 2, 5, 7] {
        running.refine(&batch(1, sequence));
        running.pass_ms(50);
    }
    running.commit();
    let now = epoch(1, 2);
    let held = [id(1, 1, 6)];
    running.refine(
        &batch(2, 1)
            .carries([unclean(epoch(1, 1), 3)])
            .declares(now, &held),
    );
    running.commit();
    let told = account(&running, epoch(1, 1));
    assert_eq!(
        ranges(&told),
        [
            (3, 3, Missing::Unexplained, NONE, 0),
            (4, 4, Missing::UncleanStop, NONE, 0),
            (6, 6, Missing::Held, NONE, 2),
        ]
    );
    assert!(told.unclean_stop && told.ended && !told.released);
    assert_eq!((told.last_known_sequence, told.last_known_ordinal), (3, 6));

    // All is released: what was above is lost with the power too.
    running.refine(&batch(2, 2).declares(now, &[id(1, 2, 1)]));
    running.commit();
    let told = account(&running, epoch(1, 1));
    let last = ranges(&told)[2];
    assert_eq!(last, (6, 6, Missing::UncleanStop, NONE, 2));
    assert!(told.released);
}

#[test]
fn epochs_of_which_nothing_arrived_are_known_by_what_was_declared() {
    let mut running = Running::new();
    let full = DropReason::QueueFull;
    let told = [dropped(full, id(1, 1, 1), 4), unclean(epoch(1, 2), 3)];
    running.refine(
        &batch(3, 1)
            .carries(told)
            .declares(epoch(1, 3), &[id(1, 3, 1)]),
    );
    running.commit();
    let first = account(&running, epoch(1, 1));
    assert_eq!(ranges(&first), [(1, 4, Missing::Declared, full, 8)]);
    assert_eq!(first.highest_sequence, 0);
    assert!(first.ended && first.released);
    let second = account(&running, epoch(1, 2));
    assert_eq!(ranges(&second), [(1, 3, Missing::Unexplained, NONE, 6)]);
}

#[test]
fn a_damaged_queue_file_explains_whatever_is_missing_of_its_epoch() {
    let mut running = Running::new();
    for sequence in [1, 4] {
        running.refine(&batch(1, sequence));
        running.pass_ms(50);
    }
    let ledger = wire::Ledger {
        reason: DropReason::Corrupt.into(),
        first_batch: Some(wire::BatchId {
            sequence: 1,
            ..id(1, 1, 1).into()
        }),
        whole_epoch: true,
        ..wire::Ledger::default()
    };
    let ledger = told_by(event::Kind::Ledger(ledger), "ledger");
    running.refine(
        &batch(2, 1)
            .carries([ledger])
            .declares(epoch(1, 2), &[id(1, 2, 1)]),
    );
    running.commit();
    let told = account(&running, epoch(1, 1));
    let corrupt = DropReason::Corrupt;
    assert_eq!(ranges(&told), [(2, 3, Missing::Declared, corrupt, 4)]);
    assert_eq!(told.whole_epoch_reason(), corrupt);
}

#[test]
fn what_a_batch_declares_holds_though_it_is_rejected_at_a_bound() {
    let limits = Limits {
        holes_max: 1,
        ..Limits::DEFAULT
    };
    let mut running = Running::with_limits(limits);
    for sequence in [1, 4] {
        running.refine(&batch(1, sequence));
        running.pass_ms(50);
    }
    let ledger = dropped(DropReason::Consent, id(1, 1, 2), 3);
    running.refine(&batch(1, 9).carries([ledger]).first_ordinal(17));
    let out = running.pass_ms(50);
    assert_eq!(out.reasons(), [RejectionReason::StateBound]);
    running.commit();
    let told = account(&running, epoch(1, 1));
    let consent = DropReason::Consent;
    // That it came shows that those between were built.
    assert_eq!(
        ranges(&told),
        [
            (2, 3, Missing::Declared, consent, 4),
            (5, 8, Missing::Held, NONE, 8),
            (9, 9, Missing::Rejected, NONE, 1)
        ]
    );
    let rejection = told.declared[1].rejection();
    assert_eq!(rejection, RejectionReason::StateBound);
    assert_eq!(snapshot(&running.restored()), snapshot(&running.partition));
}

#[test]
fn an_epoch_that_is_forgotten_gets_a_tombstone() {
    let mut running = Running::new();
    for start in 1..=RELEASED_EPOCHS_MAX as u32 + 2 {
        running.refine(&batch(start, 1).declares(epoch(1, start), &[id(1, start, 1)]));
        running.commit();
    }
    let key = b"box-1#0000000000000001.1".to_vec();
    assert_eq!(running.changelog[&(Destination::Completeness, key)], None);
    assert_eq!(snapshot(&running.restored()), snapshot(&running.partition));
}

#[test]
fn beyond_the_bounds_the_oldest_declarations_are_forgotten_and_counted() {
    let mut running = Running::new();
    let mut ordinal = 1;
    let mut sequence = 1;
    let mut tell = |running: &mut Running, event: wire::Event| {
        let batch = Batch::of(id(9, 1, sequence)).first_ordinal(ordinal);
        running.refine(&batch.carries([event]));
        sequence += 1;
        ordinal += 1;
    };
    for start in 1..=DECLARED_EPOCHS_MAX as u32 + 1 {
        tell(&mut running, unclean(epoch(1, start), 1));
    }
    // Every second batch, so that they do not join.
    for sequence in 1..=DECLARED_RANGES_MAX as u64 + 2 {
        let first = id(1, 2, 2 * sequence);
        tell(
            &mut running,
            dropped(DropReason::TooOld, first, 2 * sequence),
        );
    }
    let counts = running.commit();
    assert_eq!(counts.declared_epochs_forgotten, 1);
    assert_eq!(counts.declared_ranges_forgotten, 2);
    let told = accounts(&running.changelog, "box-1");
    assert_eq!(
        forgotten(&told[&epoch(1, 1)]),
        (0, ANYTHING, 1),
        "the run itself, and no other"
    );
    let told = &told[&epoch(1, 2)];
    assert_eq!(told.declared.len(), DECLARED_RANGES_MAX);
    assert_eq!(forgotten(told), (2, (2, 4), 0));
    assert_eq!(told.declared[0].first_sequence, 6);
    assert_eq!(told.missing.len(), MISSING_RANGES_MAX);
    assert!(told.missing_ranges_beyond > 0);
    let listed: u64 = told.missing_totals.iter().map(|total| total.ranges).sum();
    let beyond = u64::from(told.missing_ranges_beyond);
    assert_eq!(listed, MISSING_RANGES_MAX as u64 + beyond);
    assert_eq!(snapshot(&running.restored()), snapshot(&running.partition));
}

#[test]
fn what_is_declared_of_an_epoch_piece_by_piece_stays_together() {
    let mut running = Running::new();
    let starts = DECLARED_EPOCHS_MAX as u32;
    let newest = starts + 1;
    let stops = (1..=starts).map(|start| unclean(epoch(1, start), 1));
    let rows = (1..=starts).map(|start| dropped(DropReason::TooOld, id(1, start, 1), 3));
    let declarations: Vec<wire::Event> = stops.chain(rows).collect();
    // Nothing of these starts arrives, and the box holds nothing of them.
    for (sequence, some) in (1..).zip(declarations.chunks(100)) {
        let batch = Batch::of(id(1, newest, sequence)).first_ordinal(100 * sequence);
        let held = [id(1, newest, sequence)];
        let batch = batch.carries(some.to_vec());
        running.refine(&batch.declares(epoch(1, newest), &held));
    }
    // The last batch declares one more start than there is room for.
    let stop = unclean(epoch(1, newest + 1), 1);
    running.refine(
        &Batch::of(id(1, newest, 7))
            .first_ordinal(700)
            .carries([stop]),
    );
    let counts = running.commit();
    assert_eq!(counts.declared_epochs_forgotten, 1);
    let told = accounts(&running.changelog, "box-1");
    assert_eq!(forgotten(&told[&epoch(1, 1)]), (0, ANYTHING, 1));
    for start in 2..=starts {
        let told = &told[&epoch(1, start)];
        assert!(told.unclean_stop && told.declared.len() == 1, "{told:?}");
    }
}

#[test]
fn a_full_ledger_explains_every_hole_though_much_was_declared_before() {
    let mut running = Running::new();
    let mut sequence = 1;
    let mut tell = |running: &mut Running, events: &[wire::Event]| {
        let batch = Batch::of(id(1, 3, sequence)).first_ordinal(1_000 * sequence);
        let held = [id(1, 3, sequence)];
        running.refine(&batch.carries(events.to_vec()).declares(epoch(1, 3), &held));
        sequence += 1;
    };
    // Of the first start every second batch was dropped, and a copy of each
    // dropped one arrives all the same.
    for sequence in 1..=40 {
        running.refine(&batch(1, sequence));
    }
    let dropped_of = |start, range: std::ops::Range<u64>| -> Vec<wire::Event> {
        let of = |number| dropped(DropReason::QueueFull, id(1, start, 2 * number), 2 * number);
        range.map(of).collect()
    };
    tell(&mut running, &dropped_of(1, 1..20));
    // Of the second start as many as a ledger holds, and nothing of it arrives
    // but the last.
    let rows = DECLARED_RANGES_MAX as u64;
    let all = dropped_of(2, 1..rows + 1);
    for events in all.chunks(200) {
        tell(&mut running, events);
    }
    let counts = running.commit();
    assert_eq!(counts.declared_ranges_forgotten, 19);
    let told = accounts(&running.changelog, "box-1");
    assert_eq!(told[&epoch(1, 1)].declared, []);
    // Nothing was missing where they were.
    assert_eq!(forgotten(&told[&epoch(1, 1)]), (19, (0, 0), 0));
    assert_eq!(told[&epoch(1, 2)].declared.len(), DECLARED_RANGES_MAX);
    let declared = |total: &&wire::MissingTotal| total.missing() == Missing::Declared;
    let totals = &told[&epoch(1, 2)].missing_totals;
    assert_eq!(totals.iter().find(declared).unwrap().batches, rows);
    assert_eq!(snapshot(&running.restored()), snapshot(&running.partition));
}

#[test]
fn what_is_missing_where_ranges_were_forgotten_is_not_called_unexplained() {
    let limits = Limits {
        declared_ranges_max: 1,
        ..Limits::DEFAULT
    };
    let mut running = Running::with_limits(limits);
    for sequence in [1, 3, 5, 7, 9, 11] {
        running.refine(&batch(1, sequence));
        running.pass_ms(50);
    }
    // Batches 4, 6 and 10 were dropped, 2 and 8 are lost without a word.
    let full = DropReason::QueueFull;
    let rows = [4, 6, 10].map(|sequence| dropped(full, id(1, 1, sequence), sequence));
    let next = batch(1, 12).first_ordinal(23).carries(rows);
    running.refine(&next.declares(epoch(1, 1), &[id(1, 1, 12)]));
    let counts = running.commit();
    assert_eq!(counts.declared_ranges_forgotten, 2);
    let told = account(&running, epoch(1, 1));
    let missing = |sequence, missing| (sequence, sequence, missing, NONE, 2);
    assert_eq!(
        ranges(&told),
        [
            missing(2, Missing::Unexplained),
            missing(4, Missing::Forgotten),
            missing(6, Missing::Forgotten),
            missing(8, Missing::Unexplained),
            (10, 10, Missing::Declared, full, 2),
        ]
    );
    assert_eq!(forgotten(&told), (2, (4, 6), 0));
    assert_eq!(snapshot(&running.restored()), snapshot(&running.partition));
    let sums: Vec<_> = running.partition.completeness().collect();
    assert!(!sums[0].is_complete());
    let forgotten = returnpath_refinery::Missing::Forgotten;
    let (_, total) = sums[0].missing().find(|sum| sum.0 == forgotten).unwrap();
    assert_eq!((total.ranges, total.batches, total.events), (2, 2, 4));
}

#[test]
fn a_run_once_forgotten_is_never_accused_and_later_ones_are() {
    let limits = Limits {
        declared_epochs_max: 2,
        ..Limits::DEFAULT
    };
    let mut running = Running::with_limits(limits);
    let now = epoch(1, 9);
    let mut sequence = 0;
    let mut tell = |running: &mut Running, events: Vec<wire::Event>| {
        sequence += 1;
        let batch = batch(9, sequence)
            .first_ordinal(10 * sequence)
            .received_unix_ms(NOW_UNIX_MS + sequence as i64);
        running.refine(&batch.carries(events).declares(now, &[id(1, 9, sequence)]));
        running.commit()
    };
    // Starts 1, 2 and 4 are forgotten, one after the other; of 3 nothing was
    // declared.
    let mut epochs_forgotten = 0;
    for start in [1, 2, 4, 5, 6] {
        let counts = tell(&mut running, vec![unclean(epoch(1, start), 0)]);
        epochs_forgotten += counts.declared_epochs_forgotten;
    }
    assert_eq!(epochs_forgotten, 3);
    let told = accounts(&running.changelog, "box-1");
    let starts: Vec<u32> = told.keys().map(|epoch| epoch.start).collect();
    assert_eq!(starts, [4, 5, 6, 9], "one mark stands for all");
    let mark = &told[&epoch(1, 4)];
    assert_eq!(forgotten(mark), (0, ANYTHING, 3));
    assert!(mark.missing.is_empty() && !mark.unclean_stop);

    // Another piece of start 2 shows a hole that its unclean stop explained.
    running.partition = running.restored();
    let full = DropReason::QueueFull;
    tell(&mut running, vec![dropped(full, id(1, 2, 3), 4)]);
    // The oldest of the others makes room for it.
    let told = accounts(&running.changelog, "box-1");
    let again = &told[&epoch(1, 2)];
    assert_eq!(forgotten(again), (0, ANYTHING, 0));
    assert_eq!(
        ranges(again),
        [
            (1, 2, Missing::Forgotten, NONE, 4),
            (3, 4, Missing::Declared, full, 4),
        ]
    );
    assert_eq!(forgotten(&told[&epoch(1, 5)]), (0, ANYTHING, 4));
    // A run above all that was forgotten has no such excuse.
    tell(&mut running, vec![dropped(full, id(1, 7, 3), 4)]);
    let later = account(&running, epoch(1, 7));
    assert_eq!(ranges(&later)[0], (1, 2, Missing::Unexplained, NONE, 4));
    assert_eq!(forgotten(&later), (0, (0, 0), 0));
    assert_eq!(snapshot(&running.restored()), snapshot(&running.partition));
}

#[test]
fn a_late_batch_of_a_run_once_forgotten_shows_no_unexplained_hole() {
    let limits = Limits {
        declared_epochs_max: 1,
        ..Limits::DEFAULT
    };
    let mut running = Running::with_limits(limits);
    let full = DropReason::QueueFull;
    let rows = vec![dropped(full, id(1, 1, 1), 2), dropped(full, id(1, 2, 1), 2)];
    let first = batch(3, 1).carries(rows);
    running.refine(&first.declares(epoch(1, 3), &[id(1, 3, 1)]));
    // Comes by the other lane, after it was released.
    running.refine(&batch(1, 3));
    running.commit();
    let late = account(&running, epoch(1, 1));
    assert_eq!(ranges(&late), [(1, 2, Missing::Forgotten, NONE, 4)]);
    // What arrived of it is its own account from now on, and the mark as well.
    assert_eq!(forgotten(&late), (0, ANYTHING, 1));
    assert_eq!(snapshot(&running.restored()), snapshot(&running.partition));
}

#[test]
fn marks_are_kept_of_as_many_queue_files_as_their_numbers() {
    let limits = Limits {
        declared_epochs_max: 1,
        forgotten_incarnations_max: 2,
        ..Limits::DEFAULT
    };
    let mut running = Running::with_limits(limits);
    let lost = |file| epoch(file, 1);
    for file in 1..=5 {
        let at = Batch::of(id(9, 1, file)).first_ordinal(10 * file);
        let received_unix_ms = NOW_UNIX_MS + file as i64;
        running.refine(
            &at.carries([unclean(lost(file), 3)])
                .received_unix_ms(received_unix_ms),
        );
        running.commit();
    }
    let told = accounts(&running.changelog, "box-1");
    let files: Vec<Epoch> = told.keys().copied().collect();
    assert_eq!(files, [lost(3), lost(4), lost(5), epoch(9, 1)]);
    for file in [3, 4] {
        assert_eq!(forgotten(&told[&lost(file)]), (0, ANYTHING, 1));
    }
    assert!(told[&lost(5)].unclean_stop);
}

#[test]
fn where_the_topic_is_new_every_epoch_is_told_again() {
    let mut running = Running::new();
    for start in 1..=2 {
        for sequence in [1, 3] {
            running.refine(&batch(start, sequence));
            running.pass_ms(50);
        }
    }
    running.commit();
    running
        .changelog
        .retain(|(destination, _), _| *destination != Destination::Completeness);
    running.partition = running.restored();
    running.refine(&batch(2, 4));
    running.commit();
    // What the box had declared is not known any more.
    for (start, missing) in [(1, Missing::Forgotten), (2, Missing::Held)] {
        let told = account(&running, epoch(1, start));
        assert_eq!(ranges(&told), [(2, 2, missing, NONE, 2)], "{start}");
    }
}

#[test]
fn a_batch_that_cannot_be_read_has_arrived() {
    let mut running = Running::new();
    running.refine(&batch(1, 1));
    let unreadable = batch(1, 2).envelope(|envelope| envelope.batch = vec![0xff].into());
    let out = running.refine(&unreadable);
    assert_eq!(out.reasons(), [RejectionReason::Batch]);
    running.refine(&batch(1, 5));
    running.pass_ms(50);
    running.commit();
    let told = account(&running, epoch(1, 1));
    // How many events it carried, and so how many are missing, is not known.
    assert_eq!(ranges(&told), [(3, 4, Missing::Held, NONE, 0)]);
}

#[test]
fn the_sums_of_all_boxes_are_told_for_metrics() {
    let mut running = Running::new();
    running.refine(&batch(1, 1).declares(epoch(1, 1), &[id(1, 1, 1)]));
    running.refine(&batch(1, 4).declares(epoch(1, 1), &[id(1, 1, 4)]));
    running.refine(&batch(2, 1).events([Short::Health]));
    running.refine(&Batch {
        key: b"box-2".to_vec(),
        ..batch(1, 1)
    });
    let sums: Vec<_> = running
        .partition
        .completeness()
        .map(|of_box| {
            let missing: Vec<_> = of_box.missing().collect();
            (of_box.epochs, of_box.epochs_complete, missing)
        })
        .collect();
    assert_eq!(sums.len(), 2);
    assert_eq!((sums[0].0, sums[0].1), (2, 1));
    let (missing, total) = sums[0].2[0];
    assert_eq!(missing, returnpath_refinery::Missing::Unexplained);
    assert_eq!((total.ranges, total.batches, total.events), (1, 2, 4));
    assert_eq!(sums[1], (1, 1, vec![]));
}
