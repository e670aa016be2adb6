//! The queue file: SQLite, one connection on one thread of its own, so that a
//! slow flash never holds up the event loop.
//!
//! Stores what the core says and gives it back; decides nothing about events.
//! Requests are carried out in order, and each has exactly one outcome. The
//! event loop never waits for the thread; the thread waits for the loop.

mod batches;
mod checksum;
mod directory;
mod epochs;
mod epochs_held;
mod error;
mod file;
mod mount;
mod opening;
mod rows;
mod salvage;
mod schema;
mod sealed;
mod way_back;
mod worker;

use std::{collections::VecDeque, fs, path::Path, thread, time::Duration};

use bytes::Bytes;
use returnpath_delivery::{Commit, CommitOutcome, StartRow};
use returnpath_shared::{BatchId, Epoch, Incarnation};
use returnpath_slots::{BindOutcome, Row as SlotRow, Slot};
use tokio::sync::mpsc;

use crate::steering::StoredConfig;

pub use self::{
    error::QueueError,
    opening::{Found, OpenQueue},
};

/// Requests on their way to the thread. The core has one commit and a window
/// of loads under way, decisions bind one by one; what exceeds this waits on the
/// loop's side.
const REQUESTS_MAX: usize = 16;

/// Outcomes on their way back. The thread waits when the loop is behind.
const OUTCOMES_MAX: usize = 16;

/// SQLite needs about 50 KiB for our statements.
const STACK_BYTES: usize = 256 * 1024;

/// Version of the SQLite inside.
#[must_use]
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}

/// What the thread is asked.
#[derive(Debug)]
pub enum Request {
    /// Change the file in one transaction.
    Commit(Commit),
    /// Read a batch.
    Load(BatchId),
    /// Read starts that have not ended cleanly.
    ReadStarts,
    /// Copy what reads to a new file, which declares what does not.
    Rebuild {
        /// Names the new file.
        incarnation: Incarnation,
        /// Epochs of which the core holds batches in the old file.
        epochs: Vec<Epoch>,
    },
    /// Bind a slot, synced to the medium, before anything else is done.
    Bind {
        /// Names it in [`Outcome::Bound`].
        number: u64,
        /// The row.
        row: SlotRow,
    },
    /// A slot that is not needed any more; it leaves with the next commit. Has
    /// no outcome.
    Forget(Slot),
    /// Store the cloud's configuration, synced to the medium.
    StoreConfig(StoredConfig),
    /// A trusted wall clock, seconds since 1970, to be kept with the next
    /// commit. Has no outcome.
    Trusted(u64),
    /// Close the file in order.
    Close,
}

/// What came of a request.
#[derive(Debug)]
pub enum Outcome {
    /// Of a commit.
    Committed {
        /// Its number.
        number: u64,
        /// How it went.
        outcome: CommitOutcome,
    },
    /// Of a binding.
    Bound {
        /// Its number.
        number: u64,
        /// How it went.
        outcome: BindOutcome,
        /// How long the file took for it.
        took: Duration,
    },
    /// Of configuration.
    ConfigStored {
        /// Its version.
        version: u64,
        /// How it went.
        outcome: BindOutcome,
    },
    /// Of a load.
    Loaded {
        /// The batch.
        id: BatchId,
        /// Its bytes; `None` where they cannot be had.
        bytes: Option<Bytes>,
    },
    /// Starts that have not ended cleanly, this one among them; `None` where they
    /// cannot be had.
    Starts(Option<Vec<StartRow>>),
    /// There is a new file.
    Rebuilt {
        /// Its first start.
        epoch: Epoch,
        /// The batches that were copied.
        copied: Vec<BatchId>,
        /// Numbers of the ledger rows that declare what was not; the core
        /// replaces them by rows that say it exactly.
        declared: Vec<u64>,
    },
    /// There is no file.
    RebuildFailed,
    /// The file is closed, in order or not. Nothing follows.
    Closed,
}

/// The loop's end of the queue.
#[derive(Debug)]
pub struct Queue {
    requests: mpsc::Sender<Request>,
    /// What did not fit into the channel; bounded by what the cores have under
    /// way: one commit or rebuild, a window of loads, one read, and the slots that may be
    /// bound at once.
    waiting: VecDeque<Request>,
    outcomes: mpsc::Receiver<Outcome>,
}

impl Queue {
    /// Starts the thread: `work` takes requests from one channel and gives what
    /// came of them to the other, until either ends.
    fn start(
        work: impl FnOnce(mpsc::Receiver<Request>, mpsc::Sender<Outcome>) + Send + 'static,
    ) -> Result<Self, QueueError> {
        let (requests, received) = mpsc::channel(REQUESTS_MAX);
        let (reported, outcomes) = mpsc::channel(OUTCOMES_MAX);
        thread::Builder::new()
            .name("queue".into())
            .stack_size(STACK_BYTES)
            .spawn(move || work(received, reported))
            .map_err(QueueError::Thread)?;
        Ok(Self {
            requests,
            waiting: VecDeque::new(),
            outcomes,
        })
    }

    /// Asks; never waits.
    pub fn request(&mut self, request: Request) {
        self.waiting.push_back(request);
        self.pass_on();
    }

    fn pass_on(&mut self) {
        while let Some(request) = self.waiting.pop_front() {
            match self.requests.try_send(request) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(request)) => {
                    self.waiting.push_front(request);
                    return;
                }
                // The thread is gone, which `next` reports.
                Err(mpsc::error::TrySendError::Closed(_)) => return,
            }
        }
    }

    /// The next outcome; `None` when the thread is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Outcome> {
        let outcome = self.outcomes.recv().await;
        self.pass_on();
        outcome
    }
}

/// Bytes that the queue's files take.
#[must_use]
pub fn size_bytes(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    files
        .filter_map(|file| file.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

#[cfg(test)]
mod tests;
