//! Prints a verdict for people: an aligned table, what was found, and one line
//! that says it all. Decides nothing.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{
    Outcome, Unread,
    verdict::{BoxVerdict, ClassVerdict, Ordinals, UNANSWERED, Verdict},
};

/// Boxes with findings that are shown; `--json` has them all.
const BOXES_SHOWN_MAX: usize = 20;

/// Whether colours are wanted: only on a terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Colour {
    Terminal,
    Plain,
}

/// How much is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Detail {
    /// Every box gets rows of its own, not only those with findings.
    pub(super) all_boxes: bool,
    /// What did not come and needs not is named, too.
    pub(super) all_ranges: bool,
}

const COLUMNS: usize = 10;

const HEADER: [&str; COLUMNS] = [
    "box",
    "class",
    "answered",
    "arrived",
    "rejected",
    "declared",
    "unclean stop",
    "missing",
    "duplicated",
    "out of order",
];

const CLASSES: [&str; 3] = ["ordinary", "proof", UNANSWERED];

/// Prints what an audit came to.
pub(super) fn print(
    out: &mut impl Write,
    outcome: &Outcome,
    detail: Detail,
    colour: Colour,
) -> io::Result<()> {
    let Outcome {
        verdict, unread, ..
    } = outcome;
    let has_findings = |of_box: &BoxVerdict| {
        let late = of_box.classes().iter().any(|class| class.out_of_order > 0);
        !of_box.is_clean()
            || outcome.judges_gaps && of_box.unanswered.missing > 0
            || outcome.requires_order && late
    };
    let shown: Vec<&BoxVerdict> = verdict
        .boxes
        .iter()
        .filter(|of_box| detail.all_boxes || has_findings(of_box))
        .collect();
    let cut = if detail.all_boxes {
        shown.len()
    } else {
        shown.len().min(BOXES_SHOWN_MAX)
    };
    let totals = verdict.all_totals();
    let mut rows = vec![HEADER.map(str::to_owned)];
    for of_box in &shown[..cut] {
        rows.extend(rows_of(&of_box.device, of_box.classes()));
    }
    let everyone = format!("all {}", verdict.boxes.len());
    rows.extend(rows_of(&everyone, totals.each_ref()));
    print_table(out, &rows)?;
    if cut < shown.len() {
        writeln!(out, "… and {} more boxes with findings", shown.len() - cut)?;
    }
    print_reasons(out, "rejected", totals.each_ref().map(|of| &of.rejected))?;
    print_reasons(out, "declared", totals.each_ref().map(|of| &of.declared))?;
    for of_box in &shown[..cut] {
        print_ranges(out, of_box, outcome.requires_order, detail)?;
    }
    print_notes(out, verdict, *unread)?;
    print_conclusion(out, outcome, colour)
}

/// The rows of the classes; a class of which nothing is known has none, but for
/// what was answered.
fn rows_of(name: &str, classes: [&ClassVerdict; 3]) -> Vec<[String; COLUMNS]> {
    let rows = CLASSES.into_iter().zip(classes);
    rows.filter(|(class, verdict)| *class != UNANSWERED || **verdict != ClassVerdict::default())
        .map(|(class, verdict)| row(name, class, verdict))
        .collect()
}

fn print_ranges(
    out: &mut impl Write,
    of_box: &BoxVerdict,
    requires_order: bool,
    detail: Detail,
) -> io::Result<()> {
    let shown = [
        (&of_box.missing, true),
        (&of_box.duplicated, true),
        (&of_box.out_of_order, requires_order || detail.all_ranges),
        (&of_box.excused, detail.all_ranges),
    ];
    for (ranges, _) in shown.into_iter().filter(|(_, is_shown)| *is_shown) {
        for range in ranges {
            let Ordinals {
                epoch,
                class,
                what,
                reason,
                first_ordinal,
                last_ordinal,
            } = range;
            let what = what.replace('_', " ");
            write!(
                out,
                "{what}: {} {epoch} {class} {first_ordinal}..={last_ordinal}",
                of_box.device
            )?;
            if reason.is_empty() {
                writeln!(out)?;
            } else {
                writeln!(out, " {reason}")?;
            }
        }
    }
    Ok(())
}

fn print_notes(out: &mut impl Write, verdict: &Verdict, unread: Unread) -> io::Result<()> {
    let boxes = verdict.boxes.iter();
    let epochs = verdict.boxes.iter().flat_map(|of_box| &of_box.epochs);
    for (count, what) in [
        (
            verdict.unanswered().arrived,
            "events in Kafka were answered to no client that is known of (the agents' own, or an \
             answer was lost, or no answers were given)",
        ),
        (
            boxes.map(|of_box| of_box.outside).sum(),
            "answered events do not belong to this stretch of time",
        ),
        (
            epochs.filter(|epoch| epoch.begins_unseen).count() as u64,
            "runs began before anything that was read of them: what is missing at their \
             beginning cannot be told; --around reads further",
        ),
        (
            verdict.unattributed_rejections,
            "rejected records do not say which events they held",
        ),
        (unread.lines, "lines of answers could not be read"),
        (unread.records, "records in Kafka could not be read"),
        (
            verdict.unaccounted,
            "facts did not fit into memory: the rest is a guess",
        ),
    ] {
        if count > 0 {
            writeln!(out, "{count} {what}")?;
        }
    }
    Ok(())
}

fn row(device: &str, class: &str, verdict: &ClassVerdict) -> [String; COLUMNS] {
    [
        device.to_owned(),
        class.to_owned(),
        verdict.answered.to_string(),
        verdict.arrived.to_string(),
        verdict.rejected_total().to_string(),
        verdict.declared.values().sum::<u64>().to_string(),
        verdict.unclean_stop.to_string(),
        verdict.missing.to_string(),
        verdict.duplicated.to_string(),
        verdict.out_of_order.to_string(),
    ]
}

/// Names to the left, numbers to the right.
fn print_table(out: &mut impl Write, rows: &[[String; COLUMNS]]) -> io::Result<()> {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            match column {
                0 => write!(out, "{cell:<width$}")?,
                1 => write!(out, "  {cell:<width$}")?,
                _ => write!(out, "  {cell:>width$}")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

fn print_reasons(
    out: &mut impl Write,
    what: &str,
    by_class: [&BTreeMap<&'static str, u64>; 3],
) -> io::Result<()> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (reason, count) in by_class.into_iter().flatten() {
        *counts.entry(reason).or_default() += count;
    }
    if counts.is_empty() {
        return Ok(());
    }
    let listed: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    writeln!(out, "{what}: {}", listed.join(", "))
}

fn print_conclusion(out: &mut impl Write, outcome: &Outcome, colour: Colour) -> io::Result<()> {
    const GREEN: &str = "\x1b[32m";
    const RED: &str = "\x1b[31m";
    let clean = outcome.is_clean();
    let verdict = &outcome.verdict;
    let (begin, end) = match (colour, clean) {
        (Colour::Plain, _) => ("", ""),
        (Colour::Terminal, true) => (GREEN, "\x1b[0m"),
        (Colour::Terminal, false) => (RED, "\x1b[0m"),
    };
    let word = if clean { "clean" } else { "NOT CLEAN" };
    writeln!(
        out,
        "{begin}{word}: missing {}, duplicated {}, out of order {}{end}",
        outcome.missing(),
        verdict.duplicated(),
        verdict.out_of_order()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict() -> Verdict {
        let good = BoxVerdict {
            device: "box-1".into(),
            ordinary: ClassVerdict {
                answered: 1_000,
                arrived: 985,
                declared: [("queue_full", 10)].into(),
                unclean_stop: 5,
                out_of_order: 7,
                ..ClassVerdict::default()
            },
            unanswered: ClassVerdict {
                arrived: 3,
                ..ClassVerdict::default()
            },
            excused: vec![Ordinals {
                epoch: "00000000000000ab.1".into(),
                class: "ordinary",
                what: "unclean_stop",
                reason: "",
                first_ordinal: 991,
                last_ordinal: 995,
            }],
            ..BoxVerdict::default()
        };
        let bad = BoxVerdict {
            device: "box-2".into(),
            proof: ClassVerdict {
                answered: 5,
                arrived: 3,
                missing: 2,
                ..ClassVerdict::default()
            },
            missing: vec![Ordinals {
                epoch: "00000000000000ab.1".into(),
                class: "proof",
                what: "missing",
                reason: "",
                first_ordinal: 4,
                last_ordinal: 5,
            }],
            ..BoxVerdict::default()
        };
        Verdict {
            boxes: vec![good, bad],
            ..Verdict::default()
        }
    }

    fn outcome(verdict: Verdict) -> Outcome {
        Outcome {
            verdict,
            unread: Unread::default(),
            judges_gaps: false,
            requires_order: false,
        }
    }

    fn printed(outcome: &Outcome, detail: Detail, colour: Colour) -> String {
        let mut out = Vec::new();
        print(&mut out, outcome, detail, colour).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_finding_shows_its_box_and_the_missing_range() {
        let text = printed(&outcome(verdict()), Detail::default(), Colour::Plain);
        assert_eq!(
            text,
            "\
box    class       answered  arrived  rejected  declared  unclean stop  missing  duplicated  out of order
box-2  ordinary           0        0         0         0             0        0           0             0
box-2  proof              5        3         0         0             0        2           0             0
all 2  ordinary        1000      985         0        10             5        0           0             7
all 2  proof              5        3         0         0             0        2           0             0
all 2  unanswered         0        3         0         0             0        0           0             0
declared: queue_full 10
missing: box-2 00000000000000ab.1 proof 4..=5
3 events in Kafka were answered to no client that is known of (the agents' own, or an answer was lost, or no answers were given)
NOT CLEAN: missing 2, duplicated 0, out of order 7
"
        );
    }

    #[test]
    fn a_clean_result_shows_totals_and_every_box_and_range_when_asked() {
        let mut verdict = verdict();
        verdict.boxes.pop();
        let outcome = outcome(verdict);
        let short = printed(&outcome, Detail::default(), Colour::Terminal);
        let end = "\x1b[32mclean: missing 0, duplicated 0, out of order 7\x1b[0m\n";
        assert!(short.ends_with(end), "{short}");
        assert!(!short.contains("box-1"));
        let everything = Detail {
            all_boxes: true,
            all_ranges: true,
        };
        let long = printed(&outcome, everything, Colour::Plain);
        assert!(long.contains("box-1  ordinary        1000"), "{long}");
        assert!(long.contains("unclean stop: box-1 00000000000000ab.1 ordinary 991..=995\n"));
        assert!(!long.contains('\x1b'));
    }

    #[test]
    fn order_is_a_finding_only_where_it_is_required() {
        let mut verdict = verdict();
        verdict.boxes.pop();
        let mut outcome = outcome(verdict);
        assert!(outcome.is_clean());
        outcome.requires_order = true;
        assert!(!outcome.is_clean());
        let text = printed(&outcome, Detail::default(), Colour::Plain);
        assert!(text.contains("box-1  ordinary"), "{text}");
        assert!(text.ends_with("NOT CLEAN: missing 0, duplicated 0, out of order 7\n"));
    }

    #[test]
    fn what_nobody_was_answered_for_is_a_finding_where_no_answers_were_given() {
        let mut verdict = verdict();
        verdict.boxes.pop();
        verdict.boxes[0].unanswered.missing = 4;
        let mut outcome = outcome(verdict);
        assert!(outcome.is_clean());
        outcome.judges_gaps = true;
        assert!(!outcome.is_clean());
        let text = printed(&outcome, Detail::default(), Colour::Plain);
        assert!(text.contains("box-1  unanswered"), "{text}");
        assert!(text.ends_with("NOT CLEAN: missing 4, duplicated 0, out of order 7\n"));
    }

    #[test]
    fn what_could_not_be_read_is_never_clean() {
        let outcome = Outcome {
            unread: Unread {
                lines: 2,
                records: 0,
            },
            ..outcome(Verdict::default())
        };
        let text = printed(&outcome, Detail::default(), Colour::Plain);
        assert!(text.contains("2 lines of answers could not be read"));
        assert!(text.contains("NOT CLEAN: missing 0, duplicated 0"));
    }
}
