//! When an event happened, for boxes whose clocks are right, wrong or unset.

use returnpath_refinery::{CLOCK_REFRESH_MS, CLOCKS_MAX};
use returnpath_shared::wire::{Refined, TimeQuality};

use crate::running::{Batch, NOW_UNIX_MS, Running, SENT_UPTIME_MS, Short, epoch, id};

const HOUR_MS: i64 = 3_600_000;

/// Quality, estimate, earliest, latest.
type Time = (TimeQuality, i64, i64, i64);

fn time(refined: &Refined) -> Time {
    (
        refined.time_quality(),
        refined.event_unix_ms,
        refined.earliest_unix_ms,
        refined.latest_unix_ms,
    )
}

/// The time of the only event of a batch that a fresh partition gets.
fn time_of(batch: &Batch) -> Time {
    time_after(&[], batch)
}

/// The time of the only event of the last batch.
fn time_after(before: &[Batch], batch: &Batch) -> Time {
    let mut running = Running::new();
    for batch in before {
        running.refine(batch);
        running.pass_ms(1_000);
    }
    let mut out = running.refine(batch);
    if out.refined.is_empty() {
        out = running.pass_ms(1_000);
    }
    let [refined] = &out.refined[..] else {
        panic!("expected one event: {out:?}");
    };
    time(refined)
}

fn unsynchronised(batch: Batch) -> Batch {
    batch.envelope(|envelope| {
        envelope.clock_synchronised = false;
        envelope.unix_ms = 40_000;
    })
}

fn tune_at(batch: Batch, uptime_ms: u64) -> Batch {
    batch.events([Short::TuneAt(uptime_ms)])
}

#[test]
fn a_synchronised_box_tells_the_time_exactly() {
    let ahead = |ms: i64| Batch::new(1).envelope(|envelope| envelope.unix_ms += ms);
    for (ms, expected) in [(0, 0), (4 * 60_000, 240_000), (-HOUR_MS, -HOUR_MS)] {
        assert_eq!(
            time_of(&tune_at(ahead(ms), SENT_UPTIME_MS - 250)),
            (
                TimeQuality::Synchronised,
                NOW_UNIX_MS + expected - 250,
                0,
                0
            )
        );
    }
}

#[test]
fn clocks_that_cannot_be_true_are_not_believed() {
    let year_2200 = 7_258_118_400_000;
    for unix_ms in [
        year_2200,
        -1,
        0,
        40_000,
        i64::MAX,
        i64::MIN,
        NOW_UNIX_MS - 2 * HOUR_MS,
    ] {
        let batch = Batch::new(1).envelope(|envelope| envelope.unix_ms = unix_ms);
        assert_eq!(
            time_of(&tune_at(batch.clone(), SENT_UPTIME_MS - 250)),
            (
                TimeQuality::Bounded,
                NOW_UNIX_MS - 250,
                0,
                NOW_UNIX_MS - 250
            ),
            "{unix_ms}"
        );
        let mut running = Running::new();
        running.refine(&batch);
        assert_eq!(running.commit().clocks_refused, 1);
    }
}

#[test]
fn uptimes_that_cannot_be_true_do_not_overflow() {
    let after_sending = (
        TimeQuality::Bounded,
        NOW_UNIX_MS,
        NOW_UNIX_MS - SENT_UPTIME_MS as i64,
        NOW_UNIX_MS,
    );
    for uptime_ms in [SENT_UPTIME_MS + 1, u64::MAX] {
        assert_eq!(time_of(&tune_at(Batch::new(1), uptime_ms)), after_sending);
        assert_eq!(
            time_of(&tune_at(unsynchronised(Batch::new(1)), uptime_ms)),
            (TimeQuality::Bounded, NOW_UNIX_MS, 0, NOW_UNIX_MS)
        );
    }
    // Sent after more uptime than any box has lived.
    let ages = Batch::new(1).envelope(|envelope| envelope.uptime_ms = u64::MAX);
    for uptime_ms in [0, u64::MAX] {
        let (quality, _, _, latest) = time_of(&tune_at(ages.clone(), uptime_ms));
        assert_eq!(quality, TimeQuality::Bounded);
        assert_eq!(latest, NOW_UNIX_MS);
    }
}

#[test]
fn an_anchor_that_came_later_corrects_what_was_sent_without_one() {
    let at_uptime = |sequence, uptime_ms: u64| {
        let sent_unix_ms = NOW_UNIX_MS + uptime_ms as i64 - SENT_UPTIME_MS as i64;
        let batch = Batch::new(sequence).received_unix_ms(sent_unix_ms);
        batch.envelope(|envelope| {
            envelope.uptime_ms = uptime_ms;
            envelope.unix_ms = sent_unix_ms;
        })
    };
    // Sent before the clock was set, read after it was.
    let early = unsynchronised(at_uptime(2, 60_000));
    assert_eq!(
        time_after(&[at_uptime(1, SENT_UPTIME_MS)], &tune_at(early, 50_000)),
        (
            TimeQuality::Corrected,
            NOW_UNIX_MS - SENT_UPTIME_MS as i64 + 50_000,
            0,
            0
        )
    );
    // Sent after the clock was set once and no longer trusted.
    let late = unsynchronised(at_uptime(2, SENT_UPTIME_MS));
    assert_eq!(
        time_after(&[at_uptime(1, 60_000)], &tune_at(late, 50_000)),
        (
            TimeQuality::Synchronised,
            NOW_UNIX_MS - SENT_UPTIME_MS as i64 + 50_000,
            0,
            0
        )
    );
}

/// A batch of another boot than the one that sends it.
fn of_boot(batch: Batch, boot_id: u64) -> Batch {
    Batch { boot_id, ..batch }
}

#[test]
fn batches_of_earlier_boots_take_the_clock_of_their_boot() {
    let then_ms = NOW_UNIX_MS - 48 * HOUR_MS;
    let sent_then = Batch::new(1)
        .envelope(|envelope| {
            envelope.boot_id = 5;
            envelope.unix_ms = then_ms;
        })
        .received_unix_ms(then_ms);
    let told = Batch::of(id(1, 2, 1)).events([Short::Boot(5, SENT_UPTIME_MS, then_ms)]);
    let late = tune_at(of_boot(Batch::new(2), 5), SENT_UPTIME_MS + 7_000);
    for before in [sent_then, told] {
        assert_eq!(
            time_after(&[before], &late),
            (TimeQuality::Synchronised, then_ms + 7_000, 0, 0)
        );
    }
}

#[test]
fn anchors_in_boot_events_that_cannot_be_true_are_not_believed() {
    for (uptime_ms, unix_ms) in [
        (0, 0),
        (0, -5),
        (0, NOW_UNIX_MS + HOUR_MS),
        (0, i64::MAX),
        (u64::MAX, NOW_UNIX_MS),
    ] {
        let told = Batch::of(id(1, 2, 1)).events([Short::Boot(5, uptime_ms, unix_ms)]);
        let late = of_boot(Batch::new(1), 5);
        let (quality, ..) = time_after(&[told], &late);
        assert_eq!(quality, TimeQuality::Bounded, "{uptime_ms} {unix_ms}");
    }
}

#[test]
fn a_boot_without_any_clock_is_bounded_by_the_runs_around_it() {
    let booted_ms = NOW_UNIX_MS - SENT_UPTIME_MS as i64;
    // Of start 2, boot 6; sent by start 3 in the present boot.
    let lost = of_boot(Batch::of(id(1, 2, 1)), 6).declares(epoch(1, 3), &[id(1, 2, 1)]);
    assert_eq!(
        time_of(&lost),
        (TimeQuality::Bounded, booted_ms, 0, booted_ms)
    );
    // Start 1 was heard of in boot 5, ten hours ago.
    let then_ms = NOW_UNIX_MS - 10 * HOUR_MS;
    let earlier = Batch::new(1)
        .envelope(|envelope| {
            envelope.boot_id = 5;
            envelope.unix_ms = then_ms;
        })
        .received_unix_ms(then_ms);
    assert_eq!(
        time_after(&[earlier], &lost),
        (
            TimeQuality::Bounded,
            then_ms.midpoint(booted_ms),
            then_ms,
            booted_ms
        )
    );
    // A later start was heard of from a boot that began when it was over.
    let later = Batch::of(id(1, 3, 1)).declares(epoch(1, 3), &[id(1, 1, 1)]);
    let sent_itself =
        unsynchronised(tune_at(of_boot(Batch::new(1), 6), 9_000)).envelope(|envelope| {
            envelope.boot_id = 6;
            envelope.uptime_ms = 10_000;
        });
    assert_eq!(
        time_after(&[later], &sent_itself),
        (TimeQuality::Bounded, booted_ms, 0, booted_ms)
    );
    // Another queue file says nothing about it.
    let other = Batch::of(id(2, 1, 1)).envelope(|envelope| envelope.boot_id = 5);
    assert_eq!(
        time_after(&[other], &lost),
        (TimeQuality::Bounded, booted_ms, 0, booted_ms)
    );
}

#[test]
fn a_box_without_a_clock_is_bounded_by_when_it_was_heard() {
    let batch = unsynchronised(tune_at(Batch::new(1), SENT_UPTIME_MS - 3_000));
    let latest_ms = NOW_UNIX_MS - 3_000;
    assert_eq!(
        time_of(&batch),
        (TimeQuality::Bounded, latest_ms, 0, latest_ms)
    );
    let nothing_said = unsynchronised(Batch::new(1)).envelope(|envelope| {
        envelope.boot_id = 0;
        envelope.uptime_ms = 0;
    });
    assert_eq!(
        time_of(&Batch {
            boot_id: 0,
            ..nothing_said
        }),
        (TimeQuality::Bounded, NOW_UNIX_MS, 0, NOW_UNIX_MS)
    );
}

#[test]
fn a_step_of_the_clock_moves_times_and_never_the_order() {
    let mut running = Running::new();
    let stepped_back = Batch::new(2).envelope(|envelope| {
        envelope.uptime_ms += 1_000;
        envelope.unix_ms -= HOUR_MS / 2;
    });
    let out = [
        running.refine(&Batch::new(1)),
        running.refine(&stepped_back),
        running.refine(&unsynchronised(Batch::new(3)).envelope(|envelope| {
            envelope.uptime_ms += 2_000;
        })),
    ];
    let ordinals: Vec<_> = out.iter().flat_map(|out| out.refined_ordinals()).collect();
    assert_eq!(ordinals, [1, 2, 3]);
    let times: Vec<_> = out.iter().map(|out| out.refined[0].event_unix_ms).collect();
    let first_ms = NOW_UNIX_MS - 1_000;
    let second_ms = first_ms - 1_000 - HOUR_MS / 2;
    assert_eq!(times, [first_ms, second_ms, second_ms]);
}

#[test]
fn a_remembered_clock_follows_the_drift_of_the_box() {
    let drifted = |sequence, uptime_ms: u64, drift_ms| {
        let batch = Batch::new(sequence).received_unix_ms(NOW_UNIX_MS + uptime_ms as i64);
        batch.envelope(|envelope| {
            envelope.uptime_ms += uptime_ms;
            envelope.unix_ms += uptime_ms as i64 + drift_ms;
        })
    };
    // Less than a step of the clock, seen soon after and long after.
    for (after_ms, drift_ms) in [(CLOCK_REFRESH_MS - 1, 0), (CLOCK_REFRESH_MS, 400)] {
        let before = [drifted(1, 0, 0), drifted(2, after_ms, 400)];
        let unsure = unsynchronised(tune_at(Batch::new(3), SENT_UPTIME_MS))
            .envelope(|envelope| envelope.uptime_ms += after_ms);
        assert_eq!(
            time_after(&before, &unsure).1,
            NOW_UNIX_MS + drift_ms,
            "{after_ms}"
        );
    }
}

#[test]
fn clocks_are_remembered_for_a_bounded_number_of_boots() {
    let mut running = Running::new();
    let boots = CLOCKS_MAX as u64 + 1;
    for boot_id in 1..=boots {
        running.refine(
            &Batch::new(boot_id)
                .envelope(|envelope| envelope.boot_id = boot_id)
                .received_unix_ms(NOW_UNIX_MS),
        );
    }
    running.commit();
    running.partition = running.restored();
    let mut quality = |boot_id: u64, sequence: u64| {
        let batch = of_boot(Batch::new(sequence), boot_id)
            .envelope(|envelope| envelope.clock_synchronised = false);
        running.refine(&batch).refined[0].time_quality()
    };
    assert_eq!(quality(1, boots + 1), TimeQuality::Bounded);
    assert_eq!(quality(2, boots + 2), TimeQuality::Synchronised);
}
