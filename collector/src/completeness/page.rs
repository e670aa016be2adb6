//! Runs and their holes as a person reads them.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use returnpath_shared::{
    Epoch,
    wire::{self, DropReason, Missing, RefusalReason},
};

use crate::decisions::{quantity::moment, words::printable};

/// Prints runs, those of one box together, and what all of them come to.
/// `others` are complete and not told.
pub(super) fn print<'a>(
    out: &mut impl Write,
    runs: impl Iterator<Item = &'a wire::Completeness>,
    others: usize,
) -> io::Result<()> {
    let mut sums = Sums::default();
    let mut device = "";
    for run in runs {
        if run.device_id != device {
            device = &run.device_id;
            print_box(out, run)?;
        }
        print_run(out, run)?;
        sums.add(run);
    }
    sums.print(out, others)
}

fn print_box(out: &mut impl Write, run: &wire::Completeness) -> io::Result<()> {
    write!(out, "{}", run.device_id)?;
    if !run.model.is_empty() || !run.firmware.is_empty() {
        let (model, firmware) = (printable(&run.model), printable(&run.firmware));
        write!(out, "  model {model}, firmware {firmware}")?;
    }
    writeln!(out)
}

fn print_run(out: &mut impl Write, run: &wire::Completeness) -> io::Result<()> {
    let stands = match (run.ended, run.released) {
        (_, true) => "ended, the box holds nothing of it",
        (true, false) => "ended, the box may still hold some of it",
        (false, false) => "running",
    };
    writeln!(out, "  run {}: {stands}", epoch(run))?;
    if run.highest_sequence > 0 {
        write!(out, "    arrived through batch {}", run.highest_sequence)?;
        if run.highest_ordinal > 0 {
            write!(out, ", event {}", run.highest_ordinal)?;
        }
    } else {
        write!(out, "    nothing arrived")?;
    }
    writeln!(out, ", as of {}", moment(run.as_of_unix_ms))?;
    if run.forgotten_through_sequence > 0 {
        let through = run.forgotten_through_sequence;
        writeln!(
            out,
            "    through batch {through} something is missing that is no longer remembered"
        )?;
    }
    for range in &run.missing {
        writeln!(
            out,
            "    missing {}: {}, since {}",
            batches(range.first_sequence, range.last_sequence),
            amount(
                range_batches(range),
                range.event_count,
                range.event_count == 0
            ) + ", "
                + &cause(range.missing(), range.reason()),
            moment(range.since_unix_ms)
        )?;
    }
    if run.missing_ranges_beyond > 0 {
        writeln!(out, "    … and {} more ranges", run.missing_ranges_beyond)?;
    }
    for range in &run.declared {
        let mut why = reason(range.reason()).to_owned();
        if let Some(refusal) = refusal(range.refusal()) {
            why = format!("{why}: {refusal}");
        }
        let what = if range.rejection == 0 {
            "declared"
        } else {
            why = "there was no room to remember them: they stand in rp.rejected".into();
            "rejected"
        };
        let sequences = batches(range.first_sequence, range.last_sequence);
        let events = plural(range.event_count, "event");
        writeln!(out, "    {what} {sequences}: {events}, {why}")?;
    }
    print_forgotten(out, run)?;
    if run.whole_epoch_reason != 0 {
        let why = reason(run.whole_epoch_reason());
        writeln!(out, "    declared lost as far as it is missing: {why}")?;
    }
    if run.unclean_stop {
        writeln!(
            out,
            "    ended without a clean stop; batch {} and event {} were the last known to be durable",
            run.last_known_sequence, run.last_known_ordinal
        )?;
    }
    Ok(())
}

/// What was declared of a run and is no longer remembered.
fn print_forgotten(out: &mut impl Write, run: &wire::Completeness) -> io::Result<()> {
    if run.declared_ranges_forgotten > 0 {
        let count = run.declared_ranges_forgotten;
        writeln!(
            out,
            "    … and {count} declared before, no longer remembered"
        )?;
    }
    let (first, last) = (
        run.declared_forgotten_first_sequence,
        run.declared_forgotten_last_sequence,
    );
    if last == u64::MAX {
        writeln!(
            out,
            "    whether more was declared of it is no longer remembered"
        )?;
    } else if last > 0 {
        let sequences = batches(first, last);
        writeln!(
            out,
            "    which of {sequences} were declared is no longer remembered"
        )?;
    }
    if run.declared_runs_forgotten > 0 {
        let runs = plural(run.declared_runs_forgotten.into(), "run");
        writeln!(
            out,
            "    of {runs} of its queue file up to this one, what was declared is no longer remembered"
        )?;
    }
    Ok(())
}

/// What all runs come to.
#[derive(Default)]
struct Sums {
    runs: usize,
    complete: usize,
    boxes: usize,
    device: String,
    /// By cause: batches, events, and whether some cannot be counted.
    missing: BTreeMap<(i32, i32), (u64, u64, bool)>,
}

impl Sums {
    fn add(&mut self, run: &wire::Completeness) {
        self.runs += 1;
        if self.device != run.device_id {
            self.device.clone_from(&run.device_id);
            self.boxes += 1;
        }
        let is_open = |total: &wire::MissingTotal| match total.missing() {
            Missing::Declared | Missing::UncleanStop | Missing::Rejected => false,
            Missing::Held | Missing::Unexplained | Missing::Forgotten | Missing::Unspecified => {
                true
            }
        };
        let is_complete =
            !run.missing_totals.iter().any(is_open) && run.forgotten_through_sequence == 0;
        self.complete += usize::from(is_complete);
        for total in &run.missing_totals {
            let cause = (total.missing, total.reason);
            let (batches, events, is_uncounted) = self.missing.entry(cause).or_default();
            *batches = batches.saturating_add(total.batches);
            *events = events.saturating_add(total.events);
            *is_uncounted |= total.ranges_uncounted > 0;
        }
    }

    fn print(&self, out: &mut impl Write, others: usize) -> io::Result<()> {
        writeln!(
            out,
            "{} told of {}, {} complete but for what was declared; {} more complete",
            plural(self.runs as u64, "run"),
            if self.boxes == 1 {
                "1 box".to_owned()
            } else {
                format!("{} boxes", self.boxes)
            },
            self.complete,
            others
        )?;
        for ((missing, reason), (batches, events, is_uncounted)) in &self.missing {
            let missing = Missing::try_from(*missing).unwrap_or_default();
            let reason = DropReason::try_from(*reason).unwrap_or_default();
            writeln!(
                out,
                "missing, {}: {}",
                cause(missing, reason),
                amount(*batches, *events, *is_uncounted)
            )?;
        }
        Ok(())
    }
}

fn epoch(run: &wire::Completeness) -> String {
    let epoch = run.epoch.and_then(|epoch| Epoch::try_from(epoch).ok());
    epoch.map_or_else(|| "unknown".to_owned(), |epoch| epoch.to_string())
}

fn batches(first: u64, last: u64) -> String {
    if first == last {
        format!("batch {first}")
    } else {
        format!("batches {first} to {last}")
    }
}

fn range_batches(range: &wire::MissingRange) -> u64 {
    range
        .last_sequence
        .saturating_sub(range.first_sequence)
        .saturating_add(1)
}

/// Batches and events; of events perhaps only some can be counted.
fn amount(batches: u64, events: u64, is_uncounted: bool) -> String {
    let batches = match batches {
        1 => "1 batch".to_owned(),
        batches => format!("{batches} batches"),
    };
    match (events, is_uncounted) {
        (0, _) => format!("{batches}, of events nobody knows how many"),
        (_, true) => format!("{batches}, at least {}", plural(events, "event")),
        (_, false) => format!("{batches}, {}", plural(events, "event")),
    }
}

fn plural(count: u64, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}

fn cause(missing: Missing, why: DropReason) -> String {
    match missing {
        Missing::Held => "may still come: the box may hold it".into(),
        Missing::Unexplained => "UNEXPLAINED: the box neither holds nor declares it".into(),
        Missing::Forgotten => "perhaps declared: what was declared there is forgotten".into(),
        Missing::Declared => format!("declared: {}", reason(why)),
        Missing::UncleanStop => "lost with the power, was only accepted".into(),
        Missing::Rejected => "came when there was no room to remember it: in rp.rejected".into(),
        Missing::Unspecified => "for a cause of a later version".into(),
    }
}

fn reason(reason: DropReason) -> &'static str {
    match reason {
        DropReason::QueueFull => "the queue was full",
        DropReason::TooOld => "too old",
        DropReason::Consent => "consent was withdrawn",
        DropReason::Corrupt => "flash went bad",
        DropReason::Refused => "refused by broker or collector",
        DropReason::Unspecified => "for a reason of a later version",
    }
}

fn refusal(refusal: RefusalReason) -> Option<&'static str> {
    match refusal {
        RefusalReason::TooLarge => Some("too large"),
        RefusalReason::NotAllowed => Some("not allowed"),
        RefusalReason::Undecodable => Some("cannot be read"),
        RefusalReason::Unspecified => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(first: u64, last: u64, events: u64, missing: Missing) -> wire::MissingRange {
        wire::MissingRange {
            first_sequence: first,
            last_sequence: last,
            event_count: events,
            missing: missing.into(),
            reason: if missing == Missing::Declared {
                DropReason::QueueFull.into()
            } else {
                0
            },
            since_unix_ms: 1_800_000_000_000,
        }
    }

    fn total(range: &wire::MissingRange) -> wire::MissingTotal {
        wire::MissingTotal {
            missing: range.missing,
            reason: range.reason,
            ranges: 1,
            batches: range_batches(range),
            events: range.event_count,
            ranges_uncounted: u64::from(range.event_count == 0),
        }
    }

    fn run(ranges: Vec<wire::MissingRange>) -> wire::Completeness {
        wire::Completeness {
            device_id: "box-1".into(),
            model: "stb-4k".into(),
            firmware: "7.2\u{7}".into(),
            epoch: Some(wire::Epoch {
                incarnation: 255,
                start: 3,
            }),
            as_of_unix_ms: 1_800_000_060_000,
            highest_sequence: 20,
            highest_ordinal: 41,
            missing_totals: ranges.iter().map(total).collect(),
            missing: ranges,
            ..wire::Completeness::default()
        }
    }

    fn printed(runs: &[wire::Completeness]) -> String {
        let mut out = Vec::new();
        print(&mut out, runs.iter(), 5).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_no_longer_remembered_is_told() {
        let some = wire::Completeness {
            declared_ranges_forgotten: 3,
            declared_forgotten_first_sequence: 2,
            declared_forgotten_last_sequence: 5,
            ..run(vec![missing(2, 5, 8, Missing::Forgotten)])
        };
        let all = wire::Completeness {
            highest_sequence: 0,
            declared_forgotten_first_sequence: 1,
            declared_forgotten_last_sequence: u64::MAX,
            declared_runs_forgotten: 9,
            ..run(vec![])
        };
        let expected = "\
box-1  model stb-4k, firmware 7.2\\u{7}
  run 00000000000000ff.3: running
    arrived through batch 20, event 41, as of 2027-01-15 08:01:00.000
    missing batches 2 to 5: 4 batches, 8 events, perhaps declared: what was declared there is forgotten, since 2027-01-15 08:00:00.000
    … and 3 declared before, no longer remembered
    which of batches 2 to 5 were declared is no longer remembered
  run 00000000000000ff.3: running
    nothing arrived, as of 2027-01-15 08:01:00.000
    whether more was declared of it is no longer remembered
    of 9 runs of its queue file up to this one, what was declared is no longer remembered
2 runs told of 1 box, 1 complete but for what was declared; 5 more complete
missing, perhaps declared: what was declared there is forgotten: 4 batches, 8 events
";
        assert_eq!(printed(&[some, all]), expected);
    }

    #[test]
    fn a_box_is_told_with_its_runs_its_holes_and_what_all_come_to() {
        let declared = wire::DeclaredRange {
            first_sequence: 8,
            last_sequence: 9,
            first_ordinal: 15,
            event_count: 4,
            reason: DropReason::QueueFull.into(),
            refusal: 0,
            ..wire::DeclaredRange::default()
        };
        let first = wire::Completeness {
            ended: true,
            declared: vec![declared],
            unclean_stop: true,
            last_known_sequence: 19,
            last_known_ordinal: 38,
            ..run(vec![
                missing(2, 5, 8, Missing::Unexplained),
                missing(8, 9, 4, Missing::Declared),
                missing(12, 12, 0, Missing::Held),
            ])
        };
        let second = wire::Completeness {
            epoch: Some(wire::Epoch {
                incarnation: 255,
                start: 4,
            }),
            ..run(vec![])
        };
        let expected = "\
box-1  model stb-4k, firmware 7.2\\u{7}
  run 00000000000000ff.3: ended, the box may still hold some of it
    arrived through batch 20, event 41, as of 2027-01-15 08:01:00.000
    missing batches 2 to 5: 4 batches, 8 events, UNEXPLAINED: the box neither holds nor declares it, since 2027-01-15 08:00:00.000
    missing batches 8 to 9: 2 batches, 4 events, declared: the queue was full, since 2027-01-15 08:00:00.000
    missing batch 12: 1 batch, of events nobody knows how many, may still come: the box may hold it, since 2027-01-15 08:00:00.000
    declared batches 8 to 9: 4 events, the queue was full
    ended without a clean stop; batch 19 and event 38 were the last known to be durable
  run 00000000000000ff.4: running
    arrived through batch 20, event 41, as of 2027-01-15 08:01:00.000
2 runs told of 1 box, 1 complete but for what was declared; 5 more complete
missing, may still come: the box may hold it: 1 batch, of events nobody knows how many
missing, UNEXPLAINED: the box neither holds nor declares it: 4 batches, 8 events
missing, declared: the queue was full: 2 batches, 4 events
";
        assert_eq!(printed(&[first, second]), expected);
    }
}
