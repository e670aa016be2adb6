//! What is known of one box beside its batches: what is viewed and was viewed
//! before, which ads were shown, what the viewer allows.
//!
//! Each part is moved by a later event of the box only, whatever lane it comes
//! by, so the profile depends little on the order of delivery. What is not
//! said here: which aggregator may see what of it (decide's business), and how
//! long each channel was viewed (spans, the reports' business).

use alloc::{boxed::Box, sync::Arc};

use returnpath_shared::wire;

use crate::{arrivals::Arrivals, limit::VIEWED_BEFORE_MAX, order::Moment};

mod channel;
mod impressions;
mod restore;
mod viewing;
mod write;

pub(crate) use channel::Channel;
pub(crate) use impressions::{Impression, Impressions};
pub(crate) use restore::moment;
pub(crate) use viewing::{Screen, Shown};

use viewing::Viewing;

/// Where and when an event happened on its box.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) moment: Moment,
    pub(crate) boot_id: u64,
    pub(crate) uptime_ms: u64,
    /// Best estimate.
    pub(crate) unix_ms: i64,
}

/// What is known of one box.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Profile {
    viewing: Option<Viewing>,
    /// The latest first.
    viewed_before: [Option<ViewedChannel>; VIEWED_BEFORE_MAX],
    impressions: Impressions,
    consent: Option<Arc<wire::Consent>>,
    facts: Option<Arc<Facts>>,
    /// Enum numbers, perhaps of a later version; 0 while unknown.
    power: i32,
    display: i32,
    last_activity_unix_ms: i64,
    last_seen_unix_ms: i64,
    moved: Moved,
}

/// Which event moved each part last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Moved {
    viewing: Option<Moment>,
    consent: Option<Moment>,
    boot: Option<Moment>,
    power: Option<Moment>,
    display: Option<Moment>,
    activity: Option<Moment>,
}

/// A channel that was left after at least the dwell floor.
#[derive(Clone, PartialEq, Eq, Debug)]
struct ViewedChannel {
    channel: Channel,
    left_unix_ms: i64,
    dwell_ms: u64,
}

/// What the box said of itself when its agent started. Shared by the profile
/// and its committed copy.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Facts {
    model: Box<str>,
    firmware: Box<str>,
    agent_version: Box<str>,
    boot_id: u64,
}

/// Knows nothing: stands for the profile that a box does not have yet.
pub(crate) static UNKNOWN: Profile = Profile {
    viewing: None,
    viewed_before: [const { None }; VIEWED_BEFORE_MAX],
    impressions: Impressions::NONE,
    consent: None,
    facts: None,
    power: 0,
    display: 0,
    last_activity_unix_ms: 0,
    last_seen_unix_ms: 0,
    moved: Moved {
        viewing: None,
        consent: None,
        boot: None,
        power: None,
        display: None,
        activity: None,
    },
};

/// Whether an event is later than the one that moved something last. The
/// incarnation of `moment` is known, for its batch has been taken; one that is
/// forgotten was older.
pub(crate) fn is_later(moment: Moment, than: Option<Moment>, arrivals: &Arrivals) -> bool {
    than.is_none_or(|than| {
        moment
            .compare(than, arrivals)
            .is_none_or(core::cmp::Ordering::is_gt)
    })
}

impl Profile {
    /// When the bridge last took something from the box, as far as is written.
    pub(crate) fn last_seen_unix_ms(&self) -> i64 {
        self.last_seen_unix_ms
    }

    pub(crate) fn see(&mut self, received_unix_ms: i64) {
        self.last_seen_unix_ms = self.last_seen_unix_ms.max(received_unix_ms);
    }

    /// Model and firmware, as the box said last; empty where it has not.
    pub(crate) fn model_and_firmware(&self) -> (&str, &str) {
        self.facts
            .as_ref()
            .map_or(("", ""), |facts| (&facts.model, &facts.firmware))
    }

    pub(crate) fn moved_by_power(&self) -> Option<Moment> {
        self.moved.power
    }

    pub(crate) fn set_power(&mut self, state: i32, place: &Place) {
        self.power = state;
        self.moved.power = Some(place.moment);
    }

    pub(crate) fn moved_by_display(&self) -> Option<Moment> {
        self.moved.display
    }

    pub(crate) fn set_display(&mut self, state: i32, place: &Place) {
        self.display = state;
        self.moved.display = Some(place.moment);
    }

    pub(crate) fn moved_by_consent(&self) -> Option<Moment> {
        self.moved.consent
    }

    pub(crate) fn set_consent(&mut self, consent: wire::Consent, place: &Place) {
        self.consent = Some(Arc::new(consent));
        self.moved.consent = Some(place.moment);
    }

    pub(crate) fn moved_by_activity(&self) -> Option<Moment> {
        self.moved.activity
    }

    /// When someone last used the remote control, as far as is written.
    pub(crate) fn last_activity_unix_ms(&self) -> i64 {
        self.last_activity_unix_ms
    }

    pub(crate) fn set_activity(&mut self, place: &Place) {
        self.last_activity_unix_ms = place.unix_ms;
        self.moved.activity = Some(place.moment);
    }

    pub(crate) fn moved_by_boot(&self) -> Option<Moment> {
        self.moved.boot
    }

    /// The box says of itself what it is, in the boot of `place`.
    pub(crate) fn set_boot(&mut self, boot: &wire::Boot, place: &Place) {
        self.facts = Some(Arc::new(Facts {
            model: boot.model.as_str().into(),
            firmware: boot.firmware.as_str().into(),
            agent_version: boot.agent_version.as_str().into(),
            boot_id: place.boot_id,
        }));
        self.moved.boot = Some(place.moment);
    }

    /// The impressions with one more; `None` when that is no news.
    pub(crate) fn impressions_with(&self, impression: &Impression<'_>) -> Option<Impressions> {
        self.impressions.with(impression)
    }

    pub(crate) fn set_impressions(&mut self, impressions: Impressions) {
        self.impressions = impressions;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_small() {
        // What each of 300,000 boxes has, beside impressions and texts.
        assert!(size_of::<Profile>() <= 384, "{}", size_of::<Profile>());
    }
}
