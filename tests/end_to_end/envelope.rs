//! Envelopes built by hand: those of a box with a later protocol than ours,
//! and of a broken one.

use prost::Message;
use returnpath_shared::wire::{self, event};

/// An event as a later version of the protocol may have it.
#[derive(Clone, PartialEq, Message)]
struct FutureEvent {
    #[prost(uint64, tag = "1")]
    uptime_ms: u64,
    #[prost(message, optional, tag = "10")]
    tune: Option<wire::Tune>,
    #[prost(bytes = "vec", tag = "99")]
    kind_of_the_future: Vec<u8>,
}

/// A batch of such events.
#[derive(Clone, PartialEq, Message)]
struct FutureBatch {
    #[prost(fixed64, tag = "1")]
    boot_id: u64,
    #[prost(uint64, tag = "2")]
    first_ordinal: u64,
    #[prost(message, repeated, tag = "3")]
    events: Vec<FutureEvent>,
    /// A field that this version does not know.
    #[prost(string, tag = "98")]
    field_of_the_future: String,
}

const BOOT_ID: u64 = 5;

/// Incarnation of the boxes made here.
pub(crate) const INCARNATION: u64 = 77;

/// The envelope of batch `sequence` with these bytes inside.
pub(crate) fn envelope(sequence: u64, codec: i32, batch: Vec<u8>) -> Vec<u8> {
    let epoch = wire::Epoch {
        incarnation: INCARNATION,
        start: 1,
    };
    let id = wire::BatchId {
        epoch: Some(epoch),
        sequence,
    };
    wire::Envelope {
        id: Some(id),
        class: wire::Class::Ordinary.into(),
        codec,
        batch: batch.into(),
        boot_id: BOOT_ID,
        uptime_ms: 60_000,
        unix_ms: 0,
        clock_synchronised: false,
        sender: Some(epoch),
        oldest_held: vec![id],
    }
    .encode_to_vec()
}

/// Three events: a tune, one of a kind of the future, and a tune.
pub(crate) fn batch_of_the_future(first_ordinal: u64) -> Vec<u8> {
    let tune = FutureEvent {
        uptime_ms: 50_000,
        tune: Some(wire::Tune {
            channel: Some(wire::Channel {
                network_id: 9018,
                transport_stream_id: 4164,
                service_id: 1,
                ..wire::Channel::default()
            }),
            source: wire::Source::Live.into(),
            ..wire::Tune::default()
        }),
        kind_of_the_future: Vec::new(),
    };
    FutureBatch {
        boot_id: BOOT_ID,
        first_ordinal,
        events: vec![tune.clone(), unknown(), tune],
        field_of_the_future: "ignored".to_owned(),
    }
    .encode_to_vec()
}

fn unknown() -> FutureEvent {
    FutureEvent {
        uptime_ms: 50_001,
        tune: None,
        kind_of_the_future: b"what we cannot know".to_vec(),
    }
}

/// The event of a kind of the future, as it stands in that batch.
pub(crate) fn event_of_the_future() -> Vec<u8> {
    unknown().encode_to_vec()
}

#[test]
fn the_kind_of_the_future_is_none_that_we_know() {
    let batch = wire::Batch::decode(&batch_of_the_future(1)[..]).unwrap();
    assert_eq!(batch.events.len(), 3);
    assert!(matches!(batch.events[0].kind, Some(event::Kind::Tune(_))));
    assert_eq!(batch.events[1].kind, None);
}
