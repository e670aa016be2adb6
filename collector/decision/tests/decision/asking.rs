//! Who is asked, what is chosen, and what the record says of it.

use prost::Message as _;
use returnpath_decision::{Answer, Cap, Limits, Rate, UnknownConsent, WithoutConsent, replay};
use returnpath_shared::wire::{
    Choice, Decision, Exclusion, Lane, NoFill, OfferFault, Outcome, PolicyKind, Privacy, consent,
};

use crate::running::{NOW_UNIX_MS, Opp, Running, SLOT_MS, UPTIME_MS, body, settings, status};

const AB: [&str; 2] = ["a", "b"];

fn waterfall() -> Running {
    Running::new(settings(PolicyKind::Waterfall, &AB))
}

fn highest() -> Running {
    Running::new(settings(PolicyKind::HighestPrice, &AB))
}

fn picked(choice: Option<Choice>) -> Result<(u32, u32), NoFill> {
    let choice = choice.unwrap();
    match (choice.aggregator, choice.offer) {
        (Some(aggregator), Some(offer)) => Ok((aggregator, offer)),
        _ => Err(choice.no_fill()),
    }
}

#[test]
fn a_waterfall_asks_one_after_another_until_an_offer_stands() {
    let mut running = waterfall();
    running.ask(&Opp::new("b"));
    assert_eq!(running.asked(), ["a"]);
    let out = running.offer("a", "7,x.example,9");
    assert_eq!((running.asked(), out.records.len()), (vec!["b"], 0));
    let decided = running
        .offer("b", "3,x.example,30000\n5,y.example,30000")
        .only();
    assert_eq!(picked(decided.choice), Ok((1, 1)));
    let faults = |place: usize| decided.aggregators[place].offers[0].fault();
    assert_eq!(faults(0), OfferFault::Duration);
    assert_eq!(faults(1), OfferFault::Unspecified);
    assert_eq!(replay(&decided), decided.choice.unwrap());
}

#[test]
fn a_waterfall_leaves_alone_those_behind_whoever_fills() {
    let mut running = waterfall();
    running.ask(&Opp::new("b"));
    let decided = running.offer("a", "1,x.example,30000").only();
    assert_eq!(picked(decided.choice), Ok((0, 0)));
    assert_eq!(decided.aggregators[1].exclusion(), Exclusion::NotNeeded);
    assert!(running.calls.is_empty());
}

#[test]
fn the_highest_price_waits_for_all_and_prefers_the_first_of_equals() {
    let mut running = highest();
    running.ask(&Opp::new("b"));
    assert_eq!(running.asked(), ["a", "b"]);
    assert!(running.offer("b", "5,x.example,30000").records.is_empty());
    let decided = running.offer("a", "5,y.example,30000").only();
    assert_eq!(picked(decided.choice), Ok((0, 0)));
    assert_eq!(
        decided.choice.unwrap().probability.to_bits(),
        1.0_f64.to_bits()
    );
}

#[test]
fn what_has_not_answered_by_the_end_of_the_budget_is_decided_without() {
    let mut running = highest();
    running.ask(&Opp::new("b"));
    running.offer("b", "5,x.example,30000");
    let due_us = running.partition.poll_timeout(running.now);
    assert_eq!(due_us, Some(running.now.monotonic_us + 300_000));
    assert!(running.pass(299).records.is_empty());
    let decided = running.pass(1).only();
    assert_eq!(picked(decided.choice), Ok((1, 0)));
    assert_eq!(decided.aggregators[0].outcome(), Outcome::Timeout);
    assert_eq!(decided.aggregators[0].latency_us, 300_000);
    assert_eq!(decided.waited_us, 300_000);
    assert_eq!(decided.elapsed_us, 300_000);
    // Its answer comes late: the decision stands.
    assert!(running.offer("a", "9,y.example,30000").records.is_empty());
    assert_eq!(running.gates.under_way(0), 0);
}

#[test]
fn each_way_to_fail_is_recorded_as_what_it_was() {
    let rows = [
        (Answer::Timeout, Outcome::Timeout, 0),
        (
            Answer::Unreachable("refused".into()),
            Outcome::Unreachable,
            0,
        ),
        (Answer::TooLarge, Outcome::TooLarge, 0),
        (status(503), Outcome::Error, 503),
        (body(""), Outcome::NoBid, 200),
    ];
    for (answer, outcome, http_status) in rows {
        let mut running = Running::new(settings(PolicyKind::Waterfall, &["a"]));
        running.ask(&Opp::new("b"));
        let decided = running.end(0, answer).only();
        assert_eq!(decided.aggregators[0].outcome(), outcome);
        assert_eq!(decided.aggregators[0].http_status, http_status);
        assert_eq!(picked(decided.choice), Err(NoFill::NoOffer));
        assert!(
            decided.signed.is_some(),
            "the player gets its answer at once"
        );
    }
}

#[test]
fn what_is_signed_names_box_slot_and_expiry() {
    let mut running = waterfall();
    let mut opp = Opp::new("b");
    opp.slots = 2;
    opp.start_uptime_ms = UPTIME_MS + 4_000;
    running.ask(&opp);
    running.offer("a", "1,x.example,30000");
    let out = running.offer("a", "2,y.example,30000");
    let decided = out.only();
    let signed = decided.signed.clone().unwrap();
    let decision = Decision::decode(signed.decision).unwrap();
    assert_eq!(decision.decision_id, opp.id(1));
    assert_eq!(decision.device_id, "box-1");
    assert_eq!(
        (decision.break_id.as_str(), decision.slot, decision.number),
        ("b", 1, 0)
    );
    assert_eq!(decision.expiry_boot_id, opp.boot_id);
    let expiry_uptime_ms = UPTIME_MS + 4_000 + u64::from(SLOT_MS) + 1_000;
    assert_eq!(decision.expiry_uptime_ms, expiry_uptime_ms);
    assert_eq!(decision.creative.unwrap().creative_id, "creative-2");
    assert_eq!(signed.key_id, "0123456789abcdef");
    assert!(out.is_urgent);
    assert_eq!(decided.opportunity, Some(opp.message()));
    running.commit();
    let expiry_unix_ms = NOW_UNIX_MS + 4_000 + i64::from(SLOT_MS) + 1_000;
    assert_eq!(running.pushes[1].expiry_unix_ms, expiry_unix_ms);
    assert_eq!(
        running.pushes[1].timing.unwrap().taken_us,
        running.now.monotonic_us
    );
}

#[test]
fn a_slot_knows_the_ads_of_the_slots_before_it() {
    let mut settings = settings(PolicyKind::HighestPrice, &AB);
    settings.cap = Some(Cap {
        impressions_max: 1,
        window_ms: 60_000,
    });
    let mut running = Running::new(settings);
    let mut opp = Opp::new("b");
    opp.slots = 2;
    running.ask(&opp);
    assert_eq!(running.asked(), ["a", "b", "a", "b"]);
    // The second slot is answered first, and waits for the first.
    running.end(2, body("9,x.example,30000"));
    let out = running.end(2, body("5,y.example,30000"));
    assert!(out.records.is_empty());
    running.offer("a", "9,x.example,30000");
    let out = running.offer("b", "");
    let decided = out.decided();
    assert_eq!(decided.len(), 2);
    assert_eq!(picked(decided[0].1.choice), Ok((0, 0)));
    assert_eq!(picked(decided[1].1.choice), Ok((1, 0)));
    let capped = &decided[1].1.aggregators[0].offers[0];
    assert_eq!(capped.fault(), OfferFault::Capped);
    assert_eq!(replay(&decided[1].1), decided[1].1.choice.unwrap());
}

#[test]
fn a_waterfall_goes_on_when_the_slot_before_took_the_last_of_an_advertiser() {
    let mut settings = settings(PolicyKind::Waterfall, &AB);
    settings.cap = Some(Cap {
        impressions_max: 1,
        window_ms: 60_000,
    });
    let mut running = Running::new(settings);
    let mut opp = Opp::new("b");
    opp.slots = 2;
    running.ask(&opp);
    running.end(1, body("9,x.example,30000"));
    let out = running.offer("a", "9,x.example,30000");
    assert_eq!(out.decided().len(), 1);
    assert_eq!(running.asked(), ["b"]);
    let decided = running.offer("b", "1,y.example,30000").only();
    assert_eq!(picked(decided.choice), Ok((1, 0)));
}

#[test]
fn what_came_too_late_is_recorded_and_nobody_is_asked() {
    let late = |change: fn(&mut Opp)| {
        let mut opp = Opp::new("b");
        change(&mut opp);
        opp
    };
    let rows = [
        late(|opp| opp.lane = Lane::Backlog),
        late(|opp| opp.received_unix_ms -= 1_000),
        late(|opp| opp.sent_uptime_ms += 1_000),
        late(|opp| opp.start_uptime_ms = 0).tap(|opp| opp.received_unix_ms -= 1_000),
    ];
    for opp in rows {
        let mut running = waterfall();
        let out = running.ask(&opp);
        let decided = out.only();
        assert_eq!(picked(decided.choice), Err(NoFill::Expired), "{opp:?}");
        assert_eq!(decided.aggregators.len(), 2);
        assert_eq!(decided.aggregators[0].exclusion(), Exclusion::TooLate);
        assert!(decided.signed.is_none() && !out.is_urgent);
        running.commit();
        assert!(running.pushes.is_empty());
        let again = running.ask(&opp);
        assert!(again.records.is_empty(), "one record a slot");
        assert_eq!(running.commit().repeated_late, 1);
    }
}

trait Tap {
    fn tap(self, change: fn(&mut Self)) -> Self;
}

impl Tap for Opp {
    fn tap(mut self, change: fn(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

#[test]
fn asking_ends_a_margin_before_the_slot_expires() {
    let mut running = waterfall();
    let mut opp = Opp::new("b");
    opp.received_unix_ms -= 800;
    running.ask(&opp);
    assert_eq!(running.calls[0].deadline_ms, 100);
    let decided = running.pass(100).only();
    assert_eq!(decided.aggregators[0].outcome(), Outcome::Timeout);
    assert_eq!(decided.aggregators[1].exclusion(), Exclusion::TooLate);
    assert_eq!(picked(decided.choice), Err(NoFill::NoOffer));
}

#[test]
fn nobody_is_asked_with_less_than_a_part_of_the_deadline() {
    let mut running = waterfall();
    let mut opp = Opp::new("b");
    opp.received_unix_ms -= 860;
    let decided = running.ask(&opp).only();
    for aggregator in &decided.aggregators {
        assert_eq!(aggregator.exclusion(), Exclusion::TooLate);
    }
    assert_eq!(picked(decided.choice), Err(NoFill::NobodyAsked));
    assert!(decided.signed.is_some());
}

#[test]
fn who_may_not_be_asked_stands_in_the_record_with_the_reason() {
    let mut settings = settings(PolicyKind::HighestPrice, &["a", "b", "c", "d"]);
    settings.aggregators[0].without_consent = WithoutConsent::NotAsked;
    settings.aggregators[1].rate = Some(Rate {
        per_second: 1,
        burst: 1,
    });
    settings.aggregators[2].calls_max = 1;
    let mut running = Running::new(settings);
    let opted_out = |break_id| {
        let mut opp = Opp::new(break_id);
        opp.consent = Some(consent::Choice::OptedOut);
        opp
    };
    running.ask(&opted_out("b-1"));
    assert_eq!(running.asked(), ["b", "c", "d"]);
    running.ask(&opted_out("b-2"));
    assert_eq!(running.asked(), ["b", "c", "d", "d"]);
    let second = running.end(3, body("")).only();
    let exclusions = second.aggregators.iter().map(|one| one.exclusion());
    let expected = [
        Exclusion::Privacy,
        Exclusion::RateLimit,
        Exclusion::Busy,
        Exclusion::Unspecified,
    ];
    assert_eq!(exclusions.collect::<Vec<_>>(), expected);
}

#[test]
fn a_request_that_lacks_a_field_costs_neither_token_nor_call() {
    let mut settings = settings(PolicyKind::Waterfall, &["a"]);
    settings.aggregators[0].rate = Some(Rate {
        per_second: 1,
        burst: 1,
    });
    let mut running = Running::new(settings);
    let mut opp = Opp::new("b-1");
    opp.client_id = "nameless".into();
    let decided = running.ask(&opp).only();
    assert_eq!(decided.aggregators[0].exclusion(), Exclusion::FieldMissing);
    assert_eq!(decided.aggregators[0].detail, "name is not known");
    running.ask(&Opp::new("b-2"));
    assert_eq!(running.asked(), ["a"]);
}

#[test]
fn an_aggregator_that_only_fails_is_left_alone_and_then_probed() {
    let mut running = Running::new(settings(PolicyKind::Waterfall, &["a"]));
    let mut calls = 0;
    for round in 0..40 {
        let mut opp = Opp::new(&format!("b-{round}"));
        opp.received_unix_ms = running.now.unix_ms;
        running.ask(&opp);
        if running.calls.is_empty() {
            break;
        }
        calls += 1;
        running.end(0, status(500));
        running.pass(10);
    }
    assert!(calls <= 20, "{calls}");
    running.pass(1_000);
    let mut opp = Opp::new("after");
    opp.received_unix_ms = running.now.unix_ms;
    running.ask(&opp);
    assert_eq!(running.asked(), ["a"]);
}

#[test]
fn consent_decides_what_may_be_seen() {
    use consent::Choice::{OptedIn, OptedOut, Unspecified};
    let rows = [
        (
            Some(OptedIn),
            UnknownConsent::OptedOut,
            Privacy::Personalised,
        ),
        (Some(OptedOut), UnknownConsent::OptedIn, Privacy::Contextual),
        (
            Some(Unspecified),
            UnknownConsent::OptedOut,
            Privacy::Contextual,
        ),
        (None, UnknownConsent::OptedOut, Privacy::Contextual),
        (None, UnknownConsent::OptedIn, Privacy::Personalised),
    ];
    for (choice, unknown, privacy) in rows {
        let mut settings = settings(PolicyKind::Waterfall, &["a"]);
        settings.unknown_consent = unknown;
        let mut running = Running::new(settings);
        let mut opp = Opp::new("b");
        opp.consent = choice;
        running.ask(&opp);
        let has_name = running.calls[0].request.url.contains("id=a.box-1");
        assert_eq!(has_name, privacy == Privacy::Personalised);
        assert_eq!(running.end(0, body("")).only().privacy(), privacy);
    }
}

#[test]
fn the_same_slot_asked_twice_at_once_gets_one_decision() {
    let mut running = waterfall();
    running.ask(&Opp::new("b"));
    running.ask(&Opp::new("b"));
    assert_eq!(running.asked(), ["a"]);
    assert_eq!(running.lowest_unfinished(), Some(0));
    running.offer("a", "1,x.example,30000").only();
    assert_eq!(running.lowest_unfinished(), None);
    assert_eq!(running.commit().joined, 1);
    assert_eq!(running.pushes.len(), 1);
}

#[test]
fn a_decided_slot_asked_again_gets_the_same_bytes_while_they_are_worth_something() {
    let mut running = waterfall();
    running.ask(&Opp::new("b"));
    running.offer("a", "1,x.example,30000");
    running.commit();
    let first = running.pushes.clone();
    let out = running.ask(&Opp::new("b"));
    assert!(out.records.is_empty() && out.is_urgent);
    assert_eq!(running.commit().pushed_again, 1);
    assert_eq!(running.pushes[0].payload, first[0].payload);
    assert_eq!(running.pushes[0].timing, None);
    running.pass(1_000);
    running.ask(&Opp::new("b"));
    assert_eq!(running.commit().repeated_late, 1);
    assert!(running.pushes.is_empty());
}

#[test]
fn at_the_bound_of_what_is_remembered_slots_stay_unfilled_and_unsent() {
    let limits = Limits {
        open_decisions_max: 2,
        ..Limits::DEFAULT
    };
    let mut running = Running::with_limits(settings(PolicyKind::Waterfall, &AB), limits);
    let mut opp = Opp::new("b");
    opp.slots = 3;
    running.ask(&opp);
    assert_eq!(running.asked(), ["a", "a"]);
    running.end(0, body("1,x.example,30000"));
    let out = running.end(0, body("1,y.example,30000"));
    let decided = out.decided();
    assert_eq!(picked(decided[1].1.choice), Err(NoFill::StateBound));
    assert!(decided[1].1.signed.is_none());
    assert_eq!(replay(&decided[1].1), decided[1].1.choice.unwrap());
    running.commit();
    assert_eq!(running.pushes.len(), 2);
}

#[test]
fn opportunities_that_cannot_be_read_are_counted_and_hurt_nobody() {
    let mut running = waterfall();
    let good = Opp::new("b").message();
    let change = |change: fn(&mut returnpath_shared::wire::Opportunity)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad.encode_to_vec()
    };
    let rows: [(&[u8], Vec<u8>); 6] = [
        (b"box-1", b"\xff".to_vec()),
        (b"box-1", Vec::new()),
        (b"box-2", good.encode_to_vec()),
        (b"", good.encode_to_vec()),
        (b"box-1", change(|bad| bad.refined = None)),
        (
            b"box-1",
            change(|bad| bad.refined.as_mut().unwrap().event = None),
        ),
    ];
    for (offset, (key, value)) in (0..).zip(&rows) {
        let out = running.opportunity(key, value, offset);
        assert!(out.records.is_empty());
    }
    let counts = running.commit();
    assert_eq!(counts.undecodable_opportunities, rows.len() as u64);
    running.ask_at(&Opp::new("b"), 9);
    assert_eq!(running.asked(), ["a"]);
}
