//! Commit, abort, and what another node finds.

use returnpath_decision::{Input, RestoreError};
use returnpath_shared::wire::{PolicyKind, ad_event::Kind};

use crate::running::{Opp, Running, settings};

fn running() -> Running {
    Running::new(settings(PolicyKind::Waterfall, &["a", "b"]))
}

#[test]
fn an_abort_leaves_no_trace_and_the_slot_is_asked_for_again() {
    let mut running = running();
    running.ask(&Opp::new("b"));
    running.offer("a", "1,x.example,30000").only();
    running.abort();
    assert!(running.snapshot().is_empty());
    assert_eq!(running.partition.devices(), 0);
    assert_eq!(running.partition.poll_timeout(running.now), None);
    running.commit();
    assert!(running.pushes.is_empty());
    running.ask_at(&Opp::new("b"), 0);
    running.offer("a", "2,y.example,30000").only();
    running.commit();
    assert_eq!(running.pushes.len(), 1);
}

#[test]
fn what_comes_while_a_transaction_is_committed_belongs_to_the_next() {
    let mut running = running();
    running.ask(&Opp::new("b-1"));
    running.offer("a", "1,x.example,30000").only();
    running.partition.changes(&mut running.output);
    running.output.clear();
    let sealed = running.snapshot();
    running.ask(&Opp::new("b-2"));
    running.offer("a", "2,y.example,30000").only();
    running.partition.commit(&mut running.pushes);
    assert_eq!(running.pushes.len(), 1);
    assert_eq!(*running.pushes[0].decision_id, *Opp::new("b-1").id(0));
    assert_ne!(running.snapshot(), sealed);
    running.abort();
    assert_eq!(running.snapshot(), sealed, "the first was committed");
    running.ask_at(&Opp::new("b-2"), 1);
    running.offer("a", "2,y.example,30000").only();
    running.commit();
    assert_eq!(running.pushes.len(), 1);
    assert_eq!(*running.pushes[0].decision_id, *Opp::new("b-2").id(0));
}

#[test]
fn an_abort_takes_back_what_was_sealed_and_what_came_after() {
    let mut running = running();
    running.ask(&Opp::new("b-1"));
    running.offer("a", "1,x.example,30000").only();
    running.partition.changes(&mut running.output);
    running.output.clear();
    running.ask(&Opp::new("b-2"));
    running.offer("a", "2,y.example,30000").only();
    running.abort();
    assert!(running.snapshot().is_empty());
    assert_eq!(running.partition.devices(), 0);
    running.commit();
    assert!(running.pushes.is_empty());
}

#[test]
fn an_answer_that_comes_after_an_abort_frees_the_gate_and_nothing_else() {
    let mut running = running();
    running.ask(&Opp::new("b"));
    running.abort();
    assert_eq!(running.partition.under_way(), 0);
    assert_eq!(running.gates.under_way(0), 1);
    running.ask_at(&Opp::new("b"), 0);
    assert_eq!(running.asked(), ["a", "a"]);
    let out = running.end(0, crate::running::body("1,x.example,30000"));
    assert!(out.records.is_empty());
    assert_eq!(running.gates.under_way(0), 1);
    running.offer("a", "1,x.example,30000").only();
    assert_eq!(running.gates.under_way(0), 0);
}

#[test]
fn offsets_wait_for_the_slowest_and_what_is_read_twice_is_recognised() {
    let mut running = running();
    running.ask(&Opp::new("b-1"));
    running.ask(&Opp::new("b-2"));
    running.end(1, crate::running::body("1,x.example,30000"));
    assert_eq!(running.lowest_unfinished(), Some(0));
    assert_eq!(running.partition.lowest_unfinished_offset(Input::Ads), None);
    running.commit();
    running.take_over();
    running.ask_at(&Opp::new("b-1"), 0);
    assert_eq!(running.asked(), ["a"]);
    assert!(running.ask_at(&Opp::new("b-2"), 1).records.is_empty());
    assert_eq!(running.asked(), ["a"]);
}

#[test]
fn another_node_pushes_what_was_recorded_and_never_acknowledged() {
    let mut running = running();
    for break_id in ["b-1", "b-2"] {
        running.ask(&Opp::new(break_id));
        running.offer("a", "1,x.example,30000");
    }
    running.commit();
    let first = running.pushes.clone();
    running.tell(Kind::DecisionAcknowledged, &Opp::new("b-1").id(0));
    running.commit();
    running.take_over();
    assert_eq!(running.pushes.len(), 1);
    assert_eq!(running.pushes[0].payload, first[1].payload);
    running.now.unix_ms += 1_000;
    running.take_over();
    assert!(running.pushes.is_empty(), "it has expired");
}

#[test]
fn a_topic_made_anew_counts_from_0_again_and_is_read() {
    let mut running = running();
    running.ask_at(&Opp::new("b-1"), 900);
    running.offer("a", "1,x.example,30000");
    running.commit();
    let mut opp = Opp::new("b-2");
    opp.received_unix_ms += 1;
    running.ask_at(&opp, 0);
    assert_eq!(running.asked(), ["a"]);
    assert!(running.ask_at(&Opp::new("b-0"), 899).records.is_empty());
    assert_eq!(running.asked(), ["a"]);
}

#[test]
fn what_is_no_state_is_refused_with_what_is_wrong() {
    let mut running = running();
    let length = 9;
    let key = running.partition.restore(b"not a box", None);
    assert_eq!(key, Err(RestoreError::Key { length }));
    let value = running.partition.restore(b"box-1", Some(b"\xff"));
    assert!(matches!(value, Err(RestoreError::Decode(_))));
}
