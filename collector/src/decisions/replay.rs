//! Makes every choice again from what was recorded, and compares.
//!
//! A choice is a function of the record: who was asked, what stood, the policy
//! and its numbers. One that comes out otherwise means that the record is not
//! whole, or that this version chooses otherwise than the one that recorded it.

use std::{fmt, io::Write, process::ExitCode, time::SystemTime};

use rdkafka::Message as _;
use returnpath_shared::{
    DeviceId,
    wire::{AggregatorRecord, Choice, DecisionRecord, OfferRecord, decision_record::What},
};
use serde::Serialize;

use super::{
    IDLE, OWNER, decoded, kafka,
    paint::{Paint, Tone},
    show::decision_id,
    words::{self, printable},
};
use crate::{
    kafka::{Begin, Next, TopicReader, Until},
    tail::Since,
};

/// Differences that are named; beyond it they are only counted.
const NAMED_MAX: usize = 100;

/// Which choices.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only these decisions; otherwise all.
    #[arg(value_name = "ID", value_parser = decision_id)]
    ids: Vec<String>,
    /// Only decisions for this box.
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceId>,
    /// Read from there instead of from the beginning: an age as in 90s, 15m, 2h
    /// or 1d, a time as in 2026-01-31T20:15:00Z, or offset:N.
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Comparison {
    /// Decisions whose choice was made again.
    replayed: u64,
    /// Of them, those that came out otherwise.
    different: u64,
    /// The first of these.
    differences: Vec<Difference>,
}

/// A choice that came out otherwise.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Difference {
    decision_id: String,
    device_id: String,
    recorded: String,
    replayed: String,
}

pub(super) fn run(
    args: &Args,
    kafka: &kafka::Config,
    paint: Paint,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let begin = match args.since {
        Some(since) => since.start(SystemTime::now()),
        None => Begin::Oldest,
    };
    let topic = &kafka.topics.decisions;
    let device = args.device.as_ref();
    let mut reader = TopicReader::open(kafka, OWNER, topic, device, begin, Until::End)?;
    let mut comparison = Comparison::default();
    loop {
        match reader.next(IDLE)? {
            Next::Record(message) => {
                let key = message.key().unwrap_or_default();
                let is_wanted =
                    args.ids.is_empty() || args.ids.iter().any(|id| id.as_bytes() == key);
                if is_wanted && let Some(record) = decoded(&message) {
                    let of_box = device.is_none_or(|device| device.as_str() == record.device_id);
                    if of_box {
                        comparison.take(&record);
                    }
                }
            }
            Next::Nothing => {}
            Next::End => break,
        }
    }
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &comparison)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", comparison.text(paint))?;
    }
    // Ids that were asked for and are not there are no success either.
    let is_whole = args.ids.is_empty() || comparison.replayed >= distinct(&args.ids);
    Ok(if comparison.different == 0 && is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn distinct(ids: &[String]) -> u64 {
    let distinct: std::collections::BTreeSet<&String> = ids.iter().collect();
    distinct.len() as u64
}

impl Comparison {
    /// Makes the choice of a record again; later records of a decision hold
    /// none.
    fn take(&mut self, record: &DecisionRecord) {
        let Some(What::Decided(decided)) = &record.what else {
            return;
        };
        self.replayed += 1;
        let recorded = decided.choice.unwrap_or_default();
        let replayed = returnpath_decision::replay(decided);
        if replayed == recorded {
            return;
        }
        self.different += 1;
        if self.differences.len() < NAMED_MAX {
            self.differences.push(Difference {
                decision_id: record.decision_id.clone(),
                device_id: record.device_id.clone(),
                recorded: Chosen(&decided.aggregators, &recorded).to_string(),
                replayed: Chosen(&decided.aggregators, &replayed).to_string(),
            });
        }
    }

    fn text(&self, paint: Paint) -> String {
        let mut text = String::new();
        for difference in &self.differences {
            let line = format!(
                "! {} for {}: chose {}; now {}",
                printable(&difference.decision_id),
                printable(&difference.device_id),
                printable(&difference.recorded),
                printable(&difference.replayed),
            );
            text += &paint.tone(Tone::Bad, line);
            text.push('\n');
        }
        let unnamed = self.different - self.differences.len() as u64;
        if unnamed > 0 {
            text += &format!("… and {unnamed} more\n");
        }
        let (tone, verdict) = match self.different {
            0 => (Tone::Good, "all chose as recorded".to_owned()),
            different => (Tone::Bad, format!("{different} chose otherwise")),
        };
        let verdict = match self.replayed {
            0 => "nothing to replay".to_owned(),
            _ => paint.tone(tone, verdict),
        };
        let s = if self.replayed == 1 { "" } else { "s" };
        text + &format!("{} decision{s} replayed: {verdict}\n", self.replayed)
    }
}

/// A choice in words.
struct Chosen<'a>(&'a [AggregatorRecord], &'a Choice);

impl fmt::Display for Chosen<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(aggregators, choice) = self;
        match (choice.aggregator, choice.offer) {
            (Some(aggregator), Some(offer)) => {
                let at = |index: u32| usize::try_from(index).unwrap_or(usize::MAX);
                let found = aggregators.get(at(aggregator));
                let name = found.map_or("an aggregator that is not recorded", |one| &one.name);
                write!(formatter, "offer {offer} of {name}")?;
                let record: Option<&OfferRecord> =
                    found.and_then(|found| found.offers.get(at(offer)));
                if let Some(offer) = record.and_then(|record| record.offer.as_ref()) {
                    write!(formatter, " (creative {})", offer.creative_id)?;
                }
            }
            (Some(_), None) | (None, Some(_) | None) => {
                write!(formatter, "none: {}", words::no_fill(choice.no_fill))?;
            }
        }
        write!(formatter, ", probability {}", choice.probability)
    }
}

#[cfg(test)]
mod tests {
    use returnpath_shared::wire::NoFill;

    use super::*;
    use crate::decisions::sample;

    fn comparison(records: &[DecisionRecord]) -> Comparison {
        let mut comparison = Comparison::default();
        for record in records {
            comparison.take(record);
        }
        comparison
    }

    #[test]
    fn a_choice_that_comes_out_the_same_is_only_counted() {
        let comparison = comparison(&sample::shown());
        assert_eq!(
            comparison.text(Paint::Plain),
            "1 decision replayed: all chose as recorded\n"
        );
    }

    #[test]
    fn a_choice_that_comes_out_otherwise_is_named() {
        let comparison = comparison(&[sample::not_filled(NoFill::NoOfferStood)]);
        assert_eq!(
            comparison.text(Paint::Plain),
            "! 0123456789abcdef0123456789abcdef for box-17: chose none: no offer stood, \
             probability 1; now offer 1 of northstar (creative c-77), probability 1\n\
             1 decision replayed: 1 chose otherwise\n"
        );
    }

    #[test]
    fn nothing_to_replay_is_said() {
        let comparison = comparison(&sample::shown()[1..]);
        assert_eq!(
            comparison.text(Paint::Plain),
            "0 decisions replayed: nothing to replay\n"
        );
    }

    #[test]
    fn differences_beyond_the_bound_are_counted() {
        let comparison = comparison(&vec![sample::not_filled(NoFill::NoOffer); NAMED_MAX + 7]);
        let text = comparison.text(Paint::Plain);
        assert_eq!(text.lines().count(), NAMED_MAX + 2);
        assert!(text.contains("… and 7 more"), "{text}");
    }
}
