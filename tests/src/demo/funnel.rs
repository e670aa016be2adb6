//! From opportunity to completed ad, counted from the records of decisions as
//! they are read. Pure. `table` shows it to people.

use std::collections::{BTreeMap, HashMap};

use returnpath_collector::decisions::words;
use returnpath_shared::wire::{
    Decided, DecisionRecord, Exclusion, Outcome, Progress, Stage, decision_record,
};
use serde::Serialize;

/// What became of the slots that were decided.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Funnel {
    /// Breaks for which ads were asked.
    pub opportunities: u64,
    /// Slots of these breaks, each decided once.
    pub decided: u64,
    /// Slots with an ad.
    pub filled: u64,
    /// Ads that the MQTT broker took for their box.
    pub pushed: u64,
    /// Ads that their box verified and bound to their slot.
    pub acknowledged: u64,
    /// Ads of which the first frame was shown.
    pub shown: u64,
    /// Ads shown to their end.
    pub completed: u64,
    /// Ads that the viewer zapped away from.
    pub skipped: u64,
    /// Ads that did not play.
    pub failed: u64,
    /// Decisions refused by their box.
    pub refused: u64,
    /// Ads not shown in time: the viewer was elsewhere.
    pub expired: u64,
    /// Slots without an ad.
    pub unfilled: Unfilled,
    /// The same by aggregator.
    pub aggregators: BTreeMap<String, AggregatorFunnel>,
    /// Slots decided more than once; must be 0.
    pub decided_twice: u64,
    /// Decisions of which something is told and that were never recorded; must
    /// be 0.
    pub without_record: u64,
}

/// What became of the slots for which no ad was found: their boxes are told
/// at once, and show their default.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unfilled {
    /// How many.
    pub slots: u64,
    /// Why, in words.
    pub reasons: BTreeMap<String, u64>,
    /// Taken by the MQTT broker.
    pub pushed: u64,
    /// Bound by the box.
    pub acknowledged: u64,
}

/// One aggregator's part.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AggregatorFunnel {
    /// Slots that it was asked for.
    pub asked: u64,
    /// Not asked, because it failed too often just before.
    pub left_alone: u64,
    /// Answered with offers, standing or not.
    pub offered: u64,
    /// Neither offers nor a plain no.
    pub failures: u64,
    /// How it failed, in words.
    pub failed_by: BTreeMap<String, u64>,
    /// Slots for which its offer was picked.
    pub filled: u64,
    /// Of these, taken by the MQTT broker.
    pub pushed: u64,
    /// Of these, bound by the box.
    pub acknowledged: u64,
    /// Of these, shown.
    pub shown: u64,
    /// Of these, shown to their end.
    pub completed: u64,
}

/// Counts records into a [`Funnel`]. Remembers every decision of the run, which
/// is what lets it say that none came twice; a demo is short.
#[derive(Debug, Default)]
pub(super) struct Counting {
    funnel: Funnel,
    /// The aggregator of each decision; empty where the slot was not filled.
    known: HashMap<String, String>,
}

impl Counting {
    /// Takes one record in.
    pub(super) fn record(&mut self, record: &DecisionRecord) {
        match &record.what {
            Some(decision_record::What::Decided(decided)) => {
                self.decided(record.decision_id.clone(), decided);
            }
            Some(decision_record::What::Progress(progress)) => {
                self.progress(&record.decision_id, progress);
            }
            // Counted as unreadable by whoever read it.
            None => {}
        }
    }

    /// The counts so far.
    pub(super) fn funnel(&self) -> Funnel {
        self.funnel.clone()
    }

    fn decided(&mut self, decision_id: String, decided: &Decided) {
        let chosen = decided
            .choice
            .as_ref()
            .and_then(|choice| usize::try_from(choice.aggregator?).ok())
            .and_then(|index| decided.aggregators.get(index))
            .map(|aggregator| aggregator.name.clone())
            .unwrap_or_default();
        let is_filled = !chosen.is_empty();
        if self.known.insert(decision_id, chosen.clone()).is_some() {
            self.funnel.decided_twice += 1;
            return;
        }
        self.funnel.decided += 1;
        self.funnel.opportunities += u64::from(decided.slot == 0);
        self.funnel.filled += u64::from(is_filled);
        for aggregator in &decided.aggregators {
            let part = self.of(&aggregator.name);
            match aggregator.exclusion() {
                Exclusion::Unspecified => part.asked += 1,
                Exclusion::BreakerOpen => part.left_alone += 1,
                Exclusion::RateLimit
                | Exclusion::Privacy
                | Exclusion::TooLate
                | Exclusion::NotNeeded
                | Exclusion::Busy
                | Exclusion::FieldMissing => {}
            }
            match aggregator.outcome() {
                Outcome::Offered => part.offered += 1,
                Outcome::Unspecified | Outcome::NoBid => {}
                Outcome::Timeout
                | Outcome::Error
                | Outcome::Unreachable
                | Outcome::Invalid
                | Outcome::TooLarge => {
                    let how = words::outcome(aggregator.outcome).into_owned();
                    part.failures += 1;
                    *part.failed_by.entry(how).or_default() += 1;
                }
            }
        }
        if is_filled {
            self.of(&chosen).filled += 1;
        } else {
            let why = decided.choice.as_ref().map_or(0, |choice| choice.no_fill);
            let why = words::no_fill(why).into_owned();
            self.funnel.unfilled.slots += 1;
            *self.funnel.unfilled.reasons.entry(why).or_default() += 1;
        }
    }

    fn progress(&mut self, decision_id: &str, progress: &Progress) {
        let Some(aggregator) = self.known.get(decision_id).cloned() else {
            self.funnel.without_record += 1;
            return;
        };
        if aggregator.is_empty() {
            match progress.stage() {
                Stage::Pushed => self.funnel.unfilled.pushed += 1,
                Stage::Acknowledged => self.funnel.unfilled.acknowledged += 1,
                Stage::Refused => self.funnel.refused += 1,
                // Nothing is shown.
                Stage::Unspecified
                | Stage::Shown
                | Stage::FirstQuartile
                | Stage::Midpoint
                | Stage::ThirdQuartile
                | Stage::Completed
                | Stage::Skipped
                | Stage::Clicked
                | Stage::Failed
                | Stage::Expired => {}
            }
            return;
        }
        let part = self.funnel.aggregators.entry(aggregator).or_default();
        match progress.stage() {
            Stage::Pushed => {
                self.funnel.pushed += 1;
                part.pushed += 1;
            }
            Stage::Acknowledged => {
                self.funnel.acknowledged += 1;
                part.acknowledged += 1;
            }
            Stage::Shown => {
                self.funnel.shown += 1;
                part.shown += 1;
            }
            Stage::Completed => {
                self.funnel.completed += 1;
                part.completed += 1;
            }
            Stage::Skipped => self.funnel.skipped += 1,
            Stage::Failed => self.funnel.failed += 1,
            Stage::Refused => self.funnel.refused += 1,
            Stage::Expired => self.funnel.expired += 1,
            Stage::Unspecified
            | Stage::FirstQuartile
            | Stage::Midpoint
            | Stage::ThirdQuartile
            | Stage::Clicked => {}
        }
    }

    fn of(&mut self, aggregator: &str) -> &mut AggregatorFunnel {
        self.funnel
            .aggregators
            .entry(aggregator.to_owned())
            .or_default()
    }
}

#[cfg(test)]
mod tests {
    use returnpath_shared::wire::{AggregatorRecord, Choice};

    use super::*;

    fn decided(
        id: &str,
        slot: u32,
        aggregators: &[(Exclusion, Outcome)],
        chosen: Option<u32>,
    ) -> DecisionRecord {
        let aggregators = (0..)
            .zip(aggregators)
            .map(|(number, (exclusion, outcome))| AggregatorRecord {
                name: format!("aggregator-{number}"),
                exclusion: *exclusion as i32,
                outcome: *outcome as i32,
                ..AggregatorRecord::default()
            });
        DecisionRecord {
            decision_id: id.into(),
            what: Some(decision_record::What::Decided(Decided {
                slot,
                aggregators: aggregators.collect(),
                choice: Some(Choice {
                    aggregator: chosen,
                    offer: chosen.map(|_| 0),
                    ..Choice::default()
                }),
                ..Decided::default()
            })),
            ..DecisionRecord::default()
        }
    }

    fn told(id: &str, stage: Stage) -> DecisionRecord {
        DecisionRecord {
            decision_id: id.into(),
            what: Some(decision_record::What::Progress(Progress {
                stage: stage as i32,
                ..Progress::default()
            })),
            ..DecisionRecord::default()
        }
    }

    const ASKED: Exclusion = Exclusion::Unspecified;

    #[test]
    fn each_step_is_counted_in_all_and_for_the_aggregator_whose_ad_it_was() {
        let mut counting = Counting::default();
        let both = [(ASKED, Outcome::Timeout), (ASKED, Outcome::Offered)];
        counting.record(&decided("a", 0, &both, Some(1)));
        let one = [
            (Exclusion::BreakerOpen, Outcome::Unspecified),
            (ASKED, Outcome::NoBid),
        ];
        counting.record(&decided("b", 1, &one, None));
        for stage in [
            Stage::Pushed,
            Stage::Acknowledged,
            Stage::Shown,
            Stage::Completed,
        ] {
            counting.record(&told("a", stage));
        }
        counting.record(&told("b", Stage::Pushed));
        counting.record(&told("b", Stage::Acknowledged));

        let funnel = counting.funnel();
        assert_eq!(
            (funnel.opportunities, funnel.decided, funnel.filled),
            (1, 2, 1)
        );
        assert_eq!((funnel.pushed, funnel.acknowledged), (1, 1));
        let unfilled = &funnel.unfilled;
        assert_eq!(
            (unfilled.slots, unfilled.pushed, unfilled.acknowledged),
            (1, 1, 1)
        );
        assert_eq!(unfilled.reasons["no reason is given"], 1);
        assert_eq!((funnel.shown, funnel.completed), (1, 1));
        let failing = &funnel.aggregators["aggregator-0"];
        assert_eq!(
            (failing.asked, failing.failures, failing.left_alone),
            (1, 1, 1)
        );
        assert_eq!(failing.failed_by["no answer in time"], 1);
        assert_eq!((failing.filled, failing.shown), (0, 0));
        let good = &funnel.aggregators["aggregator-1"];
        assert_eq!((good.asked, good.offered, good.filled), (2, 1, 1));
        assert_eq!((good.acknowledged, good.shown, good.completed), (1, 1, 1));
        assert_eq!((funnel.decided_twice, funnel.without_record), (0, 0));
    }

    #[test]
    fn a_slot_decided_twice_and_a_decision_without_a_record_are_found() {
        let mut counting = Counting::default();
        counting.record(&decided("a", 0, &[(ASKED, Outcome::Offered)], Some(0)));
        counting.record(&decided("a", 0, &[(ASKED, Outcome::Offered)], Some(0)));
        counting.record(&told("never", Stage::Shown));
        let funnel = counting.funnel();
        assert_eq!((funnel.decided, funnel.decided_twice), (1, 1));
        assert_eq!((funnel.shown, funnel.without_record), (0, 1));
    }
}
