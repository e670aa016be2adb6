//! Unpacks batches within limits, into a buffer that is reused. The same
//! answers as `returnpath_shared::unpack` without its allocations.

use alloc::{boxed::Box, vec, vec::Vec};

use miniz_oxide::inflate::{
    TINFLStatus,
    core::{
        DecompressorOxide, decompress, inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
    },
};
use returnpath_shared::{UNPACKED_BYTES_MAX, UnpackError, wire::Codec};

/// What the buffer has from the start: most batches are below 1 KiB.
const BUFFER_BYTES: usize = 4 * 1024;

/// Beyond this the buffer is given back after use: large batches are rare, and
/// there is one buffer a partition.
const BUFFER_BYTES_KEPT: usize = 64 * 1024;

pub(crate) struct Unpacker {
    inflate: Box<DecompressorOxide>,
    buffer: Vec<u8>,
}

impl core::fmt::Debug for Unpacker {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("Unpacker")
    }
}

impl Default for Unpacker {
    fn default() -> Self {
        Self {
            inflate: Box::default(),
            buffer: vec![0; BUFFER_BYTES],
        }
    }
}

impl Unpacker {
    /// The encoded batch inside `packed`.
    pub(crate) fn unpack<'a>(
        &'a mut self,
        codec: i32,
        packed: &'a [u8],
    ) -> Result<&'a [u8], UnpackError> {
        match Codec::try_from(codec) {
            Ok(Codec::Identity) if packed.len() > UNPACKED_BYTES_MAX => Err(UnpackError::TooLarge),
            Ok(Codec::Identity) => Ok(packed),
            Ok(Codec::Deflate) => self.inflate(packed),
            Ok(Codec::Unspecified) | Err(_) => Err(UnpackError::Codec(codec)),
        }
    }

    fn inflate(&mut self, packed: &[u8]) -> Result<&[u8], UnpackError> {
        if self.buffer.len() > BUFFER_BYTES_KEPT {
            self.buffer.truncate(BUFFER_BYTES);
            self.buffer.shrink_to_fit();
        }
        self.inflate.init();
        let (mut read, mut written) = (0, 0);
        loop {
            let (status, took, gave) = decompress(
                &mut self.inflate,
                packed.get(read..).unwrap_or_default(),
                &mut self.buffer,
                written,
                TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
            );
            read += took;
            written += gave;
            if status == TINFLStatus::Done {
                return Ok(&self.buffer[..written]);
            }
            if status != TINFLStatus::HasMoreOutput {
                return Err(UnpackError::Deflate);
            }
            if self.buffer.len() >= UNPACKED_BYTES_MAX {
                return Err(UnpackError::TooLarge);
            }
            let larger = (self.buffer.len() * 4).min(UNPACKED_BYTES_MAX);
            self.buffer.resize(larger, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use miniz_oxide::deflate::compress_to_vec;

    use super::*;

    const DEFLATE: i32 = Codec::Deflate as i32;

    #[test]
    fn batches_of_any_size_unpack_one_after_the_other() {
        let mut unpacker = Unpacker::default();
        let original: Vec<u8> = (0..UNPACKED_BYTES_MAX as u32)
            .map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        for length in [0, 1, BUFFER_BYTES, BUFFER_BYTES + 1, UNPACKED_BYTES_MAX, 10] {
            let packed = compress_to_vec(&original[..length], 6);
            assert_eq!(unpacker.unpack(DEFLATE, &packed), Ok(&original[..length]));
        }
        let identity = Codec::Identity as i32;
        assert_eq!(unpacker.unpack(identity, &[1, 2]), Ok(&[1, 2][..]));
    }

    #[test]
    fn bombs_and_garbage_are_refused_and_leave_the_unpacker_usable() {
        let mut unpacker = Unpacker::default();
        let bomb = compress_to_vec(&vec![0; UNPACKED_BYTES_MAX + 1], 9);
        let good = compress_to_vec(b"good", 6);
        for _ in 0..2 {
            assert_eq!(unpacker.unpack(DEFLATE, &bomb), Err(UnpackError::TooLarge));
            for garbage in [&[0xff; 9][..], &[], &good[..good.len() - 1]] {
                assert_eq!(unpacker.unpack(DEFLATE, garbage), Err(UnpackError::Deflate));
            }
            assert_eq!(unpacker.unpack(0, &good), Err(UnpackError::Codec(0)));
            assert_eq!(unpacker.unpack(77, &good), Err(UnpackError::Codec(77)));
            assert_eq!(unpacker.unpack(DEFLATE, &good), Ok(&b"good"[..]));
        }
    }
}
