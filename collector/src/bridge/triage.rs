//! One decision: what becomes of a PUBLISH, from its topic and payload alone.
//!
//! Reads of the envelope only the id and the class; what is inside the batch
//! is refine's business. A payload that cannot be read and has no id to refuse
//! goes to Kafka all the same, so that refine rejects it with its bytes.

use bytes::Buf;
use prost::Message as _;
use returnpath_shared::{
    BatchId, Class, DeviceId, ENVELOPE_BYTES_MAX, Lane, Uplink,
    wire::{self, RefusalReason},
};

/// What becomes of a PUBLISH.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Triage {
    /// Into Kafka.
    Keep {
        /// The box.
        device: DeviceId,
        /// The lane.
        lane: Lane,
        /// What to receipt; `None` where the envelope says none, and then the
        /// box gets no receipt.
        id: Option<BatchId>,
        /// Class of the batch.
        class: Class,
    },
    /// Not into Kafka, and the box is told.
    Refuse {
        /// The box.
        device: DeviceId,
        /// The batch.
        id: BatchId,
        /// Why.
        reason: RefusalReason,
    },
    /// Not ours, and there is nobody to tell.
    Stray,
}

/// The envelope as far as the bridge reads it. prost skips the other fields
/// without copying them.
#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    #[prost(message, optional, tag = "1")]
    id: Option<wire::BatchId>,
    #[prost(enumeration = "wire::Class", tag = "2")]
    class: i32,
}

/// Decides.
pub(super) fn triage(topic: &[u8], payload: &[u8]) -> Triage {
    let Some((device, lane)) = sender(topic) else {
        return Triage::Stray;
    };
    let mut head = Head::default();
    let readable = read(&mut head, payload);
    let id = head.id.take().and_then(|id| BatchId::try_from(id).ok());
    let Some(lane) = lane else {
        return id.map_or(Triage::Stray, |id| Triage::Refuse {
            device,
            id,
            reason: RefusalReason::NotAllowed,
        });
    };
    let fault = if payload.len() > ENVELOPE_BYTES_MAX {
        Some(RefusalReason::TooLarge)
    } else if !readable {
        Some(RefusalReason::Undecodable)
    } else {
        None
    };
    match (fault, id) {
        (Some(reason), Some(id)) => Triage::Refuse { device, id, reason },
        (_, id) => Triage::Keep {
            device,
            lane,
            id,
            class: match head.class() {
                wire::Class::Proof => Class::Proof,
                wire::Class::Ordinary | wire::Class::Unspecified => Class::Ordinary,
            },
        },
    }
}

/// The box, and the lane unless it is one that does not exist.
fn sender(topic: &[u8]) -> Option<(DeviceId, Option<Lane>)> {
    let topic = std::str::from_utf8(topic).ok()?;
    if let Ok(uplink) = Uplink::parse(topic) {
        return Some((uplink.device, Some(uplink.lane)));
    }
    let mut levels = topic.split('/');
    let shape = [levels.next(), levels.next()];
    let device = levels.next()?.parse().ok()?;
    (shape == [Some("rp"), Some("v1")]).then_some((device, None))
}

/// Reads field by field, so that an id stays read when what follows cannot be.
/// Says whether all could be.
fn read(head: &mut Head, mut payload: &[u8]) -> bool {
    while payload.has_remaining() {
        let field = prost::encoding::decode_key(&mut payload).and_then(|(tag, wire_type)| {
            let context = prost::encoding::DecodeContext::default();
            head.merge_field(tag, wire_type, &mut payload, context)
        });
        if field.is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use returnpath_shared::{Epoch, Incarnation, Sequence, wire::Envelope};

    use super::*;

    const LIVE: &[u8] = b"rp/v1/box-1/events/live";

    fn id() -> BatchId {
        BatchId {
            epoch: Epoch {
                incarnation: Incarnation::new(7).unwrap(),
                start: 2,
            },
            sequence: Sequence(3),
        }
    }

    fn envelope(class: wire::Class, bytes: usize) -> Vec<u8> {
        Envelope {
            id: Some(id().into()),
            class: class.into(),
            batch: vec![0; bytes].into(),
            uptime_ms: 1,
            ..Envelope::default()
        }
        .encode_to_vec()
    }

    fn kept(lane: Lane, id: Option<BatchId>, class: Class) -> Triage {
        Triage::Keep {
            device: "box-1".parse().unwrap(),
            lane,
            id,
            class,
        }
    }

    fn refused(reason: RefusalReason) -> Triage {
        Triage::Refuse {
            device: "box-1".parse().unwrap(),
            id: id(),
            reason,
        }
    }

    #[test]
    fn each_kind_of_publish_goes_its_way() {
        use wire::Class::{Ordinary, Proof, Unspecified};

        let good = envelope(Ordinary, 10);
        let cut = &good[..good.len() - 1];
        let without_id = Envelope::default().encode_to_vec();
        let zero_id = Envelope {
            id: Some(wire::BatchId::default()),
            ..Envelope::default()
        }
        .encode_to_vec();
        let backlog: &[u8] = b"rp/v1/box-1/events/backlog";
        let other: &[u8] = b"rp/v1/box-1/events/other";
        let cases: [(&[u8], &[u8], Triage); 16] = [
            (LIVE, &good, kept(Lane::Live, Some(id()), Class::Ordinary)),
            (
                backlog,
                &good,
                kept(Lane::Backlog, Some(id()), Class::Ordinary),
            ),
            (
                LIVE,
                &envelope(Proof, 1),
                kept(Lane::Live, Some(id()), Class::Proof),
            ),
            (
                LIVE,
                &envelope(Unspecified, 1),
                kept(Lane::Live, Some(id()), Class::Ordinary),
            ),
            (
                LIVE,
                &envelope(Ordinary, ENVELOPE_BYTES_MAX),
                refused(RefusalReason::TooLarge),
            ),
            (
                LIVE,
                &vec![0xff; ENVELOPE_BYTES_MAX + 1],
                kept(Lane::Live, None, Class::Ordinary),
            ),
            (LIVE, cut, refused(RefusalReason::Undecodable)),
            (LIVE, b"", kept(Lane::Live, None, Class::Ordinary)),
            (LIVE, b"\xff\xff", kept(Lane::Live, None, Class::Ordinary)),
            (LIVE, &without_id, kept(Lane::Live, None, Class::Ordinary)),
            (LIVE, &zero_id, kept(Lane::Live, None, Class::Ordinary)),
            (other, &good, refused(RefusalReason::NotAllowed)),
            (other, b"", Triage::Stray),
            (b"rp/v1/b ox/events/live", &good, Triage::Stray),
            (b"else/v1/box-1/events/live", &good, Triage::Stray),
            (b"\xff", &good, Triage::Stray),
        ];
        for (place, (topic, payload, expected)) in cases.into_iter().enumerate() {
            assert_eq!(triage(topic, payload), expected, "case {place}");
        }
    }

    proptest! {
        #[test]
        fn whatever_arrives_on_a_good_topic_is_kept_or_refused(
            payload in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            prop_assert_ne!(triage(LIVE, &payload), Triage::Stray);
        }
    }
}
