//! Messages that are as they must be, for targets to begin with.

use returnpath_shared::{
    DeviceId, check, pack,
    wire::{
        self, AdEvent, Batch, BatchId, Decision, Envelope, Epoch, Event, Lane, Opportunity,
        Refined, event,
    },
};

/// The box of all seeds.
pub(crate) const DEVICE: &str = "box-00042";

/// The boot of all seeds.
pub(crate) const BOOT: u64 = 77;

/// What its uptime shows.
pub(crate) const UPTIME_MS: u64 = 7_200_000;

/// What the wall clock shows: 2026-03-01.
pub(crate) const NOW_UNIX_MS: i64 = 1_772_323_200_000;

/// One of each kind that clients send, in the JSON in which they send it.
pub(crate) const EVENTS: [&str; 14] = [
    r#"{"uptimeMs":"7199000","tune":{"channel":{"networkId":9018,"transportStreamId":4100,"serviceId":4164},"source":"SOURCE_LIVE","cause":"CAUSE_USER","tuneDurationMs":420}}"#,
    r#"{"uptimeMs":"7199001","tune":{"source":"SOURCE_ON_DEMAND","contentId":"crid://a.example/1","cause":"CAUSE_SYSTEM"}}"#,
    r#"{"uptimeMs":"7199002","viewingHeartbeat":{"channel":{"channelId":"news-hd"},"source":"SOURCE_TIMESHIFT","positionMs":"90000"}}"#,
    r#"{"trickPlay":{"action":"ACTION_REWIND","speedPercent":-800,"positionMs":"1"}}"#,
    r#"{"power":{"state":"STATE_STANDBY","cause":"CAUSE_INACTIVITY"}}"#,
    r#"{"display":{"state":"STATE_ACTIVE","widthPx":3840,"heightPx":2160,"refreshMhz":50000,"hdcp":true}}"#,
    r#"{"userActivity":{"inputs":3.0}}"#,
    r#"{"uptimeMs":7200000,"adOpportunity":{"breakId":"b-17","startUptimeMs":"7208000","durationMs":60000,"slotDurationsMs":[30000,20500,9500],"segmentation":{"segmentationEventId":1207959603,"segmentationTypeId":52,"upidType":9,"upid":"U0lHTkFMOjQy","segmentationDuration90khz":"5400000","pts90khz":"12"},"channel":{"networkId":9018,"serviceId":4164},"lastChannel":{"serviceId":4228},"source":"SOURCE_LIVE"}}"#,
    r#"{"adEvent":{"kind":"KIND_START","decisionId":"0123456789abcdef0123456789abcdef","breakId":"b-17","slot":1,"creativeId":"car-30","channel":{"serviceId":1}}}"#,
    r#"{"adEvent":{"kind":"KIND_ERROR","decisionId":"0123456789abcdef0123456789abcdef","errorCode":401,"positionMs":1200,"instance":2}}"#,
    r#"{"clientId":"c-1","consent":{"measurement":"CHOICE_OPTED_IN","personalisedAds":"CHOICE_OPTED_OUT","version":"2025-03"}}"#,
    r#"{"clientId":"c-2","custom":{"name":"app.launch","attributes":{"app":"tube","empty":""},"proof":true}}"#,
    r#"{"custom":{"name":"ui.menu"}}"#,
    r#"{"uptime_ms":"7200999","client_id":"c-3","user_activity":{"inputs":"1"}}"#,
];

/// Kinds that the agent tells of itself.
const AGENTS_OWN: [&str; 5] = [
    r#"{"health":{"agentResidentBytes":"4000000","queueProofBatches":2,"refused":{"invalid_json":"3"},"temperatureDecicelsius":-15,"configVersion":"9"}}"#,
    r#"{"boot":{"model":"STB 4000","firmware":"8.1.3","agentVersion":"0.1.0","anchors":[{"bootId":"76","uptimeMs":"1","unixMs":"1772323000000"},{"bootId":"77","uptimeMs":"5","unixMs":"-1"}],"mountOptions":"rw,noatime"}}"#,
    r#"{"ledger":{"reason":"DROP_REASON_QUEUE_FULL","firstBatch":{"epoch":{"incarnation":"9","start":1},"sequence":"2"},"lastSequence":"4","firstOrdinal":"5","eventCount":"12"}}"#,
    r#"{"uncleanStop":{"epoch":{"incarnation":"9","start":1},"lastKnownOrdinal":"8","lastKnownSequence":"3"}}"#,
    r#"{"adEvent":{"kind":"KIND_DECISION_REFUSED","decisionId":"0123456789abcdef0123456789abcdef","refusal":"expired"}}"#,
];

pub(crate) fn device() -> DeviceId {
    DEVICE.parse().unwrap()
}

/// Every kind of event, the agent's own too; each of them good.
pub(crate) fn events() -> Vec<Event> {
    let texts = EVENTS.into_iter().skip_while(|text| text.contains("3.0"));
    texts
        .chain(AGENTS_OWN)
        // What JavaScript writes is made right on the socket only.
        .map(|text| serde_json::from_str(&text.replace("3.0", "3")).unwrap())
        .inspect(|event| check(event).unwrap())
        .collect()
}

pub(crate) fn epoch(start: u32) -> Epoch {
    Epoch {
        incarnation: 9,
        start,
    }
}

pub(crate) fn batch_id(sequence: u64) -> BatchId {
    BatchId {
        epoch: Some(epoch(1)),
        sequence,
    }
}

pub(crate) fn batch(first_ordinal: u64, events: Vec<Event>) -> Batch {
    Batch {
        boot_id: BOOT,
        first_ordinal,
        events,
    }
}

/// A batch on its way up, of a box that holds all before it.
pub(crate) fn envelope(sequence: u64, batch: &Batch) -> Envelope {
    let packed = pack(batch).unwrap();
    Envelope {
        id: Some(batch_id(sequence)),
        class: wire::Class::Proof as i32,
        codec: packed.codec as i32,
        batch: packed.bytes,
        boot_id: BOOT,
        uptime_ms: UPTIME_MS,
        unix_ms: NOW_UNIX_MS,
        clock_synchronised: true,
        sender: Some(epoch(1)),
        oldest_held: vec![batch_id(1)],
    }
}

pub(crate) fn refined(event: Event) -> Refined {
    Refined {
        event: Some(event),
        device_id: DEVICE.into(),
        batch: Some(batch_id(3)),
        ordinal: 7,
        lane: Lane::Live as i32,
        event_unix_ms: NOW_UNIX_MS,
        received_unix_ms: NOW_UNIX_MS,
        boot_id: BOOT,
        ..Refined::default()
    }
}

/// The opportunity of the last break, with what is known of its box.
pub(crate) fn opportunity() -> Opportunity {
    let text =
        include_str!("../../../collector/decision/tests/fixtures/opportunities/evening.json");
    let told: Opportunity = serde_json::from_str(text).unwrap();
    let asked = serde_json::from_str(EVENTS[7]).unwrap();
    Opportunity {
        refined: Some(refined(asked)),
        sent_uptime_ms: UPTIME_MS,
        sent_boot_id: BOOT,
        ..told
    }
}

/// What a box tells of a decision.
pub(crate) fn told(kind: wire::ad_event::Kind, decision_id: &str) -> Refined {
    refined(Event {
        uptime_ms: UPTIME_MS,
        kind: Some(event::Kind::AdEvent(AdEvent {
            kind: kind.into(),
            decision_id: decision_id.into(),
            ..AdEvent::default()
        })),
        ..Event::default()
    })
}

/// A decision for the first slot of that break.
pub(crate) fn decision(slot: u32) -> Decision {
    Decision {
        decision_id: format!("{slot:032x}"),
        device_id: DEVICE.into(),
        break_id: "b-17".into(),
        slot,
        number: 4,
        expiry_boot_id: BOOT,
        expiry_uptime_ms: UPTIME_MS + 9_000,
        creative: Some(wire::Creative {
            creative_id: "car-30".into(),
            url: "https://cdn.example/car-30.mp4".into(),
            media_type: "video/mp4".into(),
            duration_ms: 30_000,
        }),
    }
}
