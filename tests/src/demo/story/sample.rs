//! An ad that was shown to its end, as its records say it.

use returnpath_shared::wire::{
    AdOpportunity, AggregatorRecord, Choice, Decided, Event, Exclusion, Offer, OfferRecord,
    Opportunity, Outcome, Policy, PolicyKind, Progress, Refined, Stage, event,
};

use super::Facts;
use crate::fleet::lineup::Lineup;

/// 2026-11-21 12:35:07.000 UTC: the opportunity.
const BEGAN_UNIX_MS: i64 = 1_795_264_507_000;

pub(super) fn completed() -> Facts {
    let stage = |stage: Stage, recorded_ms: i64, event_ms: Option<i64>| {
        let progress = Progress {
            stage: stage.into(),
            event_unix_ms: event_ms.map_or(0, |ms| BEGAN_UNIX_MS + ms),
            ..Progress::default()
        };
        (BEGAN_UNIX_MS + recorded_ms, progress)
    };
    Facts {
        decision_id: "d0".into(),
        device_id: "agent-1".into(),
        recorded_unix_ms: BEGAN_UNIX_MS + 152,
        decided: decided(),
        stages: vec![
            stage(Stage::Pushed, 156, None),
            stage(Stage::Acknowledged, 4_000, Some(160)),
            stage(Stage::Shown, 4_050, Some(4_000)),
            stage(Stage::Completed, 9_000, Some(5_000)),
        ],
        handed_unix_ms: Some(BEGAN_UNIX_MS + 161),
    }
}

fn decided() -> Decided {
    let lineup = Lineup::london().unwrap();
    let mut services = (0..165).map(|number| lineup.service(number));
    let itv = services.find(|service| service.name == "ITV1 HD").unwrap();
    let ad = AdOpportunity {
        break_id: "1-60".into(),
        start_uptime_ms: 14_000,
        slot_durations_ms: vec![30_000; 6],
        channel: Some(itv.channel()),
        ..AdOpportunity::default()
    };
    let refined = Refined {
        event: Some(Event {
            uptime_ms: 10_000,
            kind: Some(event::Kind::AdOpportunity(ad)),
            ..Event::default()
        }),
        device_id: "agent-1".into(),
        event_unix_ms: BEGAN_UNIX_MS,
        received_unix_ms: BEGAN_UNIX_MS + 10,
        ..Refined::default()
    };
    Decided {
        opportunity: Some(Opportunity {
            refined: Some(refined),
            ..Opportunity::default()
        }),
        slot: 1,
        slot_duration_ms: 30_000,
        policy: Some(Policy {
            kind: PolicyKind::HighestPrice.into(),
            currency: "EUR".into(),
            ..Policy::default()
        }),
        aggregators: aggregators(),
        choice: Some(Choice {
            aggregator: Some(0),
            offer: Some(1),
            ..Choice::default()
        }),
        elapsed_us: 52_000,
        ..Decided::default()
    }
}

fn aggregators() -> Vec<AggregatorRecord> {
    let offer = |price_micros| OfferRecord {
        offer: Some(Offer {
            price_micros: Some(price_micros),
            duration_ms: 30_000,
            advertiser: "acme.example".into(),
            ..Offer::default()
        }),
        ..OfferRecord::default()
    };
    vec![
        AggregatorRecord {
            name: "north".into(),
            outcome: Outcome::Offered.into(),
            latency_us: 20_000,
            offers: vec![offer(900_000), offer(2_100_000)],
            ..AggregatorRecord::default()
        },
        AggregatorRecord {
            name: "east".into(),
            outcome: Outcome::NoBid.into(),
            latency_us: 50_000,
            ..AggregatorRecord::default()
        },
        AggregatorRecord {
            name: "west".into(),
            exclusion: Exclusion::BreakerOpen.into(),
            ..AggregatorRecord::default()
        },
    ]
}
