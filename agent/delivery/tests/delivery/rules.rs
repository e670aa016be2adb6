//! The rules of delivery, one test each.

use std::{collections::BTreeSet, time::Duration};

use returnpath_delivery::{
    Acceptance, Answer, CommitOutcome, Config, FirstAnswer, Input, Op, Pace, PubAckOutcome,
    SyncPolicy, UNCLEAN_MAX,
};
use returnpath_shared::{
    BATCH_BYTES_MAX, BATCH_EVENTS_MAX, Class, Lane,
    wire::{self, consent::Choice, event::Kind},
};

use crate::bench::{
    Bench, config, consent, custom, deletes, events_of, impression, inserts, is_synced,
    opportunity, quartile, tune,
};

fn sequences(bench: &Bench) -> Vec<u64> {
    let sent = bench.published.iter();
    sent.map(|publish| publish.id.sequence.0).collect()
}

fn lanes(bench: &Bench) -> Vec<(Lane, u64)> {
    let sent = bench.published.iter();
    sent.map(|publish| (publish.lane, publish.id.sequence.0))
        .collect()
}

/// A box that held `batches` ordinary batches over an outage, connected again.
fn after_outage(config: Config, batches: u64) -> Bench {
    let mut bench = Bench::offline(config);
    for _ in 0..batches {
        bench.flush(opportunity());
    }
    bench.commits.clear();
    bench.handle(Input::LinkUp);
    bench
}

// Batches.

#[test]
fn a_batch_is_built_5_s_after_its_first_event() {
    let mut bench = Bench::connected(config());
    bench.accept(tune());
    bench.pass(3_000);
    bench.accept(tune());
    bench.pass(1_999);
    assert!(bench.published.is_empty());
    bench.pass(1);
    assert_eq!(bench.published.len(), 1);
    assert_eq!(events_of(&bench.published[0]).len(), 2);
    assert_eq!(bench.published[0].lane, Lane::Live);
}

#[test]
fn an_urgent_event_closes_the_open_batch_and_travels_in_it() {
    let mut bench = Bench::connected(config());
    bench.accept(tune());
    bench.accept(opportunity());
    assert!(matches!(
        events_of(&bench.published[0])[..],
        [Kind::Tune(_), Kind::AdOpportunity(_)]
    ));
}

#[test]
fn a_batch_is_closed_before_it_passes_its_size_or_its_number_of_events() {
    let mut bench = Bench::connected(Config {
        ram_bytes_max: 1024 * 1024,
        ..config()
    });
    for seed in 0..100 {
        bench.accept(custom(1_000, seed, ""));
    }
    assert_eq!(bench.published.len(), 2);
    for publish in &bench.published {
        assert!(publish.bytes.len() <= BATCH_BYTES_MAX);
        assert!(events_of(publish).len() > 40);
    }

    let mut bench = Bench::connected(config());
    for _ in 0..=BATCH_EVENTS_MAX {
        bench.accept(tune());
    }
    assert_eq!(bench.published.len(), 1);
    assert_eq!(events_of(&bench.published[0]).len(), BATCH_EVENTS_MAX);
}

#[test]
fn an_event_larger_than_a_batch_is_refused_and_says_so() {
    let mut bench = Bench::connected(config());
    let acceptance = bench.accept(custom(BATCH_BYTES_MAX, 1, ""));
    assert!(matches!(
        acceptance,
        Acceptance::TooLarge { length, length_max } if length > length_max
    ));
    assert_eq!(bench.delivery.poll_timeout(), None);
}

#[test]
fn offline_a_batch_grows_up_to_the_flush_interval_and_is_written_behind_then() {
    let mut bench = Bench::offline(config());
    for _ in 0..12 {
        bench.accept(tune());
        bench.pass(4_990);
    }
    assert!(bench.commits.is_empty());
    bench.pass(1_000);
    assert_eq!(bench.commits.len(), 1);
    assert_eq!(inserts(&bench.commits[0]), [2]);
    assert!(!is_synced(&bench.commits[0]));
    let file = bench.disk.current();
    assert_eq!(file.batches.values().next().unwrap().0.events, 12);
}

#[test]
fn ordinary_batches_are_written_at_most_every_flush_interval() {
    let mut bench = Bench::offline(config());
    for _ in 0..60 {
        bench.accept(opportunity());
        bench.accept(tune());
        bench.pass(10_000);
    }
    assert!(
        (9..=10).contains(&bench.commits.len()),
        "{}",
        bench.commits.len()
    );
}

#[test]
fn an_idle_box_is_never_woken() {
    let mut bench = Bench::connected(config());
    let status = bench.delivery.status(bench.now);
    assert_eq!((status.commits, status.batches_sent), (0, 1));
    bench.pass(3_600_000);
    assert_eq!(bench.delivery.poll_timeout(), None);
    assert!(bench.published.is_empty() && bench.commits.is_empty());
}

#[test]
fn past_the_flash_budget_ordinary_batches_stay_in_ram_and_proof_goes_down() {
    let hour_share = 60 * 1_024;
    let mut bench = Bench::offline(Config {
        flash_bytes_per_day_max: Some(24 * hour_share),
        ..config()
    });
    // A commit a minute, of 11 KiB and more each.
    for _ in 0..12 {
        bench.accept(tune());
        bench.pass(60_000);
    }
    let status = bench.delivery.status(bench.now);
    assert!(status.flash_budget_spent, "{status:?}");
    assert_eq!(status.flash_left_bytes, Some(0));
    assert!((6..=8).contains(&bench.commits.len()), "{status:?}");
    assert!(status.ordinary.batches > status.batches_written);

    bench.commits.clear();
    bench.accept(impression("a"));
    bench.pass(20);
    assert_eq!(bench.commits.len(), 1, "proof does not wait");
    assert!(is_synced(&bench.commits[0]));
    assert_eq!(inserts(&bench.commits[0]).len(), 1, "and takes none along");

    bench.commits.clear();
    bench.pass(3_600_000);
    let status = bench.delivery.status(bench.now);
    assert_eq!(status.ordinary.batches + 1, status.batches_written);
    assert!(!status.flash_budget_spent);

    bench.accept(tune());
    for number in 0..50 {
        bench.accept(quartile(&number.to_string()));
        bench.pass(1_000);
    }
    assert!(bench.delivery.is_flash_budget_spent());
    bench.handle(Input::Stop);
    assert_eq!(bench.delivery.status(bench.now).unflushed_bytes, 0);
}

// Durability.

#[test]
fn offline_proof_is_synced_within_20_ms_and_shares_its_sync() {
    let mut bench = Bench::offline(config());
    bench.accept(quartile("a"));
    bench.pass(10);
    let second = bench.accept(impression("b"));
    assert!(matches!(second, Acceptance::Pending { .. }));
    bench.pass(9);
    assert_eq!(bench.last_answer(), None);
    bench.pass(1);
    assert!(matches!(bench.last_answer(), Some(Answer::Durable { .. })));
    assert_eq!(bench.answers.len(), 2);
    assert_eq!(bench.commits.len(), 1);
    assert!(is_synced(&bench.commits[0]));
}

#[test]
fn online_proof_that_is_receipted_in_time_writes_no_flash() {
    let mut bench = Bench::connected(config());
    for play in 0..50 {
        bench.accept(impression(&play.to_string()));
        bench.pass(299);
        assert_eq!(bench.last_answer(), None);
        bench.receipt_all();
        assert!(matches!(bench.last_answer(), Some(Answer::Durable { .. })));
        bench.pass(10_000);
    }
    assert!(bench.commits.is_empty());
}

#[test]
fn online_proof_without_receipt_is_synced_300_ms_after_it_was_sent() {
    let mut bench = Bench::connected(config());
    bench.accept(opportunity());
    bench.accept(quartile("a"));
    bench.pass(5_000);
    assert_eq!(sequences(&bench), [2, 3]);
    bench.pass(299);
    assert!(bench.commits.is_empty());
    bench.pass(1);
    assert_eq!(bench.commits.len(), 1);
    assert_eq!(inserts(&bench.commits[0]), [3], "proof alone");
    assert!(is_synced(&bench.commits[0]));
    assert!(matches!(bench.last_answer(), Some(Answer::Durable { .. })));
}

#[test]
fn proof_that_loses_its_link_is_synced_at_once() {
    let mut bench = Bench::connected(config());
    bench.accept(impression("a"));
    bench.accept(quartile("a"));
    bench.handle(Input::LinkDown);
    bench.pass(20);
    assert_eq!(inserts(&bench.commits[0]), [2, 3]);
    assert_eq!(bench.answers.len(), 2);
}

#[test]
fn a_setting_syncs_proof_always() {
    let mut bench = Bench::connected(Config {
        sync: SyncPolicy::Always,
        ..config()
    });
    bench.accept(quartile("a"));
    bench.pass(20);
    assert!(is_synced(&bench.commits[0]));
    assert!(matches!(bench.last_answer(), Some(Answer::Durable { .. })));
    assert_eq!(bench.published.len(), 1);
}

#[test]
fn an_ordinary_batch_whose_receipt_comes_first_never_touches_flash() {
    let mut bench = Bench::connected(config());
    for _ in 0..20 {
        for _ in 0..6 {
            bench.accept(tune());
            bench.pass(5_000);
        }
        // Coalesced: one receipt every 30 s.
        bench.receipt_all();
    }
    assert!(bench.commits.is_empty());
    assert_eq!(bench.delivery.status(bench.now).batches_resent, 0);
}

#[test]
fn deletes_ride_along_with_the_next_commit_and_alone_wait_for_the_flush_interval() {
    let mut bench = after_outage(config(), 5);
    bench.pass(1_000);
    bench.receipt_all();
    bench.accept(impression("a"));
    bench.pass(300);
    assert_eq!(bench.commits.len(), 1);
    assert_eq!(deletes(&bench.commits[0]), [(2, 6)]);

    let mut bench = after_outage(config(), 5);
    bench.pass(1_000);
    bench.receipt_all();
    bench.pass(59_999);
    assert!(bench.commits.is_empty());
    bench.pass(1);
    assert_eq!(deletes(&bench.commits[0]), [(2, 6)]);
    assert!(is_synced(&bench.commits[0]));
    assert_eq!(bench.delivery.poll_timeout(), None);
}

#[test]
fn stopping_writes_everything_and_leaves_a_clean_start_behind() {
    let mut bench = Bench::connected(config());
    bench.accept(tune());
    bench.accept(quartile("a"));
    bench.handle(Input::Stop);
    assert!(bench.stopped);
    assert!(matches!(bench.last_answer(), Some(Answer::Durable { .. })));
    assert_eq!(bench.accept(tune()), Acceptance::Busy);
    assert_eq!(bench.delivery.poll_timeout(), None);
    bench.start_again();
    bench.handle(Input::LinkUp);
    bench.pass(5_000);
    let kinds: Vec<Kind> = bench.published.iter().flat_map(events_of).collect();
    assert!(matches!(
        kinds[..],
        [Kind::Tune(_), Kind::AdEvent(_), Kind::Boot(_)]
    ));
}

// Sending.

#[test]
fn a_new_link_starts_from_everything_that_has_no_receipt() {
    let mut bench = Bench::connected(config());
    for _ in 0..3 {
        bench.accept(opportunity());
    }
    bench.receipt(&[bench.published[1].id]);
    bench.published.clear();
    bench.handle(Input::LinkDown);
    bench.pass(1_000);
    bench.handle(Input::LinkUp);
    assert_eq!(sequences(&bench), [2, 4]);
    assert_eq!(bench.delivery.status(bench.now).batches_resent, 2);
}

#[test]
fn what_was_held_over_an_outage_goes_by_backlog_and_what_is_young_goes_live() {
    let mut bench = Bench::offline(config());
    bench.flush(opportunity());
    bench.accept(opportunity());
    bench.pass(10_000);
    bench.handle(Input::LinkUp);
    bench.accept(opportunity());
    assert_eq!(
        lanes(&bench),
        [(Lane::Live, 3), (Lane::Backlog, 2), (Lane::Live, 4)]
    );
}

#[test]
fn what_a_start_finds_in_the_file_goes_by_backlog() {
    let mut bench = Bench::offline(config());
    bench.accept(impression("a"));
    bench.pass(20);
    bench.power_cut();
    bench.handle(Input::LinkUp);
    let found = bench.published.iter().find(|sent| sent.id.epoch.start == 1);
    assert_eq!(found.unwrap().lane, Lane::Backlog);
}

#[test]
fn the_backlog_has_a_bounded_share_and_live_goes_first() {
    let mut bench = after_outage(config(), 40);
    bench.published.clear();
    let mut backlog = 0;
    for _ in 0..40 {
        bench.pass(10);
        backlog += bench.published.len();
        bench.receipt_all();
    }
    assert!((19..=21).contains(&backlog), "{backlog} in 400 ms at 50/s");
    bench.accept(opportunity());
    assert_eq!(lanes(&bench), [(Lane::Live, 42)]);
}

#[test]
fn the_cloud_can_stop_the_backlog_and_the_live_lane_goes_on() {
    let mut bench = Bench::connected(config());
    bench.handle(Input::Pace(Pace {
        backlog_rate: 0,
        ..config().pace
    }));
    bench.handle(Input::LinkDown);
    bench.accept(opportunity());
    bench.pass(60_000);
    bench.handle(Input::LinkUp);
    bench.pass(10_000);
    assert!(bench.published.is_empty());
    bench.accept(opportunity());
    assert_eq!(lanes(&bench), [(Lane::Live, 3)]);
}

#[test]
fn a_batch_in_ram_does_not_overtake_one_that_is_being_read() {
    let mut bench = Bench::offline(config());
    bench.accept(impression("a"));
    bench.pass(20);
    bench.accept(opportunity());
    bench.handle(Input::LinkUp);
    assert_eq!(lanes(&bench), [(Lane::Live, 2), (Lane::Live, 3)]);
}

#[test]
fn silence_halves_the_window_down_to_single_probes_and_receipts_open_it() {
    let mut bench = Bench::connected(config());
    let mut windows = vec![];
    for _ in 0..40 {
        bench.accept(opportunity());
    }
    for _ in 0..60 {
        windows.push(bench.delivery.status(bench.now).window);
        bench.pass(45_000);
    }
    windows.dedup();
    assert_eq!(windows, [17, 8, 4, 2, 1]);

    // Ten minutes of silence more: a handful of probes.
    bench.published.clear();
    bench.pass(600_000);
    assert!(
        (1..=4).contains(&bench.published.len()),
        "{:?}",
        lanes(&bench)
    );

    bench.pass_with_receipts(60_000);
    assert_eq!(bench.delivery.status(bench.now).window, 32);
    let status = bench.delivery.status(bench.now);
    assert_eq!(status.ordinary.batches + status.proof.batches, 0);
}

#[test]
fn rebuilding_the_link_in_silence_does_not_open_the_window() {
    let mut bench = Bench::connected(config());
    for _ in 0..40 {
        bench.accept(opportunity());
    }
    bench.pass(45_000 * 30);
    assert_eq!(bench.delivery.status(bench.now).window, 1);
    bench.published.clear();
    for _ in 0..20 {
        bench.handle(Input::LinkDown);
        bench.handle(Input::LinkUp);
    }
    assert_eq!(bench.delivery.status(bench.now).window, 1);
    assert!(bench.published.len() <= 20, "{:?}", lanes(&bench));
}

#[test]
fn a_batch_that_was_lost_alone_is_sent_again_and_the_window_stays() {
    let mut bench = Bench::connected(config());
    bench.accept(impression("lost"));
    bench.pass(1_000);
    bench.accept(impression("arrives"));
    bench.receipt(&[bench.published[1].id]);
    let window = bench.delivery.status(bench.now).window;
    bench.pass(8_999);
    assert_eq!(sequences(&bench), [2, 3]);
    bench.pass(1);
    assert_eq!(sequences(&bench), [2, 3, 2]);
    assert_eq!(bench.delivery.status(bench.now).window, window);
}

#[test]
fn a_broker_that_does_not_take_a_batch_is_not_asked_again_at_once() {
    let mut bench = Bench::connected(config());
    bench.accept(opportunity());
    bench.puback(bench.published[0].id, PubAckOutcome::Retry);
    bench.pass(4_000);
    assert_eq!(bench.published.len(), 1);
    bench.pass(7_000);
    assert_eq!(bench.published.len(), 2);
}

#[test]
fn a_puback_is_no_receipt() {
    let mut bench = Bench::connected(config());
    bench.accept(impression("a"));
    bench.puback(bench.published[0].id, PubAckOutcome::Ok);
    assert_eq!(bench.last_answer(), None);
    assert_eq!(bench.delivery.status(bench.now).proof.batches, 1);
}

#[test]
fn a_receipt_for_what_was_never_sent_deletes_nothing() {
    let mut bench = Bench::offline(config());
    bench.flush(opportunity());
    let ids: Vec<_> = (1..9)
        .map(|sequence| returnpath_shared::BatchId {
            epoch: bench.epoch,
            sequence: returnpath_shared::Sequence(sequence),
        })
        .collect();
    bench.receipt(&ids);
    let status = bench.delivery.status(bench.now);
    assert_eq!((status.ordinary.batches, status.receipts_ignored), (1, 1));
}

// Growing.

/// Sequence, events and class of what the file holds.
fn stored(bench: &Bench) -> Vec<(u64, u16, Class)> {
    let file = bench.disk.synced.clone();
    let batches = file.order.iter().map(|id| file.batches[id].0);
    batches
        .map(|batch| (batch.id.sequence.0, batch.events, batch.class))
        .collect()
}

#[test]
fn offline_proof_after_proof_grows_one_batch_and_each_is_durable_at_once() {
    let mut bench = Bench::offline(config());
    for play in 0..20 {
        bench.accept(impression(&play.to_string()));
        bench.pass(20);
        assert!(matches!(bench.last_answer(), Some(Answer::Durable { .. })));
        bench.pass(2_000);
    }
    assert_eq!(stored(&bench), [(2, 20, Class::Proof)]);
    bench.handle(Input::LinkUp);
    bench.pass_with_receipts(1_000);
    bench.accept(opportunity());
    assert_eq!(sequences(&bench), [3]);
}

#[test]
fn a_batch_grows_to_its_bound_and_the_next_one_begins() {
    let mut bench = Bench::offline(config());
    for seed in 0..40 {
        let mut proof = custom(100, seed, &seed.to_string());
        if let Some(Kind::Custom(custom)) = &mut proof.kind {
            custom.proof = true;
        }
        bench.accept(proof);
        bench.pass(20);
    }
    let sizes: Vec<u32> = bench
        .disk
        .synced
        .batches
        .values()
        .map(|(batch, _)| batch.size_bytes)
        .collect();
    let (last, full) = sizes.split_last().unwrap();
    assert!(full.len() >= 4, "{sizes:?}");
    assert!(
        full.iter().all(|size| (768..1_024).contains(size)),
        "{sizes:?}"
    );
    assert!(*last < 1_024);
}

#[test]
fn ordinary_events_after_proof_stay_a_batch_that_may_be_evicted() {
    let mut bench = Bench::offline(config());
    bench.accept(impression("a"));
    bench.pass(20);
    bench.flush(tune());
    bench.accept(impression("b"));
    bench.pass(20);
    let expected = [
        (2, 1, Class::Proof),
        (3, 1, Class::Ordinary),
        (4, 1, Class::Proof),
    ];
    assert_eq!(stored(&bench), expected);
}

#[test]
fn a_batch_that_a_link_was_offered_does_not_grow() {
    let mut bench = Bench::offline(config());
    bench.accept(impression("a"));
    bench.pass(20);
    bench.handle(Input::LinkUp);
    assert_eq!(sequences(&bench), [2]);
    bench.handle(Input::LinkDown);
    bench.accept(impression("b"));
    bench.pass(20);
    assert_eq!(stored(&bench), [(2, 1, Class::Proof), (3, 1, Class::Proof)]);
}

#[test]
fn what_was_added_when_the_link_comes_up_is_a_batch_of_its_own() {
    let mut bench = Bench::offline(config());
    bench.accept(impression("a"));
    bench.pass(20);
    bench.accept(impression("b"));
    bench.handle(Input::LinkUp);
    bench.pass(100);
    let sent: Vec<_> = bench
        .published
        .iter()
        .map(|sent| (sent.id.sequence.0, events_of(sent).len()))
        .collect();
    assert_eq!(sent, [(2, 1), (3, 1)]);
}

#[test]
fn a_disk_that_stays_full_holds_nothing_back_from_the_link() {
    let mut bench = Bench::offline(config());
    bench.accept(impression("stored"));
    bench.pass(20);
    bench.outcome = CommitOutcome::RolledBack;
    bench.accept(impression("in ram"));
    bench.pass(10_000);
    assert!(matches!(
        bench.last_answer(),
        Some(Answer::AcceptedOnly { .. })
    ));
    bench.handle(Input::LinkUp);
    bench.pass(6_000);
    let sent: Vec<_> = bench
        .published
        .iter()
        .map(|sent| (sent.id.sequence.0, events_of(sent).len()))
        .collect();
    assert_eq!(sent[..2], [(2, 1), (3, 1)]);
}

// Dropping.

/// The declarations among what was published.
fn declarations(bench: &Bench) -> Vec<wire::Ledger> {
    let kinds = bench.published.iter().flat_map(events_of);
    kinds
        .filter_map(|kind| match kind {
            Kind::Ledger(ledger) => Some(ledger),
            _ => None,
        })
        .collect()
}

#[test]
fn a_refused_batch_goes_to_the_ledger_and_is_not_sent_again() {
    let by_broker = |bench: &mut Bench| {
        let outcome = PubAckOutcome::Refused(wire::RefusalReason::NotAllowed);
        bench.puback(bench.published[0].id, outcome);
        wire::RefusalReason::NotAllowed
    };
    let by_collector = |bench: &mut Bench| {
        bench.handle(Input::Receipt(&wire::Receipt {
            confirmed: vec![],
            refused: vec![wire::Refusal {
                batch: Some(bench.published[0].id.into()),
                reason: wire::RefusalReason::TooLarge as i32,
            }],
        }));
        wire::RefusalReason::TooLarge
    };
    for refuse in [by_broker as fn(&mut Bench) -> _, by_collector] {
        let mut bench = Bench::connected(config());
        bench.accept(tune());
        bench.accept(opportunity());
        let reason = refuse(&mut bench);
        bench.published.clear();
        bench.pass(100_000);
        assert!(!sequences(&bench).contains(&2));
        let declared = &declarations(&bench)[0];
        assert_eq!(declared.reason(), wire::DropReason::Refused);
        assert_eq!(declared.refusal(), reason);
        assert_eq!((declared.first_ordinal, declared.event_count), (2, 2));
    }
}

#[test]
fn a_full_queue_evicts_the_oldest_ordinary_and_the_row_commits_with_the_deletion() {
    let mut bench = Bench::offline(config());
    bench.accept(impression("kept"));
    bench.pass(20);
    for _ in 0..63 {
        bench.flush(opportunity());
    }
    assert_eq!(bench.disk.current().batches.len(), 64);
    bench.commits.clear();
    for _ in 0..3 {
        bench.flush(opportunity());
    }
    let status = bench.delivery.status(bench.now);
    assert_eq!((status.proof.batches, status.ordinary.batches), (1, 63));
    assert_eq!(status.dropped.queue_full, 3);
    for (evicted, commit) in (3..).zip(&bench.commits) {
        assert_eq!(deletes(commit), [(evicted, evicted)]);
        let row = (3, evicted, evicted - 2);
        assert!(commit.ops.iter().any(|op| matches!(op, Op::LedgerPut(put)
            if (put.first_sequence.0, put.last_sequence.0, put.event_count) == row)));
    }

    // With a link the declaration travels, and leaves the file when it is
    // receipted.
    bench.handle(Input::LinkUp);
    bench.pass_with_receipts(5_100);
    bench.pass_with_receipts(70_000);
    assert_eq!(bench.delivery.status(bench.now).ledger_rows, 0);
    assert!(bench.disk.current().ledger.is_empty());
}

#[test]
fn the_queue_is_bounded_in_bytes_too() {
    let mut bench = Bench::offline(Config {
        queue_bytes_max: 128 * 1024,
        ..config()
    });
    for seed in 0..300 {
        assert!(!matches!(
            bench.accept(custom(1_000, seed, "")),
            Acceptance::Busy
        ));
        bench.pass(10_000);
    }
    let status = bench.delivery.status(bench.now);
    assert!(status.ordinary.bytes <= 128 * 1024);
    assert!(status.ordinary.bytes > 100 * 1024);
    assert!(status.dropped.queue_full > 100);
}

#[test]
fn durable_proof_is_never_evicted_and_clients_find_the_box_busy() {
    let mut bench = Bench::offline(Config {
        queue_bytes_max: 24 * 1024,
        ..config()
    });
    let mut durable = 0;
    for play in 0..4_000 {
        let acceptance = bench.accept(impression(&play.to_string()));
        bench.pass(20);
        durable += usize::from(matches!(acceptance, Acceptance::Pending { .. }));
    }
    assert_eq!(bench.accept(custom(100, 1, "")), Acceptance::Busy);
    assert!((1_000..4_000).contains(&durable), "{durable}");
    let held = bench.disk.synced.batches.values();
    let events: usize = held.map(|(batch, _)| usize::from(batch.events)).sum();
    assert_eq!(events, durable);
    let status = bench.delivery.status(bench.now);
    assert_eq!(status.dropped, returnpath_delivery::Dropped::default());

    bench.handle(Input::LinkUp);
    bench.pass_with_receipts(10_000);
    assert!(matches!(bench.accept(tune()), Acceptance::Accepted { .. }));
}

#[test]
fn what_is_too_old_in_powered_time_is_dropped_also_proof() {
    let mut bench = Bench::offline(Config {
        age_max: Duration::from_secs(1_000),
        ..config()
    });
    bench.accept(impression("a"));
    bench.pass(600_000);
    // Time without power does not count; what was not committed since does
    // not either.
    bench.handle(Input::Stop);
    bench.start_again();
    bench.pass(300_000);
    assert_eq!(bench.delivery.status(bench.now).dropped.too_old, 0);
    bench.pass(100_000);
    assert_eq!(bench.delivery.status(bench.now).dropped.too_old, 1);
}

#[test]
fn withdrawn_consent_drops_what_was_viewed_but_not_proof() {
    let mut bench = Bench::offline(config());
    bench.accept(tune());
    bench.flush(opportunity());
    bench.flush(custom(10, 1, ""));
    bench.accept(impression("a"));
    bench.pass(20);
    bench.accept(tune());
    bench.commits.clear();
    bench.accept(consent(Choice::OptedOut));
    bench.pass(20);
    let status = bench.delivery.status(bench.now);
    assert_eq!(status.dropped.consent, 3, "two from flash, one open");
    assert_eq!((status.ordinary.batches, status.proof.batches), (1, 2));
    assert_eq!(deletes(&bench.commits[0]), [(2, 2)], "from flash at once");

    bench.handle(Input::LinkUp);
    bench.pass(10_000);
    let kinds: Vec<Kind> = bench.published.iter().flat_map(events_of).collect();
    assert!(!kinds.iter().any(|kind| matches!(kind, Kind::Tune(_))));
    assert!(kinds.iter().any(|kind| matches!(kind, Kind::Consent(_))));
}

#[test]
fn consent_given_drops_nothing_and_a_choice_not_said_counts_as_withdrawn() {
    for (choice, dropped) in [
        (Choice::OptedIn, 0),
        (Choice::OptedOut, 1),
        (Choice::Unspecified, 1),
    ] {
        let mut bench = Bench::offline(config());
        bench.accept(tune());
        bench.accept(consent(choice));
        let status = bench.delivery.status(bench.now);
        assert_eq!(status.dropped.consent, dropped, "{choice:?}");
    }
}

#[test]
fn past_the_bound_in_ram_clients_are_busy_ordinary_ones_first() {
    let mut bench = Bench::offline(Config {
        ram_bytes_max: 64 * 1024,
        ..config()
    });
    let mut taken = 0;
    for seed in 0..200 {
        let acceptance = bench.accept(custom(1_000, seed, ""));
        taken += u32::from(matches!(acceptance, Acceptance::Accepted { .. }));
    }
    assert!((40..49).contains(&taken), "{taken}");
    assert!(matches!(
        bench.accept(impression("a")),
        Acceptance::Pending { .. }
    ));
    assert!(bench.delivery.status(bench.now).unflushed_bytes <= 64 * 1024);
    assert!(bench.delivery.status(bench.now).events_busy > 100);
    bench.pass(60_000);
    assert!(matches!(bench.accept(tune()), Acceptance::Accepted { .. }));
}

// Repeats.

#[test]
fn a_repeat_gets_the_first_answer() {
    let mut bench = Bench::connected(config());
    let Acceptance::Accepted { epoch, ordinal } = bench.accept(custom(10, 1, "x")) else {
        panic!("accepted");
    };
    assert_eq!(
        bench.accept(custom(10, 1, "x")),
        Acceptance::Repeated {
            epoch,
            ordinal,
            answer: FirstAnswer::Accepted
        }
    );

    let first = bench.accept(impression("a"));
    assert_eq!(bench.accept(impression("a")), first, "waits for the same");
    bench.pass(1_000);
    assert_eq!(bench.answers.len(), 2, "both are answered");
    assert!(matches!(
        bench.accept(impression("a")),
        Acceptance::Repeated {
            answer: FirstAnswer::Durable,
            ..
        }
    ));
    assert_eq!(bench.delivery.status(bench.now).events_repeated, 3);
}

#[test]
fn a_repeat_of_proof_is_known_after_a_power_cut() {
    let mut bench = Bench::offline(config());
    let Acceptance::Pending { epoch, ordinal } = bench.accept(impression("a")) else {
        panic!("pending");
    };
    bench.pass(20);
    bench.power_cut();
    assert_eq!(
        bench.accept(impression("a")),
        Acceptance::Repeated {
            epoch,
            ordinal,
            answer: FirstAnswer::Durable
        }
    );
}

// What the agent itself says.

#[test]
fn an_envelope_names_the_oldest_batch_held() {
    let mut bench = Bench::connected(config());
    bench.accept(opportunity());
    bench.accept(opportunity());
    bench.receipt(&[bench.published[0].id]);
    bench.accept(opportunity());
    let held = |index: usize| bench.published[index].oldest_held[0].sequence.0;
    assert_eq!([held(0), held(1), held(2)], [2, 2, 3]);
}

#[test]
fn what_could_come_back_after_a_power_cut_still_counts_as_held() {
    let mut bench = after_outage(config(), 2);
    bench.pass(1_000);
    bench.receipt_all();
    bench.accept(opportunity());
    assert_eq!(bench.published[0].oldest_held[0].sequence.0, 2);
    bench.receipt_all();
    bench.pass(60_000);
    assert!(bench.disk.synced.batches.is_empty());
    bench.accept(opportunity());
    assert_eq!(bench.published[0].oldest_held[0].sequence.0, 5);
}

/// Starts that the cloud was told of by this run, in the order of telling.
fn unclean_starts(bench: &Bench) -> Vec<u32> {
    let sent = bench.published.iter();
    let sent = sent.filter(|sent| sent.id.epoch == bench.epoch);
    let events = sent.flat_map(events_of);
    let starts = events.filter_map(|kind| match kind {
        Kind::UncleanStop(stop) => Some(stop.epoch?.start),
        _ => None,
    });
    starts.collect()
}

#[test]
fn more_unclean_stops_than_are_owed_at_once_are_all_told_by_the_same_run() {
    let mut bench = Bench::offline(config());
    for _ in 0..600 {
        bench.power_cut();
    }
    bench.handle(Input::LinkUp);
    bench.pass(5_000);
    assert_eq!(unclean_starts(&bench).len(), UNCLEAN_MAX);
    bench.pass(3_600_000);
    let mut told: BTreeSet<u32> = unclean_starts(&bench).into_iter().collect();
    assert_eq!(told.len(), UNCLEAN_MAX, "none before those are receipted");
    // This run is among those that have not ended. What was told last waits for
    // another commit, since nothing waits for its leaving.
    for (rows, passes_ms) in [(344 + 1, 5_000), (88 + 1, 5_000), (1, 60_000)] {
        bench.receipt_all();
        bench.pass(passes_ms);
        assert_eq!(bench.disk.current().starts.len(), rows);
        told.extend(unclean_starts(&bench));
    }
    assert!(told.into_iter().eq(1..=600));
    bench.commits.clear();
    bench.pass(3_600_000);
    assert!(bench.commits.is_empty(), "nothing is left to ask for");
}

#[test]
fn an_unclean_stop_is_declared_until_the_cloud_has_it() {
    let mut bench = Bench::offline(config());
    bench.accept(impression("a"));
    bench.pass(20);
    bench.accept(tune());
    for _ in 0..2 {
        bench.power_cut();
        bench.pass(20);
    }
    bench.handle(Input::LinkUp);
    bench.pass(5_000);
    let mut declared: Vec<(u32, u64)> = bench
        .published
        .iter()
        .filter(|sent| sent.id.epoch == bench.epoch)
        .flat_map(events_of)
        .filter_map(|kind| match kind {
            Kind::UncleanStop(stop) => Some((stop.epoch?.start, stop.last_known_ordinal)),
            _ => None,
        })
        .collect();
    declared.sort_unstable();
    // The first run: boot event and impression are known, the tune is not.
    // The second: its declaration and its boot event.
    assert_eq!(declared, [(1, 2), (2, 2)]);
    bench.receipt_all();
    bench.pass(60_000);
    let starts = bench.disk.current().starts;
    assert_eq!(starts.keys().copied().collect::<Vec<_>>(), [bench.epoch]);
}

#[test]
fn a_boot_event_comes_again_with_the_first_anchor_and_steps_of_the_clock_do_nothing() {
    let mut bench = Bench::connected(config());
    bench.handle(Input::ClockSynchronised { unix_ms: 1_000_000 });
    bench.pass(5_000);
    let Kind::Boot(boot) = &events_of(&bench.published[0])[0] else {
        panic!("a boot event");
    };
    assert_eq!(boot.anchors.len(), 1);
    bench.receipt_all();
    for unix_ms in [-5, i64::MAX, 0, i64::MIN, 7_000_000_000_000] {
        bench.handle(Input::ClockSynchronised { unix_ms });
        bench.pass(60_000);
    }
    assert!(bench.published.is_empty() && bench.commits.is_empty());
    assert_eq!(bench.delivery.poll_timeout(), None);
}

#[test]
fn anchors_of_earlier_boots_are_sent_while_their_batches_are_held() {
    let mut bench = Bench::offline(config());
    bench.handle(Input::ClockSynchronised { unix_ms: 1_000_000 });
    bench.accept(impression("a"));
    bench.pass(20);
    bench.power_cut();
    bench.handle(Input::LinkUp);
    bench.pass(5_000);
    let boots = |bench: &Bench| -> Vec<u64> {
        let kinds = bench
            .published
            .iter()
            .filter(|sent| sent.id.epoch == bench.epoch)
            .flat_map(events_of);
        kinds
            .filter_map(|kind| match kind {
                Kind::Boot(boot) => Some(boot.anchors),
                _ => None,
            })
            .flatten()
            .map(|anchor| anchor.boot_id)
            .collect()
    };
    assert_eq!(boots(&bench), [1]);
    bench.receipt_all();
    bench.handle(Input::ClockSynchronised { unix_ms: 2_000_000 });
    bench.pass(5_000);
    assert_eq!(boots(&bench), [2], "nothing of boot 1 is held any more");
}

// A file that fails.

#[test]
fn after_a_failed_commit_the_file_is_rebuilt_and_ram_is_kept() {
    let mut bench = Bench::offline(config());
    bench.accept(impression("stored"));
    bench.pass(20);
    bench.outcome = CommitOutcome::Failed;
    bench.accept(impression("in ram"));
    bench.pass(20);
    assert!(matches!(
        bench.last_answer(),
        Some(Answer::AcceptedOnly { .. })
    ));
    assert!(bench.rebuild_wanted);
    assert!(!bench.delivery.status(bench.now).storage_good);
    let former = bench.epoch;
    let Acceptance::Accepted { epoch, .. } = bench.accept(tune()) else {
        panic!("accepted");
    };
    assert_eq!(epoch, former);
    bench.rebuild();
    let file = bench.disk.current();
    let held: Vec<_> = file
        .batches
        .keys()
        .map(|id| (id.epoch == former, id.sequence.0))
        .collect();
    assert_eq!(held, [(true, 2), (true, 3)]);
    assert!((2..=4).all(|ordinal| file.holds(former, returnpath_shared::Ordinal(ordinal))));
    assert_eq!(file.starts.keys().collect::<Vec<_>>(), [&bench.epoch]);
    let Acceptance::Accepted { epoch, ordinal } = bench.accept(tune()) else {
        panic!("accepted");
    };
    assert_eq!((epoch, ordinal.0), (bench.epoch, 2), "after a boot event");
}

#[test]
fn what_a_rebuild_could_not_read_is_declared_corrupt() {
    let mut bench = Bench::offline(config());
    bench.accept(impression("unreadable"));
    bench.pass(20);
    bench.flush(tune());
    bench.outcome = CommitOutcome::Failed;
    bench.accept(impression("in ram"));
    bench.pass(20);
    let mut file = bench.disk.current();
    file.batches.clear();
    file.order.clear();
    bench.declared = file.declare([bench.epoch]);
    assert_eq!(bench.declared, [1], "the number of the core's own row, too");
    bench.disk.replace(file);
    bench.rebuild();
    let status = bench.delivery.status(bench.now);
    assert_eq!((status.dropped.corrupt, status.proof.batches), (2, 1));
    let ledger: Vec<_> = bench.disk.synced.ledger.values().collect();
    let [row] = ledger[..] else {
        panic!("{ledger:?}");
    };
    assert_eq!(row.reason, wire::DropReason::Corrupt);
    assert!(!row.whole_epoch, "which batch it was is known");
}

#[test]
fn what_a_new_file_declares_stands_until_a_commit_says_it_exactly() {
    let mut bench = Bench::offline(config());
    let Acceptance::Pending {
        epoch: former,
        ordinal: first,
    } = bench.accept(impression("unreadable"))
    else {
        panic!("pending");
    };
    bench.pass(20);
    bench.outcome = CommitOutcome::Failed;
    bench.accept(impression("in ram"));
    bench.pass(20);
    let mut file = bench.disk.current();
    file.batches.clear();
    file.order.clear();
    bench.declared = file.declare([former]);
    bench.disk.replace(file);
    bench.rebuild_and(CommitOutcome::RolledBack);
    assert!(bench.disk.synced.ledger_covers(former, first));
    bench.outcome = CommitOutcome::Done;
    bench.pass(60_000);
    let ledger: Vec<_> = bench.disk.synced.ledger.values().collect();
    assert!(ledger.iter().all(|row| !row.whole_epoch), "{ledger:?}");
}

#[test]
fn a_commit_that_was_rolled_back_is_tried_again_and_proof_becomes_durable() {
    let mut bench = Bench::offline(config());
    bench.outcome = CommitOutcome::RolledBack;
    bench.accept(impression("a"));
    bench.pass(20);
    assert!(matches!(
        bench.last_answer(),
        Some(Answer::AcceptedOnly { .. })
    ));
    bench.outcome = CommitOutcome::Done;
    bench.pass(1_000);
    assert_eq!(bench.disk.synced.batches.len(), 1);
    assert!(matches!(
        bench.accept(impression("a")),
        Acceptance::Repeated {
            answer: FirstAnswer::Durable,
            ..
        }
    ));
}

#[test]
fn an_unreadable_batch_is_declared_corrupt_and_the_next_one_is_sent() {
    let mut bench = Bench::offline(config());
    bench.accept(impression("a"));
    bench.pass(20);
    bench.flush(opportunity());
    let mut file = bench.disk.current();
    let id = file.order.remove(0);
    file.batches.remove(&id);
    bench.disk.replace(file);
    bench.handle(Input::LinkUp);
    bench.pass(5_000);
    assert_eq!(sequences(&bench), [3, 4]);
    let declared = &declarations(&bench)[0];
    assert_eq!(declared.reason(), wire::DropReason::Corrupt);
    assert_eq!(bench.published[1].class, Class::Proof);
}
