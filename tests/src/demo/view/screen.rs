//! One picture of what flows. What matters most stands above: on a small
//! terminal the rest is cut off.

use std::fmt::Write as _;

use returnpath_collector::decisions::paint::{Paint, Tone};

use super::Frame;
use crate::demo::table;

pub(super) fn text(frame: &Frame, paint: Paint) -> String {
    let Frame { fleet, seen, .. } = frame;
    let title = format!("returnpath demo: {} for {}", frame.stage, time(frame));
    let mut text = format!(
        "{}   ctrl-c ends it with the audit\n",
        paint.tone(Tone::Strong, title)
    );
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{} of {} simulated boxes connected, {} real agents; households live {} times faster than real\n",
        fleet.boxes_connected, frame.boxes, frame.agents, frame.speed,
    );
    let faults = seen.duplicated + seen.unreadable + seen.slot_faults.filled_twice;
    let tone = if faults > 0 { Tone::Bad } else { Tone::Good };
    let wrong = format!(
        "{} duplicated, {} unreadable, {} filled twice",
        seen.duplicated, seen.unreadable, seen.slot_faults.filled_twice
    );
    let _ = writeln!(
        text,
        "{}  {} answered, {} a second; {} on the way; {}\n",
        paint.tone(Tone::Strong, "events"),
        seen.answered,
        frame.answered_per_second,
        seen.outstanding,
        paint.tone(tone, wrong),
    );
    text += &table::funnel(&seen.funnel, &frame.breaker_openings, paint);
    text.push('\n');
    let rows = [
        (
            "opportunity to decision, on sockets of agents",
            frame.agents_decided,
        ),
        ("the same in simulated boxes", fleet.decided),
        ("impression to `durable`", fleet.proof_answered),
        ("opportunity or impression to rp.ads", seen.urgent_ads),
    ];
    text += &table::latencies(&rows, paint);
    text.push('\n');
    match &seen.story {
        Some(story) => text += &story.text(paint),
        None => text += "the story of one ad stands here once it was shown to its end\n",
    }
    text.push('\n');
    for line in &frame.look_in {
        let _ = writeln!(text, "{}", paint.tone(Tone::Faint, line));
    }
    text
}

fn time(frame: &Frame) -> String {
    let elapsed_s = frame.elapsed.as_secs();
    match frame.feed_for {
        Some(limit) if limit.as_secs() >= elapsed_s => {
            format!("{elapsed_s} of {} s", limit.as_secs())
        }
        Some(_) | None => format!("{elapsed_s} s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_picture_says_how_long_it_goes_on_and_what_is_wrong() {
        let mut frame = Frame {
            stage: "feeding",
            elapsed: Duration::from_secs(7),
            feed_for: Some(Duration::from_secs(60)),
            ..Frame::default()
        };
        frame.seen.duplicated = 3;
        let text = text(&frame, Paint::Terminal);
        assert!(text.contains("feeding for 7 of 60 s"), "{text}");
        assert!(text.contains("\x1b[31m3 duplicated"), "{text}");
    }
}
