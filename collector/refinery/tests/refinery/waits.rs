//! Records that arrive before the one that goes before them.

use returnpath_refinery::{WAIT_MS, WAITING_RECORDS_PER_DEVICE_MAX};
use returnpath_shared::Lane;

use crate::running::{Batch, Out, Running, epoch, id};

#[test]
fn a_batch_waits_for_the_one_before_it_and_follows_it_at_once() {
    let mut running = Running::new();
    assert_eq!(running.partition.poll_timeout(), None);
    assert_eq!(running.refine(&Batch::new(3)), Out::default());
    assert_eq!(running.refine(&Batch::new(2)), Out::default());
    assert_eq!(running.partition.poll_timeout(), Some(1_000 + WAIT_MS));
    assert_eq!(running.partition.lowest_waiting_offset(Lane::Live), Some(0));
    assert_eq!(running.partition.lowest_waiting_offset(Lane::Backlog), None);
    assert_eq!(running.refine(&Batch::new(1)).refined_ordinals(), [1, 2, 3]);
    assert_eq!(running.partition.poll_timeout(), None);
    assert_eq!(running.partition.lowest_waiting_offset(Lane::Live), None);
    assert_eq!(running.commit().waited, 2);
}

#[test]
fn a_wait_ends_after_its_time_in_the_order_of_sequences() {
    let mut running = Running::new();
    running.refine(&Batch::new(9));
    assert_eq!(running.pass_ms(WAIT_MS - 1), Out::default());
    running.refine(&Batch::new(8));
    running.refine(&Batch::new(10));
    assert_eq!(running.pass_ms(1).refined_ordinals(), [8, 9, 10]);
    assert_eq!(running.partition.poll_timeout(), None);
    assert_eq!(running.commit().waits_expired, 1);
}

#[test]
fn nothing_waits_for_what_the_box_does_not_hold() {
    let mut running = Running::new();
    let oldest = Batch::new(500).declares(epoch(1, 1), &[id(1, 1, 500)]);
    assert_eq!(running.refine(&oldest).refined.len(), 1);
    let next = Batch::new(501).declares(epoch(1, 1), &[id(1, 1, 500)]);
    assert_eq!(running.refine(&next).refined.len(), 1);
}

#[test]
fn the_same_batch_twice_waits_once() {
    let mut running = Running::new();
    running.refine(&Batch::new(2));
    running.refine(&Batch::new(2));
    assert_eq!(running.partition.waiting(), 1);
    assert_eq!(running.refine(&Batch::new(1)).refined_ordinals(), [1, 2]);
    assert_eq!(running.commit().duplicate_batches, 1);
}

#[test]
fn a_box_that_only_leaves_gaps_cannot_fill_the_room_of_others() {
    let mut running = Running::new();
    let sequences: Vec<_> = (1..=WAITING_RECORDS_PER_DEVICE_MAX as u64)
        .map(|number| number * 2)
        .collect();
    for sequence in &sequences {
        assert_eq!(running.refine(&Batch::new(*sequence)), Out::default());
    }
    let last = sequences.last().unwrap() + 2;
    let out = running.refine(&Batch::new(last));
    let expected: Vec<_> = sequences.iter().copied().chain([last]).collect();
    assert_eq!(out.refined_ordinals(), expected);
    assert_eq!(running.partition.waiting(), 0);
    assert_eq!(running.commit().waits_refused, 1);
}

#[test]
fn flush_lets_nothing_wait() {
    let mut running = Running::new();
    for sequence in [7, 3, 5] {
        running.refine(&Batch::new(sequence));
    }
    running.refine(&Batch::of(id(1, 2, 4)));
    let mut out = returnpath_refinery::Output::new();
    running.partition.flush(&mut out);
    let out = crate::running::read(&out);
    assert_eq!(out.refined_ordinals(), [3, 5, 7, 4]);
    assert_eq!(running.partition.waiting(), 0);
}

#[test]
fn an_abort_drops_what_waits_and_a_commit_keeps_it() {
    let mut running = Running::new();
    running.refine(&Batch::new(2));
    running.commit();
    assert_eq!(running.partition.waiting(), 1);
    running.partition.abort();
    assert_eq!(running.partition.waiting(), 0);
    assert_eq!(running.refine_at(&Batch::new(2), 0), Out::default());
    assert_eq!(running.refine(&Batch::new(1)).refined_ordinals(), [1, 2]);
}
