//! Reads an opportunity: its slots, when each of them expires, and what of the
//! box may be told. Anything that is not as refine writes it is refused.

use alloc::{string::String, vec::Vec};

use bytes::Bytes;
use prost::Message as _;
use returnpath_shared::{
    DeviceId, SLOTS_MAX,
    wire::{self, AdOpportunity, Opportunity, Privacy, Refined, consent, event},
};

use crate::{
    input::InputRecord,
    limit::{AHEAD_MS_MAX, OPPORTUNITY_BYTES_MAX},
    settings::{Settings, UnknownConsent},
    slot::decision_id,
};

/// An opportunity that can be decided.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) device: String,
    pub(crate) opportunity: Opportunity,
    /// As consumed: what this version does not know goes into the record too.
    pub(crate) bytes: Bytes,
    pub(crate) number: u64,
    pub(crate) break_id: String,
    pub(crate) boot_id: u64,
    pub(crate) received_unix_ms: i64,
    pub(crate) privacy: Privacy,
    pub(crate) slots: Vec<Slot>,
    /// It waited out an outage, or belongs to a boot that is over.
    pub(crate) is_stale: bool,
}

/// One slot of an opportunity.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) decision_id: String,
    pub(crate) slot: u32,
    pub(crate) duration_ms: u32,
    /// In the uptime of the box.
    pub(crate) expiry_uptime_ms: u64,
    /// The same by the collector's clock, best estimate.
    pub(crate) expiry_unix_ms: i64,
}

/// The record is no opportunity of the box that its key names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Undecodable;

impl Read {
    pub(crate) fn of(record: &InputRecord<'_>, settings: &Settings) -> Result<Self, Undecodable> {
        if record.value.len() > OPPORTUNITY_BYTES_MAX {
            return Err(Undecodable);
        }
        let device = device(record.key).ok_or(Undecodable)?;
        let opportunity = Opportunity::decode(record.value).map_err(|_| Undecodable)?;
        let refined = refined(&opportunity, device).ok_or(Undecodable)?;
        let event = refined.event.as_ref().ok_or(Undecodable)?;
        let Some(event::Kind::AdOpportunity(asked)) = &event.kind else {
            return Err(Undecodable);
        };
        let durations = durations(asked).ok_or(Undecodable)?;
        // An event is not sent before it happens.
        let sent_uptime_ms = opportunity.sent_uptime_ms.max(event.uptime_ms);
        let mut ends_uptime_ms = asked
            .start_uptime_ms
            .max(event.uptime_ms)
            .saturating_add(settings.late_ms.into());
        let latest_uptime_ms = sent_uptime_ms.saturating_add(AHEAD_MS_MAX);
        let mut slots = Vec::with_capacity(durations.len());
        for (slot, duration_ms) in (0..).zip(durations) {
            let expiry_uptime_ms = ends_uptime_ms.min(latest_uptime_ms);
            let left_ms = i64::try_from(i128::from(expiry_uptime_ms) - i128::from(sent_uptime_ms));
            slots.push(Slot {
                decision_id: decision_id(device, refined.boot_id, &asked.break_id, slot),
                slot,
                duration_ms,
                expiry_uptime_ms,
                expiry_unix_ms: refined
                    .received_unix_ms
                    .saturating_add(left_ms.unwrap_or(i64::MAX)),
            });
            ends_uptime_ms = ends_uptime_ms.saturating_add(duration_ms.into());
        }
        Ok(Self {
            device: device.into(),
            number: u64::try_from(record.offset).map_err(|_| Undecodable)?,
            break_id: asked.break_id.clone(),
            boot_id: refined.boot_id,
            received_unix_ms: refined.received_unix_ms,
            privacy: privacy(&opportunity, settings.unknown_consent),
            is_stale: refined.lane() != wire::Lane::Live
                || refined.boot_id != opportunity.sent_boot_id,
            slots,
            opportunity,
            bytes: Bytes::copy_from_slice(record.value),
        })
    }

    /// The event, as refined.
    pub(crate) fn refined(&self) -> Option<&Refined> {
        self.opportunity.refined.as_ref()
    }
}

/// The device that a key names.
pub(crate) fn device(key: &[u8]) -> Option<&str> {
    DeviceId::is_valid(key)
        .then(|| core::str::from_utf8(key).ok())
        .flatten()
}

fn refined<'a>(opportunity: &'a Opportunity, device: &str) -> Option<&'a Refined> {
    let refined = opportunity.refined.as_ref();
    refined.filter(|refined| refined.device_id == device)
}

fn durations(asked: &AdOpportunity) -> Option<Vec<u32>> {
    match asked.slot_durations_ms.len() {
        0 => Some([asked.duration_ms].into()),
        1..=SLOTS_MAX => Some(asked.slot_durations_ms.clone()),
        _ => None,
    }
}

fn privacy(opportunity: &Opportunity, unknown: UnknownConsent) -> Privacy {
    let consent = opportunity
        .profile
        .as_ref()
        .and_then(|profile| profile.consent.as_ref());
    let choice = consent.map_or(consent::Choice::Unspecified, |consent| {
        consent.personalised_ads()
    });
    match (choice, unknown) {
        (consent::Choice::OptedIn, _) | (consent::Choice::Unspecified, UnknownConsent::OptedIn) => {
            Privacy::Personalised
        }
        (consent::Choice::OptedOut, _)
        | (consent::Choice::Unspecified, UnknownConsent::OptedOut) => Privacy::Contextual,
    }
}
