//! Reads along: everything that the refined topics are given, and every answer
//! that a client got, into one audit; and what was decided, into the funnel. Owns the threads that this takes.
//!
//! It sees each record once, as it comes, since the embedded Kafka keeps little.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use prost::Message as _;
use rdkafka::Message as _;
use returnpath_agent::clock;
use returnpath_collector::{
    audit::{Answer, Tally, Verdict},
    kafka,
    tail::{Begin, Next, TopicReader, Until},
};
use returnpath_shared::{
    Kind, Stream, Urgency,
    wire::{DecisionRecord, Refined, Rejected},
};
use tokio::sync::{mpsc, watch};

use super::funnel::{Counting, Funnel};
use crate::fleet::latency::{Latency, Percentiles};

/// Facts on their way to the tally: enough to keep it busy, little enough to
/// forget. A full channel makes the readers wait.
const FACTS_WAITING_MAX: usize = 4_096;

/// Answers on their way to it; boxes wait when it is full.
pub(super) const ANSWERS_WAITING_MAX: usize = 4_096;

/// How often what was seen is published.
const PUBLISH_EVERY: Duration = Duration::from_millis(250);

/// How long it takes at most until a reader notices that it is to stop.
const TICK: Duration = Duration::from_millis(100);

/// Events shown as they come.
const LATEST_MAX: usize = 6;

/// What was read so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Records by topic.
    pub(super) records: BTreeMap<String, u64>,
    /// The next offset of each partition.
    pub(super) positions: BTreeMap<(String, i32), i64>,
    /// Records that could not be decoded.
    pub(super) unreadable: u64,
    /// Events that clients were answered.
    pub(super) answered: u64,
    /// Of these, not read yet.
    pub(super) outstanding: u64,
    /// Events that were read more than once.
    pub(super) duplicated: u64,
    /// From the uptime of an opportunity or impression to its record being read
    /// here.
    pub(super) urgent_ads: Percentiles,
    /// What became of the slots that were decided.
    pub(super) funnel: Funnel,
    /// The latest events.
    pub(super) latest: VecDeque<Glimpse>,
}

/// One event, for people.
#[derive(Clone, Debug)]
pub(super) struct Glimpse {
    pub(super) topic: String,
    pub(super) device: String,
    pub(super) kind: &'static str,
}

/// What came of it.
pub(super) struct Heard {
    pub(super) verdict: Verdict,
    pub(super) seen: Seen,
}

enum Fact {
    Answer(Answer),
    Record {
        topic: String,
        partition: i32,
        offset: i64,
        what: Record,
    },
}

enum Record {
    Refined(Box<Refined>),
    Rejected(Box<Rejected>),
    Decision(Box<DecisionRecord>),
    Unreadable(String),
}

/// What the records of a topic are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Holds {
    Refined,
    Rejected,
    Decisions,
}

impl Holds {
    fn decode(self, payload: &[u8]) -> Record {
        let decoded = match self {
            Self::Refined => Refined::decode(payload).map(|it| Record::Refined(Box::new(it))),
            Self::Rejected => Rejected::decode(payload).map(|it| Record::Rejected(Box::new(it))),
            Self::Decisions => DecisionRecord::decode(payload).map(|it| {
                if it.what.is_some() {
                    Record::Decision(Box::new(it))
                } else {
                    Record::Unreadable("it neither decides nor tells of anything".into())
                }
            }),
        };
        decoded.unwrap_or_else(|error| Record::Unreadable(error.to_string()))
    }
}

/// The running threads.
pub(super) struct ReadAlong {
    topics: Vec<String>,
    stop: Arc<AtomicBool>,
    readers: Vec<JoinHandle<anyhow::Result<()>>>,
    auditor: JoinHandle<Heard>,
    seen: watch::Receiver<Seen>,
}

impl ReadAlong {
    /// Begins at the beginning of the topics. `answers` ends when all senders
    /// of it are gone.
    pub(super) fn start(
        kafka: &kafka::Config,
        answers: mpsc::Receiver<Answer>,
    ) -> anyhow::Result<Self> {
        let refined = Stream::ALL.map(|stream| (kafka.topics.refined(stream), Holds::Refined));
        let read_topics: Vec<_> = refined
            .into_iter()
            .chain([
                (kafka.topics.rejected.as_str(), Holds::Rejected),
                (kafka.topics.decisions.as_str(), Holds::Decisions),
            ])
            .collect();
        let topics: Vec<_> = read_topics
            .iter()
            .map(|(topic, _)| (*topic).to_owned())
            .collect();

        let stop = Arc::new(AtomicBool::new(false));
        let (facts, incoming) = sync_channel(FACTS_WAITING_MAX);
        let mut readers = vec![spawn("answers", {
            let facts = facts.clone();
            move || {
                hand_on(answers, &facts);
                Ok(())
            }
        })?];
        for (topic, holds) in read_topics {
            let mut reader = TopicReader::open(
                kafka,
                "demo-audit",
                topic,
                None,
                Begin::Oldest,
                Until::Forever,
            )
            .with_context(|| format!("read {topic}"))?;
            let (facts, stop) = (facts.clone(), Arc::clone(&stop));
            readers.push(spawn(topic, move || {
                read(&mut reader, holds, &facts, &stop)
            })?);
        }
        let (published, seen) = watch::channel(Seen::default());
        let audit = Audit::of(&topics);
        let auditor = thread::Builder::new()
            .name("audit".into())
            .spawn(move || audit.listen(&incoming, &published))?;
        Ok(Self {
            topics,
            stop,
            readers,
            auditor,
            seen,
        })
    }

    /// The topics that are read.
    pub(super) fn topics(&self) -> &[String] {
        &self.topics
    }

    /// What was read so far.
    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Fails when a thread has ended before it was told to.
    pub(super) fn check_running(&self) -> anyhow::Result<()> {
        if self.auditor.is_finished() || self.readers.iter().skip(1).any(JoinHandle::is_finished) {
            return Err(anyhow!("a thread that reads along ended"));
        }
        Ok(())
    }

    /// Ends, and says what it came to.
    pub(super) fn finish(self) -> anyhow::Result<Heard> {
        self.stop.store(true, Ordering::Relaxed);
        for reader in self.readers {
            reader
                .join()
                .map_err(|_| anyhow!("a reading thread panicked"))??;
        }
        self.auditor
            .join()
            .map_err(|_| anyhow!("the auditing thread panicked"))
    }
}

fn spawn(
    name: &str,
    work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    Ok(thread::Builder::new().name(name.to_owned()).spawn(work)?)
}

fn hand_on(mut answers: mpsc::Receiver<Answer>, facts: &SyncSender<Fact>) {
    while let Some(answer) = answers.blocking_recv() {
        if facts.send(Fact::Answer(answer)).is_err() {
            break;
        }
    }
}

fn read(
    reader: &mut TopicReader,
    holds: Holds,
    facts: &SyncSender<Fact>,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let topic = reader.topic().to_owned();
    while !stop.load(Ordering::Relaxed) {
        let Next::Record(record) = reader.next(TICK)? else {
            continue;
        };
        let payload = record.payload().unwrap_or_default();
        let fact = Fact::Record {
            topic: topic.clone(),
            partition: record.partition(),
            offset: record.offset(),
            what: holds.decode(payload),
        };
        if facts.send(fact).is_err() {
            break;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Audit {
    tally: Tally,
    decisions: Counting,
    urgent_ads: Latency,
    seen: Seen,
}

impl Audit {
    fn of(topics: &[String]) -> Self {
        let mut audit = Self::default();
        audit.seen.records = topics.iter().map(|topic| (topic.clone(), 0)).collect();
        audit
    }

    /// Takes in facts until nobody has more.
    fn listen(mut self, incoming: &Receiver<Fact>, published: &watch::Sender<Seen>) -> Heard {
        let mut last = Instant::now();
        loop {
            match incoming.recv_timeout(TICK) {
                Ok(fact) => self.take(fact),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if last.elapsed() >= PUBLISH_EVERY {
                self.judge();
                published.send_replace(self.seen.clone());
                last = Instant::now();
            }
        }
        Heard {
            verdict: self.judge(),
            seen: self.seen,
        }
    }

    fn take(&mut self, fact: Fact) {
        match fact {
            Fact::Answer(answer) => self.tally.answered(&answer),
            Fact::Record {
                topic,
                partition,
                offset,
                what,
            } => {
                self.record(&topic, what);
                self.seen.positions.insert((topic, partition), offset + 1);
            }
        }
    }

    fn record(&mut self, topic: &str, what: Record) {
        *self.seen.records.entry(topic.to_owned()).or_default() += 1;
        match what {
            Record::Refined(refined) => {
                if let Err(error) = self.tally.refined(&refined) {
                    self.unreadable(topic, &error.to_string());
                }
                self.glimpse(topic, &refined);
            }
            Record::Rejected(rejected) => self.tally.rejected(&rejected),
            Record::Decision(record) => self.decisions.record(*record),
            Record::Unreadable(error) => self.unreadable(topic, &error),
        }
    }

    fn unreadable(&mut self, topic: &str, error: &str) {
        tracing::warn!(topic, "record cannot be read: {error}");
        self.seen.unreadable += 1;
    }

    fn glimpse(&mut self, topic: &str, refined: &Refined) {
        let Some(event) = &refined.event else {
            return;
        };
        // Consent is urgent too, but comes before the box has ever connected.
        let kind = Kind::of(event);
        if Urgency::of(event) == Urgency::Urgent && kind != Some(Kind::Consent) {
            // Boxes, collector and this process share one clock.
            let ms = clock::unix_ms() - refined.event_unix_ms;
            self.urgent_ads.record(u64::try_from(ms).unwrap_or(0));
        }
        if self.seen.latest.len() == LATEST_MAX {
            self.seen.latest.pop_front();
        }
        self.seen.latest.push_back(Glimpse {
            topic: topic.to_owned(),
            device: refined.device_id.clone(),
            kind: kind.map_or("unknown", Kind::name),
        });
    }

    fn judge(&mut self) -> Verdict {
        let verdict = self.tally.verdict();
        let [ordinary, proof] = verdict.totals();
        self.seen.answered = ordinary.answered + proof.answered;
        self.seen.outstanding = verdict.missing();
        self.seen.duplicated = verdict.duplicated();
        self.seen.urgent_ads = self.urgent_ads.percentiles();
        self.seen.funnel = self.decisions.funnel();
        verdict
    }
}
