//! The table of fields.
//!
//! Personal is what tells boxes or households apart, or what they did. The
//! model is among it: with a rare firmware it narrows a box down, and it
//! describes neither the break nor the channel. The id of the decision is not:
//! it is new for each slot and joins nothing.

use super::{Audience, Read, Row, read};

/// Every field there is.
pub(super) const FIELDS: &[Row] = &[
    contextual(
        "channel.network_id",
        |ask| read::network_id(read::channel(ask)),
        "DVB original_network_id of the channel being viewed",
    ),
    contextual(
        "channel.transport_stream_id",
        |ask| read::transport_stream_id(read::channel(ask)),
        "its transport_stream_id, where the box knows it",
    ),
    contextual(
        "channel.service_id",
        |ask| read::service_id(read::channel(ask)),
        "its service_id",
    ),
    contextual(
        "channel.triplet_hex",
        |ask| read::triplet_hex(read::channel(ask)),
        "233a.1004.1044, as in a dvb:// locator",
    ),
    contextual(
        "channel.triplet_decimal",
        |ask| read::triplet_decimal(read::channel(ask)),
        "9018.4100.4164",
    ),
    contextual(
        "channel.channel_id",
        |ask| read::channel_id(read::channel(ask)),
        "the operator's own id of the channel, where it has one",
    ),
    personal(
        "last_channel.network_id",
        |ask| read::network_id(read::last_channel(ask)),
        "the same of the channel viewed before",
    ),
    personal(
        "last_channel.transport_stream_id",
        |ask| read::transport_stream_id(read::last_channel(ask)),
        "its transport_stream_id, where the box knows it",
    ),
    personal(
        "last_channel.service_id",
        |ask| read::service_id(read::last_channel(ask)),
        "its service_id",
    ),
    personal(
        "last_channel.triplet_hex",
        |ask| read::triplet_hex(read::last_channel(ask)),
        "its triplet in hexadecimal",
    ),
    personal(
        "last_channel.triplet_decimal",
        |ask| read::triplet_decimal(read::last_channel(ask)),
        "its triplet in decimal",
    ),
    personal(
        "last_channel.channel_id",
        |ask| read::channel_id(read::last_channel(ask)),
        "the operator's own id of it, where it has one",
    ),
    personal(
        "last_ad.creative_id",
        read::last_ad_creative_id,
        "the ad last confirmed shown",
    ),
    personal(
        "last_ad.decision_id",
        read::last_ad_decision_id,
        "the decision that put it there",
    ),
    personal(
        "last_ad.shown_s_ago",
        read::last_ad_shown_s_ago,
        "how long ago it was shown, in s",
    ),
    personal(
        "recent_ads.count",
        read::recent_ad_count,
        "ads confirmed shown lately, at most 16",
    ),
    contextual(
        "slot.index",
        read::slot_index,
        "place of the slot in its break, from 0",
    ),
    contextual("slot.number", read::slot_number, "the same, from 1"),
    contextual(
        "slot.duration_ms",
        read::slot_duration_ms,
        "length of the slot, in ms",
    ),
    contextual(
        "slot.duration_s",
        read::slot_duration_s,
        "the same in whole seconds, rounded down",
    ),
    contextual("break.id", read::break_id, "the box's name of the break"),
    contextual("break.slots", read::break_slots, "slots in the break"),
    contextual(
        "break.duration_ms",
        read::break_duration_ms,
        "length of the break, in ms",
    ),
    contextual(
        "break.duration_s",
        read::break_duration_s,
        "the same in whole seconds, rounded down",
    ),
    contextual(
        "source",
        read::source,
        "live, timeshift, recording, on_demand or app",
    ),
    contextual(
        "scte35.segmentation_type",
        read::segmentation_type,
        "segmentation_type_id of the SCTE-35 signal",
    ),
    contextual(
        "scte35.event_id",
        read::segmentation_event_id,
        "its segmentation_event_id",
    ),
    contextual(
        "scte35.upid_type",
        read::upid_type,
        "its segmentation_upid_type",
    ),
    contextual(
        "scte35.upid_hex",
        read::upid_hex,
        "its upid, in hexadecimal",
    ),
    contextual(
        "scte35.upid_text",
        read::upid_text,
        "its upid, where it is text",
    ),
    personal(
        "box.pseudonym",
        read::pseudonym,
        "the box, by a name made for this aggregator alone",
    ),
    personal("box.model", read::model, "model of the box"),
    personal("box.firmware", read::firmware, "its firmware"),
    personal(
        "viewer.dwell_s",
        read::dwell_s,
        "how long the channel has been viewed, in s",
    ),
    personal(
        "viewer.active_s_ago",
        read::last_activity_s_ago,
        "how long ago someone used the remote control, in s",
    ),
    contextual(
        "request.id",
        read::request_id,
        "id of the decision, new for each slot",
    ),
    contextual(
        "request.time_left_ms",
        read::time_left_ms,
        "what is left of the time to answer, in ms",
    ),
    contextual(
        "consent.personalised",
        read::consent_personalised,
        "whether ads may be chosen by what was viewed",
    ),
    contextual(
        "consent.version",
        read::consent_version,
        "version of the text that the viewer agreed to",
    ),
    contextual(
        "time.unix_ms",
        read::time_unix_ms,
        "now, in ms since 1970-01-01T00:00:00Z",
    ),
    contextual(
        "time.unix_s",
        read::time_unix_s,
        "the same in whole seconds",
    ),
    contextual(
        "time.rfc3339",
        read::time_rfc3339,
        "2025-11-21T12:34:56.789Z",
    ),
    contextual(
        "time.hour_utc",
        read::time_hour_utc,
        "hour of the day, 0 to 23, UTC",
    ),
];

const fn contextual(name: &'static str, read: Read, about: &'static str) -> Row {
    let audience = Audience::Contextual;
    Row {
        name,
        audience,
        read,
        about,
    }
}

const fn personal(name: &'static str, read: Read, about: &'static str) -> Row {
    let audience = Audience::Personal;
    Row {
        name,
        audience,
        read,
        about,
    }
}
