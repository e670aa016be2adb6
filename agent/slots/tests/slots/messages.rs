//! Messages as the cloud, and others, send them. A signature is the word
//! `signed` by the key `key`.

use prost::Message as _;
use returnpath_shared::wire::{Creative, Decision, SignedDecision};
use returnpath_slots::{Slot, Verify};

pub(crate) const DEVICE: &str = "box-1";

/// Trusts what is signed so.
pub(crate) struct Signed;

impl Verify for Signed {
    fn is_signed(&self, key_id: &str, _decision: &[u8], signature: &[u8]) -> bool {
        key_id == "key" && signature == b"signed"
    }
}

/// Trusts nothing any more.
pub(crate) struct Withdrawn;

impl Verify for Withdrawn {
    fn is_signed(&self, _key_id: &str, _decision: &[u8], _signature: &[u8]) -> bool {
        false
    }
}

pub(crate) fn slot(boot_id: u64, break_number: u8, index: u32) -> Slot {
    Slot {
        boot_id,
        break_id: format!("break-{break_number}"),
        index,
    }
}

/// A decision for a slot; `ad` tells apart what a slot could be given.
pub(crate) fn decision(slot: &Slot, ad: u8, expiry_uptime_ms: u64) -> Decision {
    Decision {
        // The same slot has the same id, whatever is decided for it.
        decision_id: format!("{}/{}/{}", slot.boot_id, slot.break_id, slot.index),
        device_id: DEVICE.into(),
        break_id: slot.break_id.clone(),
        slot: slot.index,
        number: 1,
        expiry_boot_id: slot.boot_id,
        expiry_uptime_ms,
        creative: Some(Creative {
            creative_id: format!("ad-{ad}"),
            url: format!("https://c.example/{ad}.mp4"),
            media_type: "video/mp4".into(),
            duration_ms: 30_000,
        }),
    }
}

pub(crate) fn signed(decision: &Decision) -> Vec<u8> {
    by("key", decision)
}

/// With a signature that the box does not trust.
pub(crate) fn forged(decision: &Decision) -> Vec<u8> {
    by("other", decision)
}

fn by(key_id: &str, decision: &Decision) -> Vec<u8> {
    SignedDecision {
        decision: decision.encode_to_vec().into(),
        key_id: key_id.into(),
        signature: b"signed".as_slice().into(),
    }
    .encode_to_vec()
}
