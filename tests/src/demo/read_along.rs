//! Reads along: everything that the refined topics and `rp.decisions` are given,
//! every answer that a client got, and what players were handed. Owns the
//! threads that this takes; `audit` is what they feed.
//!
//! It sees each record once, as it comes, since the embedded Kafka keeps little.

mod audit;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use rdkafka::Message as _;
use returnpath_collector::{
    audit::Answer,
    kafka::{self, Begin, Next, TopicReader, Until},
};
use returnpath_shared::Stream;
use tokio::sync::{mpsc, watch};

use self::audit::{Audit, Fact, Holds};
pub(super) use self::audit::{Heard, Seen};
use super::story::{Handed, Stories};

/// Facts on their way to the tally: enough to keep it busy, little enough to
/// forget. A full channel makes the readers wait.
const FACTS_WAITING_MAX: usize = 4_096;

/// Answers on their way to it; boxes wait when it is full.
pub(super) const ANSWERS_WAITING_MAX: usize = 4_096;

/// How long it takes at most until a reader notices that it is to stop.
const TICK: Duration = Duration::from_millis(100);

/// Decisions that players were handed, on their way to it; they wait when it
/// is full.
pub(super) const HANDED_WAITING_MAX: usize = 256;

/// The running threads.
pub(super) struct ReadAlong {
    topics: Vec<String>,
    stop: Arc<AtomicBool>,
    /// End when nobody has more for them.
    listeners: Vec<JoinHandle<()>>,
    /// End when they are told to.
    readers: Vec<JoinHandle<anyhow::Result<()>>>,
    auditor: JoinHandle<Heard>,
    seen: watch::Receiver<Seen>,
}

impl ReadAlong {
    /// Begins at the beginning of the topics. `answers` and `handed` end when
    /// all senders of them are gone.
    pub(super) fn start(
        kafka: &kafka::Config,
        answers: mpsc::Receiver<Answer>,
        handed: mpsc::Receiver<Handed>,
        stories: Stories,
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
        let mut readers = Vec::new();
        let listeners = vec![
            spawn("answers", {
                let facts = facts.clone();
                move || hand_on(answers, Fact::Answer, &facts)
            })?,
            spawn("handed", {
                let facts = facts.clone();
                move || hand_on(handed, Fact::Handed, &facts)
            })?,
        ];
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
        let audit = Audit::new(&topics, stories);
        let auditor = spawn("audit", move || audit.listen(&incoming, &published))?;
        Ok(Self {
            topics,
            stop,
            listeners,
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
        if self.auditor.is_finished() || self.readers.iter().any(JoinHandle::is_finished) {
            return Err(anyhow!("a thread that reads along ended"));
        }
        Ok(())
    }

    /// Ends, and says what it came to.
    pub(super) fn finish(self) -> anyhow::Result<Heard> {
        self.stop.store(true, Ordering::Relaxed);
        for listener in self.listeners {
            listener
                .join()
                .map_err(|_| anyhow!("a listening thread panicked"))?;
        }
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

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    Ok(thread::Builder::new().name(name.to_owned()).spawn(work)?)
}

fn hand_on<T>(mut from: mpsc::Receiver<T>, fact: impl Fn(T) -> Fact, facts: &SyncSender<Fact>) {
    while let Some(one) = from.blocking_recv() {
        if facts.send(fact(one)).is_err() {
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
