//! Who was asked, what each answered, what was picked and what the box is sent.

use prost::Message as _;
use returnpath_shared::wire::{AggregatorRecord, Decided, Decision, OfferRecord, Outcome};

use super::Story;
use crate::decisions::{
    chosen,
    paint::Tone,
    quantity::{distance_ms, price, span_ms, span_us},
    words::{self, printable},
};

pub(super) fn tell(story: &mut Story, decided: &Decided) {
    let policy = decided.policy.clone().unwrap_or_default();
    let currency = policy.currency.as_str();
    let unpriced = if policy.takes_unpriced {
        ", offers without a price are taken"
    } else {
        ""
    };
    story.section(format_args!(
        "who was asked ({}, at least {}{unpriced}; policy {})",
        words::policy(policy.kind),
        price(policy.floor_price_micros, currency),
        printable(&policy.version)
    ));
    if decided.aggregators.is_empty() {
        story.line("nobody", "no aggregator is recorded");
    }
    let pick = decided.choice.as_ref();
    for (index, aggregator) in (0_u32..).zip(&decided.aggregators) {
        story.line(&printable(&aggregator.name), came_of(aggregator));
        let of_choice = pick
            .filter(|choice| choice.aggregator == Some(index))
            .and_then(|choice| choice.offer);
        for (number, offer) in (0_u32..).zip(&aggregator.offers) {
            let is_chosen = of_choice == Some(number);
            let line = of_offer(story, offer, currency, is_chosen);
            story.line("", line);
        }
    }
    of_choice(story, decided, currency);
    of_decision(story, decided);
}

fn came_of(aggregator: &AggregatorRecord) -> String {
    if aggregator.exclusion != 0 {
        let why = words::exclusion(aggregator.exclusion);
        return match aggregator.detail.as_str() {
            "" => format!("not asked: {why}"),
            detail => format!("not asked: {why} ({})", printable(detail)),
        };
    }
    let mut text = words::outcome(aggregator.outcome).into_owned();
    if aggregator.outcome() == Outcome::Offered {
        let count = aggregator.offers.len();
        let s = if count == 1 { "" } else { "s" };
        text = format!("{count} offer{s}");
    }
    if !matches!(aggregator.http_status, 0 | 200 | 204) {
        text += &format!(", HTTP {}", aggregator.http_status);
    }
    text += &format!(", after {}", span_us(aggregator.latency_us));
    if aggregator.asked_after_us >= 1_000 {
        text += &format!(" (asked {} later)", span_us(aggregator.asked_after_us));
    }
    if !aggregator.detail.is_empty() {
        text += &format!(": {}", printable(&aggregator.detail));
    }
    text
}

fn of_offer(story: &Story, record: &OfferRecord, currency: &str, is_chosen: bool) -> String {
    let offer = record.offer.clone().unwrap_or_default();
    let currency = if offer.currency.is_empty() {
        currency
    } else {
        &offer.currency
    };
    let mut text = format!("creative {}", printable(&offer.creative_id));
    if !offer.advertiser.is_empty() {
        text += &format!(" of {}", printable(&offer.advertiser));
    }
    if !offer.offer_id.is_empty() {
        text += &format!(" (offer {})", printable(&offer.offer_id));
    }
    text += &format!(
        ", {}, {}",
        span_ms(offer.duration_ms.into()),
        printable(&offer.media_type)
    );
    text += &match offer.price_micros {
        Some(micros) => format!(", {}", printable(&price(micros, currency))),
        None => ", no price".to_owned(),
    };
    if record.fault != 0 {
        let mut why = format!("does not stand: {}", words::fault(record.fault));
        if !record.detail.is_empty() {
            why += &format!(" ({})", printable(&record.detail));
        }
        return format!("{text}: {}", story.paint.tone(Tone::Bad, why));
    }
    if is_chosen {
        return format!("{text}: {}", story.paint.tone(Tone::Good, "chosen"));
    }
    format!("{text}: stands")
}

fn of_choice(story: &mut Story, decided: &Decided, currency: &str) {
    story.section("what was picked");
    let standing = decided
        .aggregators
        .iter()
        .flat_map(|aggregator| &aggregator.offers)
        .filter(|offer| offer.fault == 0)
        .count();
    let choice = decided.choice.unwrap_or_default();
    match chosen(decided) {
        Some((aggregator, record)) => {
            let offer = record.offer.clone().unwrap_or_default();
            let at = match offer.price_micros {
                Some(micros) if offer.currency.is_empty() => price(micros, currency),
                Some(micros) => price(micros, &offer.currency),
                None => "no price".to_owned(),
            };
            let line = format!(
                "{} of {}, at {}",
                printable(&offer.creative_id),
                printable(&aggregator.name),
                printable(&at)
            );
            let line = story.paint.tone(Tone::Good, line);
            let s = if standing == 1 { "" } else { "s" };
            story.line(
                "creative",
                format_args!("{line}, of {standing} offer{s} that stood"),
            );
        }
        None => {
            let why = words::no_fill(choice.no_fill);
            let line = story.paint.tone(Tone::Bad, format!("none: {why}"));
            story.line("creative", line);
        }
    }
    story.line("probability", format_args!("{}", choice.probability));
    let own_us = decided.elapsed_us.saturating_sub(decided.waited_us);
    story.line(
        "took",
        format_args!(
            "{}, of which {} waiting for aggregators and {} our own",
            span_us(decided.elapsed_us),
            span_us(decided.waited_us),
            span_us(own_us)
        ),
    );
}

fn of_decision(story: &mut Story, decided: &Decided) {
    let Some(signed) = &decided.signed else {
        story.line("to the box", "nothing is sent");
        return;
    };
    let Ok(decision) = Decision::decode(signed.decision.clone()) else {
        story.wrong("what the box is sent cannot be decoded");
        return;
    };
    let refined = decided
        .opportunity
        .as_ref()
        .and_then(|it| it.refined.as_ref());
    let event = refined.and_then(|it| it.event.as_ref());
    let signalled_uptime_ms = event.map_or(0, |event| event.uptime_ms);
    match &decision.creative {
        Some(creative) => story.line(
            "to the box",
            format_args!(
                "{} ({}, {})",
                printable(&creative.url),
                printable(&creative.media_type),
                span_ms(creative.duration_ms.into())
            ),
        ),
        None => story.line("to the box", "no creative: it shows its default"),
    }
    story.line(
        "expires",
        format_args!(
            "{} the signal, at uptime {} ms of boot {:016x}",
            distance_ms(signalled_uptime_ms, decision.expiry_uptime_ms),
            decision.expiry_uptime_ms,
            decision.expiry_boot_id
        ),
    );
    story.line(
        "signed",
        format_args!(
            "by key {}; opportunity {}",
            printable(&signed.key_id),
            decision.number
        ),
    );
}
