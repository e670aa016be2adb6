//! What the queue held when the agent starts, before its thread runs.

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt as _, path::Path};

use returnpath_delivery::{LedgerRow, PoweredMark, ProofId, StartRow, StoredBatch};
use returnpath_shared::{Epoch, Incarnation, MOUNT_OPTIONS_BYTES_MAX, wire};
use returnpath_slots::Row as SlotRow;

use super::{
    Queue, QueueError, directory as entries,
    file::QueueFile,
    mount,
    salvage::{self, Opened, Paths},
    worker::Worker,
};
use crate::steering::StoredConfig;

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

/// An opened queue, before its thread runs.
#[derive(Debug)]
pub struct OpenQueue {
    pub(super) paths: Paths,
    pub(super) bytes_max: u64,
    pub(super) file: Option<QueueFile>,
    pub(super) found: Found,
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
                entries::sync(parent)?;
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
        let worker = Worker::new(self.paths, self.bytes_max, self.file);
        Queue::start(move |requests, outcomes| worker.run(requests, &outcomes))
    }
}
