//! Entries of the queue's directory: which files are there, how they are
//! renamed, removed, and made durable. A file and its log go together.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::QueueError;
#[cfg(test)]
use super::tests::disk;

pub(super) fn exists(path: &Path) -> Result<bool, QueueError> {
    path.try_exists().map_err(at(path))
}

/// Whether a file is there with anything in it. One of no bytes, or of a single
/// one, is a new one to SQLite, which throws away the log beside it.
pub(super) fn holds_anything(path: &Path) -> Result<bool, QueueError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        metadata => metadata
            .map(|metadata| metadata.len() > 1)
            .map_err(at(path)),
    }
}

/// Moves a file and its log. What lay under the new name is gone, its log too.
///
/// The order survives a power cut in between: a file never stands beside the
/// log of another, which would be replayed into it.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), QueueError> {
    remove_entry(&log_of(to))?;
    rename_entry(from, to).map_err(at(from))?;
    // A log belongs to its file by name.
    match rename_entry(&log_of(from), &log_of(to)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(from)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a file and its log, if they are there.
pub(super) fn remove(path: &Path) -> Result<(), QueueError> {
    remove_entry(path)?;
    remove_entry(&log_of(path))
}

/// Makes what was created, renamed and removed in a directory durable.
pub(super) fn sync(directory: &Path) -> Result<(), QueueError> {
    sync_entries(directory).map_err(at(directory))
}

/// The write-ahead log of a file.
pub(super) fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

fn rename_entry(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    #[cfg(test)]
    disk::renamed(from, to);
    Ok(())
}

fn remove_entry(path: &Path) -> Result<(), QueueError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(at(path)(error)),
        Ok(()) => {
            #[cfg(test)]
            disk::removed(path);
            Ok(())
        }
    }
}

fn sync_entries(directory: &Path) -> io::Result<()> {
    #[cfg(test)]
    if let Some(outcome) = disk::sync_directory(directory) {
        return outcome;
    }
    File::open(directory)?.sync_all()
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> QueueError {
    let path = path.to_owned();
    move |source| QueueError::Directory { path, source }
}
