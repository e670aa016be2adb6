//! The middleware of one box: reports what the viewer does, and reports again
//! what it got no answer for.

use std::collections::BTreeMap;

use returnpath_shared::wire::{
    AdEvent, AdOpportunity, Channel, Consent, Custom, Display, Event, Health, Power, Source,
    TrickPlay, Tune, UserActivity, ViewingHeartbeat, ad_event, consent, display, event, power,
    trick_play,
};

use crate::random::Random;

/// Requests without an answer that are remembered: then the oldest is given up.
const UNANSWERED_MAX: usize = 32;

/// Names are lower case, with dots.
const INVALID_NAME: &str = "Not A Name";

/// Something to report, and when it happened.
#[derive(Clone)]
pub(crate) struct Report {
    pub(crate) event: Event,
    pub(crate) happened_ms: u64,
}

#[derive(Default)]
pub(crate) struct Viewer {
    reports: u64,
    /// By number of the report.
    unanswered: BTreeMap<u64, Report>,
}

impl Viewer {
    /// Something new, or something that was never answered. Only what carries
    /// an id is reported again: the rest would be counted twice.
    pub(crate) fn report(
        &mut self,
        now_ms: u64,
        uptime_ms: u64,
        invalid: u64,
        random: &mut Random,
    ) -> (u64, Report) {
        if !self.unanswered.is_empty() && random.chance(150) {
            let again = random.index(self.unanswered.len());
            let (number, report) = self.unanswered.iter().nth(again).unwrap();
            return (*number, report.clone());
        }
        self.reports += 1;
        let number = self.reports;
        let event = event(number, uptime_ms, invalid, random);
        self.remember(Report {
            happened_ms: now_ms,
            event,
        })
    }

    /// Something that a player reports.
    pub(crate) fn take(
        &mut self,
        kind: event::Kind,
        client_id: String,
        now_ms: u64,
        uptime_ms: u64,
    ) -> (u64, Report) {
        self.reports += 1;
        let event = Event {
            uptime_ms,
            client_id,
            kind: Some(kind),
        };
        self.remember(Report {
            event,
            happened_ms: now_ms,
        })
    }

    fn remember(&mut self, report: Report) -> (u64, Report) {
        let number = self.reports;
        if has_id(&report.event) {
            self.unanswered.insert(number, report.clone());
            if self.unanswered.len() > UNANSWERED_MAX {
                self.unanswered.pop_first();
            }
        }
        (number, report)
    }

    pub(crate) fn answered(&mut self, number: u64) {
        self.unanswered.remove(&number);
    }

    /// Its box lost power. Events of the former boot cannot be told any more:
    /// their uptime means nothing in the next one.
    pub(crate) fn power_cut(&mut self) {
        self.unanswered.clear();
    }
}

/// Whether it is named as an event must be: the only mistake that is made here.
pub(crate) fn is_valid(event: &Event) -> bool {
    !matches!(&event.kind, Some(event::Kind::Custom(custom)) if custom.name == INVALID_NAME)
}

fn has_id(event: &Event) -> bool {
    returnpath_shared::ProofKey::of(event).is_some()
}

fn event(number: u64, uptime_ms: u64, invalid: u64, random: &mut Random) -> Event {
    let channel = |random: &mut Random| {
        Some(Channel {
            network_id: 9_018,
            transport_stream_id: 4_164,
            service_id: u32::try_from(random.between(1, 40)).unwrap() * 64,
            channel_id: String::new(),
        })
    };
    let mut client_id = String::new();
    let kind = match random.below(100) {
        0..20 => event::Kind::Tune(Tune {
            channel: channel(random),
            source: Source::Live as i32,
            ..Tune::default()
        }),
        20..38 | 55..68 => event::Kind::ViewingHeartbeat(ViewingHeartbeat {
            channel: channel(random),
            source: Source::Live as i32,
            position_ms: 0,
        }),
        38..43 => event::Kind::TrickPlay(TrickPlay {
            action: trick_play::Action::Pause as i32,
            ..TrickPlay::default()
        }),
        43..46 => event::Kind::Power(Power {
            state: power::State::Standby as i32,
            ..Power::default()
        }),
        46..49 => event::Kind::Display(Display {
            state: display::State::Active as i32,
            ..Display::default()
        }),
        49..54 => event::Kind::UserActivity(UserActivity { inputs: 3 }),
        54 => {
            client_id = format!("c{number}");
            event::Kind::AdOpportunity(AdOpportunity {
                break_id: format!("b{number}"),
                start_uptime_ms: uptime_ms + 4_000,
                duration_ms: 90_000,
                channel: channel(random),
                source: Source::Live as i32,
                ..AdOpportunity::default()
            })
        }
        68..84 => event::Kind::AdEvent(AdEvent {
            kind: random.pick(&[
                ad_event::Kind::Start,
                ad_event::Kind::Midpoint,
                ad_event::Kind::Complete,
                ad_event::Kind::DecisionAcknowledged,
            ]) as i32,
            decision_id: format!("d{number}"),
            ..AdEvent::default()
        }),
        84..86 => {
            client_id = format!("c{number}");
            let choice = random.pick(&[
                consent::Choice::OptedIn,
                consent::Choice::OptedIn,
                consent::Choice::OptedOut,
            ]);
            event::Kind::Consent(Consent {
                measurement: choice as i32,
                personalised_ads: choice as i32,
                version: "2026-01".into(),
            })
        }
        86..96 => {
            client_id = format!("c{number}");
            // Unlike each other, so that they do not compress away.
            let length = random.below(400);
            let text = (0..length)
                .map(|_| char::from(b'a' + u8::try_from(random.below(26)).unwrap()))
                .collect();
            event::Kind::Custom(Custom {
                name: if random.chance(invalid) {
                    INVALID_NAME.into()
                } else {
                    "operator.menu".into()
                },
                attributes: [("text".to_owned(), text)].into(),
                proof: number.is_multiple_of(2),
            })
        }
        _ => event::Kind::Health(Health::default()),
    };
    Event {
        uptime_ms,
        client_id,
        kind: Some(kind),
    }
}
