//! A packed batch: its codec in the first byte, then the bytes.

use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec_with_limit};
use prost::Message as _;
use returnpath_shared::{
    BATCH_BYTES_MAX, Class, Kind, PackError, Packed, ProofKey, UNPACKED_BYTES_MAX, UnpackError,
    Urgency, check, pack, pack_encoded, unpack,
    wire::{Batch, Codec},
};

use crate::{script::Script, seed};

/// Longest text of a check, which may name an attribute's key.
const FIELD_BYTES_MAX: usize = 256;

/// What unpacks is a batch within the limit, and packs to the same; anything
/// can be packed.
pub fn run(input: &[u8]) {
    let mut script = Script::of(input);
    let codec = i32::from(script.byte()) - 1;
    let bytes = script.rest();
    let unpacked = unpack(codec, bytes.to_vec().into());
    match &unpacked {
        Ok(batch) => good(batch),
        Err(UnpackError::Codec(unknown)) => {
            assert_eq!(*unknown, codec);
            let known = [Codec::Identity, Codec::Deflate].map(|codec| codec as i32);
            assert!(!known.contains(&codec));
        }
        Err(UnpackError::Deflate | UnpackError::TooLarge) => {
            assert_eq!(codec, Codec::Deflate as i32);
        }
        Err(UnpackError::Decode(_)) => {}
    }
    if codec == Codec::Deflate as i32 {
        // The same as unpacking first and reading then.
        let plain = decompress_to_vec_with_limit(bytes, UNPACKED_BYTES_MAX);
        let read = plain.map(|plain| unpack(Codec::Identity as i32, plain.into()));
        match read {
            Ok(read) => assert_eq!(read, unpacked),
            Err(_) => assert!(unpacked.is_err()),
        }
    }
    let Packed {
        codec,
        bytes: packed,
    } = pack_encoded(bytes.to_vec());
    match codec {
        Codec::Deflate => {
            assert!(packed.len() < bytes.len());
            let plain = decompress_to_vec_with_limit(&packed, bytes.len()).unwrap();
            assert_eq!(plain, bytes);
        }
        Codec::Identity => assert_eq!(packed, bytes),
        Codec::Unspecified => panic!("packed in no way"),
    }
}

fn good(batch: &Batch) {
    match pack(batch) {
        Ok(packed) => {
            assert!(packed.bytes.len() <= BATCH_BYTES_MAX);
            let again = unpack(packed.codec as i32, packed.bytes);
            assert_eq!(again.as_ref(), Ok(batch));
        }
        Err(PackError::TooLarge { length }) => {
            assert_eq!(length, batch.encoded_len());
            assert!(length > BATCH_BYTES_MAX);
        }
    }
    for event in &batch.events {
        let (class, urgency, key) = (Class::of(event), Urgency::of(event), ProofKey::of(event));
        match check(event) {
            Ok(()) => assert!(Kind::of(event).is_some()),
            Err(error) => {
                assert!(!error.field.is_empty() && error.field.len() <= FIELD_BYTES_MAX);
                assert!(!error.expected.is_empty());
            }
        }
        let again = event.encode_to_vec();
        let again = returnpath_shared::wire::Event::decode(&again[..]).unwrap();
        assert_eq!(again, *event);
        assert_eq!(
            (Class::of(&again), Urgency::of(&again), ProofKey::of(&again)),
            (class, urgency, key)
        );
    }
}

/// All kinds of events in one batch, packed and not; bombs: one that unpacks to
/// too much, and one that holds nothing but empty events.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let batch = seed::batch(3, seed::events());
    let plain = batch.encode_to_vec();
    let packed = pack(&batch).unwrap();
    assert_eq!(packed.codec, Codec::Deflate);
    let bomb = compress_to_vec(&vec![0; UNPACKED_BYTES_MAX + 1], 9);
    let empty_events = compress_to_vec(&[0x1a, 0].repeat(UNPACKED_BYTES_MAX / 2), 9);
    let one = seed::batch(1, seed::events().split_off(7)).encode_to_vec();
    let with = |codec: Codec, bytes: &[u8]| {
        let codec = u8::try_from(codec as i32 + 1).unwrap();
        [&[codec], bytes].concat()
    };
    vec![
        with(Codec::Identity, &plain),
        with(Codec::Identity, &one),
        with(Codec::Identity, &[]),
        with(Codec::Deflate, &packed.bytes),
        with(Codec::Deflate, &bomb),
        with(Codec::Deflate, &empty_events),
        with(Codec::Unspecified, &plain),
    ]
}
