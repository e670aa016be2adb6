//! Counts the records of decisions, as they are read. Pure.

use std::collections::HashMap;

use returnpath_collector::decisions::words;
use returnpath_shared::wire::{
    Decided, DecisionRecord, Exclusion, Outcome, Progress, Stage, decision_record,
};

use super::{AggregatorFunnel, Funnel};
use crate::demo::agents;

/// Counts records into a [`Funnel`]. Remembers every decision of the run, which
/// is what lets it say that none came twice; a demo is short.
#[derive(Debug, Default)]
pub(in crate::demo) struct Counting {
    funnel: Funnel,
    /// The aggregator of each decision; empty where the slot was not filled.
    known: HashMap<String, String>,
}

impl Counting {
    /// Takes one record in.
    pub(in crate::demo) fn record(&mut self, record: &DecisionRecord) {
        if record.device_id.starts_with(agents::PREFIX) {
            self.on_agents(record);
        }
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
    pub(in crate::demo) fn funnel(&self) -> Funnel {
        self.funnel.clone()
    }

    fn on_agents(&mut self, record: &DecisionRecord) {
        let part = &mut self.funnel.on_agents;
        match &record.what {
            Some(decision_record::What::Decided(decided)) => {
                let choice = decided.choice.as_ref();
                let is_filled = choice.is_some_and(|choice| choice.offer.is_some());
                part.filled += u64::from(is_filled);
            }
            Some(decision_record::What::Progress(progress)) => {
                let stage = progress.stage();
                let is_ad = self.known.get(&record.decision_id);
                let is_ad = is_ad.is_some_and(|aggregator| !aggregator.is_empty());
                part.acknowledged += u64::from(is_ad && stage == Stage::Acknowledged);
                part.shown += u64::from(stage == Stage::Shown);
                part.completed += u64::from(stage == Stage::Completed);
            }
            None => {}
        }
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
    use crate::demo::funnel::OnAgents;

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
    fn what_happens_on_boxes_with_an_agent_is_counted_apart_too() {
        let mut counting = Counting::default();
        for device in ["agent-1", "box-1"] {
            let on_box = |record: DecisionRecord| DecisionRecord {
                decision_id: format!("{}-{device}", record.decision_id),
                device_id: device.into(),
                ..record
            };
            let offered = [(ASKED, Outcome::Offered)];
            counting.record(&on_box(decided("filled", 0, &offered, Some(0))));
            counting.record(&on_box(decided("unfilled", 1, &offered, None)));
            for stage in [Stage::Acknowledged, Stage::Shown, Stage::Completed] {
                counting.record(&on_box(told("filled", stage)));
            }
            counting.record(&on_box(told("unfilled", Stage::Acknowledged)));
        }
        let expected = OnAgents {
            filled: 1,
            acknowledged: 1,
            shown: 1,
            completed: 1,
        };
        let funnel = counting.funnel();
        assert_eq!(funnel.on_agents, expected);
        assert_eq!((funnel.filled, funnel.shown), (2, 2));
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
