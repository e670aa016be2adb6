use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};
use prost::Message as _;
use returnpath_shared::{
    Incarnation, pack,
    wire::{AdEvent, DropReason, Event, Ledger, RejectionReason, Tune, UncleanStop, event},
};

use super::*;

fn device() -> DeviceId {
    "box-1".parse().unwrap()
}

fn epoch(start: u32) -> Epoch {
    Epoch {
        incarnation: Incarnation::new(7).unwrap(),
        start,
    }
}

fn id(start: u32) -> wire::BatchId {
    wire::BatchId {
        epoch: Some(epoch(start).into()),
        sequence: 1,
    }
}

fn answer(start: u32, ordinal: u64, class: Class) -> Answer {
    Answer {
        device: device(),
        epoch: epoch(start),
        ordinal: Ordinal(ordinal),
        class,
    }
}

fn refined(start: u32, ordinal: u64, kind: event::Kind) -> wire::Refined {
    wire::Refined {
        device_id: "box-1".into(),
        batch: Some(id(start)),
        ordinal,
        event: Some(Event {
            kind: Some(kind),
            ..Event::default()
        }),
        ..wire::Refined::default()
    }
}

fn tune() -> event::Kind {
    event::Kind::Tune(Tune::default())
}

fn ad(decision_id: &str) -> event::Kind {
    event::Kind::AdEvent(AdEvent {
        decision_id: decision_id.into(),
        ..AdEvent::default()
    })
}

fn ledger(start: u32, first: u64, count: u64) -> event::Kind {
    event::Kind::Ledger(Ledger {
        reason: DropReason::QueueFull as i32,
        first_batch: Some(id(start)),
        last_sequence: 1,
        first_ordinal: first,
        event_count: count,
        ..Ledger::default()
    })
}

fn unclean(start: u32, last_known_ordinal: u64) -> event::Kind {
    event::Kind::UncleanStop(UncleanStop {
        epoch: Some(epoch(start).into()),
        last_known_ordinal,
        last_known_sequence: 0,
    })
}

fn rejected(start: u32, ordinal: u64, first_ordinal: u64, event_count: u32) -> wire::Rejected {
    wire::Rejected {
        reason: RejectionReason::Event as i32,
        key: "box-1".into(),
        batch: Some(id(start)),
        ordinal,
        first_ordinal,
        event_count,
        ..wire::Rejected::default()
    }
}

/// The verdict on one box, of answers 1 (accepted) and 2 (durable) in epoch 1
/// and what was told besides.
fn judged(records: &[wire::Refined], rejections: &[wire::Rejected]) -> BoxVerdict {
    let mut tally = Tally::new();
    tally.answered(&answer(1, 1, Class::Ordinary));
    tally.answered(&answer(1, 2, Class::Proof));
    for record in records {
        tally.refined(record).unwrap();
    }
    for rejection in rejections {
        tally.rejected(rejection);
    }
    tally.verdict().boxes.remove(0)
}

#[test]
fn what_excuses_a_missing_event_depends_on_its_class() {
    // (what else is known, accepted one missing?, durable one missing?)
    for (name, records, rejections, missing) in [
        ("nothing arrived", vec![], vec![], [1, 1]),
        (
            "both arrived",
            vec![refined(1, 1, tune()), refined(1, 2, ad("d"))],
            vec![],
            [0, 0],
        ),
        (
            "a ledger covers both",
            vec![refined(2, 1, ledger(1, 1, 2))],
            vec![],
            [0, 0],
        ),
        (
            "a ledger covers the first",
            vec![refined(2, 1, ledger(1, 1, 1))],
            vec![],
            [0, 1],
        ),
        (
            "a ledger of another epoch",
            vec![refined(2, 1, ledger(3, 1, 2))],
            vec![],
            [1, 1],
        ),
        (
            "a ledger that names no events",
            vec![refined(2, 1, ledger(1, 0, 0))],
            vec![],
            [1, 1],
        ),
        (
            "an unclean stop that knows nothing",
            vec![refined(2, 1, unclean(1, 0))],
            vec![],
            [0, 1],
        ),
        (
            "an unclean stop that knows the first",
            vec![refined(2, 1, unclean(1, 1))],
            vec![],
            [1, 1],
        ),
        (
            "an unclean stop of another epoch",
            vec![refined(2, 1, unclean(3, 0))],
            vec![],
            [1, 1],
        ),
        (
            "one event was rejected",
            vec![],
            vec![rejected(1, 2, 0, 0)],
            [1, 0],
        ),
        (
            "the batch was rejected",
            vec![],
            vec![rejected(1, 0, 1, 2)],
            [0, 0],
        ),
        (
            "a rejection names no events",
            vec![],
            vec![rejected(1, 0, 0, 0)],
            [1, 1],
        ),
    ] {
        let verdict = judged(&records, &rejections);
        assert_eq!(
            [verdict.ordinary.missing, verdict.proof.missing],
            missing,
            "{name}"
        );
        assert_eq!(
            verdict.missing.is_empty(),
            missing == [0, 0],
            "listed: {name}"
        );
    }
}

#[test]
fn a_lost_epoch_is_declared_as_a_whole() {
    let mut whole = ledger(1, 0, 0);
    if let event::Kind::Ledger(ledger) = &mut whole {
        ledger.whole_epoch = true;
        ledger.reason = DropReason::Corrupt as i32;
    }
    let verdict = judged(&[refined(2, 1, whole)], &[]);
    assert_eq!(verdict.proof.declared.get("corrupt"), Some(&1));
    assert_eq!(verdict.ordinary.declared.get("corrupt"), Some(&1));
    assert!(verdict.is_clean());
}

#[test]
fn what_arrived_needs_no_excuse_and_is_counted_as_arrived() {
    let verdict = judged(
        &[refined(1, 1, tune()), refined(2, 1, ledger(1, 1, 2))],
        &[rejected(1, 1, 0, 0)],
    );
    assert_eq!(verdict.ordinary.arrived, 1);
    assert_eq!(verdict.ordinary.rejected_total(), 0);
    assert_eq!(verdict.ordinary.declared_total(), 0);
    assert_eq!(verdict.proof.declared.get("queue_full"), Some(&1));
}

#[test]
fn what_a_rejected_batch_declares_counts() {
    let packed = pack(&wire::Batch {
        boot_id: 1,
        first_ordinal: 1,
        events: vec![Event {
            kind: Some(ledger(1, 1, 2)),
            ..Event::default()
        }],
    })
    .unwrap();
    let envelope = wire::Envelope {
        codec: packed.codec as i32,
        batch: packed.bytes,
        ..wire::Envelope::default()
    };
    let whole = wire::Rejected {
        envelope: envelope.encode_to_vec().into(),
        ..rejected(2, 0, 1, 1)
    };
    assert!(judged(&[], std::slice::from_ref(&whole)).is_clean());
    let garbage = wire::Rejected {
        envelope: vec![0xff; 9].into(),
        ..whole
    };
    assert_eq!(judged(&[], &[garbage]).proof.missing, 1);
}

#[test]
fn an_event_that_stands_twice_is_a_duplicate_answered_or_not() {
    let verdict = judged(
        &[
            refined(1, 1, tune()),
            refined(1, 1, tune()),
            refined(1, 1, tune()),
            refined(1, 2, ad("d")),
            refined(1, 9, ad("e")),
            refined(1, 9, ad("e")),
        ],
        &[],
    );
    assert_eq!(verdict.ordinary.duplicated, 1);
    assert_eq!(verdict.proof.duplicated, 1);
    assert_eq!(verdict.unanswered.arrived, 1);
    assert!(!verdict.is_clean());
}

#[test]
fn a_proof_given_again_is_found_among_the_rejected() {
    let repeat = wire::Rejected {
        reason: RejectionReason::Repeated as i32,
        ..rejected(1, 2, 0, 0)
    };
    let verdict = judged(&[refined(1, 1, tune())], &[repeat]);
    assert_eq!(verdict.proof.rejected.get("repeated"), Some(&1));
    assert!(verdict.is_clean());
}

#[test]
fn the_same_answer_again_changes_nothing() {
    let mut tally = Tally::new();
    for _ in 0..3 {
        tally.answered(&answer(1, 1, Class::Proof));
    }
    assert_eq!(tally.verdict().boxes[0].proof.answered, 1);
}

#[test]
fn records_that_name_no_event_are_refused_and_change_nothing() {
    let good = refined(1, 1, tune());
    let mut tally = Tally::new();
    for (record, expected) in [
        (
            wire::Refined {
                device_id: "a/b".into(),
                ..good.clone()
            },
            "device id is wrong",
        ),
        (
            wire::Refined {
                batch: None,
                ..good.clone()
            },
            "batch id is wrong",
        ),
        (
            wire::Refined {
                ordinal: 0,
                ..good.clone()
            },
            "ordinal must be greater than 0",
        ),
        (
            refined(1, 1, event::Kind::UncleanStop(UncleanStop::default())),
            "declaration names no epoch",
        ),
    ] {
        assert_eq!(tally.refined(&record).unwrap_err().to_string(), expected);
    }
    tally.rejected(&wire::Rejected::default());
    assert_eq!(
        tally.verdict(),
        Verdict {
            unattributed_rejections: 1,
            ..Verdict::default()
        }
    );
}

#[test]
fn a_full_tally_counts_what_it_cannot_take_and_is_never_clean() {
    let mut tally = Tally {
        intervals: INTERVALS_MAX,
        ..Tally::new()
    };
    tally.answered(&answer(1, 1, Class::Proof));
    tally.refined(&refined(1, 1, tune())).unwrap();
    tally.rejected(&rejected(1, 1, 0, 0));
    let verdict = tally.verdict();
    assert_eq!(verdict.unaccounted, 3);
    assert!(!verdict.is_clean());
}

#[test]
fn long_runs_cost_one_interval() {
    let mut tally = Tally::new();
    for ordinal in 1..=10_000 {
        tally.answered(&answer(1, ordinal, Class::Ordinary));
        tally.refined(&refined(1, ordinal, tune())).unwrap();
    }
    // What was answered, and what arrived, beside the epoch itself.
    assert_eq!(tally.intervals, epoch::ITSELF + 2);
}

#[test]
fn topics_alone_show_what_is_missing_between_what_came() {
    let mut tally = Tally::new();
    for ordinal in [1, 2, 5, 9] {
        tally.refined(&refined(1, ordinal, tune())).unwrap();
    }
    tally.rejected(&rejected(1, 6, 0, 0));
    tally.refined(&refined(2, 1, ledger(1, 7, 1))).unwrap();
    let of_box = tally.verdict().boxes.remove(0);
    let of_epoch = &of_box.epochs[0];
    assert_eq!(of_epoch.epoch, epoch(1).to_string());
    assert_eq!(of_epoch.unanswered.arrived, 4);
    assert_eq!(of_epoch.unanswered.rejected, [("event", 1)].into());
    assert_eq!(of_epoch.unanswered.declared, [("queue_full", 1)].into());
    assert_eq!(of_epoch.unanswered.missing, 3);
    let missing = |range: &Ordinals| (range.class, range.first_ordinal, range.last_ordinal);
    let listed: Vec<_> = of_box.missing.iter().map(missing).collect();
    assert_eq!(listed, [("unanswered", 3, 4), ("unanswered", 8, 8)]);
}

#[test]
fn the_window_of_an_unclean_stop_is_told_apart_from_what_was_dropped() {
    let verdict = judged(
        &[
            refined(1, 2, ad("d")),
            refined(2, 1, ledger(1, 4, 1)),
            refined(2, 2, unclean(1, 2)),
            refined(1, 6, tune()),
        ],
        &[],
    );
    assert_eq!(verdict.ordinary.missing, 1, "1 was durable: {verdict:?}");
    assert_eq!(verdict.epochs[0].unclean_stop_above, Some(2));
    assert_eq!(verdict.unanswered.unclean_stop, 2);
    let excused = |range: &Ordinals| (range.what, range.reason, range.first_ordinal);
    let listed: Vec<_> = verdict.excused.iter().map(excused).collect();
    let unclean = "unclean_stop";
    assert_eq!(
        listed,
        [
            ("declared", "queue_full", 4),
            (unclean, "", 3),
            (unclean, "", 5)
        ]
    );
}

#[test]
fn events_behind_later_ones_of_their_lane_and_topic_are_out_of_order() {
    let lane = |lane: wire::Lane, record: wire::Refined| wire::Refined {
        lane: lane.into(),
        ..record
    };
    let live = |ordinal, kind| lane(wire::Lane::Live, refined(1, ordinal, kind));
    let mut tally = Tally::new();
    for record in [
        live(1, tune()),
        live(4, tune()),
        live(2, ad("other topic")),
        lane(wire::Lane::Backlog, refined(1, 3, tune())),
        live(6, tune()),
        live(5, tune()),
        // Twice is another finding.
        live(4, tune()),
    ] {
        tally.refined(&record).unwrap();
    }
    let verdict = tally.verdict();
    assert_eq!(verdict.out_of_order(), 1);
    let late = &verdict.boxes[0].out_of_order[0];
    assert_eq!((late.class, late.first_ordinal), ("ordinary", 5));
    assert_eq!(verdict.duplicated(), 1);
}

#[test]
fn a_stretch_of_time_judges_what_came_in_it_and_what_is_missing_below() {
    let stretch = Stretch {
        from_unix_ms: Some(1_000),
        to_unix_ms: Some(2_000),
    };
    let mut tally = Tally::of(stretch);
    for (received_unix_ms, ordinal) in [
        (500, 1),
        (900, 3),
        (1_000, 6),
        (1_500, 10),
        // A backlog, after the stretch.
        (2_500, 8),
        (2_600, 14),
    ] {
        let record = wire::Refined {
            received_unix_ms,
            ..refined(1, ordinal, tune())
        };
        tally.refined(&record).unwrap();
    }
    for ordinal in 1..=14 {
        tally.answered(&answer(1, ordinal, Class::Ordinary));
    }
    let of_box = tally.verdict().boxes.remove(0);
    assert_eq!(of_box.ordinary.answered, 7, "4 to 10");
    assert_eq!(of_box.ordinary.arrived, 3, "6, 8 and 10");
    assert_eq!(of_box.outside, 7);
    let missing = |range: &Ordinals| (range.first_ordinal, range.last_ordinal);
    let listed: Vec<_> = of_box.missing.iter().map(missing).collect();
    assert_eq!(listed, [(4, 5), (7, 7), (9, 9)]);
}

#[derive(Clone, Debug)]
enum Fact {
    Answered(u64, Class),
    Refined(u64),
    Rejected(u64, u32),
    Ledger(u64, u64),
    WholeEpoch,
    Unclean(u64),
}

fn fact() -> impl Strategy<Value = Fact> {
    let ordinal = 1u64..40;
    prop_oneof![
        8 => (ordinal.clone(), any::<bool>()).prop_map(|(ordinal, proof)| {
            Fact::Answered(ordinal, if proof { Class::Proof } else { Class::Ordinary })
        }),
        8 => ordinal.clone().prop_map(Fact::Refined),
        1 => (ordinal.clone(), 0u32..4).prop_map(|(first, count)| Fact::Rejected(first, count)),
        1 => (ordinal.clone(), 1u64..6).prop_map(|(first, count)| Fact::Ledger(first, count)),
        1 => (0u64..60).prop_map(Fact::Unclean),
    ]
}

/// What the rules say, event by event, without intervals.
#[derive(Default, Debug)]
struct Plain {
    answered: BTreeMap<u64, Class>,
    arrived: BTreeMap<u64, u64>,
    rejected: BTreeSet<u64>,
    declared: BTreeSet<u64>,
    whole_epoch: bool,
    unclean_above: Option<u64>,
}

impl Plain {
    fn take(&mut self, fact: &Fact) {
        match *fact {
            Fact::Answered(ordinal, class) => {
                let strongest = self.answered.entry(ordinal).or_insert(class);
                *strongest = class.max(*strongest);
            }
            Fact::Refined(ordinal) => *self.arrived.entry(ordinal).or_default() += 1,
            Fact::Rejected(first, count) => self.rejected.extend(first..first + u64::from(count)),
            Fact::Ledger(first, count) => self.declared.extend(first..first + count),
            Fact::WholeEpoch => self.whole_epoch = true,
            Fact::Unclean(known) => {
                self.unclean_above = Some(known.min(self.unclean_above.unwrap_or(known)));
            }
        }
    }

    /// Of one class, or of what was answered to nobody.
    fn missing(&self, class: Option<Class>) -> Vec<u64> {
        let excused = |ordinal: &u64| {
            self.arrived.contains_key(ordinal)
                || self.rejected.contains(ordinal)
                || self.declared.contains(ordinal)
                || self.whole_epoch
                || class != Some(Class::Proof)
                    && self.unclean_above.is_some_and(|known| *ordinal > known)
        };
        (1..=self.highest())
            .filter(|ordinal| self.answered.get(ordinal).copied() == class)
            .filter(|ordinal| !excused(ordinal))
            .collect()
    }

    fn highest(&self) -> u64 {
        let known = [
            self.answered.keys().max(),
            self.arrived.keys().max(),
            self.rejected.last(),
            self.declared.last(),
        ];
        known.into_iter().flatten().max().copied().unwrap_or(0)
    }
}

/// What is listed as missing of the epoch that the facts are about.
fn listed(verdict: &Verdict, class: &str) -> Vec<u64> {
    let missing = verdict.boxes.iter().flat_map(|of_box| &of_box.missing);
    missing
        .filter(|missing| missing.epoch == epoch(1).to_string() && missing.class == class)
        .flat_map(|missing| missing.first_ordinal..=missing.last_ordinal)
        .collect()
}

fn feed(tally: &mut Tally, fact: &Fact) {
    match *fact {
        Fact::Answered(ordinal, class) => tally.answered(&answer(1, ordinal, class)),
        Fact::Refined(ordinal) => tally.refined(&refined(1, ordinal, tune())).unwrap(),
        Fact::Rejected(first, count) => tally.rejected(&rejected(1, 0, first, count)),
        Fact::Ledger(first, count) => tally
            .refined(&refined(2, first * 100 + count, ledger(1, first, count)))
            .unwrap_or_default(),
        Fact::WholeEpoch => {
            let mut whole = ledger(1, 0, 0);
            if let event::Kind::Ledger(ledger) = &mut whole {
                ledger.whole_epoch = true;
            }
            tally.refined(&refined(3, 1, whole)).unwrap();
        }
        Fact::Unclean(known) => tally
            .refined(&refined(4, known + 1, unclean(1, known)))
            .unwrap(),
    }
}

proptest! {
    #[test]
    fn the_verdict_is_what_the_rules_say_in_whatever_order_facts_come(
        facts in vec(fact(), 0..120),
        whole_epoch in prop::bool::weighted(0.1),
        shuffle in any::<prop::sample::Index>(),
    ) {
        let mut facts = facts;
        if whole_epoch {
            facts.push(Fact::WholeEpoch);
        }
        if !facts.is_empty() {
            let middle = shuffle.index(facts.len());
            facts.rotate_left(middle);
        }
        let (mut plain, mut tally) = (Plain::default(), Tally::new());
        for fact in &facts {
            plain.take(fact);
            feed(&mut tally, fact);
        }
        let verdict = tally.verdict();
        for (class, index) in [(Class::Ordinary, 0), (Class::Proof, 1)] {
            let found = &verdict.totals()[index];
            let listed = listed(&verdict, class_name(class));
            prop_assert_eq!(&listed, &plain.missing(Some(class)));
            prop_assert_eq!(found.missing, listed.len() as u64);
            let answered = plain.answered.values().filter(|of| **of == class).count() as u64;
            prop_assert_eq!(found.answered, answered);
            prop_assert_eq!(
                found.arrived + found.rejected_total()
                    + found.declared_total() + found.missing,
                answered
            );
        }
        prop_assert_eq!(listed(&verdict, "unanswered"), plain.missing(None));
        let doubled = plain.arrived.values().filter(|times| **times > 1).count() as u64;
        // Declarations that came twice stand twice as well, in their own epochs.
        let declarations_doubled: u64 = verdict.totals()[1].duplicated;
        prop_assert_eq!(verdict.totals()[0].duplicated, doubled);
        let repeats = |wanted: fn(&Fact) -> Option<u64>| {
            let mut times: BTreeMap<u64, u64> = BTreeMap::new();
            for ordinal in facts.iter().filter_map(wanted) {
                *times.entry(ordinal).or_default() += 1;
            }
            times.values().filter(|times| **times > 1).count() as u64
        };
        let expected = repeats(|fact| {
            let Fact::Ledger(first, count) = fact else { return None };
            Some(first * 100 + count)
        }) + repeats(|fact| {
            let Fact::Unclean(known) = fact else { return None };
            Some(*known)
        });
        prop_assert_eq!(declarations_doubled, expected);
        let unanswered = plain.arrived.keys().filter(|ordinal| !plain.answered.contains_key(ordinal)).count();
        let declarations: BTreeSet<(u32, u64)> = facts.iter().filter_map(|fact| match fact {
            Fact::Ledger(first, count) => Some((2, first * 100 + count)),
            Fact::WholeEpoch => Some((3, 1)),
            Fact::Unclean(known) => Some((4, known + 1)),
            Fact::Answered(..) | Fact::Refined(_) | Fact::Rejected(..) => None,
        }).collect();
        let extra: u64 = verdict.boxes.iter().map(|of_box| of_box.unanswered.arrived).sum();
        prop_assert_eq!(extra, (unanswered + declarations.len()) as u64);
    }
}
