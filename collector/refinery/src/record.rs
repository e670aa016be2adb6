//! What comes in.

use returnpath_shared::Lane;

/// One record of `rp.raw` or `rp.raw.backlog`.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    /// Kafka key: the device id, as the bridge took it from the MQTT topic.
    pub key: &'a [u8],
    /// Kafka value: the envelope, as the box sent it.
    pub value: &'a [u8],
    /// The topic it stood in.
    pub lane: Lane,
    /// Kafka timestamp: when the bridge took it, its own clock.
    pub received_unix_ms: i64,
    /// Kafka offset.
    pub offset: i64,
}
