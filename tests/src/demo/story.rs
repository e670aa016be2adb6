//! One ad, from the break that asked for it to the proof that it was shown,
//! with the time of each step. Pure; [`Stories`] picks which one.

mod pick;

use returnpath_collector::decisions::{
    paint::{Paint, Tone},
    quantity::{difference_ms, price, span_ms, span_us, time_of_day},
    words::{self, printable},
};
use returnpath_shared::wire::{
    AdOpportunity, AggregatorRecord, Decided, OfferRecord, Outcome, Progress, Refined, Stage,
};
use serde::Serialize;

pub(super) use self::pick::{Handed, Of, Stories};
use super::slots::opportunity;
use crate::fleet::lineup::Lineup;

/// Spans that are no measurement are told to a tenth of a second.
const TENTH_MS: u64 = 100;

/// One ad's story.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    /// Of the decision.
    pub decision_id: String,
    /// The box.
    pub device_id: String,
    /// What happened, in order.
    pub steps: Vec<Step>,
}

/// One step of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What happened.
    pub what: &'static str,
    /// When: milliseconds since 1970-01-01T00:00:00Z, by the clock of whoever
    /// did it; here they are one.
    pub unix_ms: i64,
    /// Milliseconds since the first step.
    pub after_ms: i64,
    /// For people.
    pub detail: String,
}

/// What is known of a decision that was shown.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) decision_id: String,
    pub(super) device_id: String,
    pub(super) recorded_unix_ms: i64,
    pub(super) decided: Decided,
    /// When each stage was recorded, and what it says.
    pub(super) stages: Vec<(i64, Progress)>,
    /// When a player had it from its agent's socket, where one did.
    pub(super) handed_unix_ms: Option<i64>,
}

impl Story {
    /// Tells it; `None` when the record has no opportunity or no choice.
    pub(super) fn of(facts: &Facts, lineup: &Lineup) -> Option<Self> {
        let (refined, ad) = opportunity(&facts.decided)?;
        let mut steps = Steps(Vec::new());
        steps.announced(refined, ad, facts.decided.slot, lineup);
        steps.asked(facts);
        steps.chosen(facts)?;
        for (recorded_unix_ms, progress) in &facts.stages {
            steps.stage(*recorded_unix_ms, progress);
        }
        if let Some(unix_ms) = facts.handed_unix_ms {
            steps.push(
                "handed over",
                unix_ms,
                "the player has it, on the agent's socket: verified, and its slot bound".into(),
            );
        }
        let Steps(mut steps) = steps;
        steps.sort_by_key(|step| step.unix_ms);
        let first = steps.first()?.unix_ms;
        for step in &mut steps {
            step.after_ms = step.unix_ms.saturating_sub(first);
        }
        Some(Self {
            decision_id: facts.decision_id.clone(),
            device_id: facts.device_id.clone(),
            steps,
        })
    }

    /// For people: a title, and a line a step.
    pub(super) fn text(&self, paint: Paint) -> String {
        let title = format!(
            "one ad on {}, decision {}",
            printable(&self.device_id),
            printable(&self.decision_id)
        );
        let mut text = paint.tone(Tone::Strong, title);
        text.push('\n');
        let first = self.steps.first().map_or(0, |step| step.unix_ms);
        for step in &self.steps {
            let (indent, tone) = match step.what {
                "answered" => ("  ", Tone::Strong),
                "chosen" | "shown" | "completed" => ("", Tone::Good),
                _ => ("", Tone::Strong),
            };
            let what = format!("{:<15}", format!("{indent}{}", step.what));
            let line = format!(
                "  {}  {:>9}  {} {}",
                paint.tone(Tone::Faint, time_of_day(step.unix_ms)),
                difference_ms(first, step.unix_ms),
                paint.tone(tone, what),
                step.detail,
            );
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

struct Steps(Vec<Step>);

impl Steps {
    fn push(&mut self, what: &'static str, unix_ms: i64, detail: String) {
        self.0.push(Step {
            what,
            unix_ms,
            after_ms: 0,
            detail,
        });
    }

    fn announced(&mut self, refined: &Refined, ad: &AdOpportunity, slot: u32, lineup: &Lineup) {
        let uptime_ms = refined.event.as_ref().map_or(0, |event| event.uptime_ms);
        let until_ms = ad.start_uptime_ms.saturating_sub(uptime_ms);
        let slots = ad.slot_durations_ms.len().max(1);
        let channel = ad
            .channel
            .as_ref()
            .and_then(|channel| lineup.name(channel))
            .map_or_else(|| words::channel(ad.channel.as_ref()), str::to_owned);
        let detail = format!(
            "a break on {channel} in {}; this is slot {} of {slots}",
            span_ms(until_ms.next_multiple_of(TENTH_MS)),
            slot.saturating_add(1)
        );
        self.push("opportunity", refined.event_unix_ms, detail);
        self.push(
            "received",
            refined.received_unix_ms,
            "the collector's bridge has it from the box, over MQTT".into(),
        );
    }

    fn asked(&mut self, facts: &Facts) {
        let decided = &facts.decided;
        let taken_us = facts.recorded_unix_ms.saturating_mul(1_000);
        let taken_us = taken_us.saturating_sub_unsigned(decided.elapsed_us);
        let (asked, not): (Vec<_>, Vec<_>) = decided
            .aggregators
            .iter()
            .partition(|aggregator| aggregator.exclusion == 0);
        let names = |all: &[&AggregatorRecord]| {
            let names = all.iter().map(|one| printable(&one.name).into_owned());
            names.collect::<Vec<_>>().join(", ")
        };
        let why = not
            .first()
            .map(|one| format!("; not {}: {}", names(&not), words::exclusion(one.exclusion)));
        let asked_first = asked.iter().map(|one| one.asked_after_us).min();
        self.push(
            "asked",
            ms(taken_us.saturating_add_unsigned(asked_first.unwrap_or(0))),
            format!("{}{}", names(&asked), why.unwrap_or_default()),
        );
        let currency = decided
            .policy
            .as_ref()
            .map_or("", |it| it.currency.as_str());
        for one in asked {
            let after_us = one.asked_after_us.saturating_add(one.latency_us);
            self.push(
                "answered",
                ms(taken_us.saturating_add_unsigned(after_us)),
                answer(one, currency),
            );
        }
    }

    fn chosen(&mut self, facts: &Facts) -> Option<()> {
        let decided = &facts.decided;
        let choice = decided.choice.as_ref()?;
        let at = |index: Option<u32>| usize::try_from(index?).ok();
        let aggregator = decided.aggregators.get(at(choice.aggregator)?)?;
        let record = aggregator.offers.get(at(choice.offer)?)?;
        let policy = decided.policy.clone().unwrap_or_default();
        let offer = record.offer.clone().unwrap_or_default();
        let detail = format!(
            "{}'s {} ad of {}{}; recorded, signed",
            printable(&aggregator.name),
            span_ms(offer.duration_ms.into()),
            printable(&offer.advertiser),
            price_of(record, &policy.currency).map_or_else(String::new, |it| format!(" at {it}")),
        );
        self.push("chosen", facts.recorded_unix_ms, detail);
        Some(())
    }

    fn stage(&mut self, recorded_unix_ms: i64, progress: &Progress) {
        let unix_ms = match progress.event_unix_ms {
            0 => recorded_unix_ms,
            on_the_box => on_the_box,
        };
        let (what, detail) = match progress.stage() {
            Stage::Pushed => ("pushed", "the MQTT broker has it for the box"),
            Stage::Acknowledged => (
                "acknowledged",
                "the agent tells: verified, and its slot bound",
            ),
            Stage::Shown => ("shown", "the player shows its first frame"),
            Stage::FirstQuartile => ("first quartile", ""),
            Stage::Midpoint => ("midpoint", ""),
            Stage::ThirdQuartile => ("third quartile", ""),
            Stage::Completed => ("completed", "it was shown to its end"),
            Stage::Clicked => ("clicked", ""),
            // Of an ad that completed, nothing else is told.
            Stage::Unspecified
            | Stage::Refused
            | Stage::Skipped
            | Stage::Failed
            | Stage::Expired => return,
        };
        self.push(what, unix_ms, detail.into());
    }
}

fn answer(aggregator: &AggregatorRecord, currency: &str) -> String {
    let name = printable(&aggregator.name);
    let after = span_us(aggregator.latency_us);
    if aggregator.outcome() != Outcome::Offered {
        let outcome = words::outcome(aggregator.outcome);
        return format!("{name}: {outcome}, after {after}");
    }
    let standing = aggregator.offers.iter().filter(|offer| offer.fault == 0);
    let best = standing.max_by_key(|offer| offer.offer.as_ref().and_then(|it| it.price_micros));
    let best = best.map_or_else(
        || "none stands".to_owned(),
        |it| price_of(it, currency).map_or_else(String::new, |price| format!("best {price}")),
    );
    let count = aggregator.offers.len();
    let s = if count == 1 { "" } else { "s" };
    format!("{name}: {count} offer{s}, {best}, after {after}")
}

fn price_of(record: &OfferRecord, currency: &str) -> Option<String> {
    let offer = record.offer.as_ref()?;
    let currency = if offer.currency.is_empty() {
        currency
    } else {
        &offer.currency
    };
    let micros = offer.price_micros?;
    Some(printable(&price(micros, currency)).into_owned())
}

/// Whole milliseconds, as records have them.
fn ms(us: i64) -> i64 {
    us.div_euclid(1_000)
}

#[cfg(test)]
mod sample;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ad_is_told_in_the_order_in_which_it_happened() {
        let lineup = Lineup::london().unwrap();
        let story = Story::of(&sample::completed(), &lineup).unwrap();
        assert_eq!(
            story.text(Paint::Plain),
            "\
one ad on agent-1, decision d0
  12:35:07.000      +0 ms  opportunity     a break on ITV1 HD in 4 s; this is slot 2 of 6
  12:35:07.010     +10 ms  received        the collector's bridge has it from the box, over MQTT
  12:35:07.100    +100 ms  asked           north, east; not west: it failed too often lately, its breaker is open
  12:35:07.120    +120 ms  \x20 answered      north: 2 offers, best 2.10 EUR, after 20 ms
  12:35:07.150    +150 ms  \x20 answered      east: has nothing, after 50 ms
  12:35:07.152    +152 ms  chosen          north's 30 s ad of acme.example at 2.10 EUR; recorded, signed
  12:35:07.156    +156 ms  pushed          the MQTT broker has it for the box
  12:35:07.160    +160 ms  acknowledged    the agent tells: verified, and its slot bound
  12:35:07.161    +161 ms  handed over     the player has it, on the agent's socket: verified, and its slot bound
  12:35:11.000       +4 s  shown           the player shows its first frame
  12:35:12.000       +5 s  completed       it was shown to its end
"
        );
        let pushed = story.steps.iter().find(|step| step.what == "pushed");
        assert_eq!(pushed.unwrap().after_ms, 156);
    }

    #[test]
    fn a_record_without_a_choice_has_no_story() {
        let lineup = Lineup::london().unwrap();
        let mut facts = sample::completed();
        facts.decided.choice = None;
        assert_eq!(Story::of(&facts, &lineup), None);
        facts.decided.opportunity = None;
        assert_eq!(Story::of(&facts, &lineup), None);
    }
}
