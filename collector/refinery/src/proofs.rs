//! Which proofs of one box have been refined lately.

use alloc::vec::Vec;

use bytes::Bytes;
use returnpath_shared::{ProofKey, wire::ProofState};

use crate::{limit::PROOF_KEYS_MAX, state::RestoreError};

/// The last proofs of one box. Each is kept as 64 bits of its key: among
/// [`PROOF_KEYS_MAX`] of them two are alike by chance once in 10^16 proofs.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Proofs {
    /// Oldest first.
    keys: Vec<u64>,
}

impl Proofs {
    pub(crate) fn contains(&self, key: ProofKey) -> bool {
        self.keys.contains(&fold(key))
    }

    /// Remembers a proof, and forgets the oldest where the bound asks for it.
    pub(crate) fn insert(&mut self, key: ProofKey) {
        if self.keys.len() >= PROOF_KEYS_MAX {
            self.keys.remove(0);
        }
        self.keys.push(fold(key));
    }

    pub(crate) fn to_wire(&self) -> ProofState {
        let mut keys = Vec::with_capacity(self.keys.len() * size_of::<u64>());
        for key in &self.keys {
            keys.extend_from_slice(&key.to_le_bytes());
        }
        ProofState {
            keys: Bytes::from(keys),
        }
    }

    pub(crate) fn from_wire(state: &ProofState) -> Result<Self, RestoreError> {
        match state.keys.as_chunks::<8>() {
            (keys, []) if keys.len() <= PROOF_KEYS_MAX => Ok(Self {
                keys: keys.iter().map(|key| u64::from_le_bytes(*key)).collect(),
            }),
            _ => Err(RestoreError::Rule { field: "keys" }),
        }
    }
}

fn fold(ProofKey(key): ProofKey) -> u64 {
    let bytes = (key ^ key.rotate_left(64)).to_le_bytes();
    let mut low = [0; 8];
    low.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> ProofKey {
        ProofKey((number as u128) << 64 | 1)
    }

    #[test]
    fn the_last_proofs_are_known_and_older_ones_forgotten() {
        let mut proofs = Proofs::default();
        for number in 0..=PROOF_KEYS_MAX {
            assert!(!proofs.contains(key(number)));
            proofs.insert(key(number));
            assert!(proofs.contains(key(number)));
        }
        assert!(!proofs.contains(key(0)));
        assert!(proofs.contains(key(1)));
        assert_eq!(Proofs::from_wire(&proofs.to_wire()), Ok(proofs));
    }

    #[test]
    fn states_that_break_the_rules_are_not_loaded() {
        for length in [7, 8 * (PROOF_KEYS_MAX + 1)] {
            let keys = Bytes::from(alloc::vec![0; length]);
            assert!(Proofs::from_wire(&ProofState { keys }).is_err());
        }
    }
}
