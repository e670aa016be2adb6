//! What more comes than a box can want: looked into, logged and told a little,
//! counted whole.

use std::cell::Cell;

use returnpath_slots::{Output, Refusal, Slots, TellOutcome, Verify};

use crate::{
    drive::{bind, open, outputs, slots},
    messages::{Signed, Withdrawn, decision, forged, signed, slot},
};

/// Has it refused; how many of the refusals were told.
fn flood(slots: &mut Slots, messages: impl Iterator<Item = Vec<u8>>, now_ms: u64) -> usize {
    let mut told = 0;
    for message in messages {
        slots.arrived(&message, &Signed, now_ms);
        for output in outputs(slots) {
            if let Output::Tell(tell) = output {
                slots.told(tell.number, TellOutcome::Taken, now_ms);
                told += 1;
            }
        }
    }
    told
}

#[test]
fn a_flood_of_forged_decisions_is_looked_into_a_little_and_counted_whole() {
    /// Counts how often it was asked.
    #[derive(Default)]
    struct Counting(Cell<usize>);
    impl Verify for Counting {
        fn is_signed(&self, _key_id: &str, _decision: &[u8], _signature: &[u8]) -> bool {
            self.0.set(self.0.get() + 1);
            false
        }
    }
    let mut slots = slots();
    let counting = Counting::default();
    let message = forged(&open(0, 1, 90_000));
    // Ten thousand a second, for ten seconds.
    for number in 0..100_000 {
        slots.arrived(&message, &counting, 10_000 + number / 10);
        outputs(&mut slots);
    }
    let status = slots.status(20_000);
    let verified = counting.0.get();
    assert!((128..=128 + 80).contains(&verified), "{verified}");
    assert_eq!(status.refused(Refusal::Forged), verified as u64);
    let unseen = status.refused(Refusal::TooMany);
    assert_eq!(unseen, 100_000 - verified as u64);
    // A moment later the operator's own is heard again.
    bind(&mut slots, &open(0, 1, 90_000), 21_000);
}

#[test]
fn what_is_bound_comes_again_without_being_verified_again() {
    let mut slots = slots();
    let decision = open(0, 1, 90_000);
    bind(&mut slots, &decision, 200);
    for _ in 0..1_000 {
        slots.arrived(&signed(&decision), &Withdrawn, 201);
    }
    assert_eq!(outputs(&mut slots), []);
    let status = slots.status(201);
    assert_eq!(status.repeated, 1_000);
    assert_eq!(status.refused(Refusal::TooMany), 0);
}

#[test]
fn old_decisions_played_back_fill_the_queue_with_a_few_refusals_only() {
    let mut slots = slots();
    let mut told = 0;
    // Each of them the operator's own; more than anyone remembers, for an hour.
    for second in 0..3_600_u64 {
        let now_ms = 1_000_000 + second * 1_000;
        let old = |number: u64| signed(&decision(&slot(number, 1, 0), 1, 5_000));
        let messages = (0..8).map(|number| old(1_000 + second * 8 + number));
        told += flood(&mut slots, messages, now_ms);
    }
    assert!((64..=64 + 61).contains(&told), "{told}");
    let status = slots.status(5_000_000);
    assert_eq!(status.refused(Refusal::Expired), 3_600 * 8);
    assert_eq!(status.untold, 3_600 * 8 - told as u64);
}
