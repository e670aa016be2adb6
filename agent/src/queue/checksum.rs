//! The checksum of what the queue stores.

/// FNV-1a, 64 bit (draft-eastlake-fnv-21): finds every change of one byte.
pub(super) fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
