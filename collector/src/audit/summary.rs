//! Prints a verdict for people: an aligned table, what was found, and one line
//! that says it all. Decides nothing.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{
    Unread,
    verdict::{BoxVerdict, ClassVerdict, Verdict},
};

/// Boxes with findings that are shown; `--json` has them all.
const BOXES_SHOWN_MAX: usize = 20;

/// Whether colours are wanted: only on a terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Colour {
    Terminal,
    Plain,
}

/// Which boxes get rows of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Boxes {
    WithFindings,
    All,
}

const HEADER: [&str; 8] = [
    "box",
    "class",
    "answered",
    "arrived",
    "rejected",
    "declared",
    "missing",
    "duplicated",
];

/// Prints `verdict` and what could not be read besides.
pub(super) fn print(
    out: &mut impl Write,
    verdict: &Verdict,
    unread: &Unread,
    boxes: Boxes,
    colour: Colour,
) -> io::Result<()> {
    let shown: Vec<&BoxVerdict> = verdict
        .boxes
        .iter()
        .filter(|of_box| boxes == Boxes::All || !of_box.is_clean())
        .collect();
    let cut = match boxes {
        Boxes::All => shown.len(),
        Boxes::WithFindings => shown.len().min(BOXES_SHOWN_MAX),
    };
    let totals = verdict.totals();
    let mut rows = vec![HEADER.map(str::to_owned)];
    for of_box in &shown[..cut] {
        rows.push(row(&of_box.device, "ordinary", &of_box.ordinary));
        rows.push(row(&of_box.device, "proof", &of_box.proof));
    }
    let everyone = format!("all {}", verdict.boxes.len());
    rows.push(row(&everyone, "ordinary", &totals[0]));
    rows.push(row(&everyone, "proof", &totals[1]));
    print_table(out, &rows)?;
    if cut < shown.len() {
        writeln!(out, "… and {} more boxes with findings", shown.len() - cut)?;
    }
    print_reasons(out, "rejected", totals.each_ref().map(|of| &of.rejected))?;
    print_reasons(out, "declared", totals.each_ref().map(|of| &of.declared))?;
    for of_box in &shown[..cut] {
        for range in &of_box.missing {
            writeln!(
                out,
                "missing: {} {} {} {}..={}",
                of_box.device, range.epoch, range.class, range.first_ordinal, range.last_ordinal
            )?;
        }
    }
    let unanswered: u64 = verdict.boxes.iter().map(|of_box| of_box.unanswered).sum();
    for (count, what) in [
        (
            unanswered,
            "events in Kafka were answered to no client (the agents' own, or an answer was lost)",
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
    print_conclusion(out, verdict, unread, colour)
}

fn row(device: &str, class: &str, verdict: &ClassVerdict) -> [String; 8] {
    [
        device.to_owned(),
        class.to_owned(),
        verdict.answered.to_string(),
        verdict.arrived.to_string(),
        verdict.rejected_total().to_string(),
        verdict.declared_total().to_string(),
        verdict.missing.to_string(),
        verdict.duplicated.to_string(),
    ]
}

/// Names to the left, numbers to the right.
fn print_table(out: &mut impl Write, rows: &[[String; 8]]) -> io::Result<()> {
    let mut widths = [0; 8];
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
    by_class: [&BTreeMap<&'static str, u64>; 2],
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

fn print_conclusion(
    out: &mut impl Write,
    verdict: &Verdict,
    unread: &Unread,
    colour: Colour,
) -> io::Result<()> {
    const GREEN: &str = "\x1b[32m";
    const RED: &str = "\x1b[31m";
    let clean = verdict.is_clean() && unread.is_nothing();
    let (begin, end) = match (colour, clean) {
        (Colour::Plain, _) => ("", ""),
        (Colour::Terminal, true) => (GREEN, "\x1b[0m"),
        (Colour::Terminal, false) => (RED, "\x1b[0m"),
    };
    let word = if clean { "clean" } else { "NOT CLEAN" };
    writeln!(
        out,
        "{begin}{word}: missing {}, duplicated {}{end}",
        verdict.missing(),
        verdict.duplicated()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verdict::Missing;

    fn verdict() -> Verdict {
        let good = BoxVerdict {
            device: "box-1".into(),
            ordinary: ClassVerdict {
                answered: 1_000,
                arrived: 990,
                declared: [("queue_full", 10)].into(),
                ..ClassVerdict::default()
            },
            unanswered: 3,
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
            missing: vec![Missing {
                epoch: "00000000000000ab.1".into(),
                class: "proof",
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

    fn printed(verdict: &Verdict, unread: &Unread, boxes: Boxes, colour: Colour) -> String {
        let mut out = Vec::new();
        print(&mut out, verdict, unread, boxes, colour).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_finding_shows_its_box_and_the_missing_range() {
        let text = printed(
            &verdict(),
            &Unread::default(),
            Boxes::WithFindings,
            Colour::Plain,
        );
        assert_eq!(
            text,
            "\
box    class     answered  arrived  rejected  declared  missing  duplicated
box-2  ordinary         0        0         0         0        0           0
box-2  proof            5        3         0         0        2           0
all 2  ordinary      1000      990         0        10        0           0
all 2  proof            5        3         0         0        2           0
declared: queue_full 10
missing: box-2 00000000000000ab.1 proof 4..=5
3 events in Kafka were answered to no client (the agents' own, or an answer was lost)
NOT CLEAN: missing 2, duplicated 0
"
        );
    }

    #[test]
    fn a_clean_result_shows_totals_and_every_box_when_asked() {
        let mut verdict = verdict();
        verdict.boxes.pop();
        let short = printed(
            &verdict,
            &Unread::default(),
            Boxes::WithFindings,
            Colour::Terminal,
        );
        assert!(short.ends_with("\x1b[32mclean: missing 0, duplicated 0\x1b[0m\n"));
        assert!(!short.contains("box-1"));
        let long = printed(&verdict, &Unread::default(), Boxes::All, Colour::Plain);
        assert!(long.contains("box-1  ordinary      1000"));
        assert!(!long.contains('\x1b'));
    }

    #[test]
    fn what_could_not_be_read_is_never_clean() {
        let unread = Unread {
            lines: 2,
            records: 0,
        };
        let text = printed(
            &Verdict::default(),
            &unread,
            Boxes::WithFindings,
            Colour::Plain,
        );
        assert!(text.contains("2 lines of answers could not be read"));
        assert!(text.ends_with("NOT CLEAN: missing 0, duplicated 0\n"));
    }
}
