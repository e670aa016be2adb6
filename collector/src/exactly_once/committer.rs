//! The thread that waits for Kafka while a role works ahead: it commits what it
//! is given, one transaction at a time.
//!
//! Decides nothing: when a transaction ends is `cadence`'s, what becomes of the
//! state the session's.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, Scope, ScopedJoinHandle},
    time::{Duration, Instant},
};

use rdkafka::{TopicPartitionList, consumer::ConsumerGroupMetadata};

use super::{
    Worker,
    producer::{Broken, Ending, Producer},
};

/// A transaction that the client has whole.
pub(super) struct Commit {
    pub(super) producer: Arc<Producer>,
    /// Of its inputs.
    pub(super) offsets: TopicPartitionList,
    /// Under which they are committed.
    pub(super) group: ConsumerGroupMetadata,
}

/// What became of it.
pub(super) struct Committed {
    pub(super) ending: Result<Ending, Broken>,
    /// When Kafka had answered.
    pub(super) at: Instant,
}

/// The thread, as the session sees it. Ends when this is dropped.
pub(super) struct Committer<'scope> {
    commits: mpsc::SyncSender<Commit>,
    committed: Arc<Answer>,
    thread: ScopedJoinHandle<'scope, ()>,
}

/// Where the thread leaves what it knows. No channel: waiting at one would end
/// with each ring of the bell, and a loop that is ahead is not woken for all
/// that comes.
#[derive(Default)]
struct Answer {
    committed: Mutex<Option<Committed>>,
    is_there: Condvar,
}

impl Commit {
    /// Asks Kafka, and waits for what it says.
    pub(super) fn carry_out(self, worker: &Worker) -> Committed {
        let ending = self.producer.commit(&self.offsets, &self.group, worker);
        Committed {
            ending,
            at: Instant::now(),
        }
    }
}

impl<'scope> Committer<'scope> {
    /// Starts the thread.
    pub(super) fn start(
        scope: &'scope Scope<'scope, '_>,
        worker: &'scope Worker,
    ) -> io::Result<Self> {
        // One is under way at a time.
        let (commits, asked) = mpsc::sync_channel::<Commit>(1);
        let committed = Arc::<Answer>::default();
        let answer = Arc::clone(&committed);
        let thread = thread::Builder::new()
            .name(format!("{}-commit", worker.terms.role))
            .spawn_scoped(scope, move || {
                for commit in asked {
                    let committed = commit.carry_out(worker);
                    *answer.lock() = Some(committed);
                    answer.is_there.notify_one();
                }
            })?;
        Ok(Self {
            commits,
            committed,
            thread,
        })
    }

    /// Has a transaction committed, and does not wait. None may be under way.
    pub(super) fn begin(&self, commit: Commit) -> Result<(), Broken> {
        self.commits.try_send(commit).map_err(|_| gone())
    }

    /// Whether the thread is gone although the role goes on: our bug.
    pub(super) fn has_panicked(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for what becomes of the one under way, at most as long as told.
    pub(super) fn wait(&self, limit: Duration) -> Result<Option<Committed>, Broken> {
        let waiting = self.committed.lock();
        let is_absent = |committed: &mut Option<Committed>| committed.is_none();
        let waited = self
            .committed
            .is_there
            .wait_timeout_while(waiting, limit, is_absent);
        let (mut committed, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match committed.take() {
            None if self.has_panicked() => Err(gone()),
            committed => Ok(committed),
        }
    }
}

impl Answer {
    fn lock(&self) -> MutexGuard<'_, Option<Committed>> {
        // Only ever locked to leave or to take one.
        self.committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Our bug: it ends with the role only.
fn gone() -> Broken {
    Broken("the thread that commits has panicked".into())
}
