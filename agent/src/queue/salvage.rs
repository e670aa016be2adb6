//! Opens the queue whatever state it is in. A file that is damaged or not to
//! be trusted is copied, as far as it reads, into a new one with a new
//! incarnation, and kept as one `.bad` for people to look at.
//!
//! The order survives a power cut at any point: the new file is complete and
//! synced before the old one moves aside, and a complete new file beside a
//! missing queue is taken up at the next start. What could not be copied is
//! declared in the new file's ledger, in the transaction of what could: no
//! moment passes in which the loss is a fact and nothing says so.

use std::{collections::BTreeSet, path::PathBuf};

use returnpath_delivery::{LedgerRow, Op};
use returnpath_shared::{BatchId, Epoch, Incarnation};
use rusqlite::Connection;
use tracing::{error, info, warn};

use super::{
    QueueError,
    batches::{self, Order},
    directory::{self, exists, holds_anything, remove, rename},
    epochs::Epochs,
    epochs_held,
    file::{QueueFile, Started, is_damage},
    rows::{self, Facts, QueueRow},
    sealed::damaged,
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
    match open_checked(paths, bytes_max, new_incarnation) {
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

/// Opens the file, checks it, and starts. However the last run ended: the flash
/// may have lost since what it had.
fn open_checked(
    paths: &Paths,
    bytes_max: u64,
    new_incarnation: Incarnation,
) -> Result<(QueueFile, Started), rusqlite::Error> {
    let mut file = QueueFile::open(&paths.queue(), bytes_max)?;
    if !file.check()? {
        return Err(damaged());
    }
    file.migrate()?;
    let mut known = BTreeSet::new();
    epochs_held::read(paths, &mut known);
    let started = file.start(&known, new_incarnation)?;
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
    new_file.migrate().map_err(wrong(paths.new_file()))?;
    let mut missing = Missing::default();
    missing.known.extend(held);
    epochs_held::read(paths, &mut missing.known);
    let declared = copy(old.as_ref(), missing, &mut new_file, new_incarnation)
        .map_err(wrong(paths.new_file()))?;
    let started = new_file
        .start(&BTreeSet::new(), new_incarnation)
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
    let mut queue = QueueRow::new(new_incarnation);
    if let Some(old) = old {
        let source = old.connection();
        // What is sound in itself does not say what else there was.
        missing.unnamed |= !old.check().unwrap_or(false);
        let (facts, error) = Facts::read(source);
        missing.unnamed |= error.is_some();
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
        match QueueRow::read(source) {
            Ok(old) => {
                missing.unnamed |= !rows::came_to(old.as_ref(), &missing.known);
                let started = old.filter(|old| old.epoch.start > 0);
                missing.known.extend(started.map(|old| old.epoch));
                queue.trusted_unix_s = old.map_or(0, |old| old.trusted_unix_s);
            }
            Err(_) => missing.unnamed = true,
        }
        copy_batches(source, target, target_epochs, &mut missing)?;
    } else {
        missing.unnamed = true;
    }
    queue.put(target)?;
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
    /// Those of which the bytes of a batch cannot be read.
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

/// Copies batches until no more can be listed, then from the other end: a page
/// that went bad leaves both sides of it.
fn copy_batches(
    source: &Connection,
    target: &Connection,
    target_epochs: &mut Epochs,
    missing: &mut Missing,
) -> Result<(), rusqlite::Error> {
    let (epochs, error) = Epochs::read(source);
    missing.known.extend(epochs.iter());
    missing.unnamed |= error.is_some();
    for order in [Order::OldestFirst, Order::NewestFirst] {
        if copy_in_order(source, &epochs, order, target, target_epochs, missing)? {
            break;
        }
        missing.unnamed = true;
    }
    Ok(())
}

/// Copies batches in one direction. Says whether it came through to the other
/// end.
fn copy_in_order(
    source: &Connection,
    epochs: &Epochs,
    order: Order,
    target: &Connection,
    target_epochs: &mut Epochs,
    missing: &mut Missing,
) -> Result<bool, rusqlite::Error> {
    let Ok(mut statement) = batches::whole(source, order) else {
        return Ok(false);
    };
    let Ok(mut rows) = statement.query([]) else {
        return Ok(false);
    };
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(true),
            Err(_) => return Ok(false),
        };
        let Ok(batch) = batches::read(row, epochs) else {
            missing.unnamed = true;
            continue;
        };
        if let Ok(bytes) = batches::bytes(row, &batch) {
            batches::insert(target, target_epochs, &batch, &bytes)?;
            continue;
        }
        warn!(id = %batch.id, "batch lost with the damaged queue");
        if batches::is_named(row, &batch) == Ok(true) {
            missing.of.insert(batch.id.epoch);
        } else {
            missing.unnamed = true;
        }
    }
}

/// Ids of all batches in a file.
pub(super) fn ids(file: &mut QueueFile) -> Vec<BatchId> {
    file.each_batch(|batches| batches.map(|batch| batch.id).collect())
}
