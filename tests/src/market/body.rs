//! Bodies of answers: short ones, and those that have no sensible end.

use std::{
    convert::Infallible,
    io::Write as _,
    pin::Pin,
    sync::{Arc, LazyLock, atomic::Ordering},
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame};

use super::memory::Memory;

/// What an endless body amounts to: one gibibyte.
pub(super) const ENDLESS_BYTES: u64 = 1 << 30;

/// Zeros in one member of the compression bomb.
const MEMBER_BYTES: usize = 1 << 24;

/// A body: nothing, one piece, or one piece over and over.
pub(super) struct AnswerBody {
    piece: Bytes,
    times: u64,
    /// Counts what was taken off, when that is of interest.
    counted_by: Option<Arc<Memory>>,
}

impl AnswerBody {
    pub(super) fn of(piece: impl Into<Bytes>) -> Self {
        let piece = piece.into();
        Self {
            times: u64::from(!piece.is_empty()),
            piece,
            counted_by: None,
        }
    }

    /// White space, which a JSON parser would read for ever.
    pub(super) fn huge(memory: &Arc<Memory>) -> Self {
        let piece = vec![b' '; 64 * 1024];
        Self {
            times: ENDLESS_BYTES / piece.len() as u64,
            piece: piece.into(),
            counted_by: Some(Arc::clone(memory)),
        }
    }

    /// Gzip of zeros: small to send, [`ENDLESS_BYTES`] to whoever unpacks it. A
    /// stream of many members is one stream (RFC 1952, section 2.2).
    pub(super) fn compression_bomb(memory: &Arc<Memory>) -> Self {
        static MEMBER: LazyLock<Bytes> = LazyLock::new(|| gzip(&vec![0; MEMBER_BYTES]).into());
        Self {
            times: ENDLESS_BYTES / MEMBER_BYTES as u64,
            piece: MEMBER.clone(),
            counted_by: Some(Arc::clone(memory)),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.times == 0 {
            return Poll::Ready(None);
        }
        self.times -= 1;
        if let Some(memory) = &self.counted_by {
            memory
                .endless_bytes
                .fetch_add(self.piece.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(Some(Ok(Frame::data(self.piece.clone()))))
    }

    fn is_end_stream(&self) -> bool {
        self.times == 0
    }
}

/// One member of a gzip stream (RFC 1952, section 2.3).
fn gzip(data: &[u8]) -> Vec<u8> {
    const FASTEST: u8 = 1;
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    member.extend(miniz_oxide::deflate::compress_to_vec(data, FASTEST));
    let length = u32::try_from(data.len() % (1 << 32)).unwrap_or_default();
    // Writing to a vector does not fail.
    let _ = member.write_all(&crc32(data).to_le_bytes());
    let _ = member.write_all(&length.to_le_bytes());
    member
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_of_the_bomb_is_gzip_and_small() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let data = vec![0; 1 << 20];
        let member = gzip(&data);
        assert!(member.len() < data.len() / 100, "{}", member.len());
        let deflated = &member[10..member.len() - 8];
        let unpacked = miniz_oxide::inflate::decompress_to_vec(deflated).unwrap();
        assert_eq!(unpacked, data);
    }
}
