//! Opens the queue whatever state it is in. A file that is damaged or not to
//! be trusted is copied, as far as it reads, into a new one with a new
//! incarnation, and kept as one `.bad` for people to look at.
//!
//! The order survives a power cut at any point: the new file is complete and
//! synced before the old one moves aside, and a complete new file beside a
//! missing queue is taken up at the next start. What could not be copied is
//! declared in the new file's ledger, in the transaction of what could: no
//! moment passes in which the loss is a fact and nothing says so.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use returnpath_delivery::{LedgerRow, Op};
use returnpath_shared::{BatchId, Epoch, Incarnation};
use tracing::{error, info, warn};

use super::{
    QueueError,
    directory::{self, exists, holds_anything, remove, rename},
    epochs_held,
    file::{QueueFile, Started, is_damage},
    rows::{self, Batches, Epochs, Facts, Order},
    way_back::WayBack,
};

/// Where the files of a queue lie.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) directory: PathBuf,
}

impl Paths {
    pub(super) fn queue(&self) -> PathBuf {
        self.directory.join("queue.db")
    }

    /// The copy while it is being made.
    fn new_file(&self) -> PathBuf {
        self.directory.join("queue.new")
    }

    /// Which epochs the queue may hold something of.
    pub(super) fn epochs(&self) -> PathBuf {
        self.directory.join("queue.epochs")
    }

    /// The one that was set aside last.
    pub(super) fn bad(&self) -> PathBuf {
        self.directory.join("queue.bad")
    }
}

/// An opened and started queue.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: QueueFile,
    pub(super) started: Started,
    /// Numbers of the ledger rows made for what could not be copied.
    pub(super) declared: Vec<u64>,
}

/// Opens the queue and raises its start counter. `held` as for [`replace`].
pub(super) fn open(
    paths: &Paths,
    held: &[Epoch],
    bytes_max: u64,
    new_incarnation: Incarnation,
) -> Result<Opened, QueueError> {
    let path = paths.queue();
    if !exists(&path)? && exists(&paths.new_file())? {
        info!("taking up a copy of the queue that was finished before");
        rename(&paths.new_file(), &path)?;
    }
    if !holds_anything(&path)? && (!held.is_empty() || exists(&paths.epochs())?) {
        error!(path = %path.display(), "the queue file is gone, or empty");
        return replace(paths, None, held, bytes_max, new_incarnation);
    }
    match open_trusted(&path, bytes_max, new_incarnation) {
        Ok((file, started)) => {
            directory::sync(&paths.directory)?;
            epochs_held::write(paths, &file, &started);
            Ok(Opened {
                file,
                started,
                declared: Vec::new(),
            })
        }
        Err(error) if is_damage(&error) => {
            error!(%error, path = %path.display(), "the queue file is damaged");
            let old = QueueFile::open(&path, bytes_max).ok();
            replace(paths, old, held, bytes_max, new_incarnation)
        }
        Err(source) => Err(QueueError::Open { path, source }),
    }
}

/// Opens a file, checks it after an unclean stop, and starts.
fn open_trusted(
    path: &Path,
    bytes_max: u64,
    new_incarnation: Incarnation,
) -> Result<(QueueFile, Started), rusqlite::Error> {
    let mut file = QueueFile::open(path, bytes_max)?;
    if !file.is_clean()? {
        info!("the last run ended without a clean stop: checking the queue file");
        if !file.check()? {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
                None,
            ));
        }
    }
    let started = file.start(new_incarnation)?;
    Ok((file, started))
}

/// Copies what reads of `old` (`None` where it cannot even be opened) into a
/// new file that takes its place. `held` are epochs of which it is known to
/// hold batches, in case it cannot name them, beside those of `epochs_held`.
pub(super) fn replace(
    paths: &Paths,
    old: Option<QueueFile>,
    held: &[Epoch],
    bytes_max: u64,
    new_incarnation: Incarnation,
) -> Result<Opened, QueueError> {
    // Room for the copy, on a medium that may be full.
    remove(&paths.bad())?;
    remove(&paths.new_file())?;
    let wrong = |path: PathBuf| move |source| QueueError::Open { path, source };

    let mut new_file =
        QueueFile::open(&paths.new_file(), bytes_max).map_err(wrong(paths.new_file()))?;
    let mut missing = Missing::default();
    missing.known.extend(held);
    epochs_held::read(paths, &mut missing.known);
    let declared = copy(old.as_ref(), missing, &mut new_file, new_incarnation)
        .map_err(wrong(paths.new_file()))?;
    let started = new_file
        .start(new_incarnation)
        .map_err(wrong(paths.new_file()))?;
    // Closing checkpoints and syncs; the start stands in the file.
    new_file.close().map_err(wrong(paths.new_file()))?;
    directory::sync(&paths.directory)?;

    if let Some(old) = old {
        // Its close may fail for the same reason that it is not trusted.
        drop(old);
    }
    if exists(&paths.queue())? {
        rename(&paths.queue(), &paths.bad())?;
    }
    rename(&paths.new_file(), &paths.queue())?;
    directory::sync(&paths.directory)?;

    let mut file = QueueFile::open(&paths.queue(), bytes_max).map_err(wrong(paths.queue()))?;
    file.resume().map_err(wrong(paths.queue()))?;
    epochs_held::write(paths, &file, &started);
    warn!(
        epoch = %started.epoch,
        set_aside = %paths.bad().display(),
        "the queue goes on in a new file"
    );
    Ok(Opened {
        file,
        started,
        declared,
    })
}

/// Copies everything that reads in one transaction, which also declares each
/// epoch of which something may be missing. Returns the numbers of those rows.
fn copy(
    old: Option<&QueueFile>,
    mut missing: Missing,
    new_file: &mut QueueFile,
    new_incarnation: Incarnation,
) -> Result<Vec<u64>, rusqlite::Error> {
    let (target, target_epochs) = new_file.epochs_mut();
    target.execute_batch("BEGIN IMMEDIATE")?;
    let mut ledger = Vec::new();
    let mut trusted_unix_s = 0;
    if let Some(old) = old {
        let source = old.connection();
        let (facts, facts_error) = Facts::read(source);
        missing.unnamed |= facts_error.is_some();
        missing
            .known
            .extend(facts.starts.iter().map(|row| row.epoch));
        ledger.clone_from(&facts.ledger);
        rows::apply(target, target_epochs, &facts.into_ops())?;
        let (way_back, error) = WayBack::read(source);
        if let Some(error) = error {
            error!(%error, "not all bound slots of the damaged queue can be read");
        }
        way_back.write(target)?;
        match rows::last_start(source) {
            Ok((epoch, unix_s)) => {
                missing.known.extend(epoch);
                trusted_unix_s = unix_s;
            }
            Err(_) => missing.unnamed = true,
        }
        copy_batches(source, target, target_epochs, &mut missing)?;
    } else {
        missing.unnamed = true;
    }
    rows::put_queue(target, new_incarnation, trusted_unix_s)?;
    let declarations = missing.declarations(&ledger);
    let declared = declarations.iter().map(|row| row.number).collect();
    let ops: Vec<Op> = declarations.into_iter().map(Op::LedgerPut).collect();
    rows::apply(target, target_epochs, &ops)?;
    target.execute_batch("COMMIT")?;
    Ok(declared)
}

/// What could not be copied.
#[derive(Debug, Default)]
struct Missing {
    /// Epochs of which the old file may have held something: batches, or
    /// declarations that nobody has yet.
    known: BTreeSet<Epoch>,
    /// Those of which a batch cannot be read. What its columns say of its
    /// events is not to be trusted either, so that no smaller part is named.
    of: BTreeSet<Epoch>,
    /// Something is missing of which not even the epoch can be told.
    unnamed: bool,
}

impl Missing {
    /// Rows beside those of `ledger`, which were copied.
    fn declarations(self, ledger: &[LedgerRow]) -> Vec<LedgerRow> {
        let declared: BTreeSet<Epoch> = ledger
            .iter()
            .filter(|row| row.whole_epoch)
            .map(|row| row.epoch)
            .collect();
        let numbers = ledger.iter().map(|row| row.number).max().unwrap_or(0) + 1..;
        let epochs = if self.unnamed {
            &self.known | &self.of
        } else {
            self.of
        };
        let undeclared = epochs.difference(&declared).copied();
        let rows = numbers.zip(undeclared).map(|(number, epoch)| {
            warn!(%epoch, "something of this epoch is lost with the damaged queue");
            LedgerRow::corrupt_epoch(number, epoch)
        });
        rows.collect()
    }
}

/// Copies batches until one cannot be listed, then from the other end: a page
/// that went bad leaves both sides of it.
fn copy_batches(
    source: &rusqlite::Connection,
    target: &rusqlite::Connection,
    target_epochs: &mut Epochs,
    missing: &mut Missing,
) -> Result<(), rusqlite::Error> {
    let epochs = match Epochs::read(source) {
        Ok(epochs) => epochs,
        Err(error) => {
            error!(%error, "no batch of the damaged queue can be named");
            missing.unnamed = true;
            return Ok(());
        }
    };
    missing.known.extend(epochs.iter());
    for order in [Order::OldestFirst, Order::NewestFirst] {
        if copy_in_order(source, &epochs, order, target, target_epochs, missing)? {
            return Ok(());
        }
        missing.unnamed = true;
    }
    Ok(())
}

/// Copies batches in one direction. Says whether it came through to the other
/// end.
fn copy_in_order(
    source: &rusqlite::Connection,
    epochs: &Epochs,
    order: Order,
    target: &rusqlite::Connection,
    target_epochs: &mut Epochs,
    missing: &mut Missing,
) -> Result<bool, rusqlite::Error> {
    let Ok(mut batches) = Batches::prepare(source, epochs, order) else {
        return Ok(false);
    };
    let Ok(listed) = batches.iter() else {
        return Ok(false);
    };
    for listed in listed {
        let Ok(batch) = listed else {
            return Ok(false);
        };
        match rows::load(source, epochs, batch.id) {
            Ok(Some((batch, bytes))) => {
                rows::insert_batch(target, target_epochs, &batch, &bytes)?;
            }
            Ok(None) | Err(_) => {
                warn!(id = %batch.id, "batch lost with the damaged queue");
                missing.of.insert(batch.id.epoch);
            }
        }
    }
    Ok(true)
}

/// Ids of all batches in a file.
pub(super) fn ids(file: &mut QueueFile) -> Vec<BatchId> {
    file.each_batch(|batches| batches.map(|batch| batch.id).collect())
}
