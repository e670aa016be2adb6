//! What flows, for people: one refreshing screen on a terminal, a plain line
//! every few seconds elsewhere. Rendering is pure; [`View`] only writes.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, IsTerminal as _, Write},
    time::{Duration, Instant},
};

use super::{
    funnel::{AggregatorFunnel, Funnel},
    read_along::Seen,
};
use crate::fleet::{FleetCounts, latency::Percentiles};

/// Lines are rarer than screens: they stay.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    pub(super) stage: &'static str,
    pub(super) elapsed: Duration,
    pub(super) agents: u32,
    pub(super) boxes: u32,
    pub(super) agents_answered: u64,
    pub(super) agents_proof: Percentiles,
    pub(super) agents_decisions: u64,
    pub(super) agents_decided: Percentiles,
    pub(super) breaker_openings: BTreeMap<String, u64>,
    pub(super) fleet: FleetCounts,
    pub(super) seen: Seen,
    /// Events answered a second, over the last frames.
    pub(super) answered_per_second: u64,
}

/// Where frames go, and how.
pub(super) struct View {
    form: Form,
    last_line: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A terminal: each frame over the one before.
    Screen,
    /// Lines on standard output.
    Lines,
    /// Lines on standard error: standard output is for JSON.
    LinesAside,
}

impl View {
    pub(super) fn for_people() -> Self {
        let form = if io::stdout().is_terminal() {
            Form::Screen
        } else {
            Form::Lines
        };
        Self {
            form,
            last_line: None,
        }
    }

    pub(super) fn beside_json() -> Self {
        Self {
            form: Form::LinesAside,
            last_line: None,
        }
    }

    /// Shows a frame, or not if it is too soon for another line.
    pub(super) fn show(&mut self, frame: &Frame) -> io::Result<()> {
        if self.form == Form::Screen {
            // From the top left, each line cleared to its end, the rest too.
            let text = screen(frame).replace('\n', "\x1b[K\n");
            let mut out = io::stdout().lock();
            write!(out, "\x1b[H{text}\x1b[J")?;
            return out.flush();
        }
        if self
            .last_line
            .is_some_and(|last| last.elapsed() < LINE_EVERY)
        {
            return Ok(());
        }
        self.last_line = Some(Instant::now());
        let text = line(frame);
        if self.form == Form::Lines {
            writeln!(io::stdout().lock(), "{text}")
        } else {
            writeln!(io::stderr().lock(), "{text}")
        }
    }

    /// Makes room for what comes after the frames.
    pub(super) fn end(&self) -> io::Result<()> {
        if self.form == Form::Screen {
            write!(io::stdout().lock(), "\x1b[H\x1b[2J")?;
        }
        Ok(())
    }
}

fn line(frame: &Frame) -> String {
    let seen = &frame.seen;
    format!(
        "{:>3} s  {}: {} events answered ({}/s), {} read, {} outstanding, {} duplicated; \
         {} batches receipted, {} sent again; \
         {} opportunities, {} slots filled, {} shown, {} completed",
        frame.elapsed.as_secs(),
        frame.stage,
        seen.answered,
        frame.answered_per_second,
        seen.records.values().sum::<u64>(),
        seen.outstanding,
        seen.duplicated,
        frame.fleet.batches_receipted,
        frame.fleet.batches_resent,
        seen.funnel.opportunities,
        seen.funnel.filled,
        seen.funnel.shown,
        seen.funnel.completed,
    )
}

fn screen(frame: &Frame) -> String {
    let Frame { fleet, seen, .. } = frame;
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "\
returnpath demo   {stage}   {elapsed} s   ctrl-c stops
development certificates, Kafka and MQTT broker in this process: not for production

boxes         {connected} of {boxes} simulated ones connected, {agents} agents as processes
events        {answered} answered, {rate}/s; {busy} answered busy
batches       {sent} sent, {resent} again, {receipted} receipted
urgent proof  durable within {sim50} (p50), {sim99} (p99) on simulated boxes
              durable within {real50} (p50), {real99} (p99) on agents ({agents_answered} events)
urgent ads    readable in Kafka within {urgent50} (p50), {urgent99} (p99) of happening

",
        stage = frame.stage,
        elapsed = frame.elapsed.as_secs(),
        connected = fleet.boxes_connected,
        boxes = frame.boxes,
        agents = frame.agents,
        answered = seen.answered,
        rate = frame.answered_per_second,
        busy = fleet.events_busy,
        sent = fleet.batches_sent,
        resent = fleet.batches_resent,
        receipted = fleet.batches_receipted,
        sim50 = ms(fleet.proof_answered.p50_ms_max),
        sim99 = ms(fleet.proof_answered.p99_ms_max),
        real50 = ms(frame.agents_proof.p50_ms_max),
        real99 = ms(frame.agents_proof.p99_ms_max),
        agents_answered = frame.agents_answered,
        urgent50 = ms(seen.urgent_ads.p50_ms_max),
        urgent99 = ms(seen.urgent_ads.p99_ms_max),
    );
    let _ = writeln!(
        text,
        "\
ad decisions  on the box within {} (p50), {} (p99) of the opportunity; {} refused
              on an agent's socket within {} (p50), {} (p99) ({} decisions)
{}",
        ms(fleet.decided.p50_ms_max),
        ms(fleet.decided.p99_ms_max),
        fleet.decisions_refused,
        ms(frame.agents_decided.p50_ms_max),
        ms(frame.agents_decided.p99_ms_max),
        frame.agents_decisions,
        funnel(&seen.funnel, &frame.breaker_openings),
    );
    for (topic, records) in &seen.records {
        let _ = writeln!(text, "{topic:<13} {records} records");
    }
    let _ = writeln!(
        text,
        "\naudit         {} outstanding, {} duplicated\n",
        seen.outstanding, seen.duplicated
    );
    for glimpse in &seen.latest {
        let _ = writeln!(
            text,
            "{:<13} {:<10} {}",
            glimpse.topic, glimpse.device, glimpse.kind
        );
    }
    text
}

/// The funnel as a table: all slots first, then by aggregator.
pub(super) fn funnel(funnel: &Funnel, breaker_openings: &BTreeMap<String, u64>) -> String {
    let mut text = format!(
        "opportunities {}, slots {}; not shown: {} by a fault, {} in vain; skipped {}\n\n",
        funnel.opportunities, funnel.decided, funnel.failed, funnel.expired, funnel.skipped,
    );
    let titles = [
        "asked", "offered", "filled", "pushed", "acked", "shown", "complete", "failures",
    ];
    // Writing to a string does not fail.
    let _ = writeln!(text, "{}", row("ads", &titles.map(str::to_owned)));
    let sum = |part: fn(&AggregatorFunnel) -> u64| funnel.aggregators.values().map(part).sum();
    let all: [u64; 8] = [
        sum(|it| it.asked),
        sum(|it| it.offered),
        funnel.filled,
        funnel.pushed,
        funnel.acknowledged,
        funnel.shown,
        funnel.completed,
        sum(|it| it.failures),
    ];
    let _ = writeln!(text, "{}", row("all", &all.map(|count| count.to_string())));
    for (name, part) in &funnel.aggregators {
        let counts = [
            part.asked,
            part.offered,
            part.filled,
            part.pushed,
            part.acknowledged,
            part.shown,
            part.completed,
            part.failures,
        ];
        let _ = write!(
            text,
            "{}",
            row(name, &counts.map(|count| count.to_string()))
        );
        let openings = breaker_openings.get(name).copied().unwrap_or_default();
        if openings + part.left_alone > 0 {
            let _ = write!(
                text,
                "  breaker opened {openings} times, spared {} calls",
                part.left_alone
            );
        }
        text.push('\n');
    }
    text
}

fn row(name: &str, cells: &[String]) -> String {
    let cells = cells.iter().map(|cell| format!(" {cell:>8}"));
    format!("{name:<13}{}", cells.collect::<String>())
}

/// A bound of a latency class.
pub(super) fn ms(bound: u64) -> String {
    match bound {
        0 => "-".into(),
        u64::MAX => "more than 10 s".into(),
        bound => format!("{bound} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_names_every_topic_and_what_is_outstanding() {
        let mut frame = Frame {
            stage: "feeding",
            ..Frame::default()
        };
        frame.seen.records.insert("rp.ads".into(), 42);
        frame.seen.outstanding = 7;
        let text = screen(&frame);
        assert!(text.contains("rp.ads        42 records"), "{text}");
        assert!(text.contains("7 outstanding"), "{text}");
        assert!(line(&frame).contains("7 outstanding"));
    }

    #[test]
    fn the_funnel_has_a_row_for_each_aggregator_and_says_whose_breaker_opened() {
        let mut counts = Funnel {
            opportunities: 3,
            filled: 2,
            ..Funnel::default()
        };
        let west = AggregatorFunnel {
            asked: 9,
            left_alone: 4,
            ..AggregatorFunnel::default()
        };
        counts.aggregators.insert("west".into(), west);
        counts
            .aggregators
            .insert("east".into(), AggregatorFunnel::default());
        let text = funnel(&counts, &BTreeMap::from([("west".to_owned(), 1)]));
        assert!(text.starts_with("opportunities 3,"), "{text}");
        let row_of = |name| text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(row_of("west").ends_with("breaker opened 1 times, spared 4 calls"));
        assert!(row_of("east").ends_with('0'));
    }

    #[test]
    fn latencies_without_a_bound_are_not_given_one() {
        assert_eq!(ms(0), "-");
        assert_eq!(ms(20), "20 ms");
        assert_eq!(ms(u64::MAX), "more than 10 s");
    }
}
