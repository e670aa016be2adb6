//! Packs a batch for storing and sending, and unpacks it within limits.
//!
//! Deflate (RFC 1951) is the codec: its pure-Rust code is small enough for the
//! agent, needs no C, and unpacks with a hard limit. It is used only where it
//! makes a batch smaller.
//!
//! There is no dictionary. With one of 2 KiB, made of half of the simulated
//! fleet's events and tried on the other, 4 events take 68 bytes in place of
//! 91, less than their envelope and the frames around it; 48 of an outage 10.2
//! bytes each in place of 11.2. Batches that grow while a box is offline gave a
//! week the room that a dictionary would, without a second thing that both ends
//! must have for ever.

use bytes::Bytes;
use prost::Message as _;
use thiserror::Error;

use crate::{
    limit::{BATCH_BYTES_MAX, UNPACKED_BYTES_MAX},
    wire::{Batch, Codec},
};

/// Deflate level: on batches of tens of events higher ones gain under 1 % and
/// take twice the time.
const LEVEL: u8 = 6;

/// Batches shorter than this are not tried: deflate's own header eats the gain.
const DEFLATE_BYTES_MIN: usize = 96;

/// An encoded batch and how it is packed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packed {
    /// How `bytes` is packed.
    pub codec: Codec,
    /// What goes into `Envelope.batch`.
    pub bytes: Bytes,
}

/// Why a batch cannot be packed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PackError {
    /// Larger than [`BATCH_BYTES_MAX`].
    #[error("encoded batch is {length} bytes, at most {BATCH_BYTES_MAX} are sent")]
    TooLarge {
        /// Encoded length in bytes.
        length: usize,
    },
}

/// Why packed bytes are not a batch.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum UnpackError {
    /// A codec that this version does not know.
    #[error("codec {0} is unknown")]
    Codec(i32),
    /// Deflate could not read the bytes.
    #[error("deflate data is broken")]
    Deflate,
    /// Unpacks to more than [`UNPACKED_BYTES_MAX`].
    #[error("batch unpacks to more than {UNPACKED_BYTES_MAX} bytes")]
    TooLarge,
    /// Unpacked, but no batch.
    #[error("unpacked bytes are no batch")]
    Decode(#[source] prost::DecodeError),
}

/// Encodes and packs a batch, by deflate where that makes it smaller.
///
/// # Errors
/// When the encoded batch is larger than [`BATCH_BYTES_MAX`].
pub fn pack(batch: &Batch) -> Result<Packed, PackError> {
    let encoded = batch.encode_to_vec();
    if encoded.len() > BATCH_BYTES_MAX {
        return Err(PackError::TooLarge {
            length: encoded.len(),
        });
    }
    Ok(pack_encoded(encoded))
}

/// Packs a batch that is already encoded, by deflate where that makes it
/// smaller. Keeping it within [`BATCH_BYTES_MAX`] is the caller's part.
#[must_use]
pub fn pack_encoded(encoded: Vec<u8>) -> Packed {
    if encoded.len() >= DEFLATE_BYTES_MIN {
        let deflated = miniz_oxide::deflate::compress_to_vec(&encoded, LEVEL);
        if deflated.len() < encoded.len() {
            return Packed {
                codec: Codec::Deflate,
                // Without the room to grow that deflate left: the box keeps
                // batches for hours and counts their bytes, not their room.
                bytes: deflated.into_boxed_slice().into(),
            };
        }
    }
    Packed {
        codec: Codec::Identity,
        bytes: encoded.into(),
    }
}

/// Unpacks and decodes a batch, never from more than [`UNPACKED_BYTES_MAX`] of
/// encoded bytes; decoded, nothing but empty events can take many times
/// as much for a moment. Says nothing about what is inside.
///
/// # Errors
/// When the codec is unknown, or the bytes do not unpack within the limit.
pub fn unpack(codec: i32, bytes: Bytes) -> Result<Batch, UnpackError> {
    use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};

    let encoded = match Codec::try_from(codec) {
        Ok(Codec::Identity) if bytes.len() > UNPACKED_BYTES_MAX => {
            return Err(UnpackError::TooLarge);
        }
        Ok(Codec::Identity) => bytes,
        Ok(Codec::Deflate) => decompress_to_vec_with_limit(&bytes, UNPACKED_BYTES_MAX)
            .map_err(|error| {
                if error.status == TINFLStatus::HasMoreOutput {
                    UnpackError::TooLarge
                } else {
                    UnpackError::Deflate
                }
            })?
            .into(),
        Ok(Codec::Unspecified) | Err(_) => return Err(UnpackError::Codec(codec)),
    };
    Batch::decode(encoded).map_err(UnpackError::Decode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Event, Tune, event};

    fn batch(events: usize) -> Batch {
        let tune = Event {
            uptime_ms: 1_000,
            kind: Some(event::Kind::Tune(Tune {
                content_id: "news".into(),
                ..Tune::default()
            })),
            ..Event::default()
        };
        Batch {
            boot_id: 1,
            first_ordinal: 1,
            events: vec![tune; events],
        }
    }

    #[test]
    fn small_batches_stay_as_they_are_and_large_ones_shrink() {
        let small = pack(&batch(1)).unwrap();
        assert_eq!(small.codec, Codec::Identity);
        let large = pack(&batch(100)).unwrap();
        assert_eq!(large.codec, Codec::Deflate);
        assert!(large.bytes.len() * 5 < batch(100).encoded_len());
        for (packed, original) in [(small, batch(1)), (large, batch(100))] {
            assert_eq!(unpack(packed.codec as i32, packed.bytes).unwrap(), original);
        }
    }

    #[test]
    fn a_batch_over_the_limit_is_not_packed() {
        assert!(matches!(
            pack(&batch(10_000)),
            Err(PackError::TooLarge { .. })
        ));
    }

    #[test]
    fn bombs_and_garbage_are_refused() {
        let bomb = miniz_oxide::deflate::compress_to_vec(&vec![0; UNPACKED_BYTES_MAX + 1], 9);
        let deflate = Codec::Deflate as i32;
        assert_eq!(unpack(deflate, bomb.into()), Err(UnpackError::TooLarge));
        assert_eq!(
            unpack(deflate, Bytes::from_static(&[0xff; 9])),
            Err(UnpackError::Deflate)
        );
        assert_eq!(unpack(0, Bytes::new()), Err(UnpackError::Codec(0)));
        assert_eq!(unpack(77, Bytes::new()), Err(UnpackError::Codec(77)));
        let garbage = unpack(Codec::Identity as i32, Bytes::from_static(&[0xff; 9]));
        assert!(matches!(garbage, Err(UnpackError::Decode(_))));
        let long = Bytes::from(vec![0; UNPACKED_BYTES_MAX + 1]);
        assert_eq!(
            unpack(Codec::Identity as i32, long),
            Err(UnpackError::TooLarge)
        );
    }
}
