use returnpath_shared::wire::{DecisionRecord, Exclusion, NoFill, Stage, decision_record::What};

use super::*;
use crate::decisions::sample;

fn plain(records: &[DecisionRecord]) -> String {
    tell(records, Paint::Plain)
}

#[test]
fn a_decision_that_was_shown_reads_as_a_story() {
    let expected = include_str!("shown.txt");
    let story = plain(&sample::shown());
    assert_eq!(story, expected, "\n{story}");
}

#[test]
fn every_way_it_can_end_is_told() {
    let decided = || sample::shown().swap_remove(0);
    let stages = |stages: &[Stage]| {
        let mut records = vec![decided()];
        records.extend(stages.iter().map(|stage| sample::progress(*stage, 100, 50)));
        records
    };
    let not_filled = |no_fill, stages: &[Stage]| {
        let mut records = vec![sample::not_filled(no_fill)];
        records.extend(stages.iter().map(|stage| sample::progress(*stage, 100, 50)));
        records
    };
    use Stage::{Acknowledged, Completed, Expired, Failed, Pushed, Refused, Shown, Skipped};
    for (records, expected) in [
        (stages(&[]), "It is recorded, and not sent yet."),
        (stages(&[Pushed]), "It was sent; the box has not answered."),
        (
            stages(&[Pushed, Acknowledged]),
            "The box has it, and has not told of showing it.",
        ),
        (stages(&[Pushed, Refused]), "The box refused it."),
        (
            stages(&[Pushed, Acknowledged, Shown]),
            "It is shown; its end has not been told.",
        ),
        (stages(&[Shown, Skipped]), "It was shown, and skipped."),
        (stages(&[Shown, Completed]), "It was shown to its end."),
        (
            stages(&[Acknowledged, Failed]),
            "The player failed to show it.",
        ),
        (
            stages(&[Pushed, Expired]),
            "It expired without having been shown.",
        ),
        (
            not_filled(NoFill::Expired, &[]),
            "It came too late: nobody was asked, nothing was sent.",
        ),
        (
            not_filled(NoFill::NoOffer, &[Pushed, Acknowledged]),
            "The box knows that there is no ad for the slot.",
        ),
    ] {
        let story = plain(&records);
        let last = story.lines().last();
        assert_eq!(last, Some(expected), "\n{story}");
    }
}

#[test]
fn why_a_slot_was_not_filled_is_told() {
    for (no_fill, expected) in [
        (NoFill::NobodyAsked, "none: nobody could be asked"),
        (NoFill::NoOfferStood, "none: no offer stood"),
        (
            NoFill::StateBound,
            "none: the box has more decisions open than are remembered",
        ),
    ] {
        let story = plain(&[sample::not_filled(no_fill)]);
        assert!(story.contains(expected), "\n{story}");
    }
}

#[test]
fn a_slot_decided_twice_is_shouted_about() {
    let mut records = sample::shown();
    records.push(records[0].clone());
    let story = plain(&records);
    assert!(story.contains("! decided 2 times"), "\n{story}");
}

#[test]
fn what_was_not_read_is_not_made_up() {
    let mut records = sample::shown();
    records.remove(0);
    let story = plain(&records);
    assert!(
        story.contains("how it was decided does not stand"),
        "\n{story}"
    );
    assert!(story.ends_with("It was shown to its end.\n"), "\n{story}");
}

#[test]
fn a_record_with_nothing_inside_is_told_without_a_word_too_many() {
    let mut record = sample::shown().swap_remove(0);
    record.what = Some(What::Decided(Decided::default()));
    let story = plain(&[record]);
    for expected in [
        "nothing was known of it",
        "no aggregator is recorded",
        "nothing is sent",
    ] {
        assert!(story.contains(expected), "{expected}\n{story}");
    }
}

#[test]
fn the_texts_of_aggregators_cannot_steer_the_terminal() {
    let mut records = sample::shown();
    let Some(What::Decided(decided)) = &mut records[0].what else {
        panic!("the first is the decision");
    };
    let evil = "\x1b]0;owned\x07\n";
    let aggregator = &mut decided.aggregators[0];
    aggregator.name.push_str(evil);
    aggregator.detail.push_str(evil);
    for offer in &mut aggregator.offers {
        offer.detail.push_str(evil);
        let offer = offer.offer.as_mut().unwrap();
        for text in [
            &mut offer.offer_id,
            &mut offer.creative_id,
            &mut offer.url,
            &mut offer.media_type,
            &mut offer.currency,
            &mut offer.advertiser,
        ] {
            text.push_str(evil);
        }
    }
    decided.aggregators[3].exclusion = Exclusion::FieldMissing.into();
    decided.aggregators[3].detail = evil.to_owned();
    let story = plain(&records);
    assert!(!story.contains(['\x1b', '\x07']), "{story:?}");
}
