//! The summary that proves the promise, or says where it was broken.

mod text;

use std::collections::BTreeMap;

use returnpath_collector::audit::{BoxVerdict, ClassVerdict};
use serde::Serialize;

use super::{funnel::Funnel, read_along::Heard, slots::SlotFaults, story::Story};
use crate::fleet::{FleetCounts, latency::Percentiles};

/// Boxes with findings that are named.
const BOXES_NAMED_MAX: usize = 20;

/// What came of a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Nothing missing, nothing twice, nothing unreadable; every slot that was
    /// asked for decided, none twice, no decision without its record; and
    /// enough flowed to say so.
    pub clean: bool,
    /// Seconds for which the boxes were fed.
    pub fed_s: u64,
    /// Agents as processes.
    pub agents: u32,
    /// Simulated boxes.
    pub boxes: u32,
    /// Seed of the households.
    pub seed: u64,
    /// How many times faster than real they lived.
    pub speed: u32,
    /// Events that a client was answered.
    pub answered: u64,
    /// Of these, in refined topics.
    pub in_refined_topics: u64,
    /// In `rp.rejected`, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Declared as lost by their box, by reason.
    pub declared: BTreeMap<&'static str, u64>,
    /// None of the above.
    pub missing: u64,
    /// Events that stand in refined topics more than once.
    pub duplicated: u64,
    /// Of the answered, those answered `durable`.
    pub durable: u64,
    /// Records that could not be decoded.
    pub unreadable: u64,
    /// Records in Kafka, by topic.
    pub records: BTreeMap<String, u64>,
    /// From an opportunity or impression to its record being read.
    pub urgent_ads_readable: Percentiles,
    /// From opportunity to completed ad.
    pub decisions: Funnel,
    /// What boxes say of their slots, held against it; all must be 0.
    pub slot_faults: SlotFaults,
    /// One ad from its opportunity to its end.
    pub story: Option<Story>,
    /// Openings of breakers that were seen, by aggregator.
    pub breaker_openings: BTreeMap<String, u64>,
    /// From an opportunity on an agent's socket to a decision on it; for
    /// simulated boxes it stands in `fleet`.
    pub agents_decided: Percentiles,
    /// What the simulated boxes counted.
    pub fleet: FleetCounts,
    /// Boxes with findings, at most 20.
    pub findings: Vec<BoxVerdict>,
}

/// What the demo knows besides what was heard.
pub(super) struct Run {
    pub(super) fed_s: u64,
    pub(super) agents: u32,
    pub(super) boxes: u32,
    pub(super) seed: u64,
    pub(super) speed: u32,
    pub(super) fleet: FleetCounts,
    pub(super) agents_decided: Percentiles,
    pub(super) breaker_openings: BTreeMap<String, u64>,
}

impl Summary {
    pub(super) fn new(run: Run, heard: Heard) -> Self {
        let Heard { verdict, seen } = heard;
        let mut all = ClassVerdict::default();
        let [ordinary, proof] = verdict.totals();
        all += &ordinary;
        all += &proof;
        let mut declared = all.declared;
        if all.unclean_stop > 0 {
            declared.insert("unclean_stop", all.unclean_stop);
        }
        // A run without events proves nothing.
        let flowed = all.arrived > 0 && proof.arrived > 0;
        Self {
            clean: verdict.is_clean()
                && seen.unreadable == 0
                && seen.funnel.decided_twice == 0
                && seen.funnel.without_record == 0
                && seen.slot_faults == SlotFaults::default()
                && flowed,
            fed_s: run.fed_s,
            agents: run.agents,
            boxes: run.boxes,
            seed: run.seed,
            speed: run.speed,
            answered: all.answered,
            in_refined_topics: all.arrived,
            rejected: all.rejected,
            declared,
            missing: all.missing,
            duplicated: all.duplicated,
            durable: proof.answered,
            unreadable: seen.unreadable,
            records: seen.records,
            urgent_ads_readable: seen.urgent_ads,
            decisions: seen.funnel,
            slot_faults: seen.slot_faults,
            story: seen.story,
            breaker_openings: run.breaker_openings,
            agents_decided: run.agents_decided,
            fleet: run.fleet,
            findings: verdict
                .boxes
                .into_iter()
                .filter(|of_box| !of_box.is_clean())
                .take(BOXES_NAMED_MAX)
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use returnpath_collector::{
        audit::{Answer, Tally},
        decisions::paint::Paint,
    };
    use returnpath_shared::{
        Class, Epoch, Ordinal,
        wire::{self, AdEvent, Event, Refined, Tune, ad_event, event},
    };

    use super::*;
    use crate::demo::read_along::Seen;

    fn epoch() -> Epoch {
        "00000000000000ab.1".parse().unwrap()
    }

    fn answer(ordinal: u64, class: Class) -> Answer {
        Answer {
            device: "box-1".parse().unwrap(),
            epoch: epoch(),
            ordinal: Ordinal(ordinal),
            class,
        }
    }

    fn refined(ordinal: u64, kind: event::Kind) -> Refined {
        Refined {
            device_id: "box-1".into(),
            batch: Some(wire::BatchId {
                epoch: Some(epoch().into()),
                sequence: 1,
            }),
            ordinal,
            event: Some(Event {
                kind: Some(kind),
                ..Event::default()
            }),
            ..Refined::default()
        }
    }

    fn tune() -> event::Kind {
        event::Kind::Tune(Tune::default())
    }

    fn impression() -> event::Kind {
        event::Kind::AdEvent(AdEvent {
            kind: ad_event::Kind::Start as i32,
            decision_id: "d".into(),
            ..AdEvent::default()
        })
    }

    fn summary(answers: &[Answer], records: &[Refined], unreadable: u64) -> Summary {
        let seen = Seen {
            unreadable,
            ..Seen::default()
        };
        summary_of(answers, records, seen)
    }

    fn summary_of(answers: &[Answer], records: &[Refined], seen: Seen) -> Summary {
        let mut tally = Tally::new();
        for answer in answers {
            tally.answered(answer);
        }
        for record in records {
            tally.refined(record).unwrap();
        }
        let run = Run {
            fed_s: 1,
            agents: 0,
            boxes: 1,
            seed: 1,
            speed: 30,
            fleet: FleetCounts::default(),
            agents_decided: Percentiles::default(),
            breaker_openings: BTreeMap::new(),
        };
        let verdict = tally.verdict();
        Summary::new(run, Heard { verdict, seen })
    }

    #[test]
    fn it_is_clean_only_when_everything_answered_was_read_once() {
        let answers = [answer(1, Class::Ordinary), answer(2, Class::Proof)];
        let records = [refined(1, tune()), refined(2, impression())];
        let whole = summary(&answers, &records, 0);
        assert!(whole.clean);
        assert_eq!((whole.answered, whole.in_refined_topics), (2, 2));

        let missing = summary(&answers, &records[1..], 0);
        assert!(!missing.clean);
        assert_eq!(missing.missing, 1);
        let twice = [
            refined(1, tune()),
            refined(2, impression()),
            refined(2, impression()),
        ];
        let duplicated = summary(&answers, &twice, 0);
        assert!(!duplicated.clean);
        assert_eq!(duplicated.duplicated, 1);
        assert!(!summary(&answers, &records, 1).clean);
    }

    #[test]
    fn a_slot_that_the_boxes_tell_otherwise_of_is_not_clean() {
        for slot_faults in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            let (undecided, filled_twice, without_record) = slot_faults;
            let answers = [answer(1, Class::Ordinary), answer(2, Class::Proof)];
            let records = [refined(1, tune()), refined(2, impression())];
            let seen = Seen {
                slot_faults: SlotFaults {
                    undecided,
                    filled_twice,
                    without_record,
                },
                ..Seen::default()
            };
            assert!(!summary_of(&answers, &records, seen).clean);
        }
    }

    #[test]
    fn a_slot_decided_twice_or_a_decision_without_a_record_is_not_clean() {
        let twice = Funnel {
            decided_twice: 1,
            ..Funnel::default()
        };
        let without_record = Funnel {
            without_record: 1,
            ..Funnel::default()
        };
        for funnel in [twice, without_record] {
            let answers = [answer(1, Class::Ordinary), answer(2, Class::Proof)];
            let records = [refined(1, tune()), refined(2, impression())];
            let seen = Seen {
                funnel,
                ..Seen::default()
            };
            assert!(!summary_of(&answers, &records, seen).clean);
        }
    }

    #[test]
    fn a_run_in_which_too_little_flowed_proves_nothing() {
        assert!(!summary(&[], &[], 0).clean);
        let ordinary_only = summary(&[answer(1, Class::Ordinary)], &[refined(1, tune())], 0);
        assert!(!ordinary_only.clean);
        let text = ordinary_only.text(Paint::Plain);
        assert!(text.ends_with("not clean: too little flowed to say anything\n"));
    }
}
