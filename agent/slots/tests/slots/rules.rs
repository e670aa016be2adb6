//! The rules of a slot one by one.

use returnpath_shared::wire::{Decision, ad_event};
use returnpath_slots::{BindOutcome, Follower, HELD_MAX, Output, Refusal, Row, TellOutcome, To};

use crate::{
    drive::{BOOT, bind, binding, open, outputs, refused, slots, with_rows},
    messages::{Signed, Withdrawn, decision, forged, signed, slot},
};

#[test]
fn a_decision_is_handed_over_and_acknowledged_once_its_slot_is_bound() {
    let mut slots = slots();
    let decision = open(2, 1, 5_000);
    slots.arrived(&signed(&decision), &Signed, 200);
    let (number, row) = binding(&mut slots);
    assert_eq!(row.slot, slot(BOOT, 1, 2));
    assert_eq!(row.expiry_uptime_ms, 5_000);
    assert_eq!(row.signed, signed(&decision));
    assert_eq!(slots.status(200).bound, 0);

    slots.bound(number, BindOutcome::Done, 210);
    let outputs = outputs(&mut slots);
    let [Output::HandOver(hand_over), Output::Tell(tell)] = outputs.as_slice() else {
        panic!("{outputs:?}");
    };
    assert_eq!((hand_over.to, &hand_over.decision), (To::All, &decision));
    assert_eq!(tell.event.kind(), ad_event::Kind::DecisionAcknowledged);
    assert_eq!(tell.event.decision_id, decision.decision_id);
    assert_eq!(tell.event.break_id, "break-1");
    assert_eq!(tell.event.slot, 2);
    assert_eq!(tell.event.creative_id, "ad-1");
    slots.handed_over(&decision.decision_id);
    slots.handed_over(&decision.decision_id);
    let status = slots.status(210);
    assert_eq!((status.bound, status.handed_over, status.open), (1, 1, 1));
}

#[test]
fn a_slot_without_an_ad_is_bound_and_handed_over_too() {
    let mut slots = slots();
    let mut decision = open(0, 1, 5_000);
    decision.creative = None;
    let (_, outputs) = bind(&mut slots, &decision, 200);
    assert!(
        matches!(&outputs[0], Output::HandOver(it) if it.decision == decision),
        "{outputs:?}"
    );
}

#[test]
fn each_reason_to_refuse_is_counted_and_only_the_operators_own_are_told() {
    let good = open(0, 1, 5_000);
    let foreign = Decision {
        device_id: "box-2".into(),
        ..good.clone()
    };
    let other_boot = decision(&slot(BOOT - 1, 1, 0), 1, 5_000);
    let nameless = Decision {
        decision_id: String::new(),
        ..good.clone()
    };
    let http = {
        let mut http = good.clone();
        http.creative.as_mut().unwrap().url = "http://c.example/1.mp4".into();
        http
    };
    let far = Decision {
        slot: 16,
        ..good.clone()
    };
    for (message, reason, told) in [
        (forged(&good), Refusal::Forged, None),
        (signed(&foreign), Refusal::Foreign, None),
        (signed(&other_boot), Refusal::Expired, Some("expired")),
        (signed(&open(0, 1, 200)), Refusal::Expired, Some("expired")),
        (signed(&nameless), Refusal::Malformed, None),
        (signed(&http), Refusal::Malformed, None),
        (signed(&far), Refusal::Malformed, None),
        (vec![0xff; 9], Refusal::Malformed, None),
        (vec![0; 5_000], Refusal::Malformed, None),
    ] {
        let mut slots = slots();
        let (found, event) = refused(&mut slots, &message, 200);
        assert_eq!(found, reason);
        let event = event.map(|event| event.refusal);
        assert_eq!(event.as_deref(), told, "{reason:?}");
        assert_eq!(slots.status(200).refused(reason), 1);
    }
}

#[test]
fn nothing_supersedes_a_bound_slot_and_the_same_again_is_no_news() {
    let mut slots = slots();
    let first = open(0, 1, 5_000);
    // Also while its commit is under way.
    slots.arrived(&signed(&first), &Signed, 200);
    let (number, _) = binding(&mut slots);
    let (reason, told) = refused(&mut slots, &signed(&open(0, 2, 5_000)), 201);
    assert_eq!(reason, Refusal::Superseded);
    assert_eq!(told.unwrap().refusal, "superseded");
    slots.bound(number, BindOutcome::Done, 202);
    outputs(&mut slots);

    slots.arrived(&signed(&first), &Signed, 203);
    assert_eq!(outputs(&mut slots), []);
    assert_eq!(slots.status(203).repeated, 1);
    // One refusal of a decision is told; the others are counted.
    let (reason, told) = refused(&mut slots, &signed(&open(0, 2, 5_000)), 204);
    assert_eq!((reason, told), (Refusal::Superseded, None));
    assert_eq!(slots.status(204).refused(Refusal::Superseded), 2);
}

#[test]
fn what_was_handed_over_and_has_expired_is_a_replay() {
    let mut slots = slots();
    let (shown, late) = (open(0, 1, 5_000), open(1, 1, 5_000));
    for decision in [&shown, &late] {
        let (_, outputs) = bind(&mut slots, decision, 200);
        for output in outputs {
            if let Output::Tell(tell) = output {
                slots.told(tell.number, TellOutcome::Settled, 200);
            }
        }
    }
    slots.handed_over(&shown.decision_id);
    assert_eq!(slots.poll_timeout(), None);
    slots.tick(5_000);
    assert_eq!(slots.status(5_000).open, 0);
    let (reason, _) = refused(&mut slots, &signed(&shown), 5_001);
    assert_eq!(reason, Refusal::Replayed);
    // Bound, and no player was there in time.
    let (reason, _) = refused(&mut slots, &signed(&late), 5_001);
    assert_eq!(reason, Refusal::Expired);
}

#[test]
fn a_decision_that_expires_during_its_commit_is_acknowledged_and_not_handed_over() {
    let mut slots = slots();
    slots.arrived(&signed(&open(0, 1, 300)), &Signed, 299);
    let (number, _) = binding(&mut slots);
    slots.bound(number, BindOutcome::Done, 300);
    let outputs = outputs(&mut slots);
    assert!(
        matches!(outputs.as_slice(), [Output::Tell(_)]),
        "{outputs:?}"
    );
}

#[test]
fn a_slot_that_cannot_be_stored_is_free_for_the_next_try() {
    let mut slots = slots();
    let decision = open(0, 1, 5_000);
    slots.arrived(&signed(&decision), &Signed, 200);
    let (number, _) = binding(&mut slots);
    slots.bound(number, BindOutcome::Failed, 200);
    let outputs = outputs(&mut slots);
    assert!(
        matches!(outputs.as_slice(), [Output::Refused(it)] if it.reason == Refusal::Unstored),
        "{outputs:?}"
    );
    bind(&mut slots, &decision, 300);
    assert_eq!(slots.status(300).open, 1);
}

#[test]
fn at_the_bound_new_decisions_are_refused_and_bound_ones_stay() {
    let mut slots = slots();
    for number in 0..HELD_MAX {
        let place = u32::try_from(number).unwrap();
        let slot = slot(BOOT, u8::try_from(place / 16).unwrap(), place % 16);
        bind(&mut slots, &decision(&slot, 1, 5_000), 200);
    }
    let one_more = decision(&slot(BOOT, 200, 0), 1, 5_000);
    let (reason, told) = refused(&mut slots, &signed(&one_more), 200);
    assert_eq!((reason, told), (Refusal::Unstored, None));
    assert_eq!(slots.status(200).open, HELD_MAX);
}

#[test]
fn at_the_bound_the_slot_that_expired_first_makes_room() {
    let mut slots = slots();
    for number in 0..HELD_MAX {
        let place = u32::try_from(number).unwrap();
        let slot = slot(BOOT, u8::try_from(place / 16).unwrap(), place % 16);
        let expiry_ms = 5_000 + u64::from((place + 7) % 64);
        let (_, outputs) = bind(&mut slots, &decision(&slot, 1, expiry_ms), 200);
        for output in outputs {
            if let Output::Tell(tell) = output {
                slots.told(tell.number, TellOutcome::Settled, 200);
            }
        }
    }
    let one_more = decision(&slot(BOOT, 200, 0), 1, 9_000);
    slots.arrived(&signed(&one_more), &Signed, 5_001);
    let outputs = outputs(&mut slots);
    // 57 + 7 is 64.
    let first = slot(BOOT, 57 / 16, 57 % 16);
    let [Output::Forget(forgotten), Output::Bind { .. }] = outputs.as_slice() else {
        panic!("{outputs:?}");
    };
    assert_eq!(*forgotten, first);
}

#[test]
fn a_start_that_finds_more_rows_than_may_be_comes_back_to_the_bound() {
    let found = HELD_MAX + 3;
    let rows = (0..found).map(|number| {
        let place = u32::try_from(number).unwrap();
        let slot = slot(BOOT, u8::try_from(place / 16).unwrap(), place % 16);
        let decision = decision(&slot, 1, 5_000);
        Row {
            slot,
            decision_id: decision.decision_id.clone(),
            expiry_uptime_ms: decision.expiry_uptime_ms,
            signed: signed(&decision).into(),
        }
    });
    let mut slots = with_rows(rows.collect(), &Signed);
    for output in outputs(&mut slots) {
        if let Output::Tell(tell) = output {
            slots.told(tell.number, TellOutcome::Settled, 200);
        }
    }
    let one_more = decision(&slot(BOOT, 200, 0), 1, 9_000);
    slots.arrived(&signed(&one_more), &Signed, 5_001);
    let outputs = outputs(&mut slots);
    let forgets = outputs.iter().filter(|it| matches!(it, Output::Forget(_)));
    assert_eq!(forgets.count(), found - HELD_MAX + 1);
    assert!(
        matches!(outputs.last(), Some(Output::Bind { .. })),
        "{outputs:?}"
    );
}

#[test]
fn a_slot_that_is_over_takes_no_other_decision_with_a_later_expiry() {
    let mut slots = slots();
    let (row, outputs) = bind(&mut slots, &open(0, 1, 5_000), 200);
    let Some(Output::Tell(tell)) = outputs.last() else {
        panic!("{outputs:?}");
    };
    slots.told(tell.number, TellOutcome::Settled, 5_000);
    let restarted = with_rows(vec![row], &Signed);
    for mut slots in [slots, restarted] {
        slots.tick(5_000);
        std::iter::from_fn(|| slots.poll_output()).for_each(drop);
        let (reason, _) = refused(&mut slots, &signed(&open(0, 2, 9_000)), 6_000);
        assert_eq!(reason, Refusal::Superseded);
    }
}

#[test]
fn one_who_begins_to_follow_gets_what_is_open() {
    let mut slots = slots();
    bind(&mut slots, &open(0, 1, 5_000), 200);
    bind(&mut slots, &open(1, 1, 9_000), 200);
    slots.followed(Follower(3), 5_000);
    let handed: Vec<_> = outputs(&mut slots)
        .into_iter()
        .filter_map(|output| match output {
            Output::HandOver(it) => Some((it.to, it.decision.slot)),
            Output::Bind { .. }
            | Output::Tell(_)
            | Output::AskAgain(_)
            | Output::Forget(_)
            | Output::Refused(_) => None,
        })
        .collect();
    assert_eq!(handed, [(To::One(Follower(3)), 1)]);
}

#[test]
fn after_a_restart_bound_slots_stay_bound_and_are_acknowledged_again() {
    let first = open(0, 1, 5_000);
    let (row, _) = bind(&mut slots(), &first, 200);
    let mut slots = with_rows(vec![row], &Signed);
    let outputs = outputs(&mut slots);
    assert!(
        matches!(outputs.as_slice(), [Output::Tell(_)]),
        "{outputs:?}"
    );
    let (reason, _) = refused(&mut slots, &signed(&open(0, 2, 5_000)), 300);
    assert_eq!(reason, Refusal::Superseded);
    slots.arrived(&signed(&first), &Signed, 300);
    assert_eq!(slots.status(300).repeated, 1);
}

#[test]
fn what_the_file_holds_is_verified_like_what_arrives_and_blocks_its_slot_anyhow() {
    let first = open(0, 1, 5_000);
    let (mut row, _) = bind(&mut slots(), &first, 200);
    let withdrawn = with_rows(vec![row.clone()], &Withdrawn);
    row.signed = row.signed.slice(..row.signed.len() - 1);
    for mut slots in [withdrawn, with_rows(vec![row], &Signed)] {
        let told = outputs(&mut slots);
        assert!(matches!(told.as_slice(), [Output::Tell(_)]), "{told:?}");
        slots.followed(Follower(1), 300);
        assert_eq!(outputs(&mut slots), []);
        let (reason, _) = refused(&mut slots, &signed(&open(0, 2, 5_000)), 300);
        assert_eq!(reason, Refusal::Unstored);
    }
}

#[test]
fn rows_of_another_boot_are_acknowledged_and_forgotten() {
    let old = slot(BOOT - 1, 1, 0);
    let decision = decision(&old, 1, 90_000);
    let row = Row {
        slot: old.clone(),
        decision_id: decision.decision_id.clone(),
        expiry_uptime_ms: 90_000,
        signed: signed(&decision).into(),
    };
    let mut slots = with_rows(vec![row], &Signed);
    slots.followed(Follower(1), 100);
    let told = outputs(&mut slots);
    let [Output::Tell(tell)] = told.as_slice() else {
        panic!("{told:?}");
    };
    slots.told(tell.number, TellOutcome::Settled, 101);
    assert_eq!(outputs(&mut slots), [Output::Forget(old)]);
}

#[test]
fn a_busy_queue_is_asked_again_until_the_acknowledgement_is_safe() {
    let mut slots = slots();
    let (_, first) = bind(&mut slots, &open(0, 1, 90_000), 200);
    let Some(Output::Tell(tell)) = first.last() else {
        panic!("{first:?}");
    };
    slots.told(tell.number, TellOutcome::Busy, 200);
    assert_eq!(outputs(&mut slots), []);
    assert_eq!(slots.poll_timeout(), Some(1_200));
    slots.tick(1_200);
    let again = outputs(&mut slots);
    let [Output::Tell(again)] = again.as_slice() else {
        panic!("{again:?}");
    };
    assert_eq!(again.event, tell.event);
    slots.told(again.number, TellOutcome::Taken, 1_200);
    assert_eq!(slots.poll_timeout(), None);
    slots.told(again.number, TellOutcome::Settled, 1_300);
    assert_eq!(slots.poll_timeout(), None);
}

#[test]
fn a_new_file_is_given_what_is_bound() {
    let mut slots = slots();
    let (row, _) = bind(&mut slots, &open(0, 1, 5_000), 200);
    slots.file_replaced();
    let (number, again) = binding(&mut slots);
    assert_eq!(again, row);
    slots.bound(number, BindOutcome::Done, 300);
    assert_eq!(outputs(&mut slots), []);
    assert_eq!(slots.status(300).bound, 1);
}
