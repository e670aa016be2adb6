//! A disk whose power can be cut and whose syncs can fail: it keeps a log of
//! every change that the queue makes to the files of one directory.
//!
//! The changes themselves go through to the real file system, so that the
//! queue runs as it does on a box; only syncs are recorded in place of being
//! carried out. SQLite's changes come by a VFS (`vfs.rs`), those of the
//! directory's entries by the queue's own `directory.rs`. What of the log is on
//! the medium after a cut is `medium.rs`'s business. Files of other directories
//! are not touched.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

pub(super) mod medium;
mod vfs;

/// Names a file for ever, whatever it is called.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct FileId(u32);

/// One change, in the order in which they were asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// A file was made, empty.
    Create {
        name: String,
        file: FileId,
    },
    Write {
        file: FileId,
        offset: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        file: FileId,
        length: u64,
    },
    /// All of a file is on the medium.
    Sync {
        file: FileId,
    },
    /// It may be, or not: Linux forgets what it could not write.
    SyncFailed {
        file: FileId,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
    /// All entries are on the medium.
    SyncDirectory,
}

#[derive(Debug, Default)]
struct State {
    changes: Vec<Change>,
    names: BTreeMap<String, FileId>,
    files: u32,
    /// So many syncs from now on fail.
    failing_syncs: u32,
}

/// The disk below one directory.
#[derive(Debug)]
pub(crate) struct Disk {
    directory: PathBuf,
    /// Whether the log is not kept: for opening what a cut left.
    is_forgetful: bool,
    state: Mutex<State>,
}

static DISKS: Mutex<Vec<Arc<Disk>>> = Mutex::new(Vec::new());

fn disks() -> MutexGuard<'static, Vec<Arc<Disk>>> {
    DISKS.lock().unwrap()
}

/// The disk that watches the directory of this path, and the path's last part.
fn watched(path: &Path) -> Option<(Arc<Disk>, String)> {
    let name = path.file_name()?.to_str()?.to_owned();
    let directory = path.parent()?;
    let disks = disks();
    let disk = disks.iter().find(|disk| disk.directory == directory)?;
    Some((disk.clone(), name))
}

impl Disk {
    /// Watches a directory that exists. What lies in it is on the medium.
    pub(crate) fn watch(directory: &Path) -> Arc<Self> {
        Self::begin(directory, false)
    }

    /// The same, without a log: only syncs are left out.
    pub(crate) fn watch_forgetfully(directory: &Path) -> Arc<Self> {
        Self::begin(directory, true)
    }

    fn begin(directory: &Path, is_forgetful: bool) -> Arc<Self> {
        vfs::install();
        let mut state = State::default();
        let mut entries: Vec<_> = std::fs::read_dir(directory).unwrap().flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name().into_string().unwrap();
            state.names.insert(name, FileId(state.files));
            state.files += 1;
        }
        let disk = Arc::new(Self {
            directory: directory.to_owned(),
            is_forgetful,
            state: Mutex::new(state),
        });
        disks().push(disk.clone());
        disk
    }

    /// Watches no more: what follows is not recorded.
    pub(crate) fn leave(&self) {
        disks().retain(|disk| disk.directory != self.directory);
    }

    /// Which file has which name now.
    pub(crate) fn names(&self) -> BTreeMap<String, FileId> {
        self.state().names.clone()
    }

    /// How many changes there were.
    pub(crate) fn position(&self) -> usize {
        self.state().changes.len()
    }

    pub(crate) fn changes(&self) -> Vec<Change> {
        self.state().changes.clone()
    }

    /// So many syncs from now on fail, of files and of the directory.
    pub(crate) fn fail_syncs(&self, count: u32) {
        self.state().failing_syncs = count;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The file of this name, made where there is none.
    fn opened(&self, name: &str) -> FileId {
        let mut state = self.state();
        if let Some(file) = state.names.get(name) {
            return *file;
        }
        let file = FileId(state.files);
        state.files += 1;
        state.names.insert(name.to_owned(), file);
        let name = name.to_owned();
        self.log(&mut state, Change::Create { name, file });
        file
    }

    fn changed(&self, change: Change) {
        self.log(&mut self.state(), change);
    }

    fn log(&self, state: &mut State, change: Change) {
        if !self.is_forgetful {
            state.changes.push(change);
        }
    }

    fn removed(&self, name: &str) {
        let mut state = self.state();
        if state.names.remove(name).is_some() {
            let name = name.to_owned();
            self.log(&mut state, Change::Remove { name });
        }
    }

    /// Whether it worked.
    fn synced(&self, file: FileId) -> bool {
        let mut state = self.state();
        let fails = state.fails();
        let change = if fails {
            Change::SyncFailed { file }
        } else {
            Change::Sync { file }
        };
        self.log(&mut state, change);
        !fails
    }

    fn directory_synced(&self) -> bool {
        let mut state = self.state();
        let fails = state.fails();
        if !fails {
            self.log(&mut state, Change::SyncDirectory);
        }
        !fails
    }
}

impl State {
    fn fails(&mut self) -> bool {
        let fails = self.failing_syncs > 0;
        self.failing_syncs = self.failing_syncs.saturating_sub(1);
        fails
    }
}

/// The queue has renamed an entry.
pub(crate) fn renamed(from: &Path, to: &Path) {
    let (Some((disk, from)), Some((_, to))) = (watched(from), watched(to)) else {
        return;
    };
    let mut state = disk.state();
    if let Some(file) = state.names.remove(&from) {
        state.names.insert(to.clone(), file);
    }
    disk.log(&mut state, Change::Rename { from, to });
}

/// The queue has removed an entry.
pub(crate) fn removed(path: &Path) {
    if let Some((disk, name)) = watched(path) {
        disk.removed(&name);
    }
}

/// The queue has written all of a file anew and syncs it. `None` where the real
/// one is to be synced.
pub(crate) fn put(path: &Path, bytes: &[u8]) -> Option<io::Result<()>> {
    let (disk, name) = watched(path)?;
    let file = disk.opened(&name);
    disk.changed(Change::Truncate { file, length: 0 });
    let bytes = bytes.to_vec();
    disk.changed(Change::Write {
        file,
        offset: 0,
        bytes,
    });
    Some(disk.synced(file).then_some(()).ok_or_else(failed))
}

/// The queue syncs a directory. `None` where the real one is to be synced.
pub(crate) fn sync_directory(directory: &Path) -> Option<io::Result<()>> {
    let (disk, _) = watched(&directory.join("any"))?;
    Some(disk.directory_synced().then_some(()).ok_or_else(failed))
}

fn failed() -> io::Error {
    io::Error::other("a sync that was made to fail")
}

/// Chances of a test, the same for the same seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    /// True so many times of a thousand.
    pub(crate) fn chance(&mut self, permille: u64) -> bool {
        self.below(1_000) < permille
    }
}
