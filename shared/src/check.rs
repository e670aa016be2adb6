//! What an event must look like beyond what protobuf can say: needed fields,
//! lengths, ranges. The agent refuses by it on intake, refine rejects by it.
//!
//! Enum numbers that this version does not know pass: a later agent may meet
//! an earlier collector. Who may send which kind is not decided here.
//! `steering` checks what goes the other way, configuration for boxes.

mod steering;

use std::borrow::Cow;

use thiserror::Error;

use crate::{
    id::{BatchId, Epoch},
    limit::{
        ANCHORS_MAX, ATTRIBUTE_KEY_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, ATTRIBUTES_MAX,
        CLIENT_ID_BYTES_MAX, CONTENT_ID_BYTES_MAX, MOUNT_OPTIONS_BYTES_MAX, SLOTS_MAX,
    },
    wire::{
        AdEvent, AdOpportunity, Boot, Channel, Consent, Custom, Display, Event, Health, Ledger,
        Power, Segmentation, Source, TrickPlay, Tune, UncleanStop, UserActivity, ViewingHeartbeat,
        ad_event, event,
    },
};

pub use steering::check_config;

/// The field of a message that is wrong, and what was expected there.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{field}: expected {expected}")]
pub struct FieldError {
    /// Path from the event, in names of the JSON mapping
    /// (`tune.channel.serviceId`); of a configuration, its field.
    pub field: String,
    /// The accepted form, for people.
    pub expected: Cow<'static, str>,
}

type Checked = Result<(), FieldError>;

/// Checks one event.
///
/// # Errors
/// Names the first field that is wrong.
pub fn check(event: &Event) -> Checked {
    let at = Path("");
    at.text("clientId", &event.client_id, CLIENT_ID_BYTES_MAX)?;
    let kind = event.kind.as_ref().ok_or_else(|| {
        wrong(
            "kind".into(),
            "exactly one kind of event, such as tune or adEvent",
        )
    })?;
    match kind {
        event::Kind::Tune(tune) => check_tune(Path("tune"), tune),
        event::Kind::ViewingHeartbeat(beat) => check_heartbeat(Path("viewingHeartbeat"), beat),
        event::Kind::TrickPlay(trick) => check_trick_play(Path("trickPlay"), trick),
        event::Kind::Power(power) => check_power(Path("power"), power),
        event::Kind::Display(display) => check_display(Path("display"), display),
        event::Kind::UserActivity(activity) => check_activity(Path("userActivity"), activity),
        event::Kind::AdOpportunity(ad) => check_opportunity(Path("adOpportunity"), ad),
        event::Kind::AdEvent(ad) => check_ad_event(Path("adEvent"), ad),
        event::Kind::Consent(consent) => {
            at.needed("clientId", &event.client_id, CLIENT_ID_BYTES_MAX)?;
            check_consent(Path("consent"), consent)
        }
        event::Kind::Custom(custom) => {
            if custom.proof {
                at.needed("clientId", &event.client_id, CLIENT_ID_BYTES_MAX)?;
            }
            check_custom(Path("custom"), custom)
        }
        event::Kind::Health(health) => check_health(Path("health"), health),
        event::Kind::Boot(boot) => check_boot(Path("boot"), boot),
        event::Kind::Ledger(ledger) => check_ledger(Path("ledger"), ledger),
        event::Kind::UncleanStop(stop) => check_unclean_stop(Path("uncleanStop"), stop),
    }
}

fn check_tune(at: Path, tune: &Tune) -> Checked {
    at.said("source", tune.source, "SOURCE_LIVE, SOURCE_TIMESHIFT, …")?;
    at.text("contentId", &tune.content_id, CONTENT_ID_BYTES_MAX)?;
    if tune.channel.is_none() && !tune.content_id.is_empty() && !airs(tune.source) {
        return Ok(());
    }
    at.channel_needed(tune.channel.as_ref())
}

fn check_heartbeat(at: Path, beat: &ViewingHeartbeat) -> Checked {
    at.said("source", beat.source, "SOURCE_LIVE, SOURCE_TIMESHIFT, …")?;
    if airs(beat.source) {
        at.channel_needed(beat.channel.as_ref())
    } else {
        at.channel("channel", beat.channel.as_ref())
    }
}

/// Whether pictures of this source come from a channel, which must be named.
fn airs(source: i32) -> bool {
    matches!(
        Source::try_from(source),
        Ok(Source::Live | Source::Timeshift)
    )
}

fn check_trick_play(at: Path, trick: &TrickPlay) -> Checked {
    at.said("action", trick.action, "ACTION_PLAY, ACTION_PAUSE, …")?;
    at.channel("channel", trick.channel.as_ref())
}

fn check_power(at: Path, power: &Power) -> Checked {
    at.said("state", power.state, "STATE_ON, STATE_STANDBY, …")
}

fn check_display(at: Path, display: &Display) -> Checked {
    at.said("state", display.state, "STATE_ACTIVE, STATE_INACTIVE, …")
}

fn check_activity(at: Path, activity: &UserActivity) -> Checked {
    at.range("inputs", u64::from(activity.inputs), 1, u64::from(u32::MAX))
}

fn check_opportunity(at: Path, ad: &AdOpportunity) -> Checked {
    at.needed("breakId", &ad.break_id, CLIENT_ID_BYTES_MAX)?;
    at.range("startUptimeMs", ad.start_uptime_ms, 1, u64::MAX)?;
    let duration_ms = u64::from(ad.duration_ms);
    at.range("durationMs", duration_ms, 1, u64::from(u32::MAX))?;
    at.count("slotDurationsMs", ad.slot_durations_ms.len(), SLOTS_MAX)?;
    let mut rest_ms = duration_ms;
    for (index, slot_ms) in ad.slot_durations_ms.iter().enumerate() {
        let slot_ms = u64::from(*slot_ms);
        if slot_ms == 0 || slot_ms > rest_ms {
            let field = at.join(&format!("slotDurationsMs[{index}]"));
            return Err(wrong(
                field,
                "at least 1, and all slots together no longer than durationMs",
            ));
        }
        rest_ms -= slot_ms;
    }
    if let Some(segmentation) = &ad.segmentation {
        check_segmentation(Path("adOpportunity.segmentation"), segmentation)?;
    }
    at.channel("channel", ad.channel.as_ref())?;
    at.channel("lastChannel", ad.last_channel.as_ref())
}

fn check_segmentation(at: Path, segmentation: &Segmentation) -> Checked {
    for (name, value) in [
        ("segmentationTypeId", segmentation.segmentation_type_id),
        ("upidType", segmentation.upid_type),
        ("segmentNum", segmentation.segment_num),
        ("segmentsExpected", segmentation.segments_expected),
    ] {
        at.range(name, u64::from(value), 0, 0xff)?;
    }
    // segmentation_upid_length has 8 bits.
    at.count("upid", segmentation.upid.len(), 0xff)?;
    let duration = segmentation.segmentation_duration_90khz;
    at.range("segmentationDuration90khz", duration, 0, (1 << 40) - 1)?;
    at.range("pts90khz", segmentation.pts_90khz, 0, (1 << 33) - 1)
}

fn check_ad_event(at: Path, ad: &AdEvent) -> Checked {
    at.said("kind", ad.kind, "KIND_START, KIND_COMPLETE, …")?;
    at.needed("decisionId", &ad.decision_id, CLIENT_ID_BYTES_MAX)?;
    at.text("breakId", &ad.break_id, CLIENT_ID_BYTES_MAX)?;
    at.range("slot", u64::from(ad.slot), 0, SLOTS_MAX as u64 - 1)?;
    at.text("creativeId", &ad.creative_id, CLIENT_ID_BYTES_MAX)?;
    let error_code_min = u64::from(ad.kind() == ad_event::Kind::Error);
    at.range("errorCode", u64::from(ad.error_code), error_code_min, 999)?;
    if ad.kind() == ad_event::Kind::DecisionRefused {
        at.needed("refusal", &ad.refusal, CLIENT_ID_BYTES_MAX)?;
    }
    at.text("refusal", &ad.refusal, CLIENT_ID_BYTES_MAX)?;
    at.channel("channel", ad.channel.as_ref())
}

fn check_consent(at: Path, consent: &Consent) -> Checked {
    at.needed("version", &consent.version, CLIENT_ID_BYTES_MAX)
}

fn check_custom(at: Path, custom: &Custom) -> Checked {
    at.needed("name", &custom.name, CLIENT_ID_BYTES_MAX)?;
    let dotted = custom.name.split('.').all(|part| {
        !part.is_empty()
            && part.bytes().all(|byte| {
                matches!(byte, b'_' | b'-') || byte.is_ascii_digit() || byte.is_ascii_lowercase()
            })
    });
    if !dotted {
        return Err(wrong(at.join("name"), "parts of [a-z0-9_-] joined by dots"));
    }
    at.count("attributes", custom.attributes.len(), ATTRIBUTES_MAX)?;
    for (key, value) in &custom.attributes {
        at.needed("attributes[key]", key, ATTRIBUTE_KEY_BYTES_MAX)?;
        if value.len() > ATTRIBUTE_VALUE_BYTES_MAX {
            let field = at.join(&format!("attributes.{key}"));
            return Err(too_long(field, ATTRIBUTE_VALUE_BYTES_MAX));
        }
    }
    Ok(())
}

fn check_health(at: Path, health: &Health) -> Checked {
    for (name, counts) in [
        ("refused", &health.refused),
        ("decisionsRefused", &health.decisions_refused),
    ] {
        at.count(name, counts.len(), ATTRIBUTES_MAX)?;
        for reason in counts.keys() {
            at.needed(&format!("{name}[key]"), reason, ATTRIBUTE_KEY_BYTES_MAX)?;
        }
    }
    Ok(())
}

fn check_boot(at: Path, boot: &Boot) -> Checked {
    at.text("model", &boot.model, CLIENT_ID_BYTES_MAX)?;
    at.text("firmware", &boot.firmware, CLIENT_ID_BYTES_MAX)?;
    at.text("agentVersion", &boot.agent_version, CLIENT_ID_BYTES_MAX)?;
    at.text("sqliteVersion", &boot.sqlite_version, CLIENT_ID_BYTES_MAX)?;
    at.text("mountOptions", &boot.mount_options, MOUNT_OPTIONS_BYTES_MAX)?;
    at.count("anchors", boot.anchors.len(), ANCHORS_MAX)?;
    for (index, anchor) in boot.anchors.iter().enumerate() {
        if anchor.boot_id == 0 {
            let field = at.join(&format!("anchors[{index}].bootId"));
            return Err(wrong(field, "a number greater than 0"));
        }
    }
    Ok(())
}

fn check_ledger(at: Path, ledger: &Ledger) -> Checked {
    at.said("reason", ledger.reason, "DROP_REASON_QUEUE_FULL, …")?;
    let first = BatchId::try_from(ledger.first_batch.unwrap_or_default())
        .map_err(|error| wrong(at.join("firstBatch"), error.to_string()))?;
    if ledger.whole_epoch {
        return Ok(());
    }
    at.range(
        "lastSequence",
        ledger.last_sequence,
        first.sequence.0,
        u64::MAX,
    )?;
    at.range("firstOrdinal", ledger.first_ordinal, 1, u64::MAX)?;
    at.range("eventCount", ledger.event_count, 1, u64::MAX)
}

fn check_unclean_stop(at: Path, stop: &UncleanStop) -> Checked {
    Epoch::try_from(stop.epoch.unwrap_or_default())
        .map(drop)
        .map_err(|error| wrong(at.join("epoch"), error.to_string()))
}

/// Where in the event a check looks; empty at the event itself.
#[derive(Clone, Copy)]
struct Path(&'static str);

impl Path {
    fn join(self, name: &str) -> String {
        if self.0.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.0)
        }
    }

    /// An enum whose zero value means "not said".
    fn said(self, name: &str, value: i32, expected: &'static str) -> Checked {
        if value == 0 {
            return Err(wrong(self.join(name), expected));
        }
        Ok(())
    }

    fn text(self, name: &str, text: &str, bytes_max: usize) -> Checked {
        if text.len() > bytes_max {
            return Err(too_long(self.join(name), bytes_max));
        }
        Ok(())
    }

    fn needed(self, name: &str, text: &str, bytes_max: usize) -> Checked {
        if text.is_empty() || text.len() > bytes_max {
            let expected = format!("1 to {bytes_max} bytes of text");
            return Err(wrong(self.join(name), expected));
        }
        Ok(())
    }

    fn range(self, name: &str, value: u64, min: u64, max: u64) -> Checked {
        if (min..=max).contains(&value) {
            return Ok(());
        }
        let expected = if max == u64::MAX {
            format!("a number of at least {min}")
        } else {
            format!("a number from {min} to {max}")
        };
        Err(wrong(self.join(name), expected))
    }

    fn count(self, name: &str, count: usize, max: usize) -> Checked {
        if count > max {
            return Err(wrong(self.join(name), format!("at most {max} entries")));
        }
        Ok(())
    }

    fn channel(self, name: &str, channel: Option<&Channel>) -> Checked {
        let Some(channel) = channel else {
            return Ok(());
        };
        for (part, value) in [
            ("networkId", channel.network_id),
            ("transportStreamId", channel.transport_stream_id),
            ("serviceId", channel.service_id),
        ] {
            if value > u32::from(u16::MAX) {
                let field = self.join(&format!("{name}.{part}"));
                return Err(wrong(field, "a number from 0 to 65535"));
            }
        }
        if channel.channel_id.len() > CLIENT_ID_BYTES_MAX {
            let field = self.join(&format!("{name}.channelId"));
            return Err(too_long(field, CLIENT_ID_BYTES_MAX));
        }
        // A program_number of 0 is no service (ISO/IEC 13818-1, 2.4.4.5).
        if channel.service_id == 0 && channel.channel_id.is_empty() {
            let field = self.join(&format!("{name}.serviceId"));
            return Err(wrong(
                field,
                "a DVB service_id from 1 to 65535, or a channelId",
            ));
        }
        Ok(())
    }

    fn channel_needed(self, channel: Option<&Channel>) -> Checked {
        if channel.is_none() {
            return Err(wrong(
                self.join("channel"),
                "a channel with serviceId or channelId",
            ));
        }
        self.channel("channel", channel)
    }
}

fn wrong(field: String, expected: impl Into<Cow<'static, str>>) -> FieldError {
    FieldError {
        field,
        expected: expected.into(),
    }
}

fn too_long(field: String, bytes_max: usize) -> FieldError {
    wrong(field, format!("at most {bytes_max} bytes of text"))
}

#[cfg(test)]
mod tests;
