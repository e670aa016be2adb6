//! The queue's thread: one request after the other, and what came of each.

use std::time::Instant;

use returnpath_delivery::CommitOutcome;
use returnpath_shared::{Epoch, Incarnation};
use returnpath_slots::BindOutcome;
use tokio::sync::mpsc;
use tracing::error;

use super::{
    Outcome, Request,
    file::{QueueFile, Started},
    salvage::{self, Paths},
    way_back::WayBack,
};

/// Carries requests out.
pub(super) struct Worker {
    pub(super) paths: Paths,
    pub(super) bytes_max: u64,
    pub(super) file: Option<QueueFile>,
    pub(super) whose: Whose,
}

/// Whose data a file may hold that a rebuild opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whose {
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
    /// On a file whose content the core was told; without one where there is
    /// none.
    pub(super) fn new(paths: Paths, bytes_max: u64, file: Option<QueueFile>) -> Self {
        let whose = match &file {
            Some(_) => Whose::Known,
            None => Whose::Unknown,
        };
        Self {
            paths,
            bytes_max,
            file,
            whose,
        }
    }

    /// Until the queue is closed, or nobody asks any more.
    pub(super) fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        outcomes: &mpsc::Sender<Outcome>,
    ) {
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

    pub(super) fn carry_out(&mut self, request: Request) -> Option<Outcome> {
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
            Request::ReadStarts => {
                let file = self.file.as_mut().filter(|file| !file.is_damaged());
                Outcome::Starts(file.and_then(QueueFile::starts))
            }
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
