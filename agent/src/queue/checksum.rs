//! The checksum of what the queue stores.

/// FNV-1a, 64 bit (draft-eastlake-fnv-21): finds every change of one byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fnv(u64);

impl Fnv {
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(super) fn add_number(&mut self, number: u64) {
        self.add(&number.to_le_bytes());
    }

    pub(super) fn get(self) -> u64 {
        self.0
    }

    /// Both halves as one, for what is many and small: of four thousand million
    /// changes one is not found.
    pub(super) fn folded(self) -> i64 {
        let [a, b, c, d, e, f, g, h] = self.0.to_le_bytes();
        i64::from(i32::from_le_bytes([a ^ e, b ^ f, c ^ g, d ^ h]))
    }
}
