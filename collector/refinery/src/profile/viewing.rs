//! What is on the screen, and what counts as having been viewed before.
//!
//! Time is the box's uptime within one boot: wall clocks step. A channel that
//! was on the screen when a box lost its power has no end that anyone knows,
//! and does not count as viewed.

use alloc::boxed::Box;

use super::{Channel, Place, Profile, ViewedChannel, is_later};
use crate::{arrivals::Arrivals, limit::DWELL_FLOOR_MS, order::Moment};

/// What is viewed, and since when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Viewing {
    pub(super) channel: Option<Channel>,
    pub(super) source: i32,
    pub(super) content_id: Option<Box<str>>,
    pub(super) boot_id: u64,
    pub(super) uptime_ms: u64,
    pub(super) unix_ms: i64,
}

/// What an event says is on the screen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Shown {
    pub(crate) channel: Option<Channel>,
    pub(crate) source: i32,
    pub(crate) content_id: Option<Box<str>>,
    /// Whether the event says what content is shown: a heartbeat does not.
    pub(crate) tells_content: bool,
}

/// What an event says of the screen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Screen {
    Shows(Shown),
    /// The box shows nothing: standby, or off.
    Dark,
}

impl Viewing {
    fn begins(shown: Shown, place: &Place) -> Self {
        Self {
            channel: shown.channel,
            source: shown.source,
            content_id: shown.content_id,
            boot_id: place.boot_id,
            uptime_ms: place.uptime_ms,
            unix_ms: place.unix_ms,
        }
    }

    /// Whether what is shown in `boot_id` is what has been viewed all along:
    /// the same channel, or without one the same content.
    fn goes_on(&self, shown: &Shown, boot_id: u64) -> bool {
        let same = match (&self.channel, &shown.channel) {
            (Some(channel), Some(other)) => channel.is(other),
            (None, None) => self.source == shown.source && self.has_content(shown),
            (Some(_), None) | (None, Some(_)) => false,
        };
        same && self.boot_id == boot_id
    }

    /// Whether what is shown says nothing new.
    fn says(&self, shown: &Shown, boot_id: u64) -> bool {
        self.goes_on(shown, boot_id) && self.source == shown.source && self.has_content(shown)
    }

    fn has_content(&self, shown: &Shown) -> bool {
        !shown.tells_content || self.content_id == shown.content_id
    }
}

impl Profile {
    /// What an event says of the screen, as far as a later boot leaves it
    /// true.
    pub(crate) fn screen_at(&self, screen: Screen, place: &Place, arrivals: &Arrivals) -> Screen {
        let rebooted = self
            .facts
            .as_ref()
            .is_some_and(|facts| facts.boot_id != place.boot_id);
        if rebooted && !is_later(place.moment, self.moved.boot, arrivals) {
            return Screen::Dark;
        }
        screen
    }

    /// Whether an event that is the latest about the screen moves anything.
    pub(crate) fn is_moved_by(&self, screen: &Screen, place: &Place) -> bool {
        match (&self.viewing, screen) {
            (None, Screen::Dark) => false,
            (Some(viewing), Screen::Shows(shown)) => !viewing.says(shown, place.boot_id),
            (None, Screen::Shows(_)) | (Some(_), Screen::Dark) => true,
        }
    }

    /// Takes what the latest event about the screen says.
    pub(crate) fn view(&mut self, screen: Screen, place: &Place) {
        self.moved.viewing = Some(place.moment);
        match (&mut self.viewing, screen) {
            (Some(viewing), Screen::Shows(shown)) if viewing.goes_on(&shown, place.boot_id) => {
                viewing.source = shown.source;
                if shown.tells_content {
                    viewing.content_id = shown.content_id;
                }
            }
            (_, Screen::Shows(shown)) => {
                self.leave(place);
                self.viewing = Some(Viewing::begins(shown, place));
            }
            (_, Screen::Dark) => self.leave(place),
        }
    }

    /// What was viewed in another boot than this is not on the screen any
    /// more.
    pub(crate) fn forget_viewing_before(&mut self, boot_id: u64) {
        self.viewing.take_if(|viewing| viewing.boot_id != boot_id);
    }

    pub(crate) fn moved_by_viewing(&self) -> Option<Moment> {
        self.moved.viewing
    }

    /// Ends what is viewed; it counts when it was viewed for long enough.
    fn leave(&mut self, place: &Place) {
        let Some(viewing) = self.viewing.take() else {
            return;
        };
        let dwell_ms = place.uptime_ms.saturating_sub(viewing.uptime_ms);
        if viewing.boot_id != place.boot_id || dwell_ms < DWELL_FLOOR_MS {
            return;
        }
        let Some(channel) = viewing.channel else {
            return;
        };
        let [latest, before] = &mut self.viewed_before;
        if latest
            .as_ref()
            .is_some_and(|latest| !latest.channel.is(&channel))
        {
            *before = latest.take();
        }
        *latest = Some(ViewedChannel {
            channel,
            left_unix_ms: place.unix_ms,
            dwell_ms,
        });
    }
}
