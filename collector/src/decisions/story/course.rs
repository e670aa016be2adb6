//! What became of the decision, with the time that each stage took.

use returnpath_shared::wire::{Decided, DecisionRecord, NoFill, Progress, Stage};

use super::Story;
use crate::decisions::{
    paint::Tone,
    quantity::{difference_ms, span_ms, time_of_day},
    words::{self, printable},
};

pub(super) fn tell(
    story: &mut Story,
    decided: Option<(&DecisionRecord, &Decided)>,
    stages: &[(i64, &Progress)],
) {
    story.section("what became of it (UTC; since the decision was recorded)");
    let start = decided.map(|(record, _)| record.recorded_unix_ms);
    if let Some(start) = start {
        let time = time_of_day(start);
        story.plain(format_args!("  {time}  {:>12}  recorded", ""));
    }
    for (recorded_unix_ms, progress) in stages {
        let happened = match progress.event_unix_ms {
            0 => *recorded_unix_ms,
            on_the_box => on_the_box,
        };
        let since = start.map_or_else(String::new, |start| difference_ms(start, happened));
        let mut line = meaning(progress);
        if progress.event_unix_ms != 0 {
            let later_ms = recorded_unix_ms.saturating_sub(happened);
            // A box whose clock is ahead tells of what is still to come.
            line += &u64::try_from(later_ms).map_or_else(
                |_| " (by the box's clock)".to_owned(),
                |ms| format!(" (by the box's clock; told {} later)", span_ms(ms)),
            );
        }
        let time = time_of_day(happened);
        story.plain(format_args!("  {time}  {since:>12}  {line}"));
    }
    let (tone, so_far) = so_far(decided.map(|(_, decided)| decided), stages);
    let so_far = story.paint.tone(tone, so_far);
    story.plain(format_args!("\n{so_far}"));
}

fn meaning(progress: &Progress) -> String {
    let stage = words::stage(progress.stage);
    let more = match progress.stage() {
        Stage::Pushed => ": the MQTT broker has it".to_owned(),
        Stage::Acknowledged => ": the box verified and stored it".to_owned(),
        Stage::Shown => ": its first frame".to_owned(),
        Stage::Refused => format!(" by the box: {}", printable(&progress.refusal)),
        Stage::Failed => format!(": VAST error {}", progress.error_code),
        Stage::Expired => ": the box has told everything up to its expiry".to_owned(),
        Stage::Unspecified
        | Stage::FirstQuartile
        | Stage::Midpoint
        | Stage::ThirdQuartile
        | Stage::Completed
        | Stage::Skipped
        | Stage::Clicked => String::new(),
    };
    match progress.instance {
        0 => format!("{stage}{more}"),
        instance => format!("{stage}{more}, play {instance}"),
    }
}

/// How it stands, in one sentence.
fn so_far(decided: Option<&Decided>, stages: &[(i64, &Progress)]) -> (Tone, &'static str) {
    let reached = |stage: Stage| stages.iter().any(|(_, progress)| progress.stage() == stage);
    let choice = decided.and_then(|decided| decided.choice);
    if choice.is_some_and(|choice| choice.no_fill() == NoFill::Expired) {
        return (
            Tone::Bad,
            "It came too late: nobody was asked, nothing was sent.",
        );
    }
    let no_fill = choice.is_some_and(|choice| choice.aggregator.is_none());
    if reached(Stage::Completed) {
        (Tone::Good, "It was shown to its end.")
    } else if reached(Stage::Failed) {
        (Tone::Bad, "The player failed to show it.")
    } else if reached(Stage::Skipped) {
        (Tone::Good, "It was shown, and skipped.")
    } else if reached(Stage::Shown) {
        (Tone::Good, "It is shown; its end has not been told.")
    } else if reached(Stage::Refused) {
        (Tone::Bad, "The box refused it.")
    } else if no_fill && reached(Stage::Acknowledged) {
        (Tone::Bad, "The box knows that there is no ad for the slot.")
    } else if reached(Stage::Expired) {
        (Tone::Bad, "It expired without having been shown.")
    } else if reached(Stage::Acknowledged) {
        (
            Tone::Strong,
            "The box has it, and has not told of showing it.",
        )
    } else if reached(Stage::Pushed) {
        (Tone::Strong, "It was sent; the box has not answered.")
    } else if decided.is_some_and(|decided| decided.signed.is_none()) {
        (Tone::Bad, "Nothing was sent to the box.")
    } else {
        (Tone::Strong, "It is recorded, and not sent yet.")
    }
}
