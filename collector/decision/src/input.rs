//! What comes in.

/// A topic that one partition of decide reads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Input {
    /// `rp.opportunities`.
    Opportunities,
    /// `rp.ads`, the same partition number.
    Ads,
}

/// One record of an input.
#[derive(Clone, Copy, Debug)]
pub struct InputRecord<'a> {
    /// Kafka key: the device id.
    pub key: &'a [u8],
    /// Kafka value.
    pub value: &'a [u8],
    /// Kafka offset, from 0.
    pub offset: i64,
}
