//! What of a log of changes is on the medium when the power goes: everything
//! up to the last sync, and of the rest any part that a journalling file system
//! may have written on its own.
//!
//! What it may do, and the model therefore does: write any of the unsynced
//! sectors of a file and leave others, in any order and to any version; tear a
//! write between sectors of 512 or 4,096 bytes; lengthen a file and not fill it;
//! keep a truncation back. Entries of a directory change in order, as a journal
//! has it, and any number of the last changes may be missing; a file whose entry
//! is missing is not there, whatever of it was synced. A sync that fails may have
//! written anything, and the rest is lost for good.
//!
//! What it does not do: change bytes of a sector that a write left alone. SQLite
//! counts on that too (`SQLITE_IOCAP_POWERSAFE_OVERWRITE`).

use std::{collections::BTreeMap, fs, path::Path};

use super::{Change, FileId, Random};

/// The files of a directory as they are found after a cut.
pub(crate) type Image = BTreeMap<String, Vec<u8>>;

/// Which of the unsynced changes are on the medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Luck {
    /// None.
    Nothing,
    /// All but a part of the last write: the power went while it was written.
    TornLast,
    /// All.
    Everything,
    /// So many sectors of a thousand, and as many entries as chance has it.
    Some { permille: u64 },
}

/// Sizes of the unit that is written whole or not at all.
const SECTORS: [u64; 2] = [512, 4_096];

#[derive(Clone, Debug)]
enum Pending {
    Write { offset: u64, bytes: Vec<u8> },
    Truncate { length: u64 },
}

#[derive(Clone, Debug, Default)]
struct Content {
    synced: Vec<u8>,
    pending: Vec<Pending>,
}

/// The medium while changes are made.
#[derive(Clone, Debug)]
pub(crate) struct Medium {
    files: BTreeMap<FileId, Content>,
    entries: BTreeMap<String, FileId>,
    pending_entries: Vec<Change>,
    /// The file that was written last.
    last: Option<FileId>,
}

impl Medium {
    /// A medium that holds these files and no others.
    pub(crate) fn new(image: &Image, names: &BTreeMap<String, FileId>) -> Self {
        let content = |name: &String| Content {
            synced: image[name].clone(),
            pending: Vec::new(),
        };
        Self {
            files: names
                .iter()
                .map(|(name, id)| (*id, content(name)))
                .collect(),
            entries: names.clone(),
            pending_entries: Vec::new(),
            last: None,
        }
    }

    /// The next change was asked for. Says whether it put an end to what was
    /// pending.
    pub(crate) fn apply(&mut self, change: &Change, random: &mut Random) {
        match change {
            Change::Create { file, .. } => {
                self.files.insert(*file, Content::default());
                self.pending_entries.push(change.clone());
            }
            Change::Rename { .. } | Change::Remove { .. } => {
                self.pending_entries.push(change.clone());
            }
            Change::SyncDirectory => {
                for change in self.pending_entries.drain(..) {
                    apply_entry(&mut self.entries, &change);
                }
            }
            Change::Write {
                file,
                offset,
                bytes,
            } => {
                self.last = Some(*file);
                self.content(*file).pending.push(Pending::Write {
                    offset: *offset,
                    bytes: bytes.clone(),
                });
            }
            Change::Truncate { file, length } => {
                let length = *length;
                self.content(*file)
                    .pending
                    .push(Pending::Truncate { length });
            }
            Change::Sync { file } => {
                let content = self.content(*file);
                let synced = content.found(Luck::Everything, random);
                content.synced = synced;
                content.pending.clear();
            }
            Change::SyncFailed { file } => {
                let permille = random.below(1_001);
                let content = self.content(*file);
                let written = content.found(Luck::Some { permille }, random);
                content.synced = written;
                content.pending.clear();
            }
        }
    }

    fn content(&mut self, file: FileId) -> &mut Content {
        self.files.get_mut(&file).unwrap()
    }

    /// Whether anything is pending, so that luck plays a part.
    pub(crate) fn is_settled(&self) -> bool {
        self.pending_entries.is_empty()
            && self
                .files
                .values()
                .all(|content| content.pending.is_empty())
    }

    /// The power goes now.
    pub(crate) fn cut(&self, luck: Luck, random: &mut Random) -> Image {
        let kept = match luck {
            Luck::Nothing => 0,
            Luck::TornLast | Luck::Everything => self.pending_entries.len(),
            Luck::Some { .. } => random.index(self.pending_entries.len() + 1),
        };
        let mut entries = self.entries.clone();
        for change in &self.pending_entries[..kept] {
            apply_entry(&mut entries, change);
        }
        let found = entries.into_iter().map(|(name, file)| {
            let luck = if luck == Luck::TornLast && self.last != Some(file) {
                Luck::Everything
            } else {
                luck
            };
            (name, self.files[&file].found(luck, random))
        });
        found.collect()
    }
}

fn apply_entry(entries: &mut BTreeMap<String, FileId>, change: &Change) {
    match change {
        Change::Create { name, file } => {
            entries.insert(name.clone(), *file);
        }
        Change::Rename { from, to } => {
            if let Some(file) = entries.remove(from) {
                entries.insert(to.clone(), file);
            }
        }
        Change::Remove { name } => {
            entries.remove(name);
        }
        Change::Write { .. }
        | Change::Truncate { .. }
        | Change::Sync { .. }
        | Change::SyncFailed { .. }
        | Change::SyncDirectory => unreachable!("no change of an entry"),
    }
}

impl Content {
    fn found(&self, luck: Luck, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        let sector = SECTORS[random.index(SECTORS.len())];
        for (index, pending) in self.pending.iter().enumerate() {
            let permille = match luck {
                Luck::Nothing => 0,
                Luck::Everything => 1_000,
                Luck::TornLast if index + 1 == self.pending.len() => 500,
                Luck::TornLast => 1_000,
                Luck::Some { permille } => permille,
            };
            match pending {
                Pending::Truncate { length } => {
                    if random.chance(permille) {
                        bytes.resize(usize::try_from(*length).unwrap(), 0);
                    }
                }
                Pending::Write {
                    offset,
                    bytes: written,
                } => write(&mut bytes, *offset, written, sector, permille, random),
            }
        }
        bytes
    }
}

/// Writes those sectors that are lucky. One that is not may still have
/// lengthened the file.
fn write(
    bytes: &mut Vec<u8>,
    offset: u64,
    written: &[u8],
    sector: u64,
    permille: u64,
    random: &mut Random,
) {
    let mut done = 0;
    while done < written.len() {
        let at = offset + done as u64;
        let until_next = usize::try_from(sector - at % sector).unwrap();
        let part = &written[done..written.len().min(done + until_next)];
        let at = usize::try_from(at).unwrap();
        let lands = random.chance(permille);
        if lands || (permille > 0 && random.chance(250)) {
            if bytes.len() < at + part.len() {
                bytes.resize(at + part.len(), 0);
            }
            if lands {
                bytes[at..at + part.len()].copy_from_slice(part);
            }
        }
        done += part.len();
    }
}

/// Reads a directory.
pub(crate) fn read(directory: &Path) -> Image {
    let entries = fs::read_dir(directory).unwrap().flatten();
    let files = entries.map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    });
    files.collect()
}

/// Makes a directory hold an image and nothing else.
pub(crate) fn lay_out(image: &Image, directory: &Path) {
    for name in read(directory).into_keys() {
        fs::remove_file(directory.join(name)).unwrap();
    }
    for (name, bytes) in image {
        fs::write(directory.join(name), bytes).unwrap();
    }
}
