//! The funnel and the latencies, for people. Pure.

use std::{collections::BTreeMap, fmt::Write as _};

use returnpath_collector::decisions::paint::{Paint, Tone};

use super::funnel::{AggregatorFunnel, Funnel};
use crate::fleet::latency::Percentiles;

/// Width of what a row is called.
const NAME_WIDTH: usize = 26;

/// Width of a count.
const COUNT_WIDTH: usize = 9;

type Count = fn(&AggregatorFunnel) -> u64;

/// What an ad goes through, step by step.
const STEPS: [(&str, Count); 7] = [
    ("asked", |it| it.asked),
    ("had an offer", |it| it.offered),
    ("filled", |it| it.filled),
    ("pushed", |it| it.pushed),
    ("acknowledged", |it| it.acknowledged),
    ("shown", |it| it.shown),
    ("completed", |it| it.completed),
];

/// Step by step, and what went wrong: in all and by aggregator.
pub(super) fn funnel(
    funnel: &Funnel,
    breaker_openings: &BTreeMap<String, u64>,
    paint: Paint,
) -> String {
    let Funnel {
        opportunities,
        decided,
        aggregators,
        ..
    } = funnel;
    let titles = aggregators.keys().map(String::as_str);
    let titles = ["all"].into_iter().chain(titles);
    let titles = titles.map(|title| format!("{title:>COUNT_WIDTH$}"));
    let title = format!(
        "{:<NAME_WIDTH$}{}",
        format!("{decided} slots in {opportunities} breaks"),
        titles.collect::<String>()
    );
    let mut text = paint.tone(Tone::Strong, title);
    text.push('\n');
    for (name, count) in STEPS {
        let counts = aggregators.values().map(count).collect();
        text += &counted(name, counts, Paint::Plain);
    }
    let openings = aggregators.keys();
    let openings = openings.map(|name| breaker_openings.get(name).copied().unwrap_or_default());
    for (name, counts) in [
        (
            "failed to answer",
            aggregators.values().map(|it| it.failures).collect(),
        ),
        ("breaker opened", openings.collect()),
        (
            "left alone meanwhile",
            aggregators.values().map(|it| it.left_alone).collect(),
        ),
    ] {
        text += &counted(name, counts, paint);
    }
    text
}

/// A row of counts behind their sum; painted where they are not 0.
fn counted(name: &str, counts: Vec<u64>, paint: Paint) -> String {
    let cells = [counts.iter().sum()].into_iter().chain(counts);
    let cells = cells.map(|count| {
        let cell = format!("{count:>COUNT_WIDTH$}");
        match count {
            0 => cell,
            _ => paint.tone(Tone::Bad, cell),
        }
    });
    let cells = cells.collect::<String>();
    format!("{:<NAME_WIDTH$}{cells}\n", format!("  {name}"))
}

/// How aggregators failed, what real agents saw of it, and where the ads went
/// that were not shown: a line each.
pub(super) fn remarks(funnel: &Funnel) -> Vec<String> {
    let on_agents = &funnel.on_agents;
    let mut remarks = vec![format!(
        "of these on real agents: {} filled, {} acknowledged, {} shown, {} completed",
        on_agents.filled, on_agents.acknowledged, on_agents.shown, on_agents.completed,
    )];
    for (name, part) in &funnel.aggregators {
        if part.failures == 0 {
            continue;
        }
        remarks.push(format!("{name} failed: {}", listed(&part.failed_by)));
    }
    let unfilled = &funnel.unfilled;
    if unfilled.slots > 0 {
        remarks.push(format!(
            "{} slots without an ad: {}; {} of their boxes were told so, {} acknowledged it",
            unfilled.slots,
            listed(&unfilled.reasons),
            unfilled.pushed,
            unfilled.acknowledged,
        ));
    }
    let ended = funnel.shown + funnel.failed + funnel.expired + funnel.refused;
    remarks.push(format!(
        "not shown: {} failed to play, {} expired, {} refused, {} not reached (zapped away, or \
         still to come)",
        funnel.failed,
        funnel.expired,
        funnel.refused,
        funnel.filled.saturating_sub(ended),
    ));
    let cut_off = funnel
        .shown
        .saturating_sub(funnel.completed + funnel.skipped);
    remarks.push(format!(
        "not completed: {} skipped by the viewer, {cut_off} cut off",
        funnel.skipped
    ));
    remarks
}

/// Latencies, a row each.
pub(super) fn latencies(rows: &[(&str, Percentiles)], paint: Paint) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    let head = format!(
        "{:<width$} {:>12} {:>12} {:>9}",
        "how long it took", "half within", "99 % within", "of"
    );
    let mut text = paint.tone(Tone::Strong, head);
    text.push('\n');
    for (name, percentiles) in rows {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:<width$} {:>12} {:>12} {:>9}",
            format!("  {name}"),
            ms(percentiles.p50_ms_max),
            ms(percentiles.p99_ms_max),
            percentiles.count,
        );
    }
    text
}

/// A bound of a latency class.
fn ms(bound: u64) -> String {
    match bound {
        0 => "-".into(),
        u64::MAX => "over 10 s".into(),
        bound => format!("{bound} ms"),
    }
}

fn listed(counts: &BTreeMap<String, u64>) -> String {
    let counts = counts.iter().map(|(what, count)| format!("{what} {count}"));
    counts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Funnel {
        let west = AggregatorFunnel {
            asked: 9,
            offered: 5,
            failures: 3,
            failed_by: BTreeMap::from([("no answer in time".to_owned(), 3)]),
            left_alone: 4,
            filled: 2,
            ..AggregatorFunnel::default()
        };
        let east = AggregatorFunnel {
            asked: 13,
            ..AggregatorFunnel::default()
        };
        Funnel {
            opportunities: 3,
            decided: 13,
            filled: 2,
            shown: 1,
            aggregators: BTreeMap::from([("west".to_owned(), west), ("east".to_owned(), east)]),
            ..Funnel::default()
        }
    }

    #[test]
    fn every_step_has_a_row_with_the_sum_and_a_count_for_each_aggregator() {
        let openings = BTreeMap::from([("west".to_owned(), 2)]);
        let text = funnel(&sample(), &openings, Paint::Plain);
        let cells_of = |name: &str| -> Vec<String> {
            let line = text
                .lines()
                .find(|line| line.trim_start().starts_with(name));
            let cells = line.unwrap()[NAME_WIDTH..].split_whitespace();
            cells.map(str::to_owned).collect()
        };
        assert_eq!(cells_of("13 slots in 3 breaks"), ["all", "east", "west"]);
        assert_eq!(cells_of("asked"), ["22", "13", "9"]);
        assert_eq!(cells_of("filled"), ["2", "0", "2"]);
        assert_eq!(cells_of("breaker opened"), ["2", "0", "2"]);
        assert_eq!(cells_of("left alone"), ["4", "0", "4"]);
    }

    #[test]
    fn only_faults_are_painted_and_only_where_there_are_any() {
        let text = funnel(&sample(), &BTreeMap::new(), Paint::Terminal);
        let line = |name: &str| {
            let found = text.lines().find(|line| line.contains(name)).unwrap();
            found.matches("\x1b[31m").count()
        };
        assert_eq!((line("asked"), line("failed to answer")), (0, 2));
    }

    #[test]
    fn who_failed_and_where_ads_went_is_said() {
        assert_eq!(
            remarks(&sample()),
            [
                "of these on real agents: 0 filled, 0 acknowledged, 0 shown, 0 completed",
                "west failed: no answer in time 3",
                "not shown: 0 failed to play, 0 expired, 0 refused, 1 not reached (zapped away, \
                 or still to come)",
                "not completed: 0 skipped by the viewer, 1 cut off",
            ]
        );
    }

    #[test]
    fn latencies_without_a_bound_are_not_given_one() {
        let rows = [0, 20, u64::MAX].map(|bound| Percentiles {
            count: 1,
            p50_ms_max: bound,
            p99_ms_max: bound,
        });
        let rows = rows.map(|percentiles| ("somewhere", percentiles));
        let text = latencies(&rows, Paint::Plain);
        let mut lines = text.lines().skip(1).map(str::split_whitespace);
        assert!(lines.next().unwrap().eq(["somewhere", "-", "-", "1"]));
        assert!(
            lines
                .next()
                .unwrap()
                .eq(["somewhere", "20", "ms", "20", "ms", "1"])
        );
        let last: Vec<_> = lines.next().unwrap().collect();
        assert_eq!(last[1..4], ["over", "10", "s"]);
    }
}
