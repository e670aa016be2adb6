//! The queue of a box, looked at from outside: what the agent would read of it,
//! and how far its write-ahead log reaches.
//!
//! What was committed before the log reached a place is untouched by damage
//! from there on, and what was committed behind it is not.

use std::{collections::BTreeSet, fs, io, path::Path};

use anyhow::{Context as _, bail};
use returnpath_agent::queue::{OpenQueue, Outcome, Request};
use returnpath_shared::{Epoch, Incarnation};

/// The agent's own bound.
const QUEUE_BYTES_MAX: u64 = 32 << 20;

/// Names what nobody ever sends anything of.
const INCARNATION: u64 = 1;

/// Events by epoch and ordinal, and nothing else of them.
pub type Places = BTreeSet<(Epoch, u64)>;

/// What an agent that started on `flash` now would still have, found out in
/// `copy`, a folder that is made: the queue's own code opens it, and reads every
/// batch back.
///
/// # Errors
/// When the files cannot be copied, or the copy cannot be opened.
pub async fn readable(flash: &Path, copy: &Path) -> anyhow::Result<Places> {
    fs::create_dir(copy).with_context(|| format!("create {}", copy.display()))?;
    for entry in fs::read_dir(flash)? {
        let entry = entry?;
        fs::copy(entry.path(), copy.join(entry.file_name()))?;
    }
    let incarnation = Incarnation::new(INCARNATION).context("an incarnation is not 0")?;
    let mut open = OpenQueue::open(copy, QUEUE_BYTES_MAX, incarnation)?;
    let batches: Vec<_> = open.each_batch(|batches| batches.collect());
    let mut queue = open.spawn()?;
    let mut places = Places::new();
    for batch in batches {
        queue.request(Request::Load(batch.id));
        match queue.next().await {
            Some(Outcome::Loaded { id, bytes }) if id == batch.id => {
                let first = batch.first_ordinal.0;
                let ordinals = first..first + u64::from(batch.events);
                let ordinals = ordinals.filter(|_| bytes.is_some());
                places.extend(ordinals.map(|ordinal| (id.epoch, ordinal)));
            }
            other => bail!("{} was asked for, and came to {other:?}", batch.id),
        }
    }
    queue.request(Request::Close);
    while queue.next().await.is_some() {}
    Ok(places)
}

/// How far a log reaches. A log that is begun anew in the same file is another
/// one (<https://sqlite.org/walformat.html>).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogEnd {
    /// Which log: its salts.
    log: [u8; 8],
    /// Behind its last frame, in bytes.
    bytes: usize,
}

impl LogEnd {
    const HEADER_BYTES: usize = 32;
    const FRAME_HEADER_BYTES: usize = 24;

    /// Reads how far the log at `path` reaches now; 0 where there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        match fs::read(path) {
            Ok(log) => Ok(Self::of(&log)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// How far a log of these bytes reaches. Its last frame may be half written;
    /// behind it there may be frames of another log.
    #[must_use]
    pub fn of(log: &[u8]) -> Self {
        let Some((header, frames)) = log.split_first_chunk::<{ Self::HEADER_BYTES }>() else {
            return Self::default();
        };
        let mut salts = [0; 8];
        salts.copy_from_slice(&header[16..24]);
        let page_bytes = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        let frame_bytes = Self::FRAME_HEADER_BYTES + page_bytes as usize;
        let count = frames
            .chunks(frame_bytes)
            .take_while(|frame| frame.get(8..16) == Some(&salts[..]))
            .count();
        Self {
            log: salts,
            bytes: log.len().min(Self::HEADER_BYTES + count * frame_bytes),
        }
    }

    /// In bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same place in the log that ends at `last`: 0 when it is of an earlier
    /// log, which was copied to the file before this one was begun.
    #[must_use]
    pub fn within(&self, last: Self) -> usize {
        if self.log == last.log { self.bytes } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of so many frames with pages of 512 bytes.
    fn log(salt: u8, frames: usize) -> Vec<u8> {
        let mut log = vec![0; 32];
        log[8..12].copy_from_slice(&512_u32.to_be_bytes());
        log[16..24].fill(salt);
        for _ in 0..frames {
            let mut frame = vec![0; 24 + 512];
            frame[8..16].fill(salt);
            log.extend(frame);
        }
        log
    }

    #[test]
    fn a_log_ends_where_frames_of_an_earlier_one_begin() {
        let earlier = LogEnd::of(&log(1, 5));
        assert_eq!(earlier.bytes(), 32 + 5 * 536);
        let mut anew = log(1, 5);
        let begun = log(2, 2);
        anew[..begun.len()].copy_from_slice(&begun);
        let later = LogEnd::of(&anew);
        assert_eq!(later.bytes(), 32 + 2 * 536);
        assert_eq!((earlier.within(later), later.within(later)), (0, 1_104));
        assert_eq!(LogEnd::of(&anew[..20]), LogEnd::default());
    }
}
