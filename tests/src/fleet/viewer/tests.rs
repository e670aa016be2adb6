//! Whole days of many households, checked against what the model promises.

use std::collections::BTreeSet;

use returnpath_shared::{
    Class, ProofKey, check,
    wire::{Creative, ad_event},
};

use super::*;
use crate::fleet::{lineup::Advertising, moment::HOUR_MS};

const DAY: Moment = Moment(24 * HOUR_MS);

fn day(seed: u64, from: Moment) -> Vec<Happening> {
    let lineup = Arc::new(Lineup::london().unwrap());
    let mut viewer = Viewer::new(lineup, seed, from);
    viewer.advance(from.plus_ms(DAY.0))
}

fn ad_kind(happening: &Happening) -> Option<(ad_event::Kind, &str)> {
    if let event::Kind::AdEvent(ad) = happening.event.kind.as_ref()? {
        return Some((ad.kind(), &ad.decision_id));
    }
    None
}

#[test]
fn the_same_seed_lives_the_same_day_and_another_does_not() {
    assert_eq!(day(1, Moment(0)), day(1, Moment(0)));
    assert_ne!(day(1, Moment(0)), day(2, Moment(0)));
}

#[test]
fn it_does_not_matter_how_often_one_looks() {
    let lineup = Arc::new(Lineup::london().unwrap());
    let mut viewer = Viewer::new(lineup, 5, Moment(0));
    let mut looked = Vec::new();
    while viewer.next_at() <= DAY {
        looked.extend(viewer.advance(viewer.next_at()));
    }
    assert_eq!(looked, day(5, Moment(0)));
}

#[test]
fn events_are_valid_in_order_and_proof_is_never_told_twice() {
    for seed in 0..200 {
        let mut last = Moment(0);
        let mut proofs = BTreeSet::new();
        for happening in day(seed, Moment(18 * HOUR_MS)) {
            check(&happening.event).unwrap();
            assert!(happening.at >= last);
            last = happening.at;
            if Class::of(&happening.event) == Class::Proof {
                let key = ProofKey::of(&happening.event).unwrap();
                assert!(proofs.insert(key), "{:?}", happening.event);
            }
        }
    }
}

#[test]
fn more_boxes_are_on_in_the_evening_than_at_night() {
    let mut on_at = [0_u32; 24];
    for seed in 0..400 {
        let mut on = false;
        let mut hour = 0;
        for happening in day(seed, Moment(0)) {
            while hour < 24 && happening.at.0 >= hour * HOUR_MS {
                on_at[usize::try_from(hour).unwrap()] += u32::from(on);
                hour += 1;
            }
            if let Some(event::Kind::Power(power)) = &happening.event.kind {
                on = power.state() == power::State::On;
            }
        }
    }
    assert!(on_at[21] > 4 * on_at[4], "{on_at:?}");
    // 0.58 of 400 boxes, give or take.
    assert!((150..290).contains(&on_at[21]), "{on_at:?}");
}

#[test]
fn breaks_come_on_commercial_channels_only_and_with_their_notice() {
    let lineup = Lineup::london().unwrap();
    let mut opportunities = 0;
    for seed in 0..100 {
        for happening in day(seed, Moment(18 * HOUR_MS)) {
            let Some(event::Kind::AdOpportunity(ad)) = &happening.event.kind else {
                continue;
            };
            opportunities += 1;
            assert_eq!(ad.start_uptime_ms, happening.at.0 + NOTICE_MS);
            let channel = ad.channel.as_ref().unwrap();
            let service = (0..165)
                .map(|number| lineup.service(number))
                .find(|service| u32::from(service.service_id) == channel.service_id);
            assert_ne!(service.unwrap().advertising, Advertising::None);
        }
    }
    assert!(opportunities > 500, "{opportunities}");
}

#[test]
fn ads_start_before_they_end_and_some_are_skipped_or_fail() {
    let mut count = [0_u32; 9];
    for seed in 0..300 {
        let mut started = BTreeSet::new();
        let mut ended = BTreeSet::new();
        let happenings = day(seed, Moment(18 * HOUR_MS));
        for (kind, decision_id) in happenings.iter().filter_map(ad_kind) {
            count[usize::try_from(kind as i32).unwrap()] += 1;
            if kind == ad_event::Kind::Start {
                assert!(started.insert(decision_id));
            } else {
                let failed = kind == ad_event::Kind::Error;
                assert_eq!(started.contains(decision_id), !failed);
                assert!(!ended.contains(decision_id));
            }
            if matches!(kind, ad_event::Kind::Complete | ad_event::Kind::Skip) {
                ended.insert(decision_id);
            }
        }
    }
    let of = |kind: ad_event::Kind| count[usize::try_from(kind as i32).unwrap()];
    assert!(of(ad_event::Kind::Complete) > of(ad_event::Kind::Start) / 2);
    assert!(of(ad_event::Kind::Skip) > of(ad_event::Kind::Start) / 100);
    assert!(of(ad_event::Kind::Error) > 0);
}

/// A day of a household that is given, at once, what `decide` says to each slot
/// of each opportunity.
fn decided_day(seed: u64, decide: impl Fn(&str, u32) -> Option<Decision>) -> Vec<Happening> {
    let from = Moment(18 * HOUR_MS);
    let lineup = Arc::new(Lineup::london().unwrap());
    let mut viewer = Viewer::new(lineup, seed, from).following_decisions(30);
    let mut happened = Vec::new();
    while viewer.next_at() <= from.plus_ms(DAY.0) {
        for happening in viewer.advance(viewer.next_at()) {
            if let Some(event::Kind::AdOpportunity(ad)) = &happening.event.kind {
                for slot in (0..).take(ad.slot_durations_ms.len()) {
                    if let Some(decision) = decide(&ad.break_id, slot) {
                        viewer.decided(decision);
                    }
                }
            }
            happened.push(happening);
        }
    }
    happened
}

fn decision(break_id: &str, slot: u32, creative: bool) -> Decision {
    Decision {
        decision_id: format!("{break_id}/{slot}"),
        break_id: break_id.to_owned(),
        slot,
        creative: creative.then(|| Creative {
            creative_id: format!("creative-of-{slot}"),
            ..Creative::default()
        }),
        ..Decision::default()
    }
}

#[test]
fn a_player_that_follows_decisions_shows_what_it_was_given_in_its_slot() {
    let mut shown = 0;
    for seed in 0..100 {
        for happening in decided_day(seed, |break_id, slot| Some(decision(break_id, slot, true))) {
            check(&happening.event).unwrap();
            if let Some(event::Kind::AdEvent(ad)) = &happening.event.kind {
                assert_eq!(ad.decision_id, format!("{}/{}", ad.break_id, ad.slot));
                assert_eq!(ad.creative_id, format!("creative-of-{}", ad.slot));
                shown += u32::from(ad.kind() == ad_event::Kind::Start);
            }
        }
    }
    assert!(shown > 500, "{shown}");
}

#[test]
fn a_slot_without_a_decision_or_without_a_creative_shows_the_default_and_tells_nothing() {
    for seed in 0..20 {
        let nothing = decided_day(seed, |_, _| None);
        assert!(nothing.iter().all(|it| ad_kind(it).is_none()));
        let no_fill = decided_day(seed, |break_id, slot| Some(decision(break_id, slot, false)));
        assert_eq!(no_fill, nothing);
    }
}

#[test]
fn a_fast_household_is_told_of_breaks_so_much_earlier() {
    let mut opportunities = 0;
    for happening in (0..20).flat_map(|seed| decided_day(seed, |_, _| None)) {
        if let Some(event::Kind::AdOpportunity(ad)) = &happening.event.kind {
            opportunities += 1;
            assert_eq!(ad.start_uptime_ms, happening.at.0 + 30 * NOTICE_MS);
        }
    }
    assert!(opportunities > 100, "{opportunities}");
}

#[test]
fn viewers_surf_and_stay() {
    let mut stays_ms = Vec::new();
    for seed in 0..100 {
        let mut tuned: Option<Moment> = None;
        for happening in day(seed, Moment(18 * HOUR_MS)) {
            let ends = match &happening.event.kind {
                Some(event::Kind::Tune(_)) => Some(Some(happening.at)),
                Some(event::Kind::Power(_)) => Some(None),
                _ => None,
            };
            if let Some(next) = ends {
                stays_ms.extend(tuned.map(|since| happening.at.0 - since.0));
                tuned = next;
            }
        }
    }
    stays_ms.sort_unstable();
    let tenth = stays_ms[stays_ms.len() / 10];
    let ninth_tenth = stays_ms[stays_ms.len() * 9 / 10];
    assert!(tenth < 5_000, "{tenth}");
    assert!(ninth_tenth > 10 * MINUTE_MS, "{ninth_tenth}");
}
