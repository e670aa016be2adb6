//! Records of one decision, for the tests of what prints them.

use returnpath_shared::wire::{
    self, AggregatorRecord, Choice, DecisionRecord, Exclusion, NoFill, Offer, OfferFault,
    OfferRecord, Outcome, Stage, decision_record::What,
};

const DECISION_ID: &str = "0123456789abcdef0123456789abcdef";
const DEVICE_ID: &str = "box-17";

/// 2026-11-21 12:35:07.123 UTC.
pub(super) const DECIDED_UNIX_MS: i64 = 1_795_264_507_123;

fn record(recorded_unix_ms: i64, what: What) -> DecisionRecord {
    DecisionRecord {
        decision_id: DECISION_ID.to_owned(),
        device_id: DEVICE_ID.to_owned(),
        recorded_unix_ms,
        what: Some(what),
    }
}

/// A stage that was recorded `recorded_after_ms` after the decision; on the
/// box it happened `happened_after_ms` after it, unless that is 0.
pub(super) fn progress(
    stage: Stage,
    recorded_after_ms: i64,
    happened_after_ms: i64,
) -> DecisionRecord {
    let failed = stage == Stage::Failed;
    let event_unix_ms = match happened_after_ms {
        0 => 0,
        after => DECIDED_UNIX_MS + after,
    };
    record(
        DECIDED_UNIX_MS + recorded_after_ms,
        What::Progress(wire::Progress {
            stage: stage.into(),
            event_unix_ms,
            error_code: if failed { 402 } else { 0 },
            refusal: "expired".to_owned(),
            ..wire::Progress::default()
        }),
    )
}

/// Filled by the first of four aggregators, shown and completed.
pub(super) fn shown() -> Vec<DecisionRecord> {
    vec![
        record(DECIDED_UNIX_MS, What::Decided(decided())),
        progress(Stage::Pushed, 8, 0),
        progress(Stage::Acknowledged, 105, 45),
        progress(Stage::Shown, 3_178, 2_997),
        progress(Stage::Completed, 33_379, 32_977),
    ]
}

/// Nobody's offer was taken.
pub(super) fn not_filled(no_fill: NoFill) -> DecisionRecord {
    let mut decided = decided();
    decided.choice = Some(Choice {
        no_fill: no_fill.into(),
        probability: 1.0,
        ..Choice::default()
    });
    record(DECIDED_UNIX_MS, What::Decided(decided))
}

pub(super) fn decided() -> wire::Decided {
    let decision = wire::Decision {
        decision_id: DECISION_ID.to_owned(),
        device_id: DEVICE_ID.to_owned(),
        break_id: "b-20".to_owned(),
        slot: 1,
        number: 1_234,
        expiry_boot_id: 0xab,
        expiry_uptime_ms: 634_000,
        creative: Some(wire::Creative {
            creative_id: "c-77".to_owned(),
            url: "https://ads.example/c-77.mp4".to_owned(),
            media_type: "video/mp4".to_owned(),
            duration_ms: 30_000,
        }),
    };
    wire::Decided {
        opportunity: Some(opportunity()),
        number: 1_234,
        slot: 1,
        slot_duration_ms: 30_000,
        privacy: wire::Privacy::Personalised.into(),
        policy: Some(wire::Policy {
            version: "a1b2c3d4".to_owned(),
            kind: wire::PolicyKind::HighestPrice.into(),
            floor_price_micros: 1_500_000,
            currency: "EUR".to_owned(),
            takes_unpriced: false,
        }),
        aggregators: aggregators(),
        choice: Some(Choice {
            aggregator: Some(0),
            offer: Some(1),
            no_fill: 0,
            probability: 1.0,
        }),
        signed: Some(wire::SignedDecision {
            decision: prost::Message::encode_to_vec(&decision).into(),
            key_id: "00112233aabbccdd".to_owned(),
            signature: vec![1; 64].into(),
        }),
        elapsed_us: 201_830,
        waited_us: 200_900,
    }
}

fn aggregators() -> Vec<AggregatorRecord> {
    let offer =
        |id: &str, creative_id: &str, price_micros, fault: OfferFault, detail: &str| OfferRecord {
            offer: Some(Offer {
                offer_id: id.to_owned(),
                creative_id: creative_id.to_owned(),
                url: format!("https://ads.example/{creative_id}.mp4"),
                media_type: "video/mp4".to_owned(),
                duration_ms: 30_000,
                price_micros,
                advertiser: "acme.example".to_owned(),
                ..Offer::default()
            }),
            fault: fault.into(),
            detail: detail.to_owned(),
        };
    vec![
        AggregatorRecord {
            name: "northstar".to_owned(),
            outcome: Outcome::Offered.into(),
            http_status: 200,
            latency_us: 52_140,
            asked_after_us: 310,
            offers: vec![
                offer("o-1", "c-76", Some(900_000), OfferFault::BelowFloor, ""),
                offer("o-2", "c-77", Some(7_250_000), OfferFault::Unspecified, ""),
            ],
            ..AggregatorRecord::default()
        },
        AggregatorRecord {
            name: "slowad".to_owned(),
            outcome: Outcome::Timeout.into(),
            latency_us: 200_000,
            asked_after_us: 320,
            ..AggregatorRecord::default()
        },
        AggregatorRecord {
            name: "garbled".to_owned(),
            outcome: Outcome::Invalid.into(),
            http_status: 200,
            detail: "/ads/0/url: expected a text".to_owned(),
            latency_us: 12_300,
            asked_after_us: 330,
            ..AggregatorRecord::default()
        },
        AggregatorRecord {
            name: "budget".to_owned(),
            exclusion: Exclusion::BreakerOpen.into(),
            ..AggregatorRecord::default()
        },
    ]
}

fn opportunity() -> wire::Opportunity {
    let channel = |service_id| {
        Some(wire::Channel {
            network_id: 9018,
            transport_stream_id: 4164,
            service_id,
            ..wire::Channel::default()
        })
    };
    let ad_opportunity = wire::AdOpportunity {
        break_id: "b-20".to_owned(),
        start_uptime_ms: 603_000,
        duration_ms: 90_000,
        slot_durations_ms: vec![30_000; 3],
        segmentation: Some(wire::Segmentation {
            segmentation_event_id: 9,
            segmentation_type_id: 0x34,
            ..wire::Segmentation::default()
        }),
        channel: channel(4),
        last_channel: channel(8),
        source: wire::Source::Live.into(),
    };
    wire::Opportunity {
        refined: Some(wire::Refined {
            event: Some(wire::Event {
                uptime_ms: 600_000,
                kind: Some(wire::event::Kind::AdOpportunity(ad_opportunity)),
                ..wire::Event::default()
            }),
            device_id: DEVICE_ID.to_owned(),
            event_unix_ms: DECIDED_UNIX_MS - 320,
            time_quality: wire::TimeQuality::Synchronised.into(),
            received_unix_ms: DECIDED_UNIX_MS - 300,
            boot_id: 0xab,
            ordinal: 41,
            ..wire::Refined::default()
        }),
        profile: Some(profile(channel(4), channel(8))),
        sent_uptime_ms: 600_010,
        sent_boot_id: 0xab,
        settled_uptime_ms: 590_000,
    }
}

fn profile(viewed: Option<wire::Channel>, before: Option<wire::Channel>) -> wire::DeviceProfile {
    wire::DeviceProfile {
        device_id: DEVICE_ID.to_owned(),
        viewing: Some(wire::Viewing {
            channel: viewed,
            source: wire::Source::Live.into(),
            since_boot_id: 0xab,
            since_uptime_ms: 1_000,
            since_unix_ms: DECIDED_UNIX_MS - 723_000,
            ..wire::Viewing::default()
        }),
        viewed_before: vec![wire::ViewedChannel {
            channel: before,
            left_unix_ms: DECIDED_UNIX_MS - 723_000,
            dwell_ms: 240_000,
        }],
        recent_impressions: vec![wire::Impression {
            decision_id: "fedcba9876543210fedcba9876543210".to_owned(),
            creative_id: "c-9".to_owned(),
            shown_unix_ms: DECIDED_UNIX_MS - 1_200_000,
            ..wire::Impression::default()
        }],
        consent: Some(wire::Consent {
            measurement: wire::consent::Choice::OptedIn.into(),
            personalised_ads: wire::consent::Choice::OptedIn.into(),
            version: "2026-11".to_owned(),
        }),
        model: "zapper 2".to_owned(),
        firmware: "1.2.3".to_owned(),
        agent_version: "0.1.0".to_owned(),
        ..wire::DeviceProfile::default()
    }
}
