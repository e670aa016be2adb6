//! How each field is read from what is asked. What the box itself saw when it
//! asked goes before what the profile knows: the profile may lag behind.

use alloc::{borrow::ToOwned as _, format};

use returnpath_shared::{
    hex,
    wire::{
        AdOpportunity, Channel, DeviceProfile, Impression, Privacy, Refined, Segmentation, Source,
        Viewing, event,
    },
};

use super::{calendar, value::Value};
use crate::ask::Ask;

type Read = Option<Value>;

/// Text, unless there is none.
fn text(text: &str) -> Read {
    (!text.is_empty()).then(|| Value::Text(text.to_owned()))
}

fn number(number: impl TryInto<i64>) -> Read {
    number.try_into().ok().map(Value::Number)
}

/// Numbers of which 0 means "not said".
fn said(value: u32) -> Read {
    (value != 0).then(|| Value::Number(value.into()))
}

fn refined<'a>(ask: &Ask<'a>) -> Option<&'a Refined> {
    ask.opportunity.refined.as_ref()
}

fn profile<'a>(ask: &Ask<'a>) -> Option<&'a DeviceProfile> {
    ask.opportunity.profile.as_ref()
}

fn opportunity<'a>(ask: &Ask<'a>) -> Option<&'a AdOpportunity> {
    match refined(ask)?.event.as_ref()?.kind.as_ref()? {
        event::Kind::AdOpportunity(opportunity) => Some(opportunity),
        event::Kind::Tune(_)
        | event::Kind::ViewingHeartbeat(_)
        | event::Kind::TrickPlay(_)
        | event::Kind::Power(_)
        | event::Kind::Display(_)
        | event::Kind::UserActivity(_)
        | event::Kind::AdEvent(_)
        | event::Kind::Consent(_)
        | event::Kind::Custom(_)
        | event::Kind::Health(_)
        | event::Kind::Boot(_)
        | event::Kind::Ledger(_)
        | event::Kind::UncleanStop(_) => None,
    }
}

fn viewing<'a>(ask: &Ask<'a>) -> Option<&'a Viewing> {
    profile(ask)?.viewing.as_ref()
}

/// The channel being viewed.
pub(super) fn channel<'a>(ask: &Ask<'a>) -> Option<&'a Channel> {
    let seen_by_box = opportunity(ask).and_then(|opportunity| opportunity.channel.as_ref());
    seen_by_box.or_else(|| viewing(ask)?.channel.as_ref())
}

/// The channel viewed before: by the profile, the latest that is not the one
/// being viewed.
pub(super) fn last_channel<'a>(ask: &Ask<'a>) -> Option<&'a Channel> {
    let seen_by_box = opportunity(ask).and_then(|opportunity| opportunity.last_channel.as_ref());
    seen_by_box.or_else(|| {
        let current = channel(ask);
        let before = profile(ask)?.viewed_before.iter();
        before
            .filter_map(|viewed| viewed.channel.as_ref())
            .find(|channel| Some(*channel) != current)
    })
}

/// Channels without a triplet have the operator's id alone: a service_id of 0
/// is no service (ISO/IEC 13818-1, 2.4.4.5).
fn broadcast(channel: Option<&Channel>) -> Option<&Channel> {
    channel.filter(|channel| channel.service_id != 0)
}

pub(super) fn network_id(channel: Option<&Channel>) -> Read {
    number(broadcast(channel)?.network_id)
}

pub(super) fn transport_stream_id(channel: Option<&Channel>) -> Read {
    said(broadcast(channel)?.transport_stream_id)
}

pub(super) fn service_id(channel: Option<&Channel>) -> Read {
    number(broadcast(channel)?.service_id)
}

pub(super) fn channel_id(channel: Option<&Channel>) -> Read {
    text(&channel?.channel_id)
}

/// As a DVB locator has it, where the transport stream may stay empty.
/// Source: ETSI TS 102 851 (the `dvb://` scheme).
pub(super) fn triplet_hex(channel: Option<&Channel>) -> Read {
    let channel = broadcast(channel)?;
    let (network, service) = (channel.network_id, channel.service_id);
    Some(Value::Text(match channel.transport_stream_id {
        0 => format!("{network:x}..{service:x}"),
        stream => format!("{network:x}.{stream:x}.{service:x}"),
    }))
}

/// The same in decimal.
pub(super) fn triplet_decimal(channel: Option<&Channel>) -> Read {
    let channel = broadcast(channel)?;
    let (network, service) = (channel.network_id, channel.service_id);
    Some(Value::Text(match channel.transport_stream_id {
        0 => format!("{network}..{service}"),
        stream => format!("{network}.{stream}.{service}"),
    }))
}

/// How long the channel has been viewed: by the box's own uptime within a
/// boot, else by the clock. Unknown when the box says that it views another
/// channel than the profile has.
pub(super) fn dwell_s(ask: &Ask<'_>) -> Read {
    let viewing = viewing(ask)?;
    if viewing.channel.as_ref() != channel(ask) {
        return None;
    }
    let refined = refined(ask)?;
    if viewing.since_boot_id == refined.boot_id {
        let uptime_ms = refined.event.as_ref()?.uptime_ms;
        return number(uptime_ms.saturating_sub(viewing.since_uptime_ms) / 1_000);
    }
    seconds_since(ask, viewing.since_unix_ms)
}

/// Whole seconds since a moment; 0 when it seems to lie ahead, because clocks
/// differ; unknown when the moment is.
fn seconds_since(ask: &Ask<'_>, unix_ms: i64) -> Read {
    if unix_ms <= 0 {
        return None;
    }
    number(ask.now_unix_ms.saturating_sub(unix_ms).max(0) / 1_000)
}

fn last_ad<'a>(ask: &Ask<'a>) -> Option<&'a Impression> {
    profile(ask)?.recent_impressions.first()
}

pub(super) fn last_ad_creative_id(ask: &Ask<'_>) -> Read {
    text(&last_ad(ask)?.creative_id)
}

pub(super) fn last_ad_decision_id(ask: &Ask<'_>) -> Read {
    text(&last_ad(ask)?.decision_id)
}

pub(super) fn last_ad_shown_s_ago(ask: &Ask<'_>) -> Read {
    seconds_since(ask, last_ad(ask)?.shown_unix_ms)
}

pub(super) fn recent_ad_count(ask: &Ask<'_>) -> Read {
    number(profile(ask)?.recent_impressions.len())
}

pub(super) fn source(ask: &Ask<'_>) -> Read {
    let seen_by_box = opportunity(ask).map(AdOpportunity::source);
    let source = match seen_by_box {
        Some(Source::Unspecified) | None => viewing(ask)?.source(),
        Some(source) => source,
    };
    text(match source {
        Source::Unspecified => "",
        Source::Live => "live",
        Source::Timeshift => "timeshift",
        Source::Recording => "recording",
        Source::OnDemand => "on_demand",
        Source::App => "app",
    })
}

pub(super) fn slot_index(ask: &Ask<'_>) -> Read {
    number(ask.slot)
}

pub(super) fn slot_number(ask: &Ask<'_>) -> Read {
    number(u64::from(ask.slot) + 1)
}

pub(super) fn slot_duration_ms(ask: &Ask<'_>) -> Read {
    number(ask.slot_duration_ms)
}

pub(super) fn slot_duration_s(ask: &Ask<'_>) -> Read {
    number(ask.slot_duration_ms / 1_000)
}

/// One slot, as long as the break, where none are named.
pub(super) fn break_slots(ask: &Ask<'_>) -> Read {
    number(opportunity(ask)?.slot_durations_ms.len().max(1))
}

pub(super) fn break_id(ask: &Ask<'_>) -> Read {
    text(&opportunity(ask)?.break_id)
}

pub(super) fn break_duration_ms(ask: &Ask<'_>) -> Read {
    number(opportunity(ask)?.duration_ms)
}

pub(super) fn break_duration_s(ask: &Ask<'_>) -> Read {
    number(opportunity(ask)?.duration_ms / 1_000)
}

fn segmentation<'a>(ask: &Ask<'a>) -> Option<&'a Segmentation> {
    opportunity(ask)?.segmentation.as_ref()
}

pub(super) fn segmentation_type(ask: &Ask<'_>) -> Read {
    number(segmentation(ask)?.segmentation_type_id)
}

pub(super) fn segmentation_event_id(ask: &Ask<'_>) -> Read {
    number(segmentation(ask)?.segmentation_event_id)
}

pub(super) fn upid_type(ask: &Ask<'_>) -> Read {
    number(segmentation(ask)?.upid_type)
}

pub(super) fn upid_hex(ask: &Ask<'_>) -> Read {
    text(&hex(&segmentation(ask)?.upid))
}

/// Ad-ID, ISAN and URIs are text; other upids are not.
pub(super) fn upid_text(ask: &Ask<'_>) -> Read {
    text(core::str::from_utf8(&segmentation(ask)?.upid).ok()?)
}

pub(super) fn model(ask: &Ask<'_>) -> Read {
    text(&profile(ask)?.model)
}

pub(super) fn firmware(ask: &Ask<'_>) -> Read {
    text(&profile(ask)?.firmware)
}

pub(super) fn last_activity_s_ago(ask: &Ask<'_>) -> Read {
    seconds_since(ask, profile(ask)?.last_activity_unix_ms)
}

pub(super) fn pseudonym(ask: &Ask<'_>) -> Read {
    text(ask.pseudonym?)
}

pub(super) fn request_id(ask: &Ask<'_>) -> Read {
    text(ask.decision_id)
}

/// What was made of the viewer's choice, so that the flag never says other than
/// what the request holds.
pub(super) fn consent_personalised(ask: &Ask<'_>) -> Read {
    Some(Value::Flag(ask.privacy == Privacy::Personalised))
}

pub(super) fn consent_version(ask: &Ask<'_>) -> Read {
    text(&profile(ask)?.consent.as_ref()?.version)
}

pub(super) fn time_unix_ms(ask: &Ask<'_>) -> Read {
    number(ask.now_unix_ms)
}

pub(super) fn time_unix_s(ask: &Ask<'_>) -> Read {
    number(ask.now_unix_ms.div_euclid(1_000))
}

pub(super) fn time_rfc3339(ask: &Ask<'_>) -> Read {
    Some(Value::Text(calendar::rfc3339(ask.now_unix_ms)?))
}

pub(super) fn time_hour_utc(ask: &Ask<'_>) -> Read {
    number(ask.now_unix_ms.div_euclid(3_600_000).rem_euclid(24))
}

pub(super) fn time_left_ms(ask: &Ask<'_>) -> Read {
    number(ask.time_left_ms)
}
