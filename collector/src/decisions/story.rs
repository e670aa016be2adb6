//! Tells one decision from beginning to end, for a person: what was known, who
//! was asked and what each answered, what was picked and why, and what became
//! of it. Pure: records in, text out.

mod asking;
mod context;
mod course;

use std::fmt::Display;

use returnpath_shared::wire::{Decided, DecisionRecord, Progress, decision_record::What};

use super::{
    line::opportunity,
    paint::{Paint, Tone},
    quantity::{moment, span_ms},
    words::printable,
};

/// Width of the labels, the two spaces before them included.
const LABEL_WIDTH: usize = 16;

/// The story so far.
pub(super) struct Story {
    text: String,
    paint: Paint,
}

/// The whole story. `records` are those of one decision, as they stand in
/// their partition.
pub(super) fn tell(records: &[DecisionRecord], paint: Paint) -> String {
    let mut story = Story {
        text: String::new(),
        paint,
    };
    let decided: Vec<(&DecisionRecord, &Decided)> = records
        .iter()
        .filter_map(|record| match &record.what {
            Some(What::Decided(decided)) => Some((record, decided)),
            Some(What::Progress(_)) | None => None,
        })
        .collect();
    let stages: Vec<(i64, &Progress)> = records
        .iter()
        .filter_map(|record| match &record.what {
            Some(What::Progress(progress)) => Some((record.recorded_unix_ms, progress)),
            Some(What::Decided(_)) | None => None,
        })
        .collect();

    if let Some(record) = records.first() {
        let id = paint.tone(Tone::Strong, printable(&record.decision_id));
        story.plain(format_args!("decision {id}"));
    }
    match decided.as_slice() {
        [] => {
            let device = records.first().map_or("", |record| &record.device_id);
            story.plain(format_args!("box {}", printable(device)));
            story.wrong("how it was decided does not stand in what was read, only what came later");
        }
        [(record, decided), more @ ..] => {
            of_slot(&mut story, record, decided);
            if !more.is_empty() {
                let times = more.len() + 1;
                story.wrong(format_args!(
                    "decided {times} times, which must never be; this is the first"
                ));
            }
            context::tell(&mut story, decided);
            asking::tell(&mut story, decided);
        }
    }
    course::tell(&mut story, decided.first().copied(), &stages);
    story.text
}

fn of_slot(story: &mut Story, record: &DecisionRecord, decided: &Decided) {
    let found = opportunity(decided);
    let break_id = found.map_or("", |found| found.break_id.as_str());
    let slots = found.map_or(0, |found| found.slot_durations_ms.len().max(1));
    story.plain(format_args!(
        "box {}, break {}, slot {} ({} of {slots}), {}, at {} UTC",
        printable(&record.device_id),
        printable(break_id),
        decided.slot,
        decided.slot.saturating_add(1),
        span_ms(decided.slot_duration_ms.into()),
        moment(record.recorded_unix_ms),
    ));
}

impl Story {
    fn plain(&mut self, line: impl Display) {
        self.text.push_str(&line.to_string());
        self.text.push('\n');
    }

    /// Begins a section.
    fn section(&mut self, title: impl Display) {
        self.text.push('\n');
        let title = self.paint.tone(Tone::Strong, title);
        self.plain(title);
    }

    /// A line of a section.
    fn line(&mut self, label: &str, line: impl Display) {
        let width = LABEL_WIDTH - 2;
        self.plain(format_args!("  {label:width$}{line}"));
    }

    /// Something that an operator must look at.
    fn wrong(&mut self, line: impl Display) {
        let line = self.paint.tone(Tone::Bad, line);
        self.plain(format_args!("! {line}"));
    }
}

#[cfg(test)]
mod tests;
