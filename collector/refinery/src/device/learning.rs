//! What a box's events tell of it, for its profile.

use alloc::string::String;

use returnpath_shared::wire::{self, ad_event, event, power};

use super::Device;
use crate::{
    limit::{ACTIVITY_REFRESH_MS, SEEN_REFRESH_MS},
    order::Moment,
    profile::{Channel, Impression, Place, Profile, Screen, Shown, is_later},
};

impl Device {
    /// The bridge took something from the box.
    pub(crate) fn see(&mut self, received_unix_ms: i64) {
        let known_unix_ms = self.profile().last_seen_unix_ms();
        if received_unix_ms.saturating_sub(known_unix_ms) >= SEEN_REFRESH_MS {
            self.change_profile(received_unix_ms);
        }
    }

    /// Takes what an event tells that was refined at `place`.
    pub(crate) fn learn(&mut self, event: wire::Event, place: &Place, received_unix_ms: i64) {
        match event.kind {
            Some(event::Kind::Tune(tune)) => {
                let screen = Screen::Shows(Shown {
                    channel: tune.channel.and_then(Channel::read),
                    source: tune.source,
                    content_id: Some(tune.content_id)
                        .filter(|id| !id.is_empty())
                        .map(String::into_boxed_str),
                    tells_content: true,
                });
                self.view(screen, place, received_unix_ms);
            }
            Some(event::Kind::ViewingHeartbeat(beat)) => {
                let screen = Screen::Shows(Shown {
                    channel: beat.channel.and_then(Channel::read),
                    source: beat.source,
                    content_id: None,
                    tells_content: false,
                });
                self.view(screen, place, received_unix_ms);
            }
            Some(event::Kind::Power(power)) => self.power(&power, place, received_unix_ms),
            Some(event::Kind::Display(display)) => {
                if self.is_later(place, Profile::moved_by_display) {
                    self.change_profile(received_unix_ms)
                        .set_display(display.state, place);
                }
            }
            Some(event::Kind::UserActivity(_)) => {
                let known_unix_ms = self.profile().last_activity_unix_ms();
                if place.unix_ms.abs_diff(known_unix_ms) >= ACTIVITY_REFRESH_MS
                    && self.is_later(place, Profile::moved_by_activity)
                {
                    self.change_profile(received_unix_ms).set_activity(place);
                }
            }
            Some(event::Kind::AdEvent(ad)) if ad.kind() == ad_event::Kind::Start => {
                self.shown(ad, place, received_unix_ms);
            }
            Some(event::Kind::Consent(consent)) => {
                if self.is_later(place, Profile::moved_by_consent) {
                    self.change_profile(received_unix_ms)
                        .set_consent(consent, place);
                }
            }
            Some(event::Kind::Boot(boot)) => self.boot(&boot, place, received_unix_ms),
            // Says nothing that is kept of a box.
            Some(
                event::Kind::TrickPlay(_)
                | event::Kind::AdOpportunity(_)
                | event::Kind::AdEvent(_)
                | event::Kind::Custom(_)
                | event::Kind::Health(_)
                | event::Kind::Ledger(_)
                | event::Kind::UncleanStop(_),
            )
            | None => {}
        }
    }

    fn view(&mut self, screen: Screen, place: &Place, received_unix_ms: i64) {
        let arrivals = self.arrivals.get();
        let profile = self.profile();
        let told = *self.viewing_told.get();
        if !is_later(place.moment, told, arrivals)
            || !is_later(place.moment, profile.moved_by_viewing(), arrivals)
        {
            return;
        }
        let screen = profile.screen_at(screen, place, arrivals);
        if profile.is_moved_by(&screen, place) {
            self.change_profile(received_unix_ms).view(screen, place);
        }
        *self.viewing_told.change() = Some(place.moment);
    }

    fn power(&mut self, power: &wire::Power, place: &Place, received_unix_ms: i64) {
        if self.is_later(place, Profile::moved_by_power) {
            self.change_profile(received_unix_ms)
                .set_power(power.state, place);
        }
        match power.state() {
            power::State::Standby | power::State::DeepStandby | power::State::Off => {
                self.view(Screen::Dark, place, received_unix_ms);
            }
            power::State::On | power::State::Unspecified => {}
        }
    }

    fn boot(&mut self, boot: &wire::Boot, place: &Place, received_unix_ms: i64) {
        if !self.is_later(place, Profile::moved_by_boot) {
            return;
        }
        let told = *self.viewing_told.get();
        let ends_viewing = is_later(place.moment, told, self.arrivals.get());
        let profile = self.change_profile(received_unix_ms);
        profile.set_boot(boot, place);
        if ends_viewing {
            profile.forget_viewing_before(place.boot_id);
        }
    }

    fn shown(&mut self, ad: wire::AdEvent, place: &Place, received_unix_ms: i64) {
        let impression = Impression {
            decision_id: &ad.decision_id,
            creative_id: &ad.creative_id,
            shown_unix_ms: place.unix_ms,
            channel: ad.channel.and_then(Channel::read),
            moment: place.moment,
        };
        if let Some(impressions) = self.profile().impressions_with(&impression) {
            self.change_profile(received_unix_ms)
                .set_impressions(impressions);
        }
    }

    /// Whether an event is later than the one that moved a part of the profile
    /// last.
    fn is_later(&self, place: &Place, moved_by: fn(&Profile) -> Option<Moment>) -> bool {
        is_later(place.moment, moved_by(self.profile()), self.arrivals.get())
    }

    /// The profile, to be changed by something that the bridge took then.
    fn change_profile(&mut self, received_unix_ms: i64) -> &mut Profile {
        let profile = self.profile.change().get_or_insert_default();
        profile.see(received_unix_ms);
        profile
    }
}
