//! The middleware and player of a box with a real agent: hands what its
//! household does to the agent's socket, keeps what it is answered, and shows
//! the household what was decided.

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use returnpath_agent::clock;
use returnpath_collector::audit;
use returnpath_shared::{
    Class, DeviceId, Ordinal, Urgency,
    wire::{Decision, Event, event},
};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::story::Handed;
use crate::fleet::{BoxFeed, latency::Latency};

/// An agent that does not read its socket for this long is stuck.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// Names the request to follow decisions; the others are numbered.
const FOLLOW: &str = "follow";

/// Breaks of which it is remembered when they were announced; a household has
/// one before it and one ahead.
const BREAKS_MAX: usize = 8;

/// Totals of all middlewares, readable at any time.
#[derive(Debug, Default)]
pub(super) struct MiddlewareCounts {
    pub(super) accepted: AtomicU64,
    pub(super) durable: AtomicU64,
    pub(super) busy: AtomicU64,
    pub(super) proof_latency: Latency,
    /// From handing in an opportunity to the decision of one of its slots.
    pub(super) loop_latency: Latency,
}

/// Whether there is more to hand in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Feeding {
    Goes,
    Ended,
}

pub(super) struct Middleware {
    pub(super) device: DeviceId,
    pub(super) socket: PathBuf,
    pub(super) feed: BoxFeed,
    pub(super) feeding: watch::Receiver<Feeding>,
    pub(super) answers: mpsc::Sender<audit::Answer>,
    pub(super) handed: mpsc::Sender<Handed>,
    pub(super) counts: Arc<MiddlewareCounts>,
}

#[derive(Deserialize)]
struct Answer {
    id: String,
    status: String,
    #[serde(default)]
    epoch: String,
    #[serde(default)]
    ordinal: String,
    #[serde(default)]
    reason: String,
}

/// A line from the agent.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Decision { decision: Box<Decision> },
    Answer(Answer),
}

/// What a middleware waits for.
#[derive(Default)]
struct Waiting {
    /// Requests without an answer; the agent bounds how many can be. Of urgent
    /// ones it is known since when; other proof waits for its batch first.
    requests: HashMap<String, Option<Instant>>,
    /// The latest breaks that decisions are waited for, and since when.
    breaks: VecDeque<(String, Instant)>,
}

impl Middleware {
    /// Hands in until feeding ends, then waits for the last answers.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .with_context(|| format!("connect to {}", self.socket.display()))?;
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let mut waiting = Waiting::default();
        let mut requests = 0_u64;
        let follow = json!({ "id": FOLLOW, "follow": "decisions" });
        writer.write_all(format!("{follow}\n").as_bytes()).await?;
        loop {
            let goes = *self.feeding.borrow() == Feeding::Goes;
            if !goes && waiting.requests.is_empty() {
                return Ok(());
            }
            tokio::select! {
                line = lines.next_line() => {
                    let line = line?.with_context(|| format!("{} closed its socket", self.device))?;
                    self.take(&line, &mut waiting).await?;
                }
                () = sleep(self.feed.wait()), if goes => {
                    for event in self.feed.take() {
                        waiting.note_break(&event);
                        requests += 1;
                        let id = requests.to_string();
                        let line = request(&id, &event)?;
                        timeout(WRITE_LIMIT, writer.write_all(line.as_bytes()))
                            .await
                            .with_context(|| format!("{} does not read its socket", self.device))??;
                        let urgent = Urgency::of(&event) == Urgency::Urgent;
                        waiting.requests.insert(id, urgent.then(Instant::now));
                    }
                }
                changed = self.feeding.changed() => changed.context("the demo is gone")?,
            }
        }
    }

    async fn take(&mut self, line: &str, waiting: &mut Waiting) -> anyhow::Result<()> {
        let answer = match serde_json::from_str(line).with_context(|| format!("line {line:?}"))? {
            Line::Decision { decision } => return self.decided(*decision, waiting).await,
            Line::Answer(answer) => answer,
        };
        if answer.id == FOLLOW {
            ensure!(answer.status == "following", "answer {line:?}");
            return Ok(());
        }
        let since = waiting
            .requests
            .remove(&answer.id)
            .with_context(|| format!("answer {line:?} belongs to no request"))?;
        let class = match answer.status.as_str() {
            "accepted" => {
                self.counts.accepted.fetch_add(1, Ordering::Relaxed);
                Class::Ordinary
            }
            "durable" => {
                self.counts.durable.fetch_add(1, Ordering::Relaxed);
                if let Some(since) = since {
                    let ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                    self.counts.proof_latency.record(ms);
                }
                Class::Proof
            }
            "busy" => {
                self.counts.busy.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            _ => bail!(
                "{} answered {:?}: {}",
                self.device,
                answer.status,
                answer.reason
            ),
        };
        let answer = audit::Answer {
            device: self.device.clone(),
            epoch: answer.epoch.parse().context("epoch of an answer")?,
            ordinal: Ordinal(answer.ordinal.parse().context("ordinal of an answer")?),
            class,
        };
        self.answers.send(answer).await.context("the audit is gone")
    }

    async fn decided(&mut self, decision: Decision, waiting: &Waiting) -> anyhow::Result<()> {
        let unix_ms = clock::unix_ms();
        let mut breaks = waiting.breaks.iter().rev();
        if let Some((_, since)) = breaks.find(|(break_id, _)| *break_id == decision.break_id) {
            let ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.counts.loop_latency.record(ms);
        }
        self.feed.decided(decision.clone());
        let handed = Handed { decision, unix_ms };
        self.handed.send(handed).await.context("the audit is gone")
    }
}

impl Waiting {
    fn note_break(&mut self, event: &Event) {
        if let Some(event::Kind::AdOpportunity(ad)) = &event.kind {
            if self.breaks.len() == BREAKS_MAX {
                self.breaks.pop_front();
            }
            self.breaks.push_back((ad.break_id.clone(), Instant::now()));
        }
    }
}

fn request(id: &str, event: &Event) -> anyhow::Result<String> {
    let mut line = json!({ "id": id, "event": serde_json::to_value(event)? }).to_string();
    line.push('\n');
    Ok(line)
}
