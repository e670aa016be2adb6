//! `returnpath-collector audit`: what became of every event, by box, class,
//! run of the agent and ordinal: against what clients were answered, or by the
//! topics alone; over everything that Kafka has, or a stretch of time.
//!
//! The rules are in [`Tally`], a pure core that tests and the demo feed in
//! process; [`audit`] reads answers and topics into it. This file is the
//! command: what it takes and what it prints. Commits no offset and changes
//! nothing.
//!
//! Exit codes: 0 clean; 1 findings (missing, duplicated, or something that
//! could not be read; with `--require-order` also out of order); 2 the files or
//! Kafka cannot be reached.

mod answers;
mod declaration;
mod intervals;
mod order;
mod reading;
mod stretch;
mod summary;
mod tally;
mod verdict;

use std::{
    io::{self, IsTerminal as _, Write},
    ops::ControlFlow,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use returnpath_shared::DeviceId;
use serde::Serialize;
use tracing::{error, info};

use crate::{
    config::Config,
    tail::{Age, Since},
};

pub use answers::AnswerError;
pub use reading::audit;
pub use stretch::Stretch;
use summary::{Colour, Detail};
pub use tally::{Answer, INTERVALS_MAX, RecordError, Tally, class_name};
pub use verdict::{BoxVerdict, ClassVerdict, EpochVerdict, Ordinals, RANGES_LISTED_MAX, Verdict};

/// Exit code when answers or Kafka cannot be read.
pub const EXIT_UNREACHABLE: u8 = 2;

/// How often the state is logged while following.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// What to compare.
#[derive(Debug, clap::Args)]
#[command(after_long_help = TEACHING)]
pub struct Args {
    /// Files of answers, JSON lines: {"device":"box-1","epoch":"…","ordinal":"12","status":"durable"}.
    /// Without any, the topics are judged by themselves: ordinals leave no gaps.
    #[arg(value_name = "FILE")]
    answers: Vec<PathBuf>,
    /// Judge what collectors took from here on: an age as in 90s, 15m, 2h or 1d,
    /// or a time as in 2026-01-31T20:15:00Z. With offset:N read from there and
    /// judge everything; what came before it is reported as missing.
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
    /// Judge what collectors took before this time or age, and what is missing
    /// below it.
    #[arg(long, value_name = "WHEN", conflicts_with = "follow")]
    until: Option<Since>,
    /// How far around the stretch to look for what is missing in it: the backlog
    /// of a box that was away comes later, and so does what it declares.
    #[arg(long, value_name = "AGE", default_value = "1d")]
    around: Age,
    /// Only this box.
    #[arg(long, value_name = "ID")]
    device: Option<DeviceId>,
    /// Read along until interrupted, files and topics, then judge.
    #[arg(long)]
    follow: bool,
    /// Count events out of order as findings, too.
    #[arg(long)]
    require_order: bool,
    /// Print a row for every box, not only for those with findings.
    #[arg(long)]
    boxes: bool,
    /// Name the events that were rejected, declared lost or died in an unclean
    /// stop, too, with their reasons.
    #[arg(long)]
    ranges: bool,
    /// Print JSON instead of a table: every box and run, with all of these.
    #[arg(long)]
    json: bool,
}

/// What the words of the table mean.
const TEACHING: &str = "\
Each event has one of these fates; the first that holds is told:
  arrived       it stands in a refined topic
  rejected      it stands in rp.rejected, with the reason
  declared      its box says that it dropped it, with the reason
  unclean stop  it was not durable when its agent ended without a clean stop
  missing       none of these: somebody should look. Beside given answers, what
                nobody was answered for is told and is no finding
Besides, an event is duplicated when it stands in refined topics twice, and out
of order when it stands behind a later one of its run, lane and topic: its batch
had to be sent again.

Examples:
  audit                                   all topics, by themselves
  audit --since 2h                        what came in the last two hours
  audit --since 2026-01-31T20:00:00Z --until 2026-01-31T21:00:00Z --device box-1
  audit answers.jsonl --json              against what clients were answered

Exit codes: 0 clean, 1 findings, 2 cannot be read.";

/// What could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Unread {
    /// Lines of answers.
    pub lines: u64,
    /// Records in the topics.
    pub records: u64,
}

impl Unread {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What an audit came to.
#[derive(Debug)]
pub struct Outcome {
    /// What became of everything that was answered.
    pub verdict: Verdict,
    /// What could not be read.
    pub unread: Unread,
    /// No answers were given: what is missing between events that came is a
    /// finding. Where they were given, they say what must be there.
    pub judges_gaps: bool,
    /// Events out of order are findings.
    pub requires_order: bool,
}

impl Outcome {
    /// Nothing missing, nothing twice, nothing unread; nothing out of order
    /// where that is asked for.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.verdict.is_clean()
            && self.missing() == 0
            && self.unread.is_nothing()
            && !(self.requires_order && self.verdict.out_of_order() > 0)
    }

    /// Events whose absence is a finding.
    #[must_use]
    pub fn missing(&self) -> u64 {
        let gaps = if self.judges_gaps {
            self.verdict.unanswered().missing
        } else {
            0
        };
        self.verdict.missing() + gaps
    }
}

/// As printed by `--json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    clean: bool,
    ordinary: &'a ClassVerdict,
    proof: &'a ClassVerdict,
    unanswered: &'a ClassVerdict,
    unread_lines: u64,
    unread_records: u64,
    #[serde(flatten)]
    verdict: &'a Verdict,
}

/// Runs the command.
///
/// # Errors
/// When standard output fails, other than by being closed.
pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    if args.follow {
        let stop = stop.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                stop.store(true, Ordering::Relaxed);
            }
        });
    }
    // Reading files and Kafka blocks its thread.
    let audited = tokio::task::spawn_blocking(move || {
        let mut reported = Instant::now();
        let outcome = audit(&args, &config.kafka, |tally| {
            if stop.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            if reported.elapsed() >= PROGRESS_INTERVAL {
                reported = Instant::now();
                log_progress(&tally.verdict());
            }
            ControlFlow::Continue(())
        });
        (args, outcome)
    });
    let (args, outcome) = audited.await.context("the audit's thread ended")?;
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(cause) => {
            error!("cannot audit: {cause:#}");
            return Ok(ExitCode::from(EXIT_UNREACHABLE));
        }
    };
    match print(&args, &outcome, &mut io::stdout().lock()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(error).context("cannot print the verdict");
        }
        Ok(()) | Err(_) => {}
    }
    Ok(if outcome.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn log_progress(verdict: &Verdict) {
    let [ordinary, proof] = verdict.totals();
    let unanswered = verdict.unanswered();
    info!(
        answered = ordinary.answered + proof.answered,
        arrived = ordinary.arrived + proof.arrived + unanswered.arrived,
        outstanding = verdict.missing(),
        duplicated = verdict.duplicated(),
        "reading"
    );
}

fn print(args: &Args, outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    if !args.json {
        let colour = if io::stdout().is_terminal() {
            Colour::Terminal
        } else {
            Colour::Plain
        };
        let detail = Detail {
            all_boxes: args.boxes,
            all_ranges: args.ranges,
        };
        return summary::print(out, outcome, detail, colour);
    }
    let [ordinary, proof, unanswered] = &outcome.verdict.all_totals();
    let report = Report {
        clean: outcome.is_clean(),
        ordinary,
        proof,
        unanswered,
        unread_lines: outcome.unread.lines,
        unread_records: outcome.unread.records,
        verdict: &outcome.verdict,
    };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}
