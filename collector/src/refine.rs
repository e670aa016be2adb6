//! The role `refine`: raw records in, refined events out, each exactly once.
//!
//! A consumer group over `rp.raw`; whoever is assigned a partition of it owns
//! the same partition of `rp.raw.backlog`, of the changelog and of every
//! output. What becomes of a record is decided by `returnpath_refinery`; this
//! module moves records and transactions:
//!
//! ```text
//! source (live first) → refinery → sink ─┬─ outputs ─────┐
//!                                        ├─ changelog ───┤ one transaction
//!                                        └─ both offsets ┘
//! ```
//!
//! The order that makes it exact: on assignment *stable* committed offsets are
//! read first, then the changelog; on abort the state's overlay is thrown away
//! and both lanes are read again from the committed offsets; when it is not
//! known what became of a commit, everything in memory is dropped and read
//! again from Kafka. One thread does all of it, so there is nothing to lock.
//!
//! `session` is the life of one set of clients with the state that belongs to
//! it; `source` and `sink` are its clients, `changelog` loads the state;
//! `cadence`, `classify` and `share` decide, without touching Kafka.

mod cadence;
mod changelog;
mod classify;
mod metrics;
mod session;
mod share;
mod sink;
mod source;

use std::{thread, time::Duration};

use rdkafka::error::KafkaError;
use serde::Deserialize;
use thiserror::Error;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
};
use tracing::{info, warn};

pub use metrics::Metrics;

use crate::{
    admin::{Readiness, RoleHealth},
    kafka,
    node_id::NodeId,
    topics,
};
use session::{Ended, Session};

/// Pause before the first new session after one broke; doubles each time.
const REBUILD_AFTER: Duration = Duration::from_millis(200);

/// Longest pause between sessions: Kafka that is back is used soon, and its
/// coordinators are not stormed.
const REBUILD_AFTER_MAX: Duration = Duration::from_secs(10);

/// The section `[refine]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Kafka consumer group; its members share the partitions.
    pub group: GroupId,
    /// Transactions that are not finished this long after they began are
    /// aborted by Kafka; readers of committed records wait as long for a
    /// collector that died.
    #[serde(
        rename = "transaction_timeout_ms",
        deserialize_with = "crate::config::value::milliseconds"
    )]
    pub transaction_timeout: Duration,
}

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

/// Why refine ended unasked.
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
    /// The changelog holds what this version cannot read: going on would count
    /// twice.
    #[error("cannot load the state of partition {partition} from {topic}")]
    State {
        /// The changelog.
        topic: String,
        /// Its partition.
        partition: i32,
        /// What is wrong with it.
        #[source]
        source: returnpath_refinery::RestoreError,
    },
    /// The system gives no thread.
    #[error("cannot start the thread")]
    Thread(#[source] std::io::Error),
    /// Our bug: the thread ended without an answer.
    #[error("the thread of refine panicked")]
    Panicked,
}

/// Runs the role until `stop` holds `true`.
///
/// # Errors
/// When Kafka is not as required, or the state cannot be read.
pub async fn run(
    config: Config,
    kafka: kafka::Config,
    node_id: NodeId,
    health: RoleHealth,
    metrics: Metrics,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let partitions = topics::preconditions(&kafka, "refine", &health, &mut stop).await?;
    if partitions.is_none() {
        return Ok(());
    }
    let (answer, answered) = oneshot::channel();
    let worker = Worker {
        config,
        kafka,
        node_id,
        health,
        metrics,
        stop,
        runtime: Handle::current(),
    };
    thread::Builder::new()
        .name("refine".into())
        .spawn(move || {
            // The receiver is only gone when the process is.
            let _ = answer.send(worker.run());
        })
        .map_err(Error::Thread)?;
    answered.await.unwrap_or(Err(Error::Panicked))
}

/// What the thread of the role works with.
struct Worker {
    config: Config,
    kafka: kafka::Config,
    node_id: NodeId,
    health: RoleHealth,
    metrics: Metrics,
    stop: watch::Receiver<bool>,
    runtime: Handle,
}

impl Worker {
    fn run(self) -> Result<(), Error> {
        let mut pause = REBUILD_AFTER;
        while !self.is_stopping() {
            let mut session = Session::open(&self)?;
            let ended = session.run(&self)?;
            let useful = session.committed_any();
            drop(session);
            match ended {
                Ended::Stopped => break,
                Ended::Broken(reason) => {
                    self.metrics.sessions_rebuilt.inc();
                    self.health
                        .set(Readiness::NotReady("building the session anew"));
                    if useful {
                        pause = REBUILD_AFTER;
                    }
                    warn!(
                        "dropping all state and beginning again in {} ms: {reason}",
                        pause.as_millis()
                    );
                    self.pause(pause);
                    pause = (pause * 2).min(REBUILD_AFTER_MAX);
                }
            }
        }
        info!("refine has drained");
        Ok(())
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
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
