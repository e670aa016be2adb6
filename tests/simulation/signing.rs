//! Keys as a model: what one signs, nobody else can, and it costs next to
//! nothing. The real ones are `tests/end_to_end/decision_trust.rs`'s.

use returnpath_decision::{Pseudonyms, Signer};
use returnpath_slots::Verify;

/// What the boxes trust.
pub(crate) const OPERATORS: Key = Key {
    id: "operators",
    secret: 0x7261_6469_6f20_6f6e,
};

/// What somebody else made for himself, and calls like the operator's.
pub(crate) const STRANGERS: Key = Key {
    id: "operators",
    secret: 0x6f66_6620_7468_6520,
};

#[derive(Clone, Copy)]
pub(crate) struct Key {
    id: &'static str,
    secret: u64,
}

impl Signer for Key {
    fn key_id(&self) -> &str {
        self.id
    }

    fn sign(&self, decision: &[u8]) -> [u8; 64] {
        let hash = decision.iter().fold(self.secret, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut signature = [0; 64];
        for part in signature.chunks_exact_mut(8) {
            part.copy_from_slice(&hash.to_le_bytes());
        }
        signature
    }
}

impl Verify for Key {
    fn is_signed(&self, key_id: &str, decision: &[u8], signature: &[u8]) -> bool {
        key_id == self.id && self.sign(decision) == signature
    }
}

impl Pseudonyms for Key {
    fn pseudonym(&self, aggregator: &str, device: &str) -> Option<String> {
        Some(format!("{aggregator}.{device}"))
    }
}
