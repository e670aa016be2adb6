//! Which epochs the queue file may hold something of, kept in a file beside it.
//!
//! Where the queue is damaged so badly that nothing in it can be named, or gone,
//! this is what is left to declare. Written once a start, before the run takes
//! its first event, and true for all of it: what is added is of the run's own
//! epoch. It may name epochs whose batches have left meanwhile; a declaration
//! means what is missing of an epoch, so that costs nothing.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use returnpath_shared::{Epoch, Incarnation};
use tracing::warn;

#[cfg(test)]
use super::tests::disk;
use super::{
    checksum::Fnv,
    directory::{self, at},
    file::{QueueFile, Started},
    salvage::Paths,
};

/// Incarnation, start and checksum, each little-endian. An entry stands for
/// itself: a damaged one costs no other. There are no more than the queue has
/// batches and rows, whose bounds are the core's.
const ENTRY_BYTES: usize = 8 + 4 + 8;

/// Adds the epochs that were named. None where there is no such file, or nothing
/// of it can be read: then nothing can be said.
pub(super) fn read(paths: &Paths, epochs: &mut BTreeSet<Epoch>) {
    let bytes = fs::read(paths.epochs()).unwrap_or_default();
    let (entries, _rest) = bytes.as_chunks();
    epochs.extend(entries.iter().filter_map(epoch));
}

/// Names the epochs of a file that was just started, durably. Where that fails
/// the queue is none the worse, so it is only told.
pub(super) fn write(paths: &Paths, file: &QueueFile, started: &Started) {
    let facts = &started.facts;
    let mut epochs = BTreeSet::new();
    epochs.insert(started.epoch);
    epochs.extend(file.epochs());
    epochs.extend(facts.starts.iter().map(|row| row.epoch));
    epochs.extend(facts.ledger.iter().map(|row| row.epoch));
    let mut bytes = Vec::new();
    for epoch in epochs {
        bytes.extend_from_slice(&entry(epoch));
    }
    let path = paths.epochs();
    let outcome = put(&path, &bytes)
        .map_err(at(&path))
        .and_then(|()| directory::sync(&paths.directory));
    if let Err(error) = outcome {
        warn!(%error, "the epochs of the queue could not be named beside it");
    }
}

/// In place: the file is a few blocks at most, each entry stands for itself,
/// and until this start is over the queue holds nothing that only the new
/// entries name.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    #[cfg(test)]
    if let Some(outcome) = disk::put(path, bytes) {
        return outcome;
    }
    file.sync_all()
}

fn entry(epoch: Epoch) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..8].copy_from_slice(&epoch.incarnation.get().to_le_bytes());
    entry[8..12].copy_from_slice(&epoch.start.to_le_bytes());
    let check = check(&entry);
    entry[12..].copy_from_slice(&check);
    entry
}

fn check(entry: &[u8; ENTRY_BYTES]) -> [u8; 8] {
    let mut sum = Fnv::new();
    sum.add(&entry[..12]);
    sum.get().to_le_bytes()
}

fn epoch(entry: &[u8; ENTRY_BYTES]) -> Option<Epoch> {
    let (incarnation, rest) = entry.split_first_chunk()?;
    let (start, sum) = rest.split_first_chunk()?;
    if *sum != check(entry) {
        return None;
    }
    Some(Epoch {
        incarnation: Incarnation::new(u64::from_le_bytes(*incarnation))?,
        start: u32::from_le_bytes(*start),
    })
}
