//! The queue file: SQLite, one connection on one thread of its own, so that a
//! slow flash never holds up the event loop.
//!
//! Stores what the core says and gives it back; decides nothing about events.
//! Requests are carried out in order, and each has exactly one outcome. The
//! event loop never waits for the thread; the thread waits for the loop.

mod file;
mod mount;
mod rows;
mod salvage;
mod schema;
mod way_back;

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use returnpath_delivery::{
    Commit, CommitOutcome, LedgerRow, PoweredMark, ProofId, StartRow, StoredBatch,
};
use returnpath_shared::{BatchId, Epoch, Incarnation, MOUNT_OPTIONS_BYTES_MAX, wire};
use returnpath_slots::{BindOutcome, Row as SlotRow, Slot};
use rusqlite::ErrorCode;
use thiserror::Error;
use tokio::sync::mpsc;
use tracing::error;

use self::{
    file::{QueueFile, Started},
    salvage::{Opened, Paths},
    way_back::WayBack,
};
use crate::steering::StoredConfig;

/// Requests on their way to the thread. The core has one commit and a window
/// of loads under way, decisions bind one by one; what exceeds this waits on the loop's side.
const REQUESTS_MAX: usize = 16;

/// Outcomes on their way back. The thread waits when the loop is behind.
const OUTCOMES_MAX: usize = 16;

/// SQLite needs about 50 KiB for our statements.
const STACK_BYTES: usize = 256 * 1024;

/// Why there is no queue.
#[derive(Debug, Error)]
pub enum QueueError {
    /// The file cannot be opened or made.
    #[error("cannot use the queue file {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The directory or a file in it cannot be used.
    #[error("cannot use {path}")]
    Directory {
        /// What cannot be used.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The thread cannot be started.
    #[error("cannot start the queue thread")]
    Thread(#[source] io::Error),
}

impl QueueError {
    /// Whether another process has the queue open.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(
            self,
            Self::Open { source, .. } if source.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
        )
    }

    /// Whether the directory is missing or not ours, which no flash does.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Directory { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::PermissionDenied
            ),
            Self::Open { source, .. } => {
                source.sqlite_error_code() == Some(ErrorCode::PermissionDenied)
            }
            Self::Thread(_) => true,
        }
    }
}

/// What the file held when it was opened, beside its batches.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// Epoch of this run; its start row is durable.
    pub epoch: Epoch,
    /// Drops that the cloud has not confirmed, and epochs of which something
    /// could not be read when the file was made from a damaged one.
    pub ledger: Vec<LedgerRow>,
    /// Recent proof events, ascending by number.
    pub proof_ids: Vec<ProofId>,
    /// Clock anchors by boot.
    pub anchors: Vec<wire::ClockAnchor>,
    /// Runs that ended without a clean stop and are not declared yet.
    pub unclean: Vec<StartRow>,
    /// The powered clock as last committed.
    pub powered: Option<PoweredMark>,
    /// Latest trusted wall clock of earlier runs, seconds since 1970.
    pub trusted_unix_s: u64,
    /// Slots that are bound to a decision.
    pub slots: Vec<SlotRow>,
    /// The configuration that the cloud set.
    pub config: Option<StoredConfig>,
    /// Type and options of the file system.
    pub mount_options: String,
}

/// Version of the SQLite inside.
#[must_use]
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}

/// An opened queue, before its thread runs.
#[derive(Debug)]
pub struct OpenQueue {
    paths: Paths,
    bytes_max: u64,
    file: Option<QueueFile>,
    found: Found,
}

impl OpenQueue {
    /// Opens the queue in `directory`, made where it is missing; salvages what
    /// is damaged. `new_incarnation` names the file should it be a new one.
    ///
    /// # Errors
    /// When another process uses it, or the directory cannot be used.
    pub fn open(
        directory: &Path,
        bytes_max: u64,
        new_incarnation: Incarnation,
    ) -> Result<Self, QueueError> {
        let wrong = |source| QueueError::Directory {
            path: directory.to_owned(),
            source,
        };
        if !directory.try_exists().map_err(wrong)? {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(wrong)?;
            if let Some(parent) = directory.parent().filter(|parent| parent.is_dir()) {
                file::sync_directory(parent)?;
            }
        }
        let paths = Paths {
            directory: directory.to_owned(),
        };
        let opened = salvage::open(&paths, &[], bytes_max, new_incarnation)?;
        let Opened { file, started, .. } = opened;
        Ok(Self {
            bytes_max,
            file: Some(file),
            found: Found {
                epoch: started.epoch,
                ledger: started.facts.ledger,
                proof_ids: started.facts.proof_ids,
                anchors: started.facts.anchors,
                unclean: started.facts.starts,
                powered: started.facts.powered,
                trusted_unix_s: started.trusted_unix_s,
                slots: started.way_back.slots,
                config: started.way_back.config,
                mount_options: mount::options(directory, MOUNT_OPTIONS_BYTES_MAX),
            },
            paths,
        })
    }

    /// A queue without a file: everything is kept in memory until a rebuild
    /// works. The box goes on; people must look at its flash.
    #[must_use]
    pub fn without_file(directory: &Path, bytes_max: u64, incarnation: Incarnation) -> Self {
        Self {
            paths: Paths {
                directory: directory.to_owned(),
            },
            bytes_max,
            file: None,
            found: Found {
                epoch: Epoch {
                    incarnation,
                    start: 1,
                },
                ledger: Vec::new(),
                proof_ids: Vec::new(),
                anchors: Vec::new(),
                unclean: Vec::new(),
                powered: None,
                trusted_unix_s: 0,
                slots: Vec::new(),
                config: None,
                mount_options: String::new(),
            },
        }
    }

    /// Whether there is a file.
    #[must_use]
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// What it held.
    #[must_use]
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Gives the batches, oldest first, one at a time.
    pub fn each_batch<R>(
        &mut self,
        take: impl FnOnce(&mut dyn Iterator<Item = StoredBatch>) -> R,
    ) -> R {
        match &mut self.file {
            Some(file) => file.each_batch(take),
            None => take(&mut std::iter::empty()),
        }
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no room for another thread.
    pub fn spawn(self) -> Result<Queue, QueueError> {
        let (requests, received) = mpsc::channel(REQUESTS_MAX);
        let (reported, outcomes) = mpsc::channel(OUTCOMES_MAX);
        let worker = Worker {
            paths: self.paths,
            bytes_max: self.bytes_max,
            whose: if self.file.is_some() {
                Whose::Known
            } else {
                Whose::Unknown
            },
            file: self.file,
        };
        thread::Builder::new()
            .name("queue".into())
            .stack_size(STACK_BYTES)
            .spawn(move || worker.run(received, &reported))
            .map_err(QueueError::Thread)?;
        Ok(Queue {
            requests,
            waiting: VecDeque::new(),
            outcomes,
        })
    }
}

/// What the thread is asked.
#[derive(Debug)]
pub enum Request {
    /// Change the file in one transaction.
    Commit(Commit),
    /// Read a batch.
    Load(BatchId),
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
    /// way: one commit or rebuild, a window of loads, and the slots that may be
    /// bound at once.
    waiting: VecDeque<Request>,
    outcomes: mpsc::Receiver<Outcome>,
}

impl Queue {
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

struct Worker {
    paths: Paths,
    bytes_max: u64,
    file: Option<QueueFile>,
    whose: Whose,
}

/// Whose data a file may hold that a rebuild opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whose {
    /// The core's: it was told what the file held, and can say what leaves.
    Known,
    /// No file could be opened at the start: one that can be later may hold
    /// what the core has never heard of.
    Unknown,
    /// There is such a file. It waits for the next start; this run goes on in
    /// memory.
    EarlierRuns,
}

impl Worker {
    fn run(mut self, mut requests: mpsc::Receiver<Request>, outcomes: &mpsc::Sender<Outcome>) {
        while let Some(request) = requests.blocking_recv() {
            let Some(outcome) = self.carry_out(request) else {
                continue;
            };
            let last = matches!(outcome, Outcome::Closed);
            if outcomes.blocking_send(outcome).is_err() || last {
                return;
            }
        }
    }

    fn carry_out(&mut self, request: Request) -> Option<Outcome> {
        Some(match request {
            Request::Commit(commit) => Outcome::Committed {
                number: commit.number,
                outcome: match &mut self.file {
                    // Seen while reading: no more is entrusted to it.
                    Some(file) if file.is_damaged() => CommitOutcome::Failed,
                    Some(file) => file.commit(&commit),
                    None => CommitOutcome::Failed,
                },
            },
            Request::Load(id) => Outcome::Loaded {
                id,
                bytes: self.file.as_mut().and_then(|file| file.load(id)),
            },
            Request::Rebuild {
                incarnation,
                epochs,
            } => self.rebuild(&epochs, incarnation),
            Request::Bind { number, row } => {
                let began = Instant::now();
                let outcome = self.entrust(|file| file.bind(number, &row));
                Outcome::Bound {
                    number,
                    outcome,
                    took: began.elapsed(),
                }
            }
            Request::Forget(slot) => {
                if let Some(file) = &mut self.file {
                    file.forget(slot);
                }
                return None;
            }
            Request::StoreConfig(config) => Outcome::ConfigStored {
                version: config.version,
                outcome: self.entrust(|file| file.store_config(&config)),
            },
            Request::Trusted(unix_s) => {
                if let Some(file) = &mut self.file {
                    file.set_trusted_unix_s(unix_s);
                }
                return None;
            }
            Request::Close => {
                if let Some(Err(error)) = self.file.take().map(QueueFile::close) {
                    error!(%error, "the queue file could not be closed in order");
                }
                Outcome::Closed
            }
        })
    }

    /// Carries out a small commit, if there is a file to be trusted with it.
    fn entrust(&mut self, commit: impl FnOnce(&mut QueueFile) -> CommitOutcome) -> BindOutcome {
        let file = self.file.as_mut().filter(|file| !file.is_damaged());
        match file.map(commit) {
            Some(CommitOutcome::Done) => BindOutcome::Done,
            Some(CommitOutcome::RolledBack | CommitOutcome::Failed) | None => BindOutcome::Failed,
        }
    }

    fn rebuild(&mut self, epochs: &[Epoch], incarnation: Incarnation) -> Outcome {
        if self.whose == Whose::EarlierRuns {
            return Outcome::RebuildFailed;
        }
        // Where no file is open there may be one that could not be opened.
        let old = self.file.take();
        let replaced = match old {
            Some(old) => {
                salvage::replace(&self.paths, Some(old), epochs, self.bytes_max, incarnation)
            }
            None => salvage::open(&self.paths, epochs, self.bytes_max, incarnation),
        };
        match replaced {
            Ok(mut opened) => {
                let copied = salvage::ids(&mut opened.file);
                let Started {
                    facts, way_back, ..
                } = &opened.started;
                let holds_something = !copied.is_empty()
                    || !facts.ledger.is_empty()
                    || *way_back != WayBack::default();
                if self.whose == Whose::Unknown && holds_something {
                    self.whose = Whose::EarlierRuns;
                    error!(
                        batches = copied.len(),
                        "the queue of earlier runs can be read again: it is sent after a restart"
                    );
                    return Outcome::RebuildFailed;
                }
                self.file = Some(opened.file);
                self.whose = Whose::Known;
                Outcome::Rebuilt {
                    epoch: opened.started.epoch,
                    copied,
                    declared: opened.declared,
                }
            }
            Err(error) => {
                error!(error = %describe(&error), "there is no queue file");
                Outcome::RebuildFailed
            }
        }
    }
}

/// An error with its causes, for a log line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
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
