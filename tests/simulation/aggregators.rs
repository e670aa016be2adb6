//! Aggregators as a model: they offer, have nothing, err, are silent, and
//! answer when nobody waits any more. How an answer is read and judged is the
//! real core's; only its notation is not.

use std::sync::Arc;

use bytes::Bytes;
use returnpath_decision::{
    Adapter, Aggregator, Answer, Ask, BreakerSettings, Call, CallId, Ended, Method, Request,
    Response, Rules, RulesConfig, Settings, Unaskable, UnknownConsent, Unreadable, WithoutConsent,
};
use returnpath_shared::wire::{Offer, OfferRecord, Policy};

use crate::{climate::WayBack, faults::Fault, transition::Transition, world::World};

/// Time an aggregator has.
const DEADLINE_MS: u32 = 200;

/// How much later than that the answer of a late one may be heard.
const LATE_MS_MAX: u64 = 2_000;

/// They advertise with every aggregator.
const ADVERTISERS: [&str; 3] = ["one.example", "two.example", "three.example"];

/// A call on its way.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    call: CallId,
    slot_duration_ms: u32,
    sent_us: u64,
    answer: Answer,
}

impl Asked {
    /// How it ended, as heard now.
    pub(crate) fn ended(&self, settings: &Settings, now_us: u64) -> Ended {
        Ended {
            call: self.call,
            answered: settings.read(self.call, self.slot_duration_ms, &self.answer),
            sent_us: self.sent_us,
            ended_us: now_us,
        }
    }
}

/// Reads offers as lines of `price,advertiser`, all as long as the slot asked
/// for in the first line.
struct Lines;

impl Adapter for Lines {
    fn request(&self, _ask: &Ask<'_>) -> Result<Request, Unaskable> {
        Ok(Request {
            method: Method::Get,
            url: String::new(),
            headers: Vec::new(),
            body: None,
        })
    }

    fn offers(&self, response: &Response) -> Result<Vec<OfferRecord>, Unreadable> {
        if response.status != 200 {
            return Err(Unreadable::Status {
                status: response.status,
                expected: "200".into(),
            });
        }
        let unreadable = || Unreadable::Form {
            place: "body".into(),
            expected: "a length and offers".into(),
        };
        let text = std::str::from_utf8(&response.body).map_err(|_| unreadable())?;
        let mut lines = text.lines();
        let Some(duration_ms) = lines.next() else {
            return Ok(Vec::new());
        };
        let duration_ms = duration_ms.parse().map_err(|_| unreadable())?;
        lines
            .map(|line| {
                let (price, advertiser) = line.split_once(',').ok_or_else(unreadable)?;
                let offer = Offer {
                    creative_id: format!("ad-{price}"),
                    url: "https://cdn.example/ad.mp4".into(),
                    media_type: "video/mp4".into(),
                    duration_ms,
                    price_micros: price.parse().ok(),
                    advertiser: advertiser.into(),
                    ..Offer::default()
                };
                Ok(OfferRecord {
                    offer: Some(offer),
                    ..OfferRecord::default()
                })
            })
            .collect()
    }
}

/// What decide is configured with.
pub(crate) fn settings(way_back: &WayBack) -> Arc<Settings> {
    let aggregator = |number| Aggregator {
        name: format!("aggregator-{number}"),
        adapter: Arc::new(Lines),
        deadline_ms: DEADLINE_MS,
        rate: None,
        breaker: BreakerSettings {
            window_ms: 60_000,
            calls_min: 8,
            failures_percent: 80,
            open_ms: 30_000,
            probes_min: 1,
        },
        calls_max: 64,
        without_consent: WithoutConsent::Asked,
    };
    let rules = RulesConfig {
        duration_tolerance_ms: 0,
        media_types: vec!["video/mp4".into()],
        hosts: vec![serde_json::from_str("\"cdn.example\"").unwrap()],
        blocked_advertisers: Vec::new(),
        advertiser_required: true,
    };
    let settings = Settings {
        aggregators: (0..way_back.aggregators).map(aggregator).collect(),
        policy: Policy {
            version: "1".into(),
            kind: way_back.policy.into(),
            floor_price_micros: 1,
            currency: "EUR".into(),
            takes_unpriced: false,
        },
        rules: Rules::new(rules),
        cap: Some(way_back.cap),
        late_ms: way_back.late_ms,
        budget_ms: 2 * DEADLINE_MS,
        unknown_consent: UnknownConsent::OptedIn,
    };
    settings.check().unwrap()
}

impl World {
    /// A node of decide asks.
    pub(crate) fn aggregators_are_asked(
        &mut self,
        partition: usize,
        generation: u64,
        calls: Vec<Call>,
    ) {
        let now_ms = self.schedule.now_ms();
        for call in calls {
            let (takes_ms, answer) = self.aggregator_has(&call);
            let asked = Asked {
                call: call.id,
                slot_duration_ms: call.slot_duration_ms,
                sent_us: now_ms * 1_000,
                answer,
            };
            let answers = Transition::AggregatorAnswers {
                partition,
                generation,
                asked: Box::new(asked),
            };
            self.schedule.after(takes_ms, answers);
        }
    }

    fn aggregator_has(&mut self, call: &Call) -> (u64, Answer) {
        let deadline_ms = u64::from(call.deadline_ms);
        let in_time_ms = self.random.between(5, deadline_ms.max(5));
        let way_back = &self.climate.way_back;
        if self.random.chance(way_back.aggregators_silent) {
            self.faults.count(Fault::AggregatorSilent);
            return (deadline_ms, Answer::Timeout);
        }
        if self.random.chance(way_back.aggregators_err) {
            self.faults.count(Fault::AggregatorErred);
            let answer = match self.random.below(4) {
                0 => Answer::Unreachable("connection refused".into()),
                1 => Answer::TooLarge,
                2 => response(503, String::new()),
                _ => response(200, "<html>".into()),
            };
            return (in_time_ms, answer);
        }
        let answer = response(200, self.offers(call.slot_duration_ms));
        if self.random.chance(self.climate.way_back.aggregators_late) {
            self.faults.count(Fault::AggregatorLate);
            let late_ms = self.random.between(1, LATE_MS_MAX);
            return (deadline_ms + late_ms, answer);
        }
        (in_time_ms, answer)
    }

    /// None, one or two of them; now and then one that does not fit.
    fn offers(&mut self, slot_duration_ms: u32) -> String {
        let mut lines = match self.random.below(8) {
            0 => return String::new(),
            1 => format!("{}", slot_duration_ms + 1_000),
            _ => format!("{slot_duration_ms}"),
        };
        for _ in 0..self.random.between(1, 2) {
            let price = self.random.below(9);
            let advertiser = self.random.pick(&ADVERTISERS);
            lines += &format!("\n{price},{advertiser}");
        }
        lines
    }
}

fn response(status: u16, body: String) -> Answer {
    Answer::Response(Response {
        status,
        content_type: None,
        content_encoding: None,
        body: Bytes::from(body),
    })
}
