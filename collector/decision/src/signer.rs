//! What the core needs of the shell's keys.

use alloc::string::String;

/// Signs decisions.
pub trait Signer {
    /// Which key signs: as in `SignedDecision.key_id`.
    fn key_id(&self) -> &str;

    /// The Ed25519 signature over `returnpath.decision.v1`, a zero byte and
    /// these bytes. The signer puts the former before.
    fn sign(&self, decision: &[u8]) -> [u8; 64];
}

/// Names boxes towards aggregators.
pub trait Pseudonyms {
    /// What the box is called towards the aggregator of this name: always the
    /// same, and another than towards any other. `None` where it has no key:
    /// then it is told no id.
    fn pseudonym(&self, aggregator: &str, device: &str) -> Option<String>;
}
