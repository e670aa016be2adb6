//! One household in front of one box: pure, seedable, on its own clock.
//!
//! Owns what the household does and what its middleware and player would
//! report: power, zapping, dwell, pausing, ad breaks and the proof of what was
//! shown. Knows nothing of agents, batches or links. How often and how long is
//! in `habits`, what is on the screen during a break in `ads`.
//!
//! Uptimes in its events are [`Moment`]s: whoever has a box translates them.

mod ads;
mod agenda;
mod habits;
mod reports;
mod search;

use std::sync::Arc;

use returnpath_shared::wire::{
    Channel, Decision, Event, UserActivity, display, event, power, trick_play, tune,
};

pub use self::search::Sight;
use self::{ads::Ads, agenda::Agenda};
use super::{
    breaks::{self, AdBreak},
    chance::Chance,
    lineup::Lineup,
    moment::{MINUTE_MS, Moment, SECOND_MS},
};

/// The box says that it is still showing what it shows.
const HEARTBEAT_MS: u64 = MINUTE_MS;

/// SCTE-35 announces a break at least this long before it (SCTE 67, section
/// 4.3 recommends four seconds).
const NOTICE_MS: u64 = 4 * SECOND_MS;

/// Something that happened on the box, and when.
#[derive(Clone, PartialEq, Debug)]
pub struct Happening {
    /// When it was due.
    pub at: Moment,
    /// What the middleware reports.
    pub event: Event,
}

/// The household.
#[derive(Debug)]
pub struct Viewer {
    lineup: Arc<Lineup>,
    chance: Chance,
    agenda: Agenda<Plan>,
    watching: Option<Watching>,
    last_channel: Option<Channel>,
    spans: u64,
    ads: Ads,
    /// How long before a break the box is told of it.
    notice_ms: u64,
    happened: Vec<Happening>,
}

/// A stretch of one channel.
#[derive(Clone, Debug)]
struct Watching {
    service: usize,
    /// Plans of earlier spans are void.
    span: u64,
    /// Channels that are still to be surfed over.
    zaps_left: u64,
    paused: bool,
}

#[derive(Clone, Debug)]
enum Plan {
    Consent,
    SwitchOn,
    SwitchOff,
    /// The rest belong to a span.
    During(u64, SpanPlan),
}

#[derive(Clone, Debug)]
enum SpanPlan {
    Leave,
    Heartbeat,
    Pause,
    GoOn,
    Announce(AdBreak),
    Slot(ads::Slot),
    Ad(ads::Step),
}

impl Viewer {
    /// A household that is on at `now` with the probability of that hour. Its
    /// player makes up the ads that it shows.
    #[must_use]
    pub fn new(lineup: Arc<Lineup>, seed: u64, now: Moment) -> Self {
        let mut chance = Chance::new(seed);
        let is_on = habits::is_on(&mut chance, now);
        let mut viewer = Self {
            lineup,
            chance,
            agenda: Agenda::default(),
            watching: None,
            last_channel: None,
            spans: 0,
            ads: Ads::made_up(seed),
            notice_ms: NOTICE_MS,
            happened: Vec::new(),
        };
        viewer.plan(now, Plan::Consent);
        let first = if is_on {
            now
        } else {
            habits::next_switch_on(&mut viewer.chance, now)
        };
        viewer.plan(first, Plan::SwitchOn);
        viewer
    }

    /// The household with a player that shows what its box was given to show
    /// ([`Self::decided`]), and nothing else. Deciding takes real time, however
    /// fast the household lives: breaks are announced so many times earlier.
    #[must_use]
    pub fn following_decisions(mut self, speed: u32) -> Self {
        self.ads.follow_decisions();
        self.notice_ms = NOTICE_MS * u64::from(speed.max(1));
        self
    }

    /// The box was given a decision. Shown when its slot is reached, if that is
    /// still to come and the viewer is still there.
    pub fn decided(&mut self, decision: Decision) {
        self.ads.decided(decision);
    }

    /// When to look next: nothing happens before. Nothing may happen then
    /// either, because what was planned for a channel is void after a zap.
    #[must_use]
    pub fn next_at(&self) -> Moment {
        self.agenda.next_at().unwrap_or(Moment(u64::MAX))
    }

    /// What has happened up to `now`, in order.
    pub fn advance(&mut self, now: Moment) -> Vec<Happening> {
        while let Some((at, plan)) = self.agenda.take_due(now) {
            self.carry_out(plan, at);
        }
        std::mem::take(&mut self.happened)
    }

    fn plan(&mut self, at: Moment, plan: Plan) {
        self.agenda.plan(at, plan);
    }

    fn report(&mut self, at: Moment, kind: event::Kind) {
        self.happened.push(Happening {
            at,
            event: Event {
                kind: Some(kind),
                ..Event::default()
            },
        });
    }

    fn carry_out(&mut self, plan: Plan, at: Moment) {
        match plan {
            Plan::Consent => self.consent(at),
            Plan::SwitchOn => self.switch_on(at),
            Plan::SwitchOff => self.switch_off(at),
            Plan::During(span, plan) => {
                // A span that has ended takes its plans with it.
                if let Some(watching) = self.watching.clone()
                    && watching.span == span
                {
                    self.during(watching, plan, at);
                }
            }
        }
    }

    fn during(&mut self, watching: Watching, plan: SpanPlan, at: Moment) {
        match plan {
            SpanPlan::Leave => self.leave(&watching, at),
            SpanPlan::Heartbeat => {
                if !watching.paused {
                    self.report(at, reports::heartbeat(self.channel(watching.service)));
                }
                self.plan_during(&watching, at.plus_ms(HEARTBEAT_MS), SpanPlan::Heartbeat);
            }
            SpanPlan::Pause => {
                self.set_paused(true);
                self.trick_play(&watching, trick_play::Action::Pause, 0, at);
                let pause_ms = habits::pause_ms(&mut self.chance);
                self.plan_during(&watching, at.plus_ms(pause_ms), SpanPlan::GoOn);
            }
            SpanPlan::GoOn => {
                self.set_paused(false);
                self.trick_play(&watching, trick_play::Action::Live, 100, at);
            }
            SpanPlan::Announce(ad_break) => self.announce(&watching, ad_break, at),
            SpanPlan::Slot(slot) => {
                for (at, step) in self.ads.begin(slot, at) {
                    self.plan_during(&watching, at, SpanPlan::Ad(step));
                }
            }
            SpanPlan::Ad(step) => self.show(&watching, step, at),
        }
    }

    fn consent(&mut self, at: Moment) {
        let measurement = self.chance.happens(habits::ALLOWS_MEASUREMENT);
        let personalised = measurement && self.chance.happens(habits::ALLOWS_PERSONALISED);
        self.report(at, reports::consent(measurement, personalised));
        if let Some(consent) = self.happened.last_mut() {
            // Told again, it is recognised.
            consent.event.client_id = "consent/1".into();
        }
    }

    fn switch_on(&mut self, at: Moment) {
        self.power(at, power::State::On, display::State::Active);
        if self.chance.happens(habits::OPENS_GUIDE) {
            self.report(at, reports::guide_opened());
        }
        let sitting_ms = habits::sitting_ms(&mut self.chance);
        self.plan(at.plus_ms(sitting_ms), Plan::SwitchOff);
        let service = self.lineup.pick(&mut self.chance);
        self.tune(service, tune::Cause::PowerOn, 0, at);
    }

    fn switch_off(&mut self, at: Moment) {
        self.ads.cut_off();
        self.watching = None;
        self.power(at, power::State::Standby, display::State::Inactive);
        let next = habits::next_switch_on(&mut self.chance, at);
        self.plan(next, Plan::SwitchOn);
    }

    fn power(&mut self, at: Moment, power: power::State, display: display::State) {
        self.report(at, reports::power(power));
        self.report(at, reports::display(display));
    }

    /// Begins a span.
    fn tune(&mut self, service: usize, cause: tune::Cause, zaps_left: u64, at: Moment) {
        self.spans += 1;
        let watching = Watching {
            service,
            span: self.spans,
            zaps_left,
            paused: false,
        };
        let tune_duration_ms = self.chance.below(1_400) + 600;
        let tuned = reports::tune(self.channel(service), cause, tune_duration_ms);
        self.report(at, tuned);
        let stay_ms = if zaps_left > 0 {
            habits::surf_ms(&mut self.chance)
        } else {
            habits::dwell_ms(&mut self.chance)
        };
        self.plan_during(&watching, at.plus_ms(stay_ms), SpanPlan::Leave);
        self.plan_during(&watching, at.plus_ms(HEARTBEAT_MS), SpanPlan::Heartbeat);
        if zaps_left == 0 && self.chance.happens(habits::PAUSES) {
            let pause_at = at.plus_ms(self.chance.below(stay_ms));
            self.plan_during(&watching, pause_at, SpanPlan::Pause);
        }
        // A break that has begun, or is about to, is not replaced any more.
        self.plan_break(&watching, at.plus_ms(self.notice_ms));
        self.watching = Some(watching);
    }

    /// Ends a span for another channel.
    fn leave(&mut self, watching: &Watching, at: Moment) {
        if let Some(skip) = self.ads.skip(&self.channel(watching.service), at) {
            self.report(at, skip);
        }
        self.last_channel = Some(self.channel(watching.service));
        let inputs = u32::try_from(1 + self.chance.below(3)).unwrap_or(1);
        self.report(at, event::Kind::UserActivity(UserActivity { inputs }));
        let (service, zaps_left) = if watching.zaps_left > 0 {
            (self.lineup.up(watching.service), watching.zaps_left - 1)
        } else if self.chance.happens(habits::SURFS) {
            let zaps = habits::surf_zaps(&mut self.chance);
            (self.lineup.up(watching.service), zaps)
        } else {
            (self.lineup.pick(&mut self.chance), 0)
        };
        self.tune(service, tune::Cause::User, zaps_left, at);
    }

    fn plan_during(&mut self, watching: &Watching, at: Moment, plan: SpanPlan) {
        self.plan(at, Plan::During(watching.span, plan));
    }

    fn plan_break(&mut self, watching: &Watching, after: Moment) {
        if let Some(ad_break) = breaks::next(self.lineup.service(watching.service), after) {
            let at = Moment(ad_break.start.0.saturating_sub(self.notice_ms));
            self.plan_during(watching, at, SpanPlan::Announce(ad_break));
        }
    }

    /// A break is about to begin on the channel that is being watched.
    fn announce(&mut self, watching: &Watching, ad_break: AdBreak, at: Moment) {
        self.plan_break(watching, ad_break.start);
        if watching.paused {
            return;
        }
        let break_id = format!("{}-{}", watching.span, ad_break.number);
        let (channel, last_channel) = (self.channel(watching.service), self.last_channel.clone());
        let asked = reports::opportunity(&break_id, &ad_break, channel, last_channel);
        self.report(at, asked);
        for (at, slot) in Ads::slots(&break_id, &ad_break) {
            self.plan_during(watching, at, SpanPlan::Slot(slot));
        }
        if self.chance.happens(habits::LEAVES_AT_BREAK) {
            let leave = ad_break
                .start
                .plus_ms(habits::leaves_after_ms(&mut self.chance));
            self.plan_during(watching, leave, SpanPlan::Leave);
        }
    }

    /// The player reaches a step of an ad, unless the picture stands.
    fn show(&mut self, watching: &Watching, step: ads::Step, at: Moment) {
        if watching.paused {
            self.ads.cut_off();
        } else if let Some(proof) = self.ads.take(step, &self.channel(watching.service), at) {
            self.report(at, proof);
        }
    }

    fn set_paused(&mut self, paused: bool) {
        if let Some(watching) = &mut self.watching {
            watching.paused = paused;
        }
    }

    fn trick_play(
        &mut self,
        watching: &Watching,
        action: trick_play::Action,
        speed_percent: i32,
        at: Moment,
    ) {
        let channel = self.channel(watching.service);
        self.report(at, reports::trick_play(action, speed_percent, channel));
    }

    fn channel(&self, service: usize) -> Channel {
        self.lineup.service(service).channel()
    }
}

#[cfg(test)]
mod tests;
