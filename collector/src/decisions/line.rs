//! One line for one record, as `decisions tail` prints it, and which records
//! it prints.

use std::collections::{BTreeSet, VecDeque};

use returnpath_shared::{
    DeviceId,
    wire::{self, DecisionRecord, Stage, decision_record::What},
};

use super::{
    chosen,
    paint::{Paint, Tone},
    quantity::{moment, price, span_ms, span_us, time_of_day},
    words::{self, printable},
};

/// Decisions whose later records are recognised; of the oldest beyond it
/// nothing more is printed. At 500 decisions a second, two minutes: what
/// becomes of an ad is known in less.
const FOLLOWED_MAX: usize = 65_536;

/// Which records are wanted.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// Of this box.
    device: Option<DeviceId>,
    /// Filled by this aggregator.
    aggregator: Option<String>,
    /// Filled by anyone.
    filled: bool,
    /// Decisions that were wanted, whose later records do not tell by whom
    /// they were filled; oldest first.
    followed: VecDeque<String>,
    is_followed: BTreeSet<String>,
}

impl Filter {
    /// Wants what is of `device`, and filled by `aggregator`, where they are
    /// given.
    pub(super) fn new(device: Option<DeviceId>, aggregator: Option<String>, filled: bool) -> Self {
        Self {
            device,
            aggregator,
            filled,
            ..Self::default()
        }
    }

    /// Whether `record` is wanted. Later records follow their decision.
    pub(super) fn wants(&mut self, record: &DecisionRecord) -> bool {
        let of_box = self
            .device
            .as_ref()
            .is_none_or(|device| device.as_str() == record.device_id);
        if !of_box {
            return false;
        }
        if !self.filled && self.aggregator.is_none() {
            return true;
        }
        let Some(What::Decided(decided)) = &record.what else {
            return self.is_followed.contains(&record.decision_id);
        };
        let wanted = chosen(decided).is_some_and(|(aggregator, _)| {
            let name = self.aggregator.as_ref();
            name.is_none_or(|name| *name == aggregator.name)
        });
        if wanted && self.is_followed.insert(record.decision_id.clone()) {
            self.followed.push_back(record.decision_id.clone());
            if self.followed.len() > FOLLOWED_MAX
                && let Some(oldest) = self.followed.pop_front()
            {
                self.is_followed.remove(&oldest);
            }
        }
        wanted
    }
}

/// A record as one line without its end.
pub(super) fn line(record: &DecisionRecord, paint: Paint) -> String {
    let what = match &record.what {
        Some(What::Decided(decided)) => of_decided(decided, paint),
        Some(What::Progress(progress)) => of_progress(progress, paint),
        None => paint.tone(Tone::Bad, "a record of a later version"),
    };
    format!(
        "{}  {}  {}  {what}",
        paint.tone(Tone::Faint, moment(record.recorded_unix_ms)),
        printable(&record.decision_id),
        printable(&record.device_id),
    )
}

fn of_decided(decided: &wire::Decided, paint: Paint) -> String {
    let currency = decided
        .policy
        .as_ref()
        .map_or("", |policy| policy.currency.as_str());
    let result = match (chosen(decided), &decided.choice) {
        (Some((aggregator, record)), _) => {
            let offer = record.offer.clone().unwrap_or_default();
            let currency = if offer.currency.is_empty() {
                currency
            } else {
                &offer.currency
            };
            let at = offer.price_micros.map_or_else(String::new, |micros| {
                format!(" at {}", price(micros, currency))
            });
            let filled = format!("filled by {}{at}", aggregator.name);
            format!(
                "{}: creative {}, {}",
                paint.tone(Tone::Good, printable(&filled)),
                printable(&offer.creative_id),
                span_ms(offer.duration_ms.into()),
            )
        }
        (None, Some(choice)) => {
            let why = words::no_fill(choice.no_fill);
            paint.tone(Tone::Bad, format!("not filled: {why}"))
        }
        (None, None) => paint.tone(Tone::Bad, "decided without a choice"),
    };
    let asked = decided.aggregators.iter().filter(|one| one.exclusion == 0);
    let break_id = opportunity(decided).map_or("", |found| found.break_id.as_str());
    format!(
        "break {}, slot {} {result}; {} of {} asked in {}",
        printable(break_id),
        decided.slot,
        asked.count(),
        decided.aggregators.len(),
        span_us(decided.elapsed_us),
    )
}

fn of_progress(progress: &wire::Progress, paint: Paint) -> String {
    let tone = match progress.stage() {
        Stage::Shown | Stage::Completed | Stage::Clicked => Tone::Good,
        Stage::Refused | Stage::Failed | Stage::Expired => Tone::Bad,
        Stage::Unspecified
        | Stage::Pushed
        | Stage::Acknowledged
        | Stage::FirstQuartile
        | Stage::Midpoint
        | Stage::ThirdQuartile
        | Stage::Skipped => Tone::Strong,
    };
    let mut text = paint.tone(tone, words::stage(progress.stage));
    if progress.stage() == Stage::Failed {
        text += &format!(": VAST error {}", progress.error_code);
    } else if progress.stage() == Stage::Refused {
        text += &format!(": {}", printable(&progress.refusal));
    }
    if progress.event_unix_ms != 0 {
        let at = format!(
            "  at {} by the box's clock",
            time_of_day(progress.event_unix_ms)
        );
        text += &paint.tone(Tone::Faint, at);
    }
    text
}

/// The box's own words in the opportunity of a decision.
pub(super) fn opportunity(decided: &wire::Decided) -> Option<&wire::AdOpportunity> {
    let event = decided
        .opportunity
        .as_ref()?
        .refined
        .as_ref()?
        .event
        .as_ref();
    let wire::event::Kind::AdOpportunity(opportunity) = event?.kind.as_ref()? else {
        return None;
    };
    Some(opportunity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::sample;

    #[test]
    fn a_record_is_one_line() {
        let sample = sample::shown();
        let lines: Vec<String> = sample
            .iter()
            .map(|record| line(record, Paint::Plain))
            .collect();
        assert_eq!(
            lines,
            [
                "2026-11-21 12:35:07.123  0123456789abcdef0123456789abcdef  box-17  break b-20, slot 1 filled by northstar at 7.25 EUR: creative c-77, 30 s; 3 of 4 asked in 201.8 ms",
                "2026-11-21 12:35:07.131  0123456789abcdef0123456789abcdef  box-17  pushed",
                "2026-11-21 12:35:07.228  0123456789abcdef0123456789abcdef  box-17  acknowledged  at 12:35:07.168 by the box's clock",
                "2026-11-21 12:35:10.301  0123456789abcdef0123456789abcdef  box-17  shown  at 12:35:10.120 by the box's clock",
                "2026-11-21 12:35:40.502  0123456789abcdef0123456789abcdef  box-17  completed  at 12:35:40.100 by the box's clock",
            ]
        );
    }

    #[test]
    fn what_went_wrong_says_why() {
        for (record, expected) in [
            (
                sample::not_filled(wire::NoFill::NoOfferStood),
                "break b-20, slot 1 not filled: no offer stood; 3 of 4 asked in 201.8 ms",
            ),
            (
                sample::progress(Stage::Failed, 0, 0),
                "failed: VAST error 402",
            ),
            (sample::progress(Stage::Refused, 0, 0), "refused: expired"),
            (
                DecisionRecord {
                    what: None,
                    ..sample::progress(Stage::Pushed, 0, 0)
                },
                "a record of a later version",
            ),
        ] {
            let line = line(&record, Paint::Plain);
            assert!(line.ends_with(expected), "{line}");
        }
    }

    #[test]
    fn the_text_of_others_cannot_steer_the_terminal() {
        let mut records = sample::shown();
        records[0].device_id = "box\x1b[2J\n".to_owned();
        let line = line(&records[0], Paint::Plain);
        assert!(!line.contains(['\x1b', '\n']), "{line:?}");
    }

    #[test]
    fn later_records_pass_with_their_decision() {
        let passes = |mut filter: Filter| -> Vec<bool> {
            let mut records = sample::shown();
            records.push(DecisionRecord {
                decision_id: "other".to_owned(),
                ..sample::progress(Stage::Pushed, 0, 0)
            });
            records.push(sample::not_filled(wire::NoFill::NoOffer));
            records.iter().map(|record| filter.wants(record)).collect()
        };
        let of = |device: &str| Filter::new(Some(device.parse().unwrap()), None, false);
        let filled = |aggregator: Option<&str>| Filter {
            filled: aggregator.is_none(),
            aggregator: aggregator.map(str::to_owned),
            ..Filter::default()
        };
        let (all, none) = ([true; 7], [false; 7]);
        let of_filled = [true, true, true, true, true, false, false];
        assert_eq!(passes(Filter::default()), all);
        assert_eq!(passes(of("box-17")), all);
        assert_eq!(passes(of("box-18")), none);
        assert_eq!(passes(filled(None)), of_filled);
        assert_eq!(passes(filled(Some("northstar"))), of_filled);
        assert_eq!(passes(filled(Some("budget"))), none);
    }

    #[test]
    fn no_more_decisions_are_followed_than_the_bound() {
        let mut filter = Filter {
            filled: true,
            ..Filter::default()
        };
        let mut record = sample::shown().swap_remove(0);
        for number in 0..=FOLLOWED_MAX {
            record.decision_id = number.to_string();
            assert!(filter.wants(&record));
        }
        let mut pushed = sample::progress(Stage::Pushed, 0, 0);
        pushed.decision_id = "0".to_owned();
        assert!(!filter.wants(&pushed), "the oldest is forgotten");
        pushed.decision_id = FOLLOWED_MAX.to_string();
        assert!(filter.wants(&pushed));
        assert_eq!(filter.is_followed.len(), FOLLOWED_MAX);
    }
}
