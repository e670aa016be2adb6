//! What is known of the queue file and of the commit under way.

use alloc::vec::Vec;
use core::time::Duration;

use returnpath_shared::Epoch;

use crate::{Durability, Op, Uptime, held::Place};

/// First pause after a commit that was rolled back; doubles up to
/// [`RETRY_MAX`]. A full disk seldom empties within a second.
const RETRY_BASE: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// A file that fails again so soon after it was rebuilt lies on a flash that
/// is worn out: the next rebuild waits, from [`REBUILD_BASE`] doubling up to
/// this.
const REBUILD_MAX: Duration = Duration::from_secs(3_600);
const REBUILD_BASE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum File {
    Good,
    /// The shell is making a new one.
    Rebuilding,
    /// There is none; another is asked for at this time.
    Absent {
        until: Uptime,
    },
}

#[derive(Debug)]
pub(crate) struct Committing {
    pub(crate) number: u64,
    pub(crate) durability: Durability,
    /// Batches that it inserts.
    pub(crate) inserts: Vec<Place>,
    /// Its other operations, in case it does not happen.
    pub(crate) ops: Vec<Op>,
    /// Whether it is the one before stopping.
    pub(crate) last: bool,
    /// It leaves nothing in RAM only; tried again, it must not either: what it
    /// says of a former epoch holds only then.
    pub(crate) everything: bool,
}

#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) file: File,
    pub(crate) committing: Option<Committing>,
    next_number: u64,
    /// When accepted proof is to be synced, while no receipt can be awaited.
    pub(crate) sync_due: Option<Uptime>,
    /// When something that only rides along began to wait.
    pub(crate) tidy_since: Option<Uptime>,
    /// Whether it may not wait: what consent no longer covers.
    pub(crate) tidy_now: bool,
    /// When ordinary batches were last written.
    pub(crate) ordinary_written_at: Option<Uptime>,
    /// Starts whose end has been declared.
    pub(crate) declared: Vec<Epoch>,
    /// Whether the next commit writes everything: the file is new.
    pub(crate) write_all: bool,
    /// Nothing is committed before this.
    pub(crate) retry_at: Uptime,
    rollbacks: u32,
    rebuilds: u32,
    rebuilt_at: Option<Uptime>,
}

impl Storage {
    pub(crate) fn new() -> Self {
        Self {
            file: File::Good,
            committing: None,
            next_number: 1,
            sync_due: None,
            tidy_since: None,
            tidy_now: false,
            ordinary_written_at: None,
            declared: Vec::new(),
            write_all: false,
            retry_at: Uptime(0),
            rollbacks: 0,
            rebuilds: 0,
            rebuilt_at: None,
        }
    }

    pub(crate) fn take_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// Something waits for the next commit, whatever that is for.
    pub(crate) fn tidy(&mut self, now: Uptime) {
        self.tidy_since.get_or_insert(now);
    }

    pub(crate) fn committed(&mut self) {
        self.rollbacks = 0;
    }

    pub(crate) fn rolled_back(&mut self, now: Uptime) {
        let pause = RETRY_BASE.saturating_mul(1 << self.rollbacks.min(16));
        self.retry_at = now.plus(pause.min(RETRY_MAX));
        self.rollbacks = self.rollbacks.saturating_add(1);
    }

    /// The file is not trusted any more. True when another is wanted at once.
    pub(crate) fn failed(&mut self, now: Uptime) -> bool {
        let soon = self
            .rebuilt_at
            .is_some_and(|rebuilt| now.since(rebuilt) < REBUILD_MAX);
        if !soon {
            self.rebuilds = 0;
            self.file = File::Rebuilding;
            return true;
        }
        self.wait_for_rebuild(now);
        false
    }

    /// No new file could be made.
    pub(crate) fn wait_for_rebuild(&mut self, now: Uptime) {
        let pause = REBUILD_BASE.saturating_mul(1 << self.rebuilds.min(16));
        self.rebuilds = self.rebuilds.saturating_add(1);
        self.file = File::Absent {
            until: now.plus(pause.min(REBUILD_MAX)),
        };
    }

    pub(crate) fn rebuilt(&mut self, now: Uptime) {
        self.file = File::Good;
        self.rebuilt_at = Some(now);
        self.write_all = true;
        self.retry_at = now;
        self.rollbacks = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollbacks_are_tried_again_later_and_later() {
        let mut storage = Storage::new();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            storage.rolled_back(Uptime(0));
            pauses.push(storage.retry_at.0 / 1_000);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        storage.committed();
        storage.rolled_back(Uptime(0));
        assert_eq!(storage.retry_at, Uptime(1_000));
    }

    #[test]
    fn a_worn_out_flash_does_not_make_the_box_copy_without_end() {
        let mut storage = Storage::new();
        assert!(storage.failed(Uptime(0)));
        for pause_s in [60, 120, 240] {
            storage.rebuilt(Uptime(0));
            assert!(!storage.failed(Uptime(0)));
            assert_eq!(
                storage.file,
                File::Absent {
                    until: Uptime(pause_s * 1_000)
                }
            );
        }
        storage.rebuilt(Uptime(0));
        assert!(storage.failed(Uptime(3_600_000)));
    }
}
