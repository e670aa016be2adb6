//! `returnpath-collector audit`: what the boxes' clients were answered, against
//! what stands in the refined topics and what the boxes declare as lost.
//!
//! The rules are in [`Tally`], a pure core that tests and the demo feed in
//! process. This file reads answers and topics into it and prints what it
//! says. Commits no offset and changes nothing.
//!
//! Exit codes: 0 clean; 1 findings (missing, duplicated, or something that
//! could not be read); 2 the files or Kafka cannot be reached.

mod answers;
mod intervals;
mod summary;
mod tally;
mod verdict;

use std::{
    fs::File,
    io::{self, BufReader, IsTerminal as _, Write},
    ops::ControlFlow,
    path::PathBuf,
    process::ExitCode,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use prost::Message as _;
use rdkafka::{Message as _, message::BorrowedMessage};
use returnpath_shared::{Stream, wire};
use serde::Serialize;
use tracing::{error, info, warn};

use crate::{
    config::Config,
    kafka::{self, Begin, Next, ReadError, TopicReader, Until},
    tail::Since,
};

pub use answers::AnswerError;
use answers::{Answers, Numbered};
use summary::{Boxes, Colour};
pub use tally::{Answer, INTERVALS_MAX, MISSING_RANGES_LISTED_MAX, RecordError, Tally, class_name};
pub use verdict::{BoxVerdict, ClassVerdict, Missing, Verdict};

/// Exit code when answers or Kafka cannot be read.
pub const EXIT_UNREACHABLE: u8 = 2;

/// Facts between the threads that read topics and the tally: enough to keep
/// both busy, little enough to forget. A full channel makes the readers wait.
const FACTS_WAITING_MAX: usize = 1_024;

/// Wrong lines and records that are named; beyond it they are only counted.
const NAMED_MAX: u64 = 20;

/// How often the files of answers are looked at while following, and how long
/// it takes at most until a stop is noticed.
const TICK: Duration = Duration::from_millis(100);

/// How often the state is logged while following.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// What to compare.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files of answers, JSON lines: {"device":"box-1","epoch":"…","ordinal":"12","status":"durable"}.
    #[arg(required = true, value_name = "FILE")]
    answers: Vec<PathBuf>,
    /// Read the topics from here instead of from their beginning: an age as in
    /// 90s, 15m, 2h or 1d, a time as in 2026-01-31T20:15:00Z, or offset:N.
    /// What was answered for events before it is reported as missing.
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
    /// Read along until interrupted, files and topics, then judge.
    #[arg(long)]
    follow: bool,
    /// Print a row for every box, not only for those with findings.
    #[arg(long)]
    boxes: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

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
}

impl Outcome {
    /// Nothing missing, nothing twice, nothing unread.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.unread.is_nothing()
    }
}

/// As printed by `--json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    clean: bool,
    ordinary: &'a ClassVerdict,
    proof: &'a ClassVerdict,
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
    let stop = std::sync::Arc::new(AtomicBool::new(false));
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
    info!(
        answered = ordinary.answered + proof.answered,
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
        let boxes = if args.boxes {
            Boxes::All
        } else {
            Boxes::WithFindings
        };
        return summary::print(out, &outcome.verdict, &outcome.unread, boxes, colour);
    }
    let [ordinary, proof] = &outcome.verdict.totals();
    let report = Report {
        clean: outcome.is_clean(),
        ordinary,
        proof,
        unread_lines: outcome.unread.lines,
        unread_records: outcome.unread.records,
        verdict: &outcome.verdict,
    };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}

/// What a reading thread found.
enum Fact {
    Refined(Box<wire::Refined>),
    Rejected(Box<wire::Rejected>),
    Unread(String),
}

/// Reads everything that `args` names and judges it. `look` sees the tally
/// about ten times a second and may end the reading, as one that follows must.
///
/// # Errors
/// When a file or a topic cannot be read.
pub fn audit(
    args: &Args,
    kafka: &kafka::Config,
    look: impl FnMut(&Tally) -> ControlFlow<()>,
) -> anyhow::Result<Outcome> {
    let begin = match args.since {
        None => Begin::Oldest,
        Some(since) => since.start(SystemTime::now()),
    };
    let until = if args.follow {
        Until::Forever
    } else {
        Until::End
    };
    let mut files = Vec::new();
    for path in &args.answers {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        files.push(Answers::new(
            path.display().to_string(),
            BufReader::new(file),
        ));
    }
    let mut reading = Reading::default();
    for file in &mut files {
        reading.read_answers(file)?;
    }

    let topics = &kafka.topics;
    let sources = Stream::ALL
        .map(|stream| (topics.refined(stream), Holds::Refined))
        .into_iter()
        .chain([(topics.rejected.as_str(), Holds::Rejected)]);
    // Readers stop when the tally does, whatever made it stop.
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (facts, incoming) = sync_channel(FACTS_WAITING_MAX);
        let mut readers = Vec::new();
        for (topic, holds) in sources {
            let (facts, done) = (facts.clone(), &done);
            readers.push(scope.spawn(move || {
                let mut reader =
                    TopicReader::open(kafka, "returnpath-audit", topic, None, begin, until)?;
                read_topic(&mut reader, holds, &facts, done)
            }));
        }
        drop(facts);
        let more = if args.follow { &mut files[..] } else { &mut [] };
        let taken = reading.take_facts(&incoming, more, look, || {
            // A reader that follows ends only when it failed.
            args.follow && readers.iter().any(thread::ScopedJoinHandle::is_finished)
        });
        done.store(true, Ordering::Relaxed);
        // Without a receiver no reader waits for room.
        drop(incoming);
        for reader in readers {
            match reader.join() {
                Ok(read) => read?,
                Err(_) => anyhow::bail!("a reading thread ended"),
            }
        }
        taken
    })?;
    for file in &mut files {
        reading.read_answers(file)?;
        if let Some(last) = file.rest() {
            let name = file.name.clone();
            reading.answer(&name, last);
        }
    }
    Ok(Outcome {
        verdict: reading.tally.verdict(),
        unread: reading.unread,
    })
}

#[derive(Clone, Copy)]
enum Holds {
    Refined,
    Rejected,
}

fn read_topic(
    reader: &mut TopicReader,
    holds: Holds,
    facts: &SyncSender<Fact>,
    done: &AtomicBool,
) -> Result<(), ReadError> {
    let topic = reader.topic().to_owned();
    while !done.load(Ordering::Relaxed) {
        let fact = match reader.next(TICK)? {
            Next::Record(record) => decode(&topic, &record, holds),
            Next::Nothing => continue,
            Next::End => break,
        };
        if facts.send(fact).is_err() {
            break;
        }
    }
    Ok(())
}

fn decode(topic: &str, record: &BorrowedMessage<'_>, holds: Holds) -> Fact {
    let payload = record.payload().unwrap_or_default();
    let decoded = match holds {
        Holds::Refined => {
            wire::Refined::decode(payload).map(|record| Fact::Refined(Box::new(record)))
        }
        Holds::Rejected => {
            wire::Rejected::decode(payload).map(|record| Fact::Rejected(Box::new(record)))
        }
    };
    decoded.unwrap_or_else(|error| {
        Fact::Unread(format!(
            "{topic}/{}@{}: {error}",
            record.partition(),
            record.offset()
        ))
    })
}

/// The tally, and what is counted beside it.
#[derive(Default)]
struct Reading {
    tally: Tally,
    unread: Unread,
}

impl Reading {
    /// Takes facts until every reader is done or one of them failed, or until
    /// `look` says that it is enough; and answers from files that grow.
    fn take_facts(
        &mut self,
        incoming: &Receiver<Fact>,
        growing: &mut [Answers<BufReader<File>>],
        mut look: impl FnMut(&Tally) -> ControlFlow<()>,
        failed: impl Fn() -> bool,
    ) -> anyhow::Result<()> {
        let mut looked = Instant::now();
        loop {
            match incoming.recv_timeout(TICK) {
                Ok(fact) => self.fact(fact),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if looked.elapsed() < TICK {
                continue;
            }
            looked = Instant::now();
            for file in &mut *growing {
                self.read_answers(file)?;
            }
            if failed() || look(&self.tally).is_break() {
                return Ok(());
            }
        }
    }

    fn fact(&mut self, fact: Fact) {
        match fact {
            Fact::Refined(record) => {
                if let Err(error) = self.tally.refined(&record) {
                    let device = &record.device_id;
                    let error = anyhow::Error::new(error);
                    self.unread_record(&format!("record of {device:?}: {error:#}"));
                }
            }
            Fact::Rejected(record) => self.tally.rejected(&record),
            Fact::Unread(what) => self.unread_record(&what),
        }
    }

    fn unread_record(&mut self, what: &str) {
        self.unread.records += 1;
        if self.unread.records <= NAMED_MAX {
            warn!("cannot read {what}");
        }
    }

    fn read_answers(&mut self, file: &mut Answers<BufReader<File>>) -> anyhow::Result<()> {
        while let Some(line) = file
            .next()
            .with_context(|| format!("cannot read {}", file.name))?
        {
            self.answer(&file.name, line);
        }
        Ok(())
    }

    fn answer(&mut self, file: &str, line: Numbered) {
        match line.answer {
            Ok(answer) => self.tally.answered(&answer),
            Err(error) => {
                self.unread.lines += 1;
                if self.unread.lines <= NAMED_MAX {
                    warn!("{file}:{}: {error}", line.number);
                }
            }
        }
    }
}
