//! Reads a profile back from `device.proto`.

use alloc::{string::String, sync::Arc, vec::Vec};

use returnpath_shared::{Epoch, Ordinal, wire};

use super::{
    Channel, Facts, Impression, Impressions, Moved, Profile, ViewedChannel, viewing::Viewing,
};
use crate::{
    limit::{IMPRESSIONS_MAX, VIEWED_BEFORE_MAX},
    order::Moment,
    state::RestoreError,
};

impl Profile {
    /// What [`put`](Self::put) wrote. A version with higher bounds may have
    /// written more; the latest are kept.
    pub(crate) fn from_wire(profile: wire::DeviceProfile) -> Result<Self, RestoreError> {
        let mut viewed_before = [const { None }; VIEWED_BEFORE_MAX];
        for (to, viewed) in viewed_before.iter_mut().zip(profile.viewed_before) {
            let channel = viewed
                .channel
                .and_then(Channel::read)
                .ok_or(rule("viewed_before.channel"))?;
            *to = Some(ViewedChannel {
                channel,
                left_unix_ms: viewed.left_unix_ms,
                dwell_ms: viewed.dwell_ms,
            });
        }
        let mut this = Self {
            viewing: profile.viewing.map(Viewing::from_wire).transpose()?,
            viewed_before,
            consent: profile.consent.map(Arc::new),
            power: profile.power,
            display: profile.display,
            last_activity_unix_ms: profile.last_activity_unix_ms,
            last_seen_unix_ms: profile.last_seen_unix_ms,
            moved: Moved {
                viewing: moment(profile.viewing_moved, "viewing_moved")?,
                consent: moment(profile.consent_moved, "consent_moved")?,
                boot: moment(profile.boot_moved, "boot_moved")?,
                power: moment(profile.power_moved, "power_moved")?,
                display: moment(profile.display_moved, "display_moved")?,
                activity: moment(profile.activity_moved, "activity_moved")?,
            },
            ..Self::default()
        };
        if this.moved.boot.is_some() {
            this.facts = Some(Arc::new(Facts {
                model: profile.model.into_boxed_str(),
                firmware: profile.firmware.into_boxed_str(),
                agent_version: profile.agent_version.into_boxed_str(),
                boot_id: profile.boot_id,
            }));
        }
        let recent = profile.recent_impressions.iter().take(IMPRESSIONS_MAX);
        let recent: Result<Vec<_>, _> = recent.map(impression).collect();
        this.impressions = Impressions::restored(&recent?);
        Ok(this)
    }
}

fn impression(kept: &wire::Impression) -> Result<Impression<'_>, RestoreError> {
    let moment = moment(kept.moment, "recent_impressions.moment")?
        .ok_or(rule("recent_impressions.moment"))?;
    Ok(Impression {
        decision_id: &kept.decision_id,
        creative_id: &kept.creative_id,
        shown_unix_ms: kept.shown_unix_ms,
        channel: channel(kept.channel.clone(), "recent_impressions.channel")?,
        moment,
    })
}

impl Viewing {
    fn from_wire(viewing: wire::Viewing) -> Result<Self, RestoreError> {
        Ok(Self {
            channel: channel(viewing.channel, "viewing.channel")?,
            source: viewing.source,
            content_id: Some(viewing.content_id)
                .filter(|id| !id.is_empty())
                .map(String::into_boxed_str),
            boot_id: viewing.since_boot_id,
            uptime_ms: viewing.since_uptime_ms,
            unix_ms: viewing.since_unix_ms,
        })
    }
}

/// A moment as `device.proto` keeps it.
pub(crate) fn moment(
    moment: Option<wire::EventMoment>,
    field: &'static str,
) -> Result<Option<Moment>, RestoreError> {
    let Some(moment) = moment else {
        return Ok(None);
    };
    let epoch = moment
        .epoch
        .and_then(|epoch| Epoch::try_from(epoch).ok())
        .ok_or(rule(field))?;
    Ok(Some(Moment {
        epoch,
        ordinal: Ordinal(moment.ordinal),
    }))
}

fn channel(
    channel: Option<wire::Channel>,
    field: &'static str,
) -> Result<Option<Channel>, RestoreError> {
    channel
        .map(|channel| Channel::read(channel).ok_or(rule(field)))
        .transpose()
}

fn rule(field: &'static str) -> RestoreError {
    RestoreError::Rule { field }
}
