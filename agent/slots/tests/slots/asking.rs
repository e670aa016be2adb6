//! When the box asks again.

use returnpath_slots::{Asked, OPPORTUNITIES_MAX, Output, Slots};

use crate::{
    drive::{bind, open, outputs, slots},
    world::{LIVE_AGE_MS, opportunity},
};

/// What a client asks for at 1,000: three slots of 1 s from 20,000 on.
fn asked() -> Asked {
    Asked {
        uptime_ms: 1_000,
        opportunity: opportunity(1, 20_000),
    }
}

fn asks_again(slots: &mut Slots) -> Vec<Asked> {
    let outputs = outputs(slots);
    let asks = outputs.into_iter().filter_map(|output| match output {
        Output::AskAgain(asked) => Some(*asked),
        Output::Bind { .. }
        | Output::HandOver(_)
        | Output::Tell(_)
        | Output::Forget(_)
        | Output::Refused(_) => None,
    });
    asks.collect()
}

#[test]
fn a_new_connection_asks_again_for_what_is_ahead_and_undecided() {
    let mut slots = slots();
    slots.linked(LIVE_AGE_MS, 900);
    slots.asked(asked(), 1_000);
    slots.unlinked();
    slots.linked(LIVE_AGE_MS, 9_000);
    assert_eq!(asks_again(&mut slots), [asked()]);
    assert_eq!(slots.status(9_000).asked_again, 1);
    // Two of three slots are decided: one is still wanted.
    bind(&mut slots, &open(0, 1, 21_000), 9_100);
    bind(&mut slots, &open(2, 1, 23_000), 9_100);
    slots.unlinked();
    slots.linked(LIVE_AGE_MS, 20_999);
    assert_eq!(asks_again(&mut slots), [asked()]);
    // That one begins at 21,000.
    slots.unlinked();
    slots.linked(LIVE_AGE_MS, 21_000);
    slots.tick(30_000);
    assert_eq!(asks_again(&mut slots), []);
}

#[test]
fn nothing_is_asked_again_once_every_slot_has_a_decision() {
    let mut slots = slots();
    slots.linked(LIVE_AGE_MS, 900);
    slots.asked(asked(), 1_000);
    for index in 0..3 {
        bind(&mut slots, &open(index, 1, 30_000), 1_100);
    }
    slots.unlinked();
    slots.linked(LIVE_AGE_MS, 9_000);
    assert_eq!(asks_again(&mut slots), []);
    assert_eq!(slots.status(9_000).asked_again, 0);
}

#[test]
fn what_waited_for_the_connection_goes_by_itself_unless_it_grew_old() {
    for (linked_ms, again) in [(2_900, vec![]), (3_001, vec![asked()])] {
        let mut slots = slots();
        slots.asked(asked(), 1_000);
        slots.linked(LIVE_AGE_MS, linked_ms);
        slots.tick(10_000);
        assert_eq!(asks_again(&mut slots), again, "linked at {linked_ms}");
    }
}

#[test]
fn a_connection_that_comes_and_goes_asks_now_and_then() {
    let mut slots = slots();
    slots.linked(LIVE_AGE_MS, 900);
    slots.asked(asked(), 1_000);
    let mut asks = 0;
    for now_ms in (1_100..20_000).step_by(100) {
        slots.unlinked();
        slots.tick(now_ms);
        assert_eq!(asks_again(&mut slots), [], "nobody hears it");
        slots.linked(LIVE_AGE_MS, now_ms);
        asks += asks_again(&mut slots).len();
    }
    assert_eq!(asks, 3, "at 6,000, 11,000 and 16,000");
    // On a connection that stands it is asked for when it is due.
    let mut slots = self::slots();
    slots.linked(LIVE_AGE_MS, 900);
    slots.asked(asked(), 1_000);
    slots.unlinked();
    slots.linked(LIVE_AGE_MS, 1_100);
    assert_eq!(asks_again(&mut slots), []);
    assert_eq!(slots.poll_timeout(), Some(6_000));
    slots.tick(6_000);
    assert_eq!(asks_again(&mut slots), [asked()]);
    assert_eq!(slots.poll_timeout(), None);
}

#[test]
fn the_oldest_of_too_many_opportunities_is_forgotten() {
    let mut slots = slots();
    slots.linked(LIVE_AGE_MS, 900);
    for number in 0..=OPPORTUNITIES_MAX {
        let number = u8::try_from(number).unwrap();
        let opportunity = opportunity(number, 20_000);
        let asked = Asked {
            uptime_ms: 1_000,
            opportunity,
        };
        // Told twice by its client: remembered once.
        slots.asked(asked.clone(), 1_000);
        slots.asked(asked, 1_001);
    }
    slots.unlinked();
    slots.linked(LIVE_AGE_MS, 9_000);
    let breaks = asks_again(&mut slots);
    let breaks: Vec<_> = breaks.iter().map(|it| &it.opportunity.break_id).collect();
    assert_eq!(breaks.len(), OPPORTUNITIES_MAX);
    assert!(!breaks.contains(&&"break-0".to_owned()), "{breaks:?}");
}
