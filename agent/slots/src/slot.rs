//! What a decision is for, and how a binding is stored.

use alloc::string::String;

use bytes::Bytes;

/// A slot of this box: a place in a break of one boot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot {
    /// The boot in which the break is.
    pub boot_id: u64,
    /// The break, as the box named it.
    pub break_id: String,
    /// Place within the break, from 0.
    pub index: u32,
}

/// A bound slot as the queue file holds it. What is needed to keep the slot
/// bound stands beside the message, so that a page of flash that went bad frees
/// no slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The key.
    pub slot: Slot,
    /// The decision that it is bound to.
    pub decision_id: String,
    /// When the decision expires, in the slot's boot.
    pub expiry_uptime_ms: u64,
    /// The signed decision as it came; verified again when it is read.
    pub signed: Bytes,
}

impl Row {
    /// Whether the decision must not begin to be shown any more, in this boot
    /// at this uptime.
    pub(crate) fn is_over(&self, boot_id: u64, now_ms: u64) -> bool {
        self.slot.boot_id != boot_id || now_ms >= self.expiry_uptime_ms
    }
}
