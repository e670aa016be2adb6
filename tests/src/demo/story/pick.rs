//! Picks the ad whose story is told: one that was shown to its end, on a real
//! agent where there is one, and of which there is most to tell. Pure.

use std::collections::VecDeque;

use returnpath_shared::wire::{
    Decision, DecisionRecord, Outcome, Privacy, Stage, decision_record::What,
};

use super::{Facts, Story};
use crate::fleet::lineup::Lineup;

/// Decisions whose end is waited for: those of some breaks on each of the few
/// agents; the oldest are given up.
const WAITING_MAX: usize = 256;

/// A story that is being looked at stays at least this long, by the time of its
/// own steps.
const TOLD_MS: i64 = 10_000;

/// From then on any other is better.
const OLD_MS: i64 = 60_000;

/// A player was handed a decision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::demo) struct Handed {
    pub(in crate::demo) decision: Decision,
    /// By the clock of this machine.
    pub(in crate::demo) unix_ms: i64,
}

/// Whose ads are told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::demo) enum Of {
    /// Boxes with a real agent: the ids that begin so.
    Boxes(&'static str),
    /// Any.
    All,
}

/// Collects facts, and tells the story of one ad.
#[derive(Debug)]
pub(in crate::demo) struct Stories {
    of: Of,
    lineup: Lineup,
    waiting: VecDeque<Facts>,
    /// Handed over before the record was read.
    handed: VecDeque<(String, i64)>,
    told: Option<Told>,
}

#[derive(Debug)]
struct Told {
    story: Story,
    richness: usize,
    ended_unix_ms: i64,
}

impl Stories {
    pub(in crate::demo) fn new(of: Of, lineup: Lineup) -> Self {
        Self {
            of,
            lineup,
            waiting: VecDeque::new(),
            handed: VecDeque::new(),
            told: None,
        }
    }

    /// The story so far; `None` until an ad was shown to its end.
    pub(in crate::demo) fn told(&self) -> Option<&Story> {
        Some(&self.told.as_ref()?.story)
    }

    /// A record of `rp.decisions`.
    pub(in crate::demo) fn record(&mut self, record: &DecisionRecord) {
        if let Of::Boxes(prefix) = self.of
            && !record.device_id.starts_with(prefix)
        {
            return;
        }
        match &record.what {
            Some(What::Decided(decided)) => {
                let choice = decided.choice.as_ref();
                if choice.is_none_or(|choice| choice.offer.is_none()) {
                    return;
                }
                let handed = self.handed.iter();
                let mut handed = handed.filter(|(id, _)| *id == record.decision_id);
                let facts = Facts {
                    decision_id: record.decision_id.clone(),
                    device_id: record.device_id.clone(),
                    recorded_unix_ms: record.recorded_unix_ms,
                    decided: decided.clone(),
                    stages: Vec::new(),
                    handed_unix_ms: handed.next().map(|(_, unix_ms)| *unix_ms),
                };
                push(&mut self.waiting, facts);
            }
            Some(What::Progress(progress)) => {
                let Some(place) = self.waiting(&record.decision_id) else {
                    return;
                };
                let facts = &mut self.waiting[place];
                // Said once of each decision, and of each further play.
                if progress.instance == 0 {
                    facts
                        .stages
                        .push((record.recorded_unix_ms, progress.clone()));
                }
                let stage = progress.stage();
                if stage == Stage::Completed {
                    self.ends(place);
                } else if has_no_end(stage) {
                    self.waiting.remove(place);
                }
            }
            None => {}
        }
    }

    /// A player was handed a decision.
    pub(in crate::demo) fn handed_over(&mut self, handed: &Handed) {
        let decision_id = &handed.decision.decision_id;
        if let Some(place) = self.waiting(decision_id) {
            self.waiting[place].handed_unix_ms = Some(handed.unix_ms);
        } else {
            push(&mut self.handed, (decision_id.clone(), handed.unix_ms));
        }
    }

    fn waiting(&self, decision_id: &str) -> Option<usize> {
        let mut all = self.waiting.iter();
        all.position(|facts| facts.decision_id == decision_id)
    }

    fn ends(&mut self, place: usize) {
        let Some(facts) = self.waiting.remove(place) else {
            return;
        };
        let Some(story) = Story::of(&facts, &self.lineup) else {
            return;
        };
        let ended_unix_ms = story.steps.last().map_or(0, |step| step.unix_ms);
        let richness = richness(&facts);
        let is_better = self.told.as_ref().is_none_or(|told| {
            let age_ms = ended_unix_ms.saturating_sub(told.ended_unix_ms);
            richness > told.richness
                || richness == told.richness && age_ms >= TOLD_MS
                || age_ms >= OLD_MS
        });
        if is_better {
            self.told = Some(Told {
                story,
                richness,
                ended_unix_ms,
            });
        }
    }
}

/// Whether an ad with this stage is never shown to its end.
fn has_no_end(stage: Stage) -> bool {
    matches!(
        stage,
        Stage::Skipped | Stage::Failed | Stage::Refused | Stage::Expired
    )
}

/// The more answers there were to choose from, the more there is to tell; and a
/// viewer who agreed has a context.
fn richness(facts: &Facts) -> usize {
    let decided = &facts.decided;
    let offered = decided
        .aggregators
        .iter()
        .filter(|one| one.outcome() == Outcome::Offered);
    let personalised = decided.privacy() == Privacy::Personalised;
    offered.count() + usize::from(personalised) + usize::from(facts.handed_unix_ms.is_some())
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == WAITING_MAX {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests {
    use returnpath_shared::wire::Progress;

    use super::*;
    use crate::demo::story::sample;

    fn stories() -> Stories {
        Stories::new(Of::Boxes("agent-"), Lineup::london().unwrap())
    }

    fn decided(facts: &Facts) -> DecisionRecord {
        DecisionRecord {
            decision_id: facts.decision_id.clone(),
            device_id: facts.device_id.clone(),
            recorded_unix_ms: facts.recorded_unix_ms,
            what: Some(What::Decided(facts.decided.clone())),
        }
    }

    fn ended(facts: &Facts, stage: Stage, after_ms: i64) -> DecisionRecord {
        DecisionRecord {
            what: Some(What::Progress(Progress {
                stage: stage as i32,
                event_unix_ms: facts.recorded_unix_ms + after_ms,
                ..Progress::default()
            })),
            ..decided(facts)
        }
    }

    fn numbered(number: usize) -> Facts {
        Facts {
            decision_id: format!("d{number}"),
            ..sample::completed()
        }
    }

    fn told(stories: &Stories) -> Option<&str> {
        stories.told().map(|story| story.decision_id.as_str())
    }

    #[test]
    fn an_ad_is_told_of_once_it_was_shown_to_its_end_on_a_box_with_an_agent() {
        let mut stories = stories();
        let facts = sample::completed();
        let simulated = Facts {
            device_id: "box-1".into(),
            ..facts.clone()
        };
        for record in [
            decided(&simulated),
            ended(&simulated, Stage::Completed, 5_000),
            ended(&facts, Stage::Completed, 5_000),
            decided(&facts),
        ] {
            stories.record(&record);
            assert_eq!(told(&stories), None);
        }
        stories.record(&ended(&facts, Stage::Completed, 5_000));
        assert_eq!(told(&stories), Some("d0"));
    }

    #[test]
    fn an_ad_that_was_skipped_is_not_told_of() {
        let (mut stories, facts) = (stories(), sample::completed());
        stories.record(&decided(&facts));
        stories.record(&ended(&facts, Stage::Skipped, 5_000));
        stories.record(&ended(&facts, Stage::Completed, 5_000));
        assert_eq!(told(&stories), None);
    }

    #[test]
    fn a_story_stays_a_while_unless_a_richer_one_comes() {
        let mut stories = stories();
        let mut tell = |number: usize, facts: Facts, after_ms: i64| {
            let facts = Facts {
                decision_id: format!("d{number}"),
                ..facts
            };
            stories.record(&decided(&facts));
            stories.record(&ended(&facts, Stage::Completed, after_ms));
            told(&stories).map(str::to_owned)
        };
        let plain = numbered(0);
        let mut rich = plain.clone();
        rich.decided.privacy = Privacy::Personalised.into();
        assert_eq!(tell(1, plain.clone(), 5_000).as_deref(), Some("d1"));
        assert_eq!(tell(2, plain.clone(), 14_000).as_deref(), Some("d1"));
        assert_eq!(tell(3, plain.clone(), 15_000).as_deref(), Some("d3"));
        assert_eq!(tell(4, rich, 15_001).as_deref(), Some("d4"));
        assert_eq!(tell(5, plain.clone(), 75_000).as_deref(), Some("d4"));
        assert_eq!(tell(6, plain, 75_001).as_deref(), Some("d6"));
    }

    #[test]
    fn the_hand_over_is_told_whenever_it_was_heard_of() {
        let facts = Facts {
            handed_unix_ms: None,
            ..sample::completed()
        };
        let handed = Handed {
            decision: Decision {
                decision_id: facts.decision_id.clone(),
                ..Decision::default()
            },
            unix_ms: facts.recorded_unix_ms + 9,
        };
        for handed_first in [true, false] {
            let mut stories = stories();
            if handed_first {
                stories.handed_over(&handed);
            }
            stories.record(&decided(&facts));
            if !handed_first {
                stories.handed_over(&handed);
            }
            stories.record(&ended(&facts, Stage::Completed, 5_000));
            let steps = &stories.told().unwrap().steps;
            assert!(steps.iter().any(|step| step.what == "handed over"));
        }
    }

    #[test]
    fn no_more_decisions_are_waited_for_than_the_bound() {
        let mut stories = stories();
        for number in 0..=WAITING_MAX {
            stories.record(&decided(&numbered(number)));
        }
        assert_eq!(stories.waiting.len(), WAITING_MAX);
        stories.record(&ended(&numbered(0), Stage::Completed, 5_000));
        assert_eq!(told(&stories), None, "the oldest was given up");
        stories.record(&ended(&numbered(1), Stage::Completed, 5_000));
        assert_eq!(told(&stories), Some("d1"));
    }
}
