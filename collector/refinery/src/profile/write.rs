//! Writes a profile as `device.proto` has it, without copies in between.

use alloc::vec::Vec;

use super::{Channel, Facts, Impression, Profile, ViewedChannel, viewing::Viewing};
use crate::{
    fields::{
        put_bytes_field, put_fixed64_field, put_int64_field, put_message_field, put_varint_field,
    },
    order::Moment,
};

impl Profile {
    /// Appends the `DeviceProfile` of the box `device_id`.
    pub(crate) fn put(&self, bytes: &mut Vec<u8>, device_id: &[u8]) {
        put_bytes_field(bytes, 1, device_id);
        if let Some(viewing) = &self.viewing {
            put_message_field(bytes, 2, |bytes| put_viewing(bytes, viewing));
        }
        for viewed in self.viewed_before.iter().flatten() {
            put_message_field(bytes, 3, |bytes| put_viewed(bytes, viewed));
        }
        bytes.extend_from_slice(self.impressions.encoded());
        if let Some(consent) = &self.consent {
            put_message_field(bytes, 5, |bytes| {
                put_enum_field(bytes, 1, consent.measurement);
                put_enum_field(bytes, 2, consent.personalised_ads);
                put_text_field(bytes, 3, &consent.version);
            });
        }
        if let Some(facts) = &self.facts {
            let Facts {
                model,
                firmware,
                agent_version,
                boot_id,
            } = &**facts;
            put_text_field(bytes, 6, model);
            put_text_field(bytes, 7, firmware);
            put_text_field(bytes, 8, agent_version);
            put_fixed64_field(bytes, 13, *boot_id);
        }
        put_enum_field(bytes, 9, self.power);
        put_enum_field(bytes, 10, self.display);
        put_int64_field(bytes, 11, self.last_activity_unix_ms);
        put_int64_field(bytes, 12, self.last_seen_unix_ms);
        for (number, moment) in [
            (20, self.moved.viewing),
            (21, self.moved.consent),
            (22, self.moved.boot),
            (23, self.moved.power),
            (24, self.moved.display),
            (25, self.moved.activity),
        ] {
            if let Some(moment) = moment {
                put_moment_field(bytes, number, moment);
            }
        }
    }
}

/// Appends a field `recent_impressions` of a `DeviceProfile`.
pub(super) fn put_impression(bytes: &mut Vec<u8>, impression: &Impression<'_>) {
    put_message_field(bytes, 4, |bytes| {
        put_text_field(bytes, 1, impression.decision_id);
        put_text_field(bytes, 2, impression.creative_id);
        put_int64_field(bytes, 3, impression.shown_unix_ms);
        if let Some(channel) = &impression.channel {
            put_channel_field(bytes, 4, channel);
        }
        put_moment_field(bytes, 5, impression.moment);
    });
}

fn put_viewing(bytes: &mut Vec<u8>, viewing: &Viewing) {
    if let Some(channel) = &viewing.channel {
        put_channel_field(bytes, 1, channel);
    }
    put_enum_field(bytes, 2, viewing.source);
    put_text_field(bytes, 3, viewing.content_id.as_deref().unwrap_or_default());
    put_fixed64_field(bytes, 4, viewing.boot_id);
    put_varint_field(bytes, 5, viewing.uptime_ms);
    put_int64_field(bytes, 6, viewing.unix_ms);
}

fn put_viewed(bytes: &mut Vec<u8>, viewed: &ViewedChannel) {
    put_channel_field(bytes, 1, &viewed.channel);
    put_int64_field(bytes, 2, viewed.left_unix_ms);
    put_varint_field(bytes, 3, viewed.dwell_ms);
}

fn put_channel_field(bytes: &mut Vec<u8>, number: u32, channel: &Channel) {
    put_message_field(bytes, number, |bytes| {
        put_varint_field(bytes, 1, u64::from(channel.network_id));
        put_varint_field(bytes, 2, u64::from(channel.transport_stream_id));
        put_varint_field(bytes, 3, u64::from(channel.service_id));
        put_text_field(bytes, 4, channel.channel_id.as_deref().unwrap_or_default());
    });
}

fn put_moment_field(bytes: &mut Vec<u8>, number: u32, moment: Moment) {
    put_message_field(bytes, number, |bytes| {
        put_message_field(bytes, 1, |bytes| {
            put_fixed64_field(bytes, 1, moment.epoch.incarnation.get());
            put_varint_field(bytes, 2, u64::from(moment.epoch.start));
        });
        put_varint_field(bytes, 2, moment.ordinal.0);
    });
}

/// Appends a field of text; nothing where it is empty, as proto3 does.
fn put_text_field(bytes: &mut Vec<u8>, number: u32, text: &str) {
    if !text.is_empty() {
        put_bytes_field(bytes, number, text.as_bytes());
    }
}

/// Appends an enum's number, perhaps of a later version and negative: then it
/// is sign-extended, as protobuf does.
fn put_enum_field(bytes: &mut Vec<u8>, number: u32, value: i32) {
    put_int64_field(bytes, number, i64::from(value));
}
