//! Opens the queue whatever state it is in. A file that is damaged or not to
//! be trusted is copied, as far as it reads, into a new one with a new
//! incarnation, and kept as one `.bad` for people to look at.
//!
//! The order survives a power cut at any point: the new file is complete and
//! synced before the old one moves aside, and a complete new file beside a
//! missing queue is taken up at the next start.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use returnpath_shared::{BatchId, Epoch, Incarnation};
use tracing::{error, info, warn};

use super::{
    QueueError,
    file::{QueueFile, Started, is_damage, sync_directory},
    rows::{self, Batches, Epochs, Facts, Order},
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
    /// Epochs of which something may have been lost that cannot be named.
    pub(super) corrupt_epochs: Vec<Epoch>,
}

/// Opens the queue and raises its start counter.
pub(super) fn open(
    paths: &Paths,
    bytes_max: u64,
    new_incarnation: Incarnation,
) -> Result<Opened, QueueError> {
    let path = paths.queue();
    if !exists(&path)? && exists(&paths.new_file())? {
        info!("taking up a copy of the queue that was finished before");
        rename(&paths.new_file(), &path)?;
    }
    match open_trusted(&path, bytes_max, new_incarnation) {
        Ok((file, started)) => {
            sync_directory(&paths.directory)?;
            Ok(Opened {
                file,
                started,
                corrupt_epochs: Vec::new(),
            })
        }
        Err(error) if is_damage(&error) => {
            error!(%error, path = %path.display(), "the queue file is damaged");
            let old = QueueFile::open(&path, bytes_max).ok();
            replace(paths, old, bytes_max, new_incarnation)
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
/// new file that takes its place.
pub(super) fn replace(
    paths: &Paths,
    old: Option<QueueFile>,
    bytes_max: u64,
    new_incarnation: Incarnation,
) -> Result<Opened, QueueError> {
    // Room for the copy, on a medium that may be full.
    remove(&paths.bad())?;
    remove(&paths.new_file())?;
    let wrong = |path: PathBuf| move |source| QueueError::Open { path, source };

    let mut new_file =
        QueueFile::open(&paths.new_file(), bytes_max).map_err(wrong(paths.new_file()))?;
    let mut corrupt_epochs = Vec::new();
    if let Some(old) = &old {
        corrupt_epochs =
            copy(old, &mut new_file, new_incarnation).map_err(wrong(paths.new_file()))?;
    }
    let started = new_file
        .start(new_incarnation)
        .map_err(wrong(paths.new_file()))?;
    // Closing checkpoints and syncs; the start stands in the file.
    new_file.close().map_err(wrong(paths.new_file()))?;
    sync_directory(&paths.directory)?;

    if let Some(old) = old {
        // Its close may fail for the same reason that it is not trusted.
        drop(old);
    }
    if exists(&paths.queue())? {
        rename(&paths.queue(), &paths.bad())?;
    }
    rename(&paths.new_file(), &paths.queue())?;
    sync_directory(&paths.directory)?;

    let mut file = QueueFile::open(&paths.queue(), bytes_max).map_err(wrong(paths.queue()))?;
    file.resume().map_err(wrong(paths.queue()))?;
    warn!(
        epoch = %started.epoch,
        set_aside = %paths.bad().display(),
        "the queue goes on in a new file"
    );
    Ok(Opened {
        file,
        started,
        corrupt_epochs,
    })
}

/// Copies rows until one cannot be read, then from the other end: a page that
/// went bad leaves both sides of it. Returns the epochs of which something may
/// be missing; empty when everything was read.
fn copy(
    old: &QueueFile,
    new_file: &mut QueueFile,
    new_incarnation: Incarnation,
) -> Result<Vec<Epoch>, rusqlite::Error> {
    let source = old.connection();
    let (facts, facts_error) = Facts::read(source);
    let mut complete = facts_error.is_none();
    let mut known: Vec<Epoch> = facts.starts.iter().map(|row| row.epoch).collect();

    let (target, target_epochs) = new_file.epochs_mut();
    target.execute_batch("BEGIN IMMEDIATE")?;
    let trusted_unix_s = match rows::last_start(source) {
        Ok((epoch, trusted_unix_s)) => {
            known.extend(epoch);
            trusted_unix_s
        }
        Err(_) => {
            complete = false;
            0
        }
    };
    rows::put_queue(target, new_incarnation, trusted_unix_s)?;
    rows::apply(target, target_epochs, &facts.into_ops())?;
    match Epochs::read(source) {
        Ok(epochs) => {
            known.extend(epochs.iter());
            for order in [Order::OldestFirst, Order::NewestFirst] {
                let (through, all_read) =
                    copy_batches(source, &epochs, order, target, target_epochs)?;
                complete &= all_read;
                if through {
                    break;
                }
            }
        }
        Err(error) => {
            error!(%error, "no batch of the damaged queue can be named");
            complete = false;
        }
    }
    target.execute_batch("COMMIT")?;
    known.sort_unstable();
    known.dedup();
    Ok(if complete { Vec::new() } else { known })
}

/// Copies batches in one direction. Says whether it came through to the other
/// end, and whether each of them could be read.
fn copy_batches(
    source: &rusqlite::Connection,
    epochs: &Epochs,
    order: Order,
    target: &rusqlite::Connection,
    target_epochs: &mut Epochs,
) -> Result<(bool, bool), rusqlite::Error> {
    let mut batches = match Batches::prepare(source, epochs, order) {
        Ok(batches) => batches,
        Err(_) => return Ok((false, false)),
    };
    let Ok(listed) = batches.iter() else {
        return Ok((false, false));
    };
    let mut all_read = true;
    for listed in listed {
        let Ok(batch) = listed else {
            return Ok((false, false));
        };
        match rows::load(source, epochs, batch.id) {
            Ok(Some((batch, bytes))) => {
                rows::insert_batch(target, target_epochs, &batch, &bytes)?;
            }
            Ok(None) | Err(_) => {
                warn!(id = %batch.id, "batch lost with the damaged queue");
                all_read = false;
            }
        }
    }
    Ok((true, all_read))
}

/// Ids of all batches in a file.
pub(super) fn ids(file: &mut QueueFile) -> Vec<BatchId> {
    file.each_batch(|batches| batches.map(|batch| batch.id).collect())
}

fn exists(path: &Path) -> Result<bool, QueueError> {
    path.try_exists().map_err(at(path))
}

fn rename(from: &Path, to: &Path) -> Result<(), QueueError> {
    fs::rename(from, to).map_err(at(from))?;
    // A log belongs to its file by name.
    match fs::rename(wal(from), wal(to)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(from)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn remove(path: &Path) -> Result<(), QueueError> {
    for path in [path.to_owned(), wal(path)] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at(&path)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn wal(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> QueueError {
    let path = path.to_owned();
    move |source| QueueError::Directory { path, source }
}
