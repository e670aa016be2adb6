use std::collections::BTreeMap;

use proptest::prelude::*;
use returnpath_shared::{Incarnation, Sequence};

use super::*;

const MS: Duration = Duration::from_millis(1);

fn id(start: u32, sequence: u64) -> BatchId {
    BatchId {
        epoch: Epoch {
            incarnation: Incarnation::new(7).unwrap(),
            start,
        },
        sequence: Sequence(sequence),
    }
}

fn device(number: u32) -> DeviceId {
    format!("box-{number}").parse().unwrap()
}

/// (start, first, last) of each range of the receipt, sorted.
fn ranges(receipt: &Receipt) -> Vec<(u32, u64, u64)> {
    let mut ranges: Vec<_> = receipt
        .confirmed
        .iter()
        .map(|range| {
            let start = range.epoch.as_ref().unwrap().start;
            (start, range.first_sequence, range.last_sequence)
        })
        .collect();
    ranges.sort_unstable();
    ranges
}

#[test]
fn each_class_and_lane_waits_as_long_as_its_box_can() {
    for (class, lane, delay) in [
        (Class::Proof, Lane::Live, 20 * MS),
        (Class::Proof, Lane::Backlog, 20 * MS),
        (Class::Ordinary, Lane::Backlog, 500 * MS),
        (Class::Ordinary, Lane::Live, 30_000 * MS),
    ] {
        let now = Instant::now();
        let mut receipts = Receipts::new(1);
        let patience = Patience::of(class, lane);
        receipts
            .confirmed(&device(1), id(1, 1), patience, now)
            .unwrap();
        assert_eq!(receipts.next_due(), Some(now + delay));
        assert_eq!(receipts.take(now + delay - MS), None, "{class:?} {lane:?}");
        assert!(receipts.take(now + delay).is_some(), "{class:?} {lane:?}");
        assert_eq!((receipts.boxes(), receipts.next_due()), (0, None));
    }
}

#[test]
fn a_proof_takes_along_what_its_box_is_owed_and_nothing_of_others() {
    let now = Instant::now();
    let mut receipts = Receipts::new(9);
    for (number, sequence) in [(1, 1), (2, 1), (1, 2)] {
        receipts
            .confirmed(&device(number), id(1, sequence), Patience::Ordinary, now)
            .unwrap();
    }
    receipts
        .confirmed(&device(1), id(1, 3), Patience::Proof, now)
        .unwrap();
    let (to, receipt) = receipts.take(now + 20 * MS).unwrap();
    assert_eq!((to, ranges(&receipt)), (device(1), vec![(1, 1, 3)]));
    assert_eq!(receipts.take(now + 20 * MS), None);
    assert_eq!(receipts.boxes(), 1);
}

#[test]
fn neighbours_become_one_range_whatever_their_order() {
    for order in [
        [1, 2, 3],
        [3, 2, 1],
        [1, 3, 2],
        [3, 1, 2],
        [2, 1, 3],
        [2, 3, 1],
    ] {
        let now = Instant::now();
        let mut receipts = Receipts::new(1);
        for sequence in order {
            receipts
                .confirmed(&device(1), id(1, sequence), Patience::Backlog, now)
                .unwrap();
        }
        receipts
            .confirmed(&device(1), id(2, 4), Patience::Backlog, now)
            .unwrap();
        let (_, receipt) = receipts.take(Receipts::all_due(now)).unwrap();
        assert_eq!(ranges(&receipt), [(1, 1, 3), (2, 4, 4)], "{order:?}");
    }
}

#[test]
fn a_box_that_sends_fast_does_not_wait_for_the_clock() {
    let now = Instant::now();
    let mut receipts = Receipts::new(1);
    for sequence in 1..=u64::from(BATCHES_MAX) {
        assert_eq!(receipts.take(now + 20 * MS), None);
        receipts
            .confirmed(&device(1), id(1, sequence), Patience::Ordinary, now)
            .unwrap();
    }
    let (_, receipt) = receipts.take(now + 20 * MS).unwrap();
    assert_eq!(ranges(&receipt), [(1, 1, u64::from(BATCHES_MAX))]);
}

#[test]
fn refusals_travel_at_once_with_their_reason_and_once() {
    let now = Instant::now();
    let mut receipts = Receipts::new(1);
    for _ in 0..2 {
        receipts
            .refused(&device(1), id(1, 5), RefusalReason::TooLarge, now)
            .unwrap();
    }
    let (_, receipt) = receipts.take(now + 20 * MS).unwrap();
    assert_eq!(receipt.refused.len(), 1);
    assert_eq!(receipt.refused[0].reason(), RefusalReason::TooLarge);
    let refused = receipt.refused[0].batch.unwrap();
    assert_eq!(BatchId::try_from(refused).unwrap(), id(1, 5));
}

#[test]
fn past_a_bound_a_confirmation_is_forgotten_and_the_rest_is_kept() {
    let now = Instant::now();
    let mut receipts = Receipts::new(1);
    for place in 0..u64::try_from(ENTRIES_MAX).unwrap() {
        receipts
            .confirmed(&device(1), id(1, 1 + 2 * place), Patience::Ordinary, now)
            .unwrap();
    }
    let beyond = receipts.confirmed(&device(1), id(1, 1_000), Patience::Ordinary, now);
    assert_eq!(beyond, Err(Forgotten));
    let stranger = receipts.confirmed(&device(2), id(1, 1), Patience::Proof, now);
    assert_eq!(stranger, Err(Forgotten));
    let (_, receipt) = receipts.take(now + 20 * MS).unwrap();
    assert_eq!(receipt.confirmed.len(), ENTRIES_MAX);
}

proptest! {
    /// Against sets of ids: nothing is receipted that was not confirmed,
    /// everything confirmed is receipted by its time, and ranges are merged as
    /// far as they can be.
    #[test]
    fn receipts_say_exactly_what_was_confirmed_and_in_time(
        steps in prop::collection::vec((0..3_u32, 1..3_u32, 1..40_u64, 0..3_u8, 0..400_u64), 0..200)
    ) {
        let mut now = Instant::now();
        let mut receipts = Receipts::new(3);
        // What each box is owed, and by when at the latest.
        let mut model: BTreeMap<DeviceId, BTreeMap<(u32, u64), Instant>> = BTreeMap::new();
        for (number, start, sequence, patience, pause_ms) in steps {
            let patience = match patience {
                0 => Patience::Proof,
                1 => Patience::Backlog,
                _ => Patience::Ordinary,
            };
            let device = device(number);
            receipts.confirmed(&device, id(start, sequence), patience, now).unwrap();
            let due = model.entry(device).or_default().entry((start, sequence)).or_insert(now + patience.delay());
            *due = (*due).min(now + patience.delay());
            now += Duration::from_millis(pause_ms);
            while let Some((device, receipt)) = receipts.take(now) {
                check(&receipt, &model.remove(&device).unwrap())?;
            }
            for owed in model.values() {
                prop_assert!(owed.values().all(|due| *due > now));
            }
            prop_assert_eq!(receipts.boxes(), model.len());
            prop_assert_eq!(receipts.due.len(), model.len());
        }
        while let Some((device, receipt)) = receipts.take(Receipts::all_due(now)) {
            check(&receipt, &model.remove(&device).unwrap())?;
        }
        prop_assert!(model.is_empty());
    }
}

fn check(receipt: &Receipt, owed: &BTreeMap<(u32, u64), Instant>) -> Result<(), TestCaseError> {
    let ranges = ranges(receipt);
    let said: Vec<_> = ranges
        .iter()
        .flat_map(|&(start, first, last)| (first..=last).map(move |sequence| (start, sequence)))
        .collect();
    prop_assert_eq!(said, owed.keys().copied().collect::<Vec<_>>());
    for pair in ranges.windows(2) {
        prop_assert!(
            pair[0].0 != pair[1].0 || pair[0].2 + 1 < pair[1].1,
            "not merged"
        );
    }
    Ok(())
}
