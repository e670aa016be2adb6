//! One queue file and the one connection to it: opening, starting, committing,
//! checkpointing, closing. What to do when it is damaged is `salvage.rs`'s.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use returnpath_delivery::{
    Commit, CommitOutcome, Durability, Settled, StartRow, StoredBatch, UNCLEAN_MAX,
};
use returnpath_shared::{BatchId, Epoch, Incarnation};
use returnpath_slots::{Row as SlotRow, Slot};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, config::DbConfig};
use tracing::{error, warn};

use super::{
    batches, directory,
    epochs::Epochs,
    rows::{self, Facts, QueueRow},
    schema::{MIGRATIONS, migrate},
    sealed::damaged,
    way_back::{self, WayBack},
};
use crate::steering::StoredConfig;

/// A commit of one small batch writes half as much with 1 KiB pages as with
/// SQLite's 4 KiB.
const PAGE_BYTES: u32 = 1_024;

/// Pages cached in memory: the upper levels of the trees.
const CACHE_KIB: i64 = 64;

/// The write-ahead log is copied back beyond this size. Larger saves writes
/// (a row deleted before that never reaches the main file) and costs space.
const WAL_BYTES_MAX: u64 = 1 << 20;

/// The first SQLite without the WAL-reset bug, which corrupts files.
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// A trusted time is written when it has moved by this much: once an hour costs
/// no flash worth counting, because it rides along with a commit.
const TRUSTED_STEP_S: u64 = 3_600;

/// An open queue file.
#[derive(Debug)]
pub(super) struct QueueFile {
    connection: Connection,
    epochs: Epochs,
    wal: PathBuf,
    synchronous: Durability,
    /// Damage was seen: no more is entrusted to it.
    damaged: bool,
    /// As it stands in the file; `None` before the start.
    queue: Option<QueueRow>,
    /// Written with the next commit.
    trusted_unix_s: Option<u64>,
    /// Slots that leave with the next commit; at most as many as are bound.
    forgotten: Vec<Slot>,
}

/// What a start found.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) epoch: Epoch,
    pub(super) facts: Facts,
    pub(super) way_back: WayBack,
    pub(super) trusted_unix_s: u64,
}

impl QueueFile {
    /// Opens a file, making it where there is none, and does not look into it:
    /// one that is damaged can be read as far as it goes.
    pub(super) fn open(path: &Path, bytes_max: u64) -> Result<Self, rusqlite::Error> {
        if rusqlite::version_number() < SQLITE_VERSION_MIN {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_MISUSE),
                Some(format!("SQLite {} is too old", rusqlite::version())),
            ));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        // Exclusive before anything reads the file: then there is no shared
        // memory file beside it, and a second agent cannot open the queue.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        let mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode != "wal" {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
                Some(format!("the file system allows no WAL, only {mode}")),
            ));
        }
        // Our own checkpoints: SQLite keeps silent about failures of its own.
        connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_row| Ok(()))?;
        connection.pragma_update_and_check(
            None,
            "journal_size_limit",
            i64::try_from(WAL_BYTES_MAX).unwrap_or(i64::MAX),
            |_row| Ok(()),
        )?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let pages_max = i64::try_from(bytes_max / u64::from(PAGE_BYTES)).unwrap_or(i64::MAX);
        connection.pragma_update_and_check(None, "max_page_count", pages_max, |_row| Ok(()))?;
        Ok(Self {
            epochs: Epochs::default(),
            connection,
            wal: directory::log_of(path),
            synchronous: Durability::Behind,
            damaged: false,
            queue: None,
            trusted_unix_s: None,
            forgotten: Vec::new(),
        })
    }

    /// Reads every page and the structure of every tree.
    pub(super) fn check(&self) -> Result<bool, rusqlite::Error> {
        let verdict: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            error!(%verdict, "the queue file is damaged");
        }
        Ok(verdict == "ok")
    }

    /// Brings the file to the version that this agent knows.
    pub(super) fn migrate(&mut self) -> Result<(), rusqlite::Error> {
        let found = migrate(&mut self.connection, MIGRATIONS)?;
        if found > MIGRATIONS.len() {
            warn!(version = found, "the queue file is of a later version");
        }
        Ok(())
    }

    /// Raises the start counter, durably, and reads what the file holds. After
    /// this, every row that [`Self::each_batch`] gives has been read once, and
    /// was as it was written.
    ///
    /// `known` are epochs that were begun with this file: one that the file has
    /// not come to is of a part that it lost.
    pub(super) fn start(
        &mut self,
        known: &BTreeSet<Epoch>,
        new_incarnation: Incarnation,
    ) -> Result<Started, rusqlite::Error> {
        let (epochs, epochs_error) = Epochs::read(&self.connection);
        let (mut facts, facts_error) = Facts::read(&self.connection);
        let (way_back, way_back_error) = WayBack::read(&self.connection);
        if let Some(error) = epochs_error.or(facts_error).or(way_back_error) {
            return Err(error);
        }
        batches::check(&self.connection, &epochs)?;
        let queue = QueueRow::read(&self.connection)?;
        if !rows::came_to(queue.as_ref(), known) {
            return Err(damaged());
        }
        let mut queue = queue.unwrap_or(QueueRow::new(new_incarnation));

        self.set_synchronous(Durability::Synced)?;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        queue.epoch.start = queue.epoch.start.checked_add(1).ok_or_else(damaged)?;
        queue.put(&transaction)?;
        let row = StartRow {
            epoch: queue.epoch,
            settled: Settled::default(),
        };
        rows::put_start(&transaction, &row)?;
        Epochs::tidy(&transaction)?;
        transaction.commit()?;
        self.read_epochs()?;
        // So that a log which is damaged later takes only what this run put
        // into it, which its start row declares, and not that row itself.
        // Emptied: frames that were copied back before are still valid until
        // they are written over, and a part of them, were the rest damaged,
        // would bring back what pages held then. On a full disk it is copied
        // back later.
        self.copy_back("PRAGMA wal_checkpoint(TRUNCATE)")
            .or_else(|error| match classify(&error) {
                CommitOutcome::Failed => Err(error),
                CommitOutcome::Done | CommitOutcome::RolledBack => Ok(()),
            })?;

        facts.starts.retain(|row| row.epoch != queue.epoch);
        self.queue = Some(queue);
        Ok(Started {
            epoch: queue.epoch,
            facts,
            way_back,
            trusted_unix_s: queue.trusted_unix_s,
        })
    }

    /// Goes on in a file that was started, closed in order and opened again.
    pub(super) fn resume(&mut self) -> Result<(), rusqlite::Error> {
        self.queue = QueueRow::read(&self.connection)?;
        self.read_epochs()
    }

    fn read_epochs(&mut self) -> Result<(), rusqlite::Error> {
        let (epochs, error) = Epochs::read(&self.connection);
        self.epochs = epochs;
        error.map_or(Ok(()), Err)
    }

    /// All batches, oldest first. A row that cannot be read ends it, and the
    /// file is not trusted any more.
    pub(super) fn each_batch<R>(
        &mut self,
        take: impl FnOnce(&mut dyn Iterator<Item = StoredBatch>) -> R,
    ) -> R {
        let (taken, damage) = each_batch(&self.connection, &self.epochs, take);
        if let Some(error) = damage {
            error!(%error, "a batch cannot be read");
            self.distrust();
        }
        taken
    }

    /// Damage was seen: the file keeps what it has. Closing it would copy the
    /// log back, and of a log that could not be synced the medium may have lost
    /// a part that memory still shows: after a power cut in the middle of that
    /// the file would be a mixture, and miss what was durable before.
    fn distrust(&mut self) {
        self.damaged = true;
        // SQLite refuses only what it does not know.
        let _known = self
            .connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    }

    /// Whether damage was seen since the file was opened.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Remembers a trusted time, to be written with the next commit.
    pub(super) fn set_trusted_unix_s(&mut self, unix_s: u64) {
        let written = self.queue.map_or(0, |queue| queue.trusted_unix_s);
        if unix_s >= written.saturating_add(TRUSTED_STEP_S) {
            self.trusted_unix_s = Some(unix_s);
        }
    }

    /// Remembers a slot that is not needed any more, to leave with the next
    /// commit: that costs no write of its own.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.forgotten.push(slot);
    }

    /// Carries out a commit as durably as it asks.
    pub(super) fn commit(&mut self, commit: &Commit) -> CommitOutcome {
        let outcome = self.try_commit(commit);
        self.ended(outcome, commit.number)
    }

    /// Binds a slot, synced to the medium.
    pub(super) fn bind(&mut self, number: u64, row: &SlotRow) -> CommitOutcome {
        let outcome = self.synced(|connection| way_back::put_slot(connection, row));
        self.ended(outcome, number)
    }

    /// Stores the cloud's configuration, synced to the medium.
    pub(super) fn store_config(&mut self, config: &StoredConfig) -> CommitOutcome {
        let outcome = self.synced(|connection| way_back::put_config(connection, config));
        self.ended(outcome, config.version)
    }

    /// One change in a transaction of its own, synced to the medium.
    fn synced(
        &mut self,
        change: impl FnOnce(&Connection) -> Result<(), rusqlite::Error>,
    ) -> Result<(), rusqlite::Error> {
        self.set_synchronous(Durability::Synced)?;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for slot in &self.forgotten {
            way_back::delete_slot(&transaction, slot)?;
        }
        // After the deletions: a row put again stays.
        change(&transaction)?;
        transaction.commit()?;
        self.forgotten.clear();
        Ok(())
    }

    /// How a commit went, and what follows for the file.
    fn ended(&mut self, outcome: Result<(), rusqlite::Error>, number: u64) -> CommitOutcome {
        let Err(error) = outcome.and_then(|()| self.checkpoint()) else {
            return CommitOutcome::Done;
        };
        // The transaction is gone; an epoch that it introduced is, too.
        if self.read_epochs().is_err() {
            self.distrust();
        }
        let outcome = classify(&error);
        match outcome {
            CommitOutcome::Failed => {
                self.distrust();
                error!(%error, number, "the queue file cannot be trusted");
            }
            CommitOutcome::RolledBack | CommitOutcome::Done => {
                warn!(%error, number, "commit rolled back");
            }
        }
        outcome
    }

    fn try_commit(&mut self, commit: &Commit) -> Result<(), rusqlite::Error> {
        self.set_synchronous(commit.durability)?;
        let mut queue = self.queue;
        let trusted_unix_s = self.trusted_unix_s.take();
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        rows::apply(&transaction, &mut self.epochs, &commit.ops)?;
        for slot in &self.forgotten {
            way_back::delete_slot(&transaction, slot)?;
        }
        if let (Some(queue), Some(unix_s)) = (&mut queue, trusted_unix_s) {
            queue.trusted_unix_s = unix_s;
            queue.put(&transaction)?;
        }
        transaction.commit()?;
        self.forgotten.clear();
        self.queue = queue;
        Ok(())
    }

    /// Copies the log back when it has grown long.
    fn checkpoint(&self) -> Result<(), rusqlite::Error> {
        let wal_bytes = fs::metadata(&self.wal).map_or(0, |metadata| metadata.len());
        if wal_bytes < WAL_BYTES_MAX {
            return Ok(());
        }
        // Written over rather than emptied: a log that does not grow costs the
        // file system nothing.
        self.copy_back("PRAGMA wal_checkpoint(RESTART)")
    }

    /// Copies the log back to the file.
    fn copy_back(&self, how: &str) -> Result<(), rusqlite::Error> {
        self.connection.query_row(how, [], |_row| Ok(()))
    }

    fn set_synchronous(&mut self, durability: Durability) -> Result<(), rusqlite::Error> {
        if self.synchronous != durability {
            let level = match durability {
                Durability::Synced => "FULL",
                Durability::Behind => "NORMAL",
            };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.synchronous = durability;
        }
        Ok(())
    }

    /// The bytes of a batch; `None` where they cannot be had.
    pub(super) fn load(&mut self, id: BatchId) -> Option<Bytes> {
        match batches::load(&self.connection, &self.epochs, id) {
            Ok(bytes) => bytes,
            Err(error) => {
                error!(%error, %id, "a batch cannot be read");
                self.distrust();
                None
            }
        }
    }

    /// Starts that have not ended cleanly: as many as are declared at once, this
    /// one, and one that says that there are more. `None` where they cannot be
    /// read.
    pub(super) fn starts(&mut self) -> Option<Vec<StartRow>> {
        let mut starts = Vec::new();
        match rows::starts(&self.connection, UNCLEAN_MAX + 2, &mut starts) {
            Ok(()) => Some(starts),
            Err(error) => {
                error!(%error, "a start cannot be read");
                self.distrust();
                None
            }
        }
    }

    /// Closes the file, and copies the log back unless damage was seen.
    pub(super) fn close(mut self) -> Result<(), rusqlite::Error> {
        self.set_synchronous(Durability::Synced)?;
        self.connection.close().map_err(|(_, error)| error)
    }

    /// For copying to another file.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Epochs of which it holds batches.
    pub(super) fn epochs(&self) -> impl Iterator<Item = Epoch> {
        self.epochs.iter()
    }

    pub(super) fn epochs_mut(&mut self) -> (&Connection, &mut Epochs) {
        (&self.connection, &mut self.epochs)
    }
}

/// Gives batches until the end or the first error, which is told beside.
fn each_batch<R>(
    connection: &Connection,
    epochs: &Epochs,
    take: impl FnOnce(&mut dyn Iterator<Item = StoredBatch>) -> R,
) -> (R, Option<rusqlite::Error>) {
    let mut damage = None;
    let mut prepared = match batches::headers(connection) {
        Ok(prepared) => prepared,
        Err(error) => return (take(&mut std::iter::empty()), Some(error)),
    };
    let mut rows = match prepared.query_map([], |row| batches::read(row, epochs)) {
        Ok(rows) => rows,
        Err(error) => return (take(&mut std::iter::empty()), Some(error)),
    };
    let taken = take(&mut std::iter::from_fn(|| match rows.next()? {
        Ok(batch) => Some(batch),
        Err(error) => {
            damage = Some(error);
            None
        }
    }));
    (taken, damage)
}

/// Whether the file is still to be trusted after an error.
fn classify(error: &rusqlite::Error) -> CommitOutcome {
    match error.sqlite_error_code() {
        // Nothing was written, or all of it was taken back.
        Some(
            ErrorCode::DiskFull
            | ErrorCode::OutOfMemory
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OperationInterrupted,
        ) => CommitOutcome::RolledBack,
        _ => CommitOutcome::Failed,
    }
}

/// Whether an error means that the file's content is damaged, and not that the
/// disk is full or the file in use. Whatever else is wrong with a file of ours
/// was not written by us.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    !matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::OutOfMemory
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OperationInterrupted
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                // The library is too old.
                | ErrorCode::ApiMisuse
        )
    )
}
