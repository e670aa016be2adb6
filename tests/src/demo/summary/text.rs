//! The summary for people: the ad's story, the funnel, how long it took, what
//! was read, and what must be 0. Pure.

use std::fmt::Write as _;

use returnpath_collector::decisions::{
    paint::{Paint, Tone},
    quantity::span_ms,
};

use super::Summary;
use crate::demo::table;

/// Most ads are so long.
const AD_MS: u64 = 30_000;

/// Width of what is counted.
const NAME_WIDTH: usize = 36;

impl Summary {
    /// As it is printed at the end.
    #[must_use]
    pub fn text(&self, paint: Paint) -> String {
        let mut text = String::new();
        let title = format!(
            "{} simulated boxes and {} real agents, fed for {} s (seed {})",
            self.boxes, self.agents, self.fed_s, self.seed
        );
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", paint.tone(Tone::Strong, title));
        let _ = writeln!(
            text,
            "households live {} times faster than real: an ad of 30 s takes {}\n",
            self.speed,
            span_ms(AD_MS / u64::from(self.speed.max(1)))
        );
        if let Some(story) = &self.story {
            let _ = writeln!(text, "{}", story.text(paint));
        }
        text += &table::funnel(&self.decisions, &self.breaker_openings, paint);
        text.push('\n');
        for remark in table::remarks(&self.decisions) {
            let _ = writeln!(text, "  {remark}");
        }
        text.push('\n');
        text += &self.latencies(paint);
        text.push('\n');
        text += &self.events(paint);
        text.push('\n');
        text += &self.proof(paint);
        text
    }

    fn latencies(&self, paint: Paint) -> String {
        let fleet = &self.fleet;
        let rows = [
            (
                "opportunity to decision, on sockets of agents",
                self.agents_decided,
            ),
            ("the same in simulated boxes", fleet.decided),
            ("impression to `durable`", fleet.proof_answered),
            (
                "opportunity or impression to rp.ads",
                self.urgent_ads_readable,
            ),
        ];
        table::latencies(&rows, paint)
            + "  (Kafka's stand-in answers late; tests/bench measures on Apache Kafka)\n"
    }

    fn events(&self, paint: Paint) -> String {
        let mut text = paint.tone(Tone::Strong, "events");
        text.push('\n');
        let fleet = &self.fleet;
        for (name, count) in [
            ("answered", self.answered),
            ("  of these `durable`", self.durable),
            ("read back from refined topics", self.in_refined_topics),
            ("rejected, with the reason", self.rejected.values().sum()),
            ("declared lost by their box", self.declared.values().sum()),
        ] {
            text += &counted(name, count);
        }
        for (what, counts) in [("rejected", &self.rejected), ("declared", &self.declared)] {
            for (reason, count) in counts {
                let _ = writeln!(text, "    {what} as {reason}: {count}");
            }
        }
        let batches = [
            fleet.batches_sent,
            fleet.batches_resent,
            fleet.batches_receipted,
        ];
        let [sent, resent, receipted] = batches;
        let _ = writeln!(
            text,
            "  in batches: {sent} sent, {resent} again, {receipted} receipted before the end"
        );
        let topics = self.records.iter();
        let topics = topics.map(|(topic, records)| format!("{topic} {records}"));
        let _ = writeln!(
            text,
            "  records read: {}",
            topics.collect::<Vec<_>>().join(", ")
        );
        text
    }

    fn proof(&self, paint: Paint) -> String {
        let mut text = paint.tone(Tone::Strong, "what must be 0");
        text.push('\n');
        let (decisions, slots) = (&self.decisions, &self.slot_faults);
        for (name, count) in [
            ("events missing", self.missing),
            ("events duplicated", self.duplicated),
            ("records unreadable", self.unreadable),
            ("slots asked for and not decided", slots.undecided),
            ("slots decided twice", decisions.decided_twice),
            ("slots filled twice on their box", slots.filled_twice),
            (
                "decisions without a record",
                decisions.without_record + slots.without_record,
            ),
        ] {
            let line = counted(name, count);
            text += &match count {
                0 => line,
                _ => paint.tone(Tone::Bad, line.trim_end()) + "\n",
            };
        }
        for finding in &self.findings {
            let missing = finding.ordinary.missing + finding.proof.missing;
            let duplicated = finding.ordinary.duplicated + finding.proof.duplicated;
            let device = &finding.device;
            let _ = writeln!(
                text,
                "  {device}: {missing} missing, {duplicated} duplicated"
            );
        }
        let (tone, verdict) = if self.clean {
            (
                Tone::Good,
                "clean: every answered event stands in the refined topics once,\n       \
                 and every slot was decided once, on record",
            )
        } else if self.answered == 0 || self.durable == 0 {
            (Tone::Bad, "not clean: too little flowed to say anything")
        } else {
            (Tone::Bad, "not clean")
        };
        let _ = writeln!(text, "\n{}", paint.tone(tone, verdict));
        text
    }
}

fn counted(name: &str, count: u64) -> String {
    format!("{:<NAME_WIDTH$} {count:>8}\n", format!("  {name}"))
}
