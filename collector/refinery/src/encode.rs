//! Writes `refined.proto` around the bytes of an event, without encoding the
//! event anew: fields that this version does not know stay as they came.

use alloc::vec::Vec;
use core::ops::Range;

use returnpath_shared::{BatchId, Lane, wire};

use crate::{
    batch::BatchHead,
    clock::EventTime,
    fields::{
        put_bytes_field, put_fixed64_field, put_int64_field, put_message_field, put_varint,
        put_varint_field,
    },
    profile::Profile,
    record::RawRecord,
    rejection::Rejection,
};

/// The fields that all refined events of a batch share, encoded once.
pub(crate) fn put_shared(bytes: &mut Vec<u8>, record: &RawRecord<'_>, id: BatchId, boot_id: u64) {
    put_bytes_field(bytes, 2, record.key);
    put_batch_id(bytes, 3, id);
    put_varint_field(bytes, 6, lane_number(record.lane));
    put_int64_field(bytes, 11, record.received_unix_ms);
    put_fixed64_field(bytes, 12, boot_id);
}

/// One `Refined`: its event, the fields shared by its batch, its own fields.
pub(crate) fn put_refined(
    bytes: &mut Vec<u8>,
    event: &[u8],
    shared: &[u8],
    index: u32,
    ordinal: u64,
    time: EventTime,
) {
    put_bytes_field(bytes, 1, event);
    bytes.extend_from_slice(shared);
    put_varint_field(bytes, 4, u64::from(index));
    put_varint_field(bytes, 5, ordinal);
    put_int64_field(bytes, 7, time.unix_ms);
    put_varint_field(bytes, 8, enum_number(time.quality as i32));
    put_int64_field(bytes, 9, time.earliest_unix_ms);
    put_int64_field(bytes, 10, time.latest_unix_ms);
}

/// What is true of an ad opportunity beside its event and its box.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sending {
    pub(crate) uptime_ms: u64,
    pub(crate) boot_id: u64,
    /// 0 when it is not known.
    pub(crate) settled_uptime_ms: u64,
}

/// One `Opportunity`; its event is copied from `refined`, where it stands
/// encoded in the same buffer.
pub(crate) fn put_opportunity(
    bytes: &mut Vec<u8>,
    refined: Range<usize>,
    profile: &Profile,
    device_id: &[u8],
    sending: Sending,
) {
    put_message_field(bytes, 1, |bytes| bytes.extend_from_within(refined));
    put_message_field(bytes, 2, |bytes| profile.put(bytes, device_id));
    put_varint_field(bytes, 3, sending.uptime_ms);
    put_fixed64_field(bytes, 4, sending.boot_id);
    put_varint_field(bytes, 5, sending.settled_uptime_ms);
}

/// What of a `Rejected` is known where it is rejected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rejected<'a> {
    pub(crate) record: &'a RawRecord<'a>,
    /// The whole envelope, or of a single event the envelope without its batch.
    pub(crate) envelope: &'a [u8],
    pub(crate) id: Option<BatchId>,
    pub(crate) head: BatchHead,
    pub(crate) event: Option<RejectedEvent<'a>>,
}

/// One event rejected alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RejectedEvent<'a> {
    pub(crate) index: u32,
    pub(crate) ordinal: u64,
    pub(crate) bytes: &'a [u8],
}

/// One `Rejected`.
pub(crate) fn put_rejected(bytes: &mut Vec<u8>, rejected: &Rejected<'_>, why: &Rejection) {
    put_varint_field(bytes, 1, enum_number(why.reason as i32));
    put_bytes_field(bytes, 2, why.detail.as_bytes());
    put_bytes_field(bytes, 3, rejected.record.key);
    put_bytes_field(bytes, 4, rejected.envelope);
    if let Some(id) = rejected.id {
        put_batch_id(bytes, 5, id);
    }
    if let Some(event) = rejected.event {
        // Present even when it is 0: its presence tells a single event.
        put_varint(bytes, 6 << 3);
        put_varint(bytes, u64::from(event.index));
        put_varint_field(bytes, 7, event.ordinal);
    }
    put_varint_field(bytes, 8, lane_number(rejected.record.lane));
    put_int64_field(bytes, 9, rejected.record.received_unix_ms);
    if rejected.event.is_none() {
        put_varint_field(bytes, 10, rejected.head.first_ordinal);
        put_varint_field(bytes, 11, u64::from(rejected.head.event_count));
    }
    if let Some(event) = rejected.event {
        put_bytes_field(bytes, 12, event.bytes);
    }
    put_fixed64_field(bytes, 13, rejected.head.boot_id);
}

fn put_batch_id(bytes: &mut Vec<u8>, number: u32, id: BatchId) {
    let mut epoch = Vec::with_capacity(16);
    put_fixed64_field(&mut epoch, 1, id.epoch.incarnation.get());
    put_varint_field(&mut epoch, 2, u64::from(id.epoch.start));
    let mut batch = Vec::with_capacity(32);
    put_bytes_field(&mut batch, 1, &epoch);
    put_varint_field(&mut batch, 2, id.sequence.0);
    put_bytes_field(bytes, number, &batch);
}

fn lane_number(lane: Lane) -> u64 {
    enum_number(match lane {
        Lane::Live => wire::Lane::Live as i32,
        Lane::Backlog => wire::Lane::Backlog as i32,
    })
}

/// An enum of ours on the wire: never negative.
fn enum_number(number: i32) -> u64 {
    u64::from(number.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;
    use returnpath_shared::{Epoch, Incarnation, Sequence, wire::RejectionReason};

    use super::*;

    const RECORD: RawRecord<'_> = RawRecord {
        key: b"box-1",
        value: b"raw",
        lane: Lane::Backlog,
        received_unix_ms: 1_800_000_000_000,
        offset: 3,
    };

    fn id() -> BatchId {
        BatchId {
            epoch: Epoch {
                incarnation: Incarnation::new(u64::MAX).unwrap(),
                start: 7,
            },
            sequence: Sequence(300),
        }
    }

    #[test]
    fn refined_events_decode_to_what_went_in() {
        let event = wire::Event {
            uptime_ms: 5,
            client_id: "c".into(),
            ..wire::Event::default()
        };
        let time = EventTime {
            unix_ms: -1,
            quality: wire::TimeQuality::Bounded,
            earliest_unix_ms: 8,
            latest_unix_ms: 9,
        };
        let mut shared = Vec::new();
        put_shared(&mut shared, &RECORD, id(), 4);
        let mut bytes = Vec::new();
        put_refined(&mut bytes, &event.encode_to_vec(), &shared, 1, 301, time);
        let expected = wire::Refined {
            event: Some(event),
            device_id: "box-1".into(),
            batch: Some(id().into()),
            index: 1,
            ordinal: 301,
            lane: wire::Lane::Backlog as i32,
            event_unix_ms: -1,
            time_quality: wire::TimeQuality::Bounded as i32,
            earliest_unix_ms: 8,
            latest_unix_ms: 9,
            received_unix_ms: 1_800_000_000_000,
            boot_id: 4,
        };
        assert_eq!(wire::Refined::decode(&bytes[..]).unwrap(), expected);
    }

    #[test]
    fn rejections_decode_to_what_went_in() {
        let head = BatchHead {
            boot_id: 4,
            first_ordinal: 300,
            event_count: 2,
        };
        let event = RejectedEvent {
            index: 0,
            ordinal: 300,
            bytes: b"event",
        };
        let whole = wire::Rejected {
            reason: RejectionReason::Event as i32,
            detail: "why".into(),
            key: Bytes::from_static(b"box-1"),
            envelope: Bytes::from_static(b"envelope"),
            batch: Some(id().into()),
            lane: wire::Lane::Backlog as i32,
            received_unix_ms: 1_800_000_000_000,
            first_ordinal: 300,
            event_count: 2,
            boot_id: 4,
            ..wire::Rejected::default()
        };
        let single = wire::Rejected {
            index: Some(0),
            ordinal: 300,
            first_ordinal: 0,
            event_count: 0,
            event: Bytes::from_static(b"event"),
            ..whole.clone()
        };
        for (event, expected) in [(None, whole), (Some(event), single)] {
            let rejected = Rejected {
                record: &RECORD,
                envelope: b"envelope",
                id: Some(id()),
                head,
                event,
            };
            let mut bytes = Vec::new();
            let why = Rejection::new(RejectionReason::Event, "why");
            put_rejected(&mut bytes, &rejected, &why);
            assert_eq!(wire::Rejected::decode(&bytes[..]).unwrap(), expected);
        }
    }
}
