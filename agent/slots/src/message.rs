//! A message from the cloud → a decision for this box. What the operator did
//! not sign is not looked into.

use alloc::string::String;

use bytes::Bytes;
use prost::Message as _;
use returnpath_shared::{
    CLIENT_ID_BYTES_MAX, CREATIVE_URL_BYTES_MAX, DeviceId, MEDIA_TYPE_BYTES_MAX,
    SIGNED_DECISION_BYTES_MAX, SLOTS_MAX,
    wire::{Decision, SignedDecision},
};

use crate::{Refusal, Refused};

/// What the signature of a decision covers before its bytes.
pub const PURPOSE: &[u8] = b"returnpath.decision.v1\0";

/// Who can tell whether the operator signed something.
pub trait Verify {
    /// Whether `signature` over [`PURPOSE`] and `decision` is of the trusted
    /// key called `key_id`.
    fn is_signed(&self, key_id: &str, decision: &[u8], signature: &[u8]) -> bool;
}

/// Reads a message that claims to be a signed decision for `device`.
pub(crate) fn open(
    message: &[u8],
    device: &DeviceId,
    verify: &dyn Verify,
) -> Result<Decision, Refused> {
    let malformed = |expected| Refused {
        reason: Refusal::Malformed,
        decision_id: String::new(),
        expected,
        is_told: false,
    };
    if message.len() > SIGNED_DECISION_BYTES_MAX {
        return Err(malformed("at most 4,096 bytes"));
    }
    // Copied: what is kept of it must not hold the link's whole buffer.
    let signed = SignedDecision::decode(Bytes::copy_from_slice(message))
        .map_err(|_error| malformed("an encoded SignedDecision"))?;
    if !verify.is_signed(&signed.key_id, &signed.decision, &signed.signature) {
        return Err(Refused {
            reason: Refusal::Forged,
            decision_id: String::new(),
            expected: "a signature by a trusted key (trust.decision_keys)",
            is_told: false,
        });
    }
    let decision =
        Decision::decode(signed.decision).map_err(|_error| malformed("an encoded Decision"))?;
    if decision.device_id != device.as_str() {
        return Err(Refused {
            reason: Refusal::Foreign,
            decision_id: String::new(),
            expected: "device_id: this box",
            is_told: false,
        });
    }
    match wrong_field(&decision) {
        None => Ok(decision),
        Some(expected) => Err(malformed(expected)),
    }
}

/// The first field that is not as it must be, and what was expected.
fn wrong_field(decision: &Decision) -> Option<&'static str> {
    let named = |text: &str| (1..=CLIENT_ID_BYTES_MAX).contains(&text.len());
    if !named(&decision.decision_id) {
        return Some("decision_id: text of 1 to 64 bytes");
    }
    if !named(&decision.break_id) {
        return Some("break_id: text of 1 to 64 bytes");
    }
    if usize::try_from(decision.slot).is_ok_and(|slot| slot >= SLOTS_MAX) {
        return Some("slot: 0 to 15");
    }
    let creative = decision.creative.as_ref()?;
    if creative.creative_id.len() > CLIENT_ID_BYTES_MAX {
        return Some("creative.creative_id: text of at most 64 bytes");
    }
    if !creative.url.starts_with("https://") || creative.url.len() > CREATIVE_URL_BYTES_MAX {
        return Some("creative.url: https://… of at most 2,048 bytes");
    }
    if creative.media_type.len() > MEDIA_TYPE_BYTES_MAX {
        return Some("creative.media_type: text of at most 127 bytes");
    }
    if creative.duration_ms == 0 {
        return Some("creative.duration_ms: at least 1");
    }
    None
}
