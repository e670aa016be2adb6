//! The ids of the last decisions that something was said of.

use alloc::{string::String, vec::Vec};

/// How many are remembered. Only the name of a refusal, and whether one is told
/// again, depend on it.
const IDS_MAX: usize = 64;

/// The last decision ids, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct LastIds {
    ids: Vec<String>,
}

impl LastIds {
    /// Remembers an id, in place of the oldest where there is no room.
    pub(crate) fn insert(&mut self, id: &str) {
        if self.contains(id) {
            return;
        }
        if self.ids.len() >= IDS_MAX {
            self.ids.remove(0);
        }
        self.ids.push(id.into());
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.ids.iter().any(|known| known == id)
    }
}
