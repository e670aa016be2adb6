//! Reads answers and topics into the tally: a thread a topic, one that judges.
//! Decides nothing about events.

use std::{
    fs::File,
    io::BufReader,
    ops::ControlFlow,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, bail};
use prost::Message as _;
use rdkafka::{Message as _, message::BorrowedMessage};
use returnpath_shared::{DeviceId, Stream, wire};
use tracing::warn;

use super::{
    Args, Outcome, Unread,
    answers::{Answers, Numbered},
    stretch::Stretch,
    tally::Tally,
};
use crate::kafka::{self, Begin, Next, ReadError, TopicReader, Until};

/// What this command is called in Kafka's logs and quotas.
const OWNER: &str = "returnpath-audit";

/// Facts between the threads that read topics and the tally: enough to keep
/// both busy, little enough to forget. A full channel makes the readers wait.
const FACTS_WAITING_MAX: usize = 1_024;

/// Wrong lines and records that are named; beyond it they are only counted.
const NAMED_MAX: u64 = 20;

/// How often the files of answers are looked at while following, and how long
/// it takes at most until a stop is noticed.
const TICK: Duration = Duration::from_millis(100);

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
    let Window {
        stretch,
        begin,
        until,
    } = Window::of(args, SystemTime::now())?;
    let device = args.device.as_ref();
    let mut files = Vec::new();
    for path in &args.answers {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        files.push(Answers::new(
            path.display().to_string(),
            BufReader::new(file),
        ));
    }
    let mut reading = Reading::of(stretch, device.cloned());
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
                let mut reader = TopicReader::open(kafka, OWNER, topic, device, begin, until)?;
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
                Err(_) => bail!("a reading thread ended"),
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
        judges_gaps: args.answers.is_empty(),
        requires_order: args.require_order,
    })
}

/// What is judged, and what is read for it.
struct Window {
    stretch: Stretch,
    begin: Begin,
    until: Until,
}

impl Window {
    fn of(args: &Args, now: SystemTime) -> anyhow::Result<Self> {
        let around_ms = args.around.ms();
        let (from_unix_ms, begin) = match args.since.map(|since| since.start(now)) {
            None => (None, Begin::Oldest),
            Some(Begin::UnixMs(from)) => {
                let begin = Begin::UnixMs(from.saturating_sub(around_ms));
                (Some(from), begin)
            }
            Some(begin) => (None, begin),
        };
        let to_unix_ms = match args.until.map(|until| until.start(now)) {
            None => None,
            Some(Begin::UnixMs(to)) => Some(to),
            Some(_) => bail!("--until must be an age or a time"),
        };
        if let (Some(from), Some(to)) = (from_unix_ms, to_unix_ms)
            && from >= to
        {
            bail!("--since must be before --until");
        }
        let until = match to_unix_ms {
            _ if args.follow => Until::Forever,
            None => Until::End,
            Some(to) => Until::UnixMs(to.saturating_add(around_ms)),
        };
        Ok(Self {
            stretch: Stretch {
                from_unix_ms,
                to_unix_ms,
            },
            begin,
            until,
        })
    }
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
struct Reading {
    tally: Tally,
    /// The one box that is judged, where one is named.
    device: Option<DeviceId>,
    unread: Unread,
}

impl Reading {
    fn of(stretch: Stretch, device: Option<DeviceId>) -> Self {
        Self {
            tally: Tally::of(stretch),
            device,
            unread: Unread::default(),
        }
    }

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
            Fact::Refined(record) if !self.is_judged(record.device_id.as_bytes()) => {}
            Fact::Rejected(record) if !self.is_judged(&record.key) => {}
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

    fn is_judged(&self, device: &[u8]) -> bool {
        let mut named = self.device.iter();
        named.all(|named| named.as_str().as_bytes() == device)
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
            Ok(answer) => {
                if self.is_judged(answer.device.as_str().as_bytes()) {
                    self.tally.answered(&answer);
                }
            }
            Err(error) => {
                self.unread.lines += 1;
                if self.unread.lines <= NAMED_MAX {
                    warn!("{file}:{}: {error}", line.number);
                }
            }
        }
    }
}
