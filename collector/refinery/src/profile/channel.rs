//! A channel, as small as it can be kept.

use alloc::{boxed::Box, string::String};

use returnpath_shared::wire;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Channel {
    pub(super) network_id: u16,
    pub(super) transport_stream_id: u16,
    pub(super) service_id: u16,
    pub(super) channel_id: Option<Box<str>>,
}

impl Channel {
    /// `None` where a number is none of DVB.
    pub(crate) fn read(channel: wire::Channel) -> Option<Self> {
        Some(Self {
            network_id: u16::try_from(channel.network_id).ok()?,
            transport_stream_id: u16::try_from(channel.transport_stream_id).ok()?,
            service_id: u16::try_from(channel.service_id).ok()?,
            channel_id: Some(channel.channel_id)
                .filter(|id| !id.is_empty())
                .map(String::into_boxed_str),
        })
    }

    /// Whether both name one channel: the transport stream is not known
    /// everywhere.
    pub(super) fn is(&self, other: &Self) -> bool {
        let streams = [self.transport_stream_id, other.transport_stream_id];
        self.network_id == other.network_id
            && self.service_id == other.service_id
            && self.channel_id == other.channel_id
            && (streams[0] == streams[1] || streams.contains(&0))
    }
}
