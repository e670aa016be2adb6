//! What flows, for people: one refreshing screen on a terminal, a plain line
//! every few seconds elsewhere. Rendering is pure; [`View`] only writes.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write},
    time::{Duration, Instant},
};

use super::read_along::Seen;
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
         {} batches receipted, {} sent again",
        frame.elapsed.as_secs(),
        frame.stage,
        seen.answered,
        frame.answered_per_second,
        seen.records.values().sum::<u64>(),
        seen.outstanding,
        seen.duplicated,
        frame.fleet.batches_receipted,
        frame.fleet.batches_resent,
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
    fn latencies_without_a_bound_are_not_given_one() {
        assert_eq!(ms(0), "-");
        assert_eq!(ms(20), "20 ms");
        assert_eq!(ms(u64::MAX), "more than 10 s");
    }
}
