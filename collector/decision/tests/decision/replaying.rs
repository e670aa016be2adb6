//! A record holds all that a choice is made of: whatever comes in, the choice
//! made again from the record alone is the one that was made, and what the box
//! was sent is what was chosen.

use proptest::prelude::*;
use prost::Message as _;
use returnpath_decision::{Answer, Cap, WithoutConsent, replay};
use returnpath_shared::wire::{
    Creative, Decided, Decision, Lane, Offer, PolicyKind, consent::Choice as Consent,
};

use crate::running::{Opp, Running, body, settings, status};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// What differs from one history to another.
#[derive(Clone, Debug)]
struct Terms {
    kind: PolicyKind,
    floor_price_micros: i64,
    takes_unpriced: bool,
    cap: Option<u32>,
    /// Aggregators that are not asked without consent.
    discreet: Vec<bool>,
}

#[derive(Clone, Debug)]
enum Said {
    /// Price, advertiser and duration of each offer.
    Offers(Vec<(Option<i64>, u8, u32)>),
    Status(u16),
    Garbage,
    Timeout,
    Unreachable,
    TooLarge,
    /// Nothing before the budget ends.
    Nothing,
}

#[derive(Clone, Debug)]
struct Break {
    slots: usize,
    is_late: bool,
    is_opted_out: bool,
    /// Answers of the calls, in turn.
    said: Vec<Said>,
}

fn terms() -> impl Strategy<Value = Terms> {
    (
        prop_oneof![Just(PolicyKind::Waterfall), Just(PolicyKind::HighestPrice)],
        0_i64..5,
        any::<bool>(),
        prop::option::of(1_u32..4),
        prop::collection::vec(prop::bool::weighted(0.2), NAMES.len()),
    )
        .prop_map(
            |(kind, floor_price_micros, takes_unpriced, cap, discreet)| Terms {
                kind,
                floor_price_micros,
                takes_unpriced: takes_unpriced && kind == PolicyKind::Waterfall,
                cap,
                discreet,
            },
        )
}

fn said() -> impl Strategy<Value = Said> {
    let price = prop_oneof![
        1 => Just(None),
        8 => (0_i64..8).prop_map(Some),
        1 => any::<i64>().prop_map(Some),
    ];
    let duration_ms = prop_oneof![9 => Just(30_000), 1 => any::<u32>()];
    let offers = prop::collection::vec((price, 0_u8..5, duration_ms), 0..20);
    prop_oneof![
        12 => offers.prop_map(Said::Offers),
        1 => (300_u16..600).prop_map(Said::Status),
        1 => Just(Said::Garbage),
        1 => Just(Said::Timeout),
        1 => Just(Said::Unreachable),
        1 => Just(Said::TooLarge),
        1 => Just(Said::Nothing),
    ]
}

fn a_break() -> impl Strategy<Value = Break> {
    (
        1_usize..4,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.3),
        prop::collection::vec(said(), 1..12),
    )
        .prop_map(|(slots, is_late, is_opted_out, said)| Break {
            slots,
            is_late,
            is_opted_out,
            said,
        })
}

/// `None` for no answer at all.
fn answer(said: &Said) -> Option<Answer> {
    Some(match said {
        Said::Offers(offers) => {
            let line = |(price, advertiser, duration_ms): &(Option<i64>, u8, u32)| {
                let price = price.map_or("-".into(), |price| price.to_string());
                let advertiser = match advertiser {
                    0 => String::new(),
                    1 => "no name".into(),
                    number => format!("www.brand-{number}.co.uk"),
                };
                format!("{price},{advertiser},{duration_ms}\n")
            };
            body(&offers.iter().map(line).collect::<String>())
        }
        Said::Status(number) => status(*number),
        Said::Garbage => {
            let Answer::Response(mut response) = body("") else {
                return None;
            };
            response.body = vec![0xff].into();
            Answer::Response(response)
        }
        Said::Timeout => Answer::Timeout,
        Said::Unreachable => Answer::Unreachable("refused".into()),
        Said::TooLarge => Answer::TooLarge,
        Said::Nothing => return None,
    })
}

/// Decides the breaks one after another; returns every record, as Kafka has it.
fn decide(terms: &Terms, breaks: &[Break]) -> Vec<Decided> {
    let mut settings = settings(terms.kind, &NAMES);
    settings.policy.floor_price_micros = terms.floor_price_micros;
    settings.policy.takes_unpriced = terms.takes_unpriced;
    settings.cap = terms.cap.map(|impressions_max| Cap {
        impressions_max,
        window_ms: 600_000,
    });
    for (aggregator, is_discreet) in settings.aggregators.iter_mut().zip(&terms.discreet) {
        if *is_discreet {
            aggregator.without_consent = WithoutConsent::NotAsked;
        }
    }
    let mut running = Running::new(settings);
    let mut all = Vec::new();
    for (number, a_break) in breaks.iter().enumerate() {
        let mut opp = Opp::new(&format!("break-{number}"));
        opp.slots = a_break.slots;
        opp.received_unix_ms = running.now.unix_ms;
        opp.consent = a_break.is_opted_out.then_some(Consent::OptedOut);
        if a_break.is_late {
            opp.lane = Lane::Backlog;
        }
        let mut out = running.ask(&opp);
        let mut said = a_break.said.iter().cycle();
        let mut left = 64;
        loop {
            all.extend(out.decided().into_iter().map(|(_, decided)| decided));
            if running.calls.is_empty() {
                break;
            }
            left -= 1;
            let answer = said.next().and_then(answer).filter(|_| left > 0);
            out = match answer {
                Some(answer) => running.end(0, answer),
                None => {
                    let out = running.pass(300);
                    // They end for the gates too, later.
                    while !running.calls.is_empty() {
                        running.end(0, Answer::Timeout);
                    }
                    out
                }
            };
        }
        running.commit();
    }
    all
}

/// What was chosen, by the record.
fn chosen(decided: &Decided) -> Option<Offer> {
    let choice = decided.choice.unwrap();
    let aggregator = &decided.aggregators[choice.aggregator? as usize];
    let offer = &aggregator.offers[choice.offer? as usize];
    assert_eq!(offer.fault, 0, "chosen, and does not stand: {offer:?}");
    offer.offer.clone()
}

fn check(decided: &Decided) {
    // As a reader finds it.
    let read = Decided::decode(&decided.encode_to_vec()[..]).unwrap();
    assert_eq!(Some(replay(&read)), decided.choice);
    let Some(signed) = read.signed.clone() else {
        assert_eq!(chosen(&read), None);
        return;
    };
    let decision = Decision::decode(signed.decision).unwrap();
    let creative = chosen(&read).map(|offer| Creative {
        creative_id: offer.creative_id,
        url: offer.url,
        media_type: offer.media_type,
        duration_ms: offer.duration_ms,
    });
    assert_eq!(decision.creative, creative, "sent, and not chosen");
}

proptest! {
    #[test]
    fn every_record_replays_to_what_was_decided(
        terms in terms(),
        breaks in prop::collection::vec(a_break(), 1..12),
    ) {
        let all = decide(&terms, &breaks);
        let slots: usize = breaks.iter().map(|one| one.slots).sum();
        prop_assert_eq!(all.len(), slots);
        for decided in &all {
            check(decided);
        }
    }
}

#[test]
fn another_answer_or_another_policy_is_another_choice() {
    let terms = Terms {
        kind: PolicyKind::HighestPrice,
        floor_price_micros: 1,
        takes_unpriced: false,
        cap: None,
        discreet: vec![false; NAMES.len()],
    };
    let offers = |price| Said::Offers(vec![(Some(price), 2, 30_000)]);
    let a_break = Break {
        slots: 1,
        is_late: false,
        is_opted_out: false,
        said: vec![offers(3), offers(7), offers(5), Said::Garbage],
    };
    let decided = decide(&terms, &[a_break]).remove(0);
    assert_eq!(replay(&decided).aggregator, Some(1));
    let mut cheaper = decided.clone();
    let offer = cheaper.aggregators[1].offers[0].offer.as_mut().unwrap();
    offer.price_micros = Some(4);
    assert_eq!(replay(&cheaper).aggregator, Some(2));
    let mut faulted = decided.clone();
    faulted.aggregators[1].offers[0].fault = 5;
    assert_eq!(replay(&faulted).aggregator, Some(2));
    let mut waterfall = decided;
    let policy = waterfall.policy.as_mut().unwrap();
    policy.set_kind(PolicyKind::Waterfall);
    assert_eq!(replay(&waterfall).aggregator, Some(0));
}
