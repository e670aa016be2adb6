//! Names a slot: the same one has the same decision id, whoever decides it.

use alloc::string::String;

use returnpath_shared::hex;
use sha2::{Digest as _, Sha256};

/// Bytes of a SHA-256 that a decision id shows: 128 bits do not collide.
const ID_BYTES: usize = 16;

/// The id of the decision for one slot: the first 32 hexadecimal digits of the
/// SHA-256 over the device id, a zero byte, the boot id (8 bytes, little
/// endian), the break id, a zero byte, and the slot (4 bytes, little endian).
/// No device id holds a zero byte, so no two boxes share an id.
#[must_use]
pub fn decision_id(device: &str, boot_id: u64, break_id: &str, slot: u32) -> String {
    let mut hash = Sha256::new();
    hash.update(device);
    hash.update([0]);
    hash.update(boot_id.to_le_bytes());
    hash.update(break_id);
    hash.update([0]);
    hash.update(slot.to_le_bytes());
    hex(&hash.finalize()[..ID_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_beginning_of_the_hash_that_any_tool_computes() {
        // printf 'box-1\0\1\0\0\0\0\0\0\0break-7\0\2\0\0\0' | sha256sum
        let id = decision_id("box-1", 1, "break-7", 2);
        assert_eq!(id, "742b553d146d3d3fad6b881d513728c2");
        assert_ne!(decision_id("box-1", 1, "break-7", 3), id);
        assert_ne!(decision_id("box-1", 2, "break-7", 2), id);
        assert_ne!(decision_id("box-2", 1, "break-7", 2), id);
    }
}
