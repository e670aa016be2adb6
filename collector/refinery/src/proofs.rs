//! Which proofs of one box have been refined lately.

use alloc::vec::Vec;

use bytes::Bytes;
use returnpath_shared::{Kind, ProofKey, wire::ProofState};

use crate::{
    limit::{OWN_KEYS_MAX, PROOF_KEYS_MAX},
    state::RestoreError,
};

/// The last proofs of one box, those of its clients and those of the agent
/// itself bounded apart: neither makes the others' forgotten. Each is kept as
/// 64 bits, of which the highest say who may tell such a proof: an application
/// that may send custom events alone cannot make an impression, or what the
/// agent tells, look like a repeat. By chance two of [`PROOF_KEYS_MAX`] are
/// alike once in 10^16 proofs.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Proofs {
    /// Oldest first.
    keys: Vec<u64>,
}

impl Proofs {
    pub(crate) fn contains(&self, kind: Kind, key: ProofKey) -> bool {
        self.keys.contains(&fold(kind, key))
    }

    /// Remembers a proof, and forgets the oldest where the bound asks for it.
    pub(crate) fn insert(&mut self, kind: Kind, key: ProofKey) {
        self.push(fold(kind, key));
    }

    fn push(&mut self, key: u64) {
        let bound = if is_agents_own(key) {
            OWN_KEYS_MAX
        } else {
            PROOF_KEYS_MAX
        };
        let alike = |other: &u64| is_agents_own(*other) == is_agents_own(key);
        if self.keys.iter().copied().filter(alike).count() >= bound
            && let Some(oldest) = self.keys.iter().position(alike)
        {
            self.keys.remove(oldest);
        }
        self.keys.push(key);
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
        let (keys, []) = state.keys.as_chunks::<8>() else {
            return Err(RestoreError::Rule { field: "keys" });
        };
        // A version with other bounds may have written more: the last of each
        // stay. Every box of a partition is loaded at once, so in one pass.
        let mut room = [PROOF_KEYS_MAX, OWN_KEYS_MAX];
        let mut proofs = Self::default();
        for key in keys.iter().rev() {
            let key = u64::from_le_bytes(*key);
            let left = &mut room[usize::from(is_agents_own(key))];
            if *left > 0 {
                *left -= 1;
                proofs.keys.push(key);
            }
        }
        proofs.keys.reverse();
        Ok(proofs)
    }
}

const TELLER_BITS: u32 = 2;

/// Teller of what the agent makes itself.
const AGENT: u64 = 2;

fn is_agents_own(key: u64) -> bool {
    key >> (u64::BITS - TELLER_BITS) == AGENT
}

fn fold(kind: Kind, ProofKey(key): ProofKey) -> u64 {
    let teller: u64 = match kind {
        Kind::AdEvent => 0,
        Kind::Consent => 1,
        Kind::Boot | Kind::Ledger | Kind::UncleanStop => AGENT,
        Kind::Custom
        | Kind::Tune
        | Kind::ViewingHeartbeat
        | Kind::TrickPlay
        | Kind::Power
        | Kind::Display
        | Kind::UserActivity
        | Kind::AdOpportunity
        | Kind::Health => 3,
    };
    let mut low = [0; 8];
    low.copy_from_slice(&(key ^ key.rotate_left(64)).to_le_bytes()[..8]);
    u64::from_le_bytes(low) >> TELLER_BITS | teller << (u64::BITS - TELLER_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> ProofKey {
        ProofKey((number as u128) << 68 | 1)
    }

    #[test]
    fn the_last_proofs_are_known_and_older_ones_forgotten() {
        let mut proofs = Proofs::default();
        for number in 0..=PROOF_KEYS_MAX {
            assert!(!proofs.contains(Kind::Consent, key(number)));
            proofs.insert(Kind::Consent, key(number));
            assert!(proofs.contains(Kind::Consent, key(number)));
        }
        assert!(!proofs.contains(Kind::Consent, key(0)));
        assert!(proofs.contains(Kind::Consent, key(1)));
        assert_eq!(Proofs::from_wire(&proofs.to_wire()), Ok(proofs));
    }

    #[test]
    fn what_the_agent_told_outlives_any_number_of_proofs_of_its_clients() {
        let mut proofs = Proofs::default();
        proofs.insert(Kind::UncleanStop, key(0));
        for number in 1..=2 * PROOF_KEYS_MAX {
            proofs.insert(Kind::AdEvent, key(number));
        }
        assert!(proofs.contains(Kind::UncleanStop, key(0)));
        for number in 1..=OWN_KEYS_MAX {
            proofs.insert(Kind::Boot, key(number));
        }
        assert!(!proofs.contains(Kind::UncleanStop, key(0)));
        // Nor does it make its clients' forgotten.
        for number in PROOF_KEYS_MAX + 1..=2 * PROOF_KEYS_MAX {
            assert!(proofs.contains(Kind::AdEvent, key(number)), "{number}");
        }
        assert_eq!(Proofs::from_wire(&proofs.to_wire()), Ok(proofs));
    }

    #[test]
    fn a_custom_event_cannot_make_another_proof_look_like_a_repeat() {
        let mut proofs = Proofs::default();
        proofs.insert(Kind::Custom, key(1));
        for kind in [Kind::AdEvent, Kind::Consent, Kind::Ledger] {
            assert!(!proofs.contains(kind, key(1)), "{kind:?}");
        }
    }

    #[test]
    fn a_state_of_another_bound_is_loaded_and_a_broken_one_is_not() {
        let state = |length: usize| ProofState {
            keys: Bytes::from(alloc::vec![0; length]),
        };
        let loaded = Proofs::from_wire(&state(8 * (PROOF_KEYS_MAX + 5)));
        assert_eq!(loaded.map(|proofs| proofs.keys.len()), Ok(PROOF_KEYS_MAX));
        assert!(Proofs::from_wire(&state(7)).is_err());
    }
}
