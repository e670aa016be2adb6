//! The engine of roles whose inputs, memory and outputs are topics of Kafka:
//! each record has its effect exactly once, whatever is killed in between.
//!
//! A role is a consumer group over one topic, *assigned*; whoever is assigned
//! a partition of it also reads the same partition of a second one, *followed*,
//! and owns the same partition of its changelogs and of every output. What
//! becomes of a record is the role's, by the trait [`Work`]; this module moves
//! records and transactions, and does not know what they mean:
//!
//! ```text
//! source (assigned first) → work → sink ─┬─ outputs ─────┐
//!                                        ├─ changelogs ──┤ one transaction
//!                                        └─ both offsets ┘
//! ```
//!
//! The order that makes it exact: on assignment *stable* committed offsets are
//! read first, then the changelogs; on abort what the work did is undone and
//! both inputs are read again from the committed offsets; when it is not known
//! what became of a commit, everything in memory is dropped and read again from
//! Kafka. One thread does all of it, so there is nothing to lock; what comes
//! from other threads is left where the work finds it, and a [`Bell`] wakes the
//! loop. Only the wait for a commit may be another thread's (`committer`): a
//! role that works ahead ([`Work::WORKS_AHEAD`]) fills the next transaction
//! meanwhile. Both are undone where the first is aborted.
//!
//! `session` is the life of one set of clients with the state that belongs to
//! it; `source` reads, `sink` collects what `producer` gives to Kafka,
//! `changelog` loads the state; `cadence`, `classify` and `share` decide, without
//! touching Kafka; `work` is the seam to the role.

mod bell;
mod cadence;
mod changelog;
mod classify;
mod committer;
mod metrics;
mod producer;
mod session;
mod share;
mod sink;
mod source;
mod work;
mod writer;

use std::{
    error,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rdkafka::error::KafkaError;
use serde::Deserialize;
use thiserror::Error;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
};
use tracing::{info, warn};

pub(crate) use bell::Bell;
pub(crate) use metrics::Metrics;
pub(crate) use work::{Input, Record, Stand, Work};
pub(crate) use writer::Writer;

use crate::{
    admin::{Readiness, RoleHealth},
    kafka,
    node_id::NodeId,
    topics,
};
use committer::Committer;
use session::{Ended, Session};

/// Pause before the first new session after one broke; doubles each time.
const REBUILD_AFTER: Duration = Duration::from_millis(200);

/// Longest pause between sessions: Kafka that is back is used soon, and its
/// coordinators are not stormed.
const REBUILD_AFTER_MAX: Duration = Duration::from_secs(10);

/// Name of a consumer group: `[A-Za-z0-9._-]{1,64}`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct GroupId(String);

impl GroupId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for GroupId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let good = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if good {
            Ok(Self(text))
        } else {
            Err("must be 1 to 64 of [A-Za-z0-9._-]")
        }
    }
}

/// What a role is made of, as far as Kafka sees it.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// Names the role in logs, and its thread.
    pub(crate) role: &'static str,
    /// Kafka consumer group; its members share the partitions.
    pub(crate) group: GroupId,
    /// Transactions that are not finished this long after they began are
    /// aborted by Kafka; readers of committed records wait as long for a
    /// collector that died.
    pub(crate) transaction_timeout: Duration,
    /// How long an urgent event waits for others, in ms, while records keep
    /// coming: see `cadence`.
    pub(crate) urgent_hold_ms: u64,
    /// What is read, by [`Input`] as index.
    pub(crate) inputs: [InputTopic; Input::ALL.len()],
    /// Compacted topics that hold all that the role remembers. Read one after
    /// another on assignment, each into [`Work::restore`].
    pub(crate) changelogs: Vec<String>,
    /// Wakes the loop; whoever leaves something for the work rings it.
    pub(crate) bell: Bell,
}

/// One topic that is read.
#[derive(Clone, Debug)]
pub(crate) struct InputTopic {
    /// Its name in Kafka.
    pub(crate) topic: String,
    /// What logs, metrics and the client's id call it.
    pub(crate) name: &'static str,
    /// Bytes that are fetched ahead, in kilobytes; fetching pauses at the
    /// bound.
    pub(crate) queue_kbytes: u32,
}

/// Why a role ended unasked.
#[derive(Debug, Error)]
pub enum Error {
    /// Kafka is not as it must be.
    #[error(transparent)]
    Precondition(#[from] topics::PreconditionError),
    /// A file named in the configuration cannot be used.
    #[error(transparent)]
    File(#[from] kafka::FileError),
    /// librdkafka does not take its configuration.
    #[error("cannot make a Kafka client")]
    Client(#[source] KafkaError),
    /// A changelog holds what this version cannot read: going on would count
    /// twice.
    #[error("cannot load the state of partition {partition} from {topic}")]
    State {
        /// The changelog.
        topic: String,
        /// Its partition.
        partition: i32,
        /// What is wrong with it.
        #[source]
        source: Box<dyn error::Error + Send + Sync>,
    },
    /// The system gives no thread.
    #[error("cannot start the thread")]
    Thread(#[source] std::io::Error),
    /// Our bug: the thread ended without an answer.
    #[error("the thread of {role} panicked")]
    Panicked {
        /// Whose.
        role: &'static str,
    },
}

/// Works until `stop` holds `true`. `work` makes the role's own part, on the
/// thread that drives it.
///
/// # Errors
/// When Kafka is not as required, or the state cannot be read.
pub(crate) async fn run<W: Work>(
    terms: Terms,
    kafka: kafka::Config,
    node_id: NodeId,
    health: RoleHealth,
    metrics: Metrics,
    mut stop: watch::Receiver<bool>,
    work: impl FnOnce() -> W + Send + 'static,
) -> Result<(), Error> {
    let role = terms.role;
    let partitions = topics::preconditions(&kafka, role, &health, &mut stop).await?;
    if partitions.is_none() {
        return Ok(());
    }
    let (answer, answered) = oneshot::channel();
    let worker = Worker {
        terms: Arc::new(terms),
        kafka,
        node_id,
        health,
        metrics,
        stop,
        runtime: Handle::current(),
        began: Instant::now(),
    };
    thread::Builder::new()
        .name(role.into())
        .spawn(move || {
            worker.terms.bell.hang_here();
            let mut work = work();
            // The receiver is only gone when the process is.
            let _ = answer.send(worker.run(&mut work));
        })
        .map_err(Error::Thread)?;
    answered.await.unwrap_or(Err(Error::Panicked { role }))
}

/// What the thread of the role works with.
struct Worker {
    terms: Arc<Terms>,
    kafka: kafka::Config,
    node_id: NodeId,
    health: RoleHealth,
    metrics: Metrics,
    stop: watch::Receiver<bool>,
    runtime: Handle,
    began: Instant,
}

impl Worker {
    fn run<W: Work>(&self, work: &mut W) -> Result<(), Error> {
        thread::scope(|scope| {
            let committer = W::WORKS_AHEAD.then(|| Committer::start(scope, self));
            let committer = committer.transpose().map_err(Error::Thread)?;
            self.run_sessions(work, committer.as_ref())
        })
    }

    fn run_sessions<W: Work>(
        &self,
        work: &mut W,
        committer: Option<&Committer<'_>>,
    ) -> Result<(), Error> {
        let role = self.terms.role;
        let mut pause = REBUILD_AFTER;
        while !self.is_stopping() {
            let mut session = Session::open(self, work, committer)?;
            let ended = session.run(self)?;
            let useful = session.committed_any();
            drop(session);
            match ended {
                Ended::Stopped => break,
                Ended::Broken(_) if committer.is_some_and(Committer::has_panicked) => {
                    return Err(Error::Panicked { role });
                }
                Ended::Broken(reason) => {
                    self.metrics.sessions_rebuilt.inc();
                    self.health
                        .set(Readiness::NotReady("building the session anew"));
                    if useful {
                        pause = REBUILD_AFTER;
                    }
                    warn!(
                        role,
                        "dropping all state and beginning again in {} ms: {reason}",
                        pause.as_millis()
                    );
                    self.pause(pause);
                    pause = (pause * 2).min(REBUILD_AFTER_MAX);
                }
            }
        }
        info!("{role} has drained");
        Ok(())
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Time since the role began, in ms; never runs backwards.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn topic(&self, input: Input) -> &InputTopic {
        &self.terms.inputs[input as usize]
    }

    /// Waits, or less when told to stop.
    fn pause(&self, time: Duration) {
        self.health.progressed();
        let mut stop = self.stop.clone();
        // A closed channel means that the process is ending; so does `true`.
        let _ = self
            .runtime
            .block_on(async { tokio::time::timeout(time, stop.wait_for(|stop| *stop)).await });
    }
}
