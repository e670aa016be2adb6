//! One household in front of one box: pure, seedable, on its own clock.
//!
//! Owns what the household does and what its middleware and player would
//! report: power, zapping, dwell, pausing, ad breaks and the proof of what was
//! shown. Knows nothing of agents, batches or links. The figures below give
//! viewing its shape (evening peak, long-tailed dwell, surfing, breaks that
//! people zap away from); they are not fitted to a measurement.
//!
//! Uptimes in its events are [`Moment`]s: whoever has a box translates them.

mod ads;

use std::{collections::BTreeMap, sync::Arc};

use returnpath_shared::wire::{
    AdOpportunity, Channel, Consent, Custom, Decision, Display, Event, Power, Segmentation, Source,
    TrickPlay, Tune, UserActivity, ViewingHeartbeat, consent, display, event, power, trick_play,
    tune,
};

use self::ads::Ads;
use super::{
    breaks::{self, AdBreak},
    chance::Chance,
    lineup::Lineup,
    moment::{HOUR_MS, MINUTE_MS, Moment, SECOND_MS},
};

/// Share of boxes that are on, by hour of the day.
const ON_SHARE: [f64; 24] = [
    0.14, 0.08, 0.05, 0.04, 0.04, 0.05, 0.10, 0.17, 0.21, 0.21, 0.21, 0.22, 0.25, 0.26, 0.25, 0.27,
    0.32, 0.40, 0.48, 0.55, 0.58, 0.55, 0.42, 0.26,
];

/// A sitting: median, and spread of its logarithm.
const SITTING_MEDIAN_MS: f64 = 70.0 * 60_000.0;
const SITTING_SIGMA: f64 = 0.8;

/// Staying on a channel that was chosen.
const DWELL_MEDIAN_MS: f64 = 12.0 * 60_000.0;
const DWELL_SIGMA: f64 = 1.1;

/// Looking at a channel while surfing.
const SURF_MEDIAN_MS: f64 = 4_000.0;
const SURF_SIGMA: f64 = 0.5;

/// Leaving a channel: how often by surfing, and over how many channels.
const SURFS: f64 = 0.4;
const SURF_ZAPS_MAX: u64 = 12;

/// How often a viewer leaves because a break begins, and how far into it.
const LEAVES_AT_BREAK: f64 = 0.2;
const LEAVES_WITHIN_MS: u64 = 90 * SECOND_MS;

/// How often a viewer pauses while on a channel, and for how long at most.
const PAUSES: f64 = 0.08;
const PAUSE_MS_MAX: u64 = 4 * MINUTE_MS;

/// The box says that it is still showing what it shows.
const HEARTBEAT_MS: u64 = MINUTE_MS;

/// SCTE-35 announces a break at least this long before it (SCTE 67, section
/// 4.3 recommends four seconds).
const NOTICE_MS: u64 = 4 * SECOND_MS;

/// SCTE-35 table 23: provider placement opportunity start.
const PLACEMENT_OPPORTUNITY_START: u32 = 0x34;

/// How often a sitting begins in the programme guide.
const OPENS_GUIDE: f64 = 0.3;

/// How many allow measurement, and of those, personalised ads.
const ALLOWS_MEASUREMENT: f64 = 0.85;
const ALLOWS_PERSONALISED: f64 = 0.6;

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
    /// What is going to happen, in order; the second number keeps things that
    /// happen at the same time in the order of planning.
    agenda: BTreeMap<(Moment, u64), Plan>,
    planned: u64,
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
        let is_on = chance.happens(on_share(now));
        let mut viewer = Self {
            lineup,
            chance,
            agenda: BTreeMap::new(),
            planned: 0,
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
            viewer.next_switch_on(now)
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

    /// The first seed from `seed` on whose household, following decisions at
    /// this speed, is told of a break before `by`. Where many have none, `seed`.
    #[must_use]
    pub fn seed_before_a_break(
        lineup: &Arc<Lineup>,
        seed: u64,
        from: Moment,
        by: Moment,
        speed: u32,
    ) -> u64 {
        // A third has one within ten minutes of an evening.
        const TRIES: u64 = 100;
        let is_told = |seed: &u64| {
            let viewer = Self::new(Arc::clone(lineup), *seed, from);
            let happened = viewer.following_decisions(speed).advance(by);
            happened
                .iter()
                .any(|it| matches!(it.event.kind, Some(event::Kind::AdOpportunity(_))))
        };
        let mut seeds = (0..TRIES).map(|more| seed.wrapping_add(more));
        seeds.find(is_told).unwrap_or(seed)
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
        self.agenda
            .first_key_value()
            .map_or(Moment(u64::MAX), |((at, _), _)| *at)
    }

    /// What has happened up to `now`, in order.
    pub fn advance(&mut self, now: Moment) -> Vec<Happening> {
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= now
        {
            let ((at, _), plan) = entry.remove_entry();
            self.carry_out(plan, at);
        }
        std::mem::take(&mut self.happened)
    }

    fn plan(&mut self, at: Moment, plan: Plan) {
        self.planned += 1;
        self.agenda.insert((at, self.planned), plan);
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
                    self.report(
                        at,
                        event::Kind::ViewingHeartbeat(ViewingHeartbeat {
                            channel: Some(self.channel(watching.service)),
                            source: Source::Live as i32,
                            position_ms: 0,
                        }),
                    );
                }
                self.plan_during(&watching, at.plus_ms(HEARTBEAT_MS), SpanPlan::Heartbeat);
            }
            SpanPlan::Pause => {
                self.set_paused(true);
                self.trick_play(&watching, trick_play::Action::Pause, 0, at);
                let pause_ms = self.chance.below(PAUSE_MS_MAX);
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
        let choice = |allowed| {
            if allowed {
                consent::Choice::OptedIn as i32
            } else {
                consent::Choice::OptedOut as i32
            }
        };
        let measurement = self.chance.happens(ALLOWS_MEASUREMENT);
        let personalised = measurement && self.chance.happens(ALLOWS_PERSONALISED);
        self.happened.push(Happening {
            at,
            event: Event {
                client_id: "consent/1".into(),
                kind: Some(event::Kind::Consent(Consent {
                    measurement: choice(measurement),
                    personalised_ads: choice(personalised),
                    version: "2026-1".into(),
                })),
                ..Event::default()
            },
        });
    }

    fn switch_on(&mut self, at: Moment) {
        self.power(at, power::State::On, display::State::Active);
        if self.chance.happens(OPENS_GUIDE) {
            self.report(
                at,
                event::Kind::Custom(Custom {
                    name: "guide.opened".into(),
                    attributes: [("page".to_owned(), "now".to_owned())].into(),
                    proof: false,
                }),
            );
        }
        let sitting_ms = self.long_tailed_ms(SITTING_MEDIAN_MS, SITTING_SIGMA);
        self.plan(at.plus_ms(sitting_ms), Plan::SwitchOff);
        let service = self.lineup.pick(&mut self.chance);
        self.tune(service, tune::Cause::PowerOn, 0, at);
    }

    fn switch_off(&mut self, at: Moment) {
        self.ads.cut_off();
        self.watching = None;
        self.power(at, power::State::Standby, display::State::Inactive);
        let next = self.next_switch_on(at);
        self.plan(next, Plan::SwitchOn);
    }

    fn power(&mut self, at: Moment, power: power::State, display: display::State) {
        self.report(
            at,
            event::Kind::Power(Power {
                state: power as i32,
                cause: power::Cause::User as i32,
            }),
        );
        self.report(
            at,
            event::Kind::Display(Display {
                state: display as i32,
                width_px: 1_920,
                height_px: 1_080,
                refresh_mhz: 50_000,
                hdcp: true,
            }),
        );
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
        self.report(
            at,
            event::Kind::Tune(Tune {
                channel: Some(self.channel(service)),
                source: Source::Live as i32,
                cause: cause as i32,
                tune_duration_ms: u32::try_from(tune_duration_ms).unwrap_or(0),
                ..Tune::default()
            }),
        );
        let stay_ms = if zaps_left > 0 {
            self.long_tailed_ms(SURF_MEDIAN_MS, SURF_SIGMA)
        } else {
            self.long_tailed_ms(DWELL_MEDIAN_MS, DWELL_SIGMA)
        };
        self.plan_during(&watching, at.plus_ms(stay_ms), SpanPlan::Leave);
        self.plan_during(&watching, at.plus_ms(HEARTBEAT_MS), SpanPlan::Heartbeat);
        if zaps_left == 0 && self.chance.happens(PAUSES) {
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
        } else if self.chance.happens(SURFS) {
            let zaps = self.chance.below(SURF_ZAPS_MAX);
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
        let duration_ms = ad_break.duration_ms();
        self.report(
            at,
            event::Kind::AdOpportunity(AdOpportunity {
                break_id: break_id.clone(),
                start_uptime_ms: ad_break.start.0,
                duration_ms: u32::try_from(duration_ms).unwrap_or(u32::MAX),
                slot_durations_ms: ad_break.slots_s.iter().map(|s| s * 1_000).collect(),
                segmentation: Some(Segmentation {
                    segmentation_event_id: u32::try_from(ad_break.number).unwrap_or(0),
                    segmentation_type_id: PLACEMENT_OPPORTUNITY_START,
                    segmentation_duration_90khz: duration_ms * 90,
                    ..Segmentation::default()
                }),
                channel: Some(self.channel(watching.service)),
                last_channel: self.last_channel.clone(),
                source: Source::Live as i32,
            }),
        );
        for (at, slot) in Ads::slots(&break_id, &ad_break) {
            self.plan_during(watching, at, SpanPlan::Slot(slot));
        }
        if self.chance.happens(LEAVES_AT_BREAK) {
            let leave = ad_break.start.plus_ms(self.chance.below(LEAVES_WITHIN_MS));
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
        self.report(
            at,
            event::Kind::TrickPlay(TrickPlay {
                action: action as i32,
                speed_percent,
                position_ms: 0,
                channel: Some(self.channel(watching.service)),
            }),
        );
    }

    fn channel(&self, service: usize) -> Channel {
        self.lineup.service(service).channel()
    }

    fn long_tailed_ms(&mut self, median_ms: f64, sigma: f64) -> u64 {
        // At least a moment, at most a day: the tail has no end.
        let ms = self.chance.log_normal(median_ms, sigma);
        std::time::Duration::try_from_secs_f64(ms / 1_000.0)
            .map_or(24 * HOUR_MS, |long| long.as_secs() * 1_000)
            .clamp(SECOND_MS, 24 * HOUR_MS)
    }

    /// Draws when a box in standby is switched on: the rate that keeps the
    /// share of boxes that are on at what the hour says.
    fn next_switch_on(&mut self, from: Moment) -> Moment {
        let sitting_h =
            SITTING_MEDIAN_MS * (SITTING_SIGMA * SITTING_SIGMA / 2.0).exp() / 3_600_000.0;
        let mut at = from;
        loop {
            let hour_ends = Moment((at.0 / HOUR_MS + 1) * HOUR_MS);
            let share = on_share(at);
            let rate_per_ms = share / (1.0 - share) / sitting_h / 3_600_000.0;
            let wait_ms = -(1.0 - self.chance.unit()).ln() / rate_per_ms;
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of an hour")]
            let left_ms = (hour_ends.0 - at.0) as f64;
            if wait_ms < left_ms {
                let wait = std::time::Duration::from_secs_f64(wait_ms / 1_000.0);
                return at.plus_ms(u64::try_from(wait.as_millis()).unwrap_or(HOUR_MS));
            }
            // Without memory: the next hour is drawn anew.
            at = hour_ends;
        }
    }
}

fn on_share(at: Moment) -> f64 {
    usize::try_from(at.hour_of_day())
        .ok()
        .and_then(|hour| ON_SHARE.get(hour).copied())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
