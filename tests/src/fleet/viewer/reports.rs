//! What middleware reports of a household: events, as they go to the agent.

use returnpath_shared::wire::{
    AdOpportunity, Channel, Consent, Custom, Display, Power, Segmentation, Source, TrickPlay, Tune,
    ViewingHeartbeat, consent, display, event::Kind, power, trick_play, tune,
};

use crate::fleet::breaks::AdBreak;

/// SCTE-35 table 23: provider placement opportunity start.
const PLACEMENT_OPPORTUNITY_START: u32 = 0x34;

pub(super) fn heartbeat(channel: Channel) -> Kind {
    Kind::ViewingHeartbeat(ViewingHeartbeat {
        channel: Some(channel),
        source: Source::Live as i32,
        position_ms: 0,
    })
}

pub(super) fn consent(measurement: bool, personalised_ads: bool) -> Kind {
    let choice = |allowed| {
        if allowed {
            consent::Choice::OptedIn as i32
        } else {
            consent::Choice::OptedOut as i32
        }
    };
    Kind::Consent(Consent {
        measurement: choice(measurement),
        personalised_ads: choice(personalised_ads),
        version: "2026-1".into(),
    })
}

pub(super) fn guide_opened() -> Kind {
    Kind::Custom(Custom {
        name: "guide.opened".into(),
        attributes: [("page".to_owned(), "now".to_owned())].into(),
        proof: false,
    })
}

pub(super) fn power(state: power::State) -> Kind {
    Kind::Power(Power {
        state: state as i32,
        cause: power::Cause::User as i32,
    })
}

pub(super) fn display(state: display::State) -> Kind {
    Kind::Display(Display {
        state: state as i32,
        width_px: 1_920,
        height_px: 1_080,
        refresh_mhz: 50_000,
        hdcp: true,
    })
}

pub(super) fn tune(channel: Channel, cause: tune::Cause, tune_duration_ms: u64) -> Kind {
    Kind::Tune(Tune {
        channel: Some(channel),
        source: Source::Live as i32,
        cause: cause as i32,
        tune_duration_ms: u32::try_from(tune_duration_ms).unwrap_or(0),
        ..Tune::default()
    })
}

pub(super) fn opportunity(
    break_id: &str,
    ad_break: &AdBreak,
    channel: Channel,
    last_channel: Option<Channel>,
) -> Kind {
    let duration_ms = ad_break.duration_ms();
    Kind::AdOpportunity(AdOpportunity {
        break_id: break_id.to_owned(),
        start_uptime_ms: ad_break.start.0,
        duration_ms: u32::try_from(duration_ms).unwrap_or(u32::MAX),
        slot_durations_ms: ad_break.slots_s.iter().map(|s| s * 1_000).collect(),
        segmentation: Some(Segmentation {
            segmentation_event_id: u32::try_from(ad_break.number).unwrap_or(0),
            segmentation_type_id: PLACEMENT_OPPORTUNITY_START,
            segmentation_duration_90khz: duration_ms * 90,
            ..Segmentation::default()
        }),
        channel: Some(channel),
        last_channel,
        source: Source::Live as i32,
    })
}

pub(super) fn trick_play(action: trick_play::Action, speed_percent: i32, channel: Channel) -> Kind {
    Kind::TrickPlay(TrickPlay {
        action: action as i32,
        speed_percent,
        position_ms: 0,
        channel: Some(channel),
    })
}
