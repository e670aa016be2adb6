//! Records of `rp.decisions`, written around the bytes of the opportunity, so
//! that fields which this version does not know stay as they came.

use alloc::vec::Vec;

use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint, int64, string},
};
use returnpath_shared::wire::{Decided, DecisionRecord, Progress, decision_record::What};

use crate::{
    now::Now,
    output::{Destination, Output},
};

/// A decision; `decided` comes without its opportunity, whose bytes are given.
pub(crate) fn put_decided(
    out: &mut Output,
    decision_id: &str,
    device: &str,
    now: Now,
    opportunity: &[u8],
    decided: &Decided,
) {
    const DECIDED: u32 = 10;
    const OPPORTUNITY: u32 = 1;
    out.put_record(Destination::Decisions, decision_id.as_bytes(), |bytes| {
        let mut head = Vec::with_capacity(16);
        encode_key(OPPORTUNITY, WireType::LengthDelimited, &mut head);
        encode_varint(opportunity.len() as u64, &mut head);
        let length = head.len() + opportunity.len() + decided.encoded_len();
        bytes.reserve(length + 128);
        string::encode(1, &decision_id.into(), bytes);
        string::encode(2, &device.into(), bytes);
        if now.unix_ms != 0 {
            int64::encode(3, &now.unix_ms, bytes);
        }
        encode_key(DECIDED, WireType::LengthDelimited, bytes);
        encode_varint(length as u64, bytes);
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(opportunity);
        decided.encode_raw(bytes);
    });
}

/// What became of a decision.
pub(crate) fn put_progress(
    out: &mut Output,
    decision_id: &str,
    device: &str,
    now: Now,
    progress: Progress,
) {
    let record = DecisionRecord {
        decision_id: decision_id.into(),
        device_id: device.into(),
        recorded_unix_ms: now.unix_ms,
        what: Some(What::Progress(progress)),
    };
    out.put_record(Destination::Decisions, decision_id.as_bytes(), |bytes| {
        // A `Vec` grows: encoding into it cannot fail.
        let _ = record.encode(bytes);
    });
}

#[cfg(test)]
mod tests {
    use returnpath_shared::wire::{Opportunity, Refined};

    use super::*;

    #[test]
    fn a_record_decodes_to_what_went_in() {
        let opportunity = Opportunity {
            refined: Some(Refined {
                device_id: "box-1".into(),
                ..Refined::default()
            }),
            sent_uptime_ms: 7,
            ..Opportunity::default()
        };
        let decided = Decided {
            number: 300,
            slot: 2,
            elapsed_us: 9,
            ..Decided::default()
        };
        let now = Now {
            monotonic_us: 1,
            unix_ms: 1_800_000_000_000,
        };
        let mut out = Output::new();
        put_decided(
            &mut out,
            "id",
            "box-1",
            now,
            &opportunity.encode_to_vec(),
            &decided,
        );
        let record = out.records().next().unwrap();
        assert_eq!(
            (record.destination, record.key),
            (Destination::Decisions, &b"id"[..])
        );
        let expected = DecisionRecord {
            decision_id: "id".into(),
            device_id: "box-1".into(),
            recorded_unix_ms: now.unix_ms,
            what: Some(What::Decided(Decided {
                opportunity: Some(opportunity),
                ..decided
            })),
        };
        assert_eq!(
            DecisionRecord::decode(record.value.unwrap()).unwrap(),
            expected
        );
    }
}
