//! What was known when the slot was decided.

use returnpath_shared::wire::{
    AdOpportunity, Consent, Decided, DeviceProfile, Refined, TimeQuality, consent,
};

use super::Story;
use crate::decisions::{
    line::opportunity,
    quantity::{distance_ms, moment, span_ms},
    words::{self, printable},
};

pub(super) fn tell(story: &mut Story, decided: &Decided) {
    story.section("what was known");
    let source = decided.opportunity.as_ref();
    let refined = source.and_then(|found| found.refined.as_ref());
    if let Some(found) = opportunity(decided) {
        let uptime_ms = refined
            .and_then(|it| it.event.as_ref())
            .map(|it| it.uptime_ms);
        of_opportunity(story, found, uptime_ms.unwrap_or_default());
    }
    if let Some(refined) = refined {
        of_time(story, refined);
    }
    let event_unix_ms = refined.map_or(0, |refined| refined.event_unix_ms);
    match source.and_then(|found| found.profile.as_ref()) {
        Some(profile) => of_profile(story, profile, event_unix_ms),
        None => story.line("box", "nothing was known of it"),
    }
    story.line("privacy", words::privacy(decided.privacy));
}

fn of_opportunity(story: &mut Story, found: &AdOpportunity, signalled_uptime_ms: u64) {
    let cause = match &found.segmentation {
        Some(signal) => format!(
            "SCTE-35 segmentation type {:#04x}, event {}",
            signal.segmentation_type_id, signal.segmentation_event_id
        ),
        None => "an application asked".to_owned(),
    };
    story.line(
        "break",
        format_args!(
            "{}, begins {} the signal, at uptime {} ms; {cause}",
            span_ms(found.duration_ms.into()),
            distance_ms(signalled_uptime_ms, found.start_uptime_ms),
            found.start_uptime_ms
        ),
    );
    if found.channel.is_some() || found.last_channel.is_some() {
        story.line(
            "the box saw",
            format_args!(
                "{}, {}; before it {}",
                printable(&words::channel(found.channel.as_ref())),
                words::source(found.source),
                printable(&words::channel(found.last_channel.as_ref())),
            ),
        );
    }
}

fn of_time(story: &mut Story, refined: &Refined) {
    let uptime_ms = refined.event.as_ref().map_or(0, |event| event.uptime_ms);
    let quality = match refined.time_quality() {
        TimeQuality::Unspecified => "clock not told",
        TimeQuality::Synchronised => "synchronised clock",
        TimeQuality::Corrected => "corrected later",
        TimeQuality::Bounded => "clock not set, an estimate",
    };
    story.line(
        "signalled",
        format_args!(
            "{} UTC ({quality}), uptime {uptime_ms} ms of boot {:016x}",
            moment(refined.event_unix_ms),
            refined.boot_id
        ),
    );
    story.line(
        "received",
        format_args!("{} UTC by the bridge", moment(refined.received_unix_ms)),
    );
}

fn of_profile(story: &mut Story, profile: &DeviceProfile, event_unix_ms: i64) {
    let before = |unix_ms: i64| {
        let ms = u64::try_from(event_unix_ms.saturating_sub(unix_ms)).unwrap_or_default();
        span_ms(ms)
    };
    match &profile.viewing {
        Some(viewing) => {
            let content = match viewing.content_id.as_str() {
                "" => String::new(),
                id => format!(", content {}", printable(id)),
            };
            story.line(
                "viewing",
                format_args!(
                    "{}, {}{content}, for {}",
                    printable(&words::channel(viewing.channel.as_ref())),
                    words::source(viewing.source),
                    before(viewing.since_unix_ms)
                ),
            );
        }
        None => story.line("viewing", "not known"),
    }
    let current = profile
        .viewing
        .as_ref()
        .and_then(|now| now.channel.as_ref());
    let mut last = profile.viewed_before.iter();
    match last.find(|viewed| viewed.channel.as_ref() != current) {
        Some(viewed) => story.line(
            "last channel",
            format_args!(
                "{}, viewed for {}, left {} before",
                printable(&words::channel(viewed.channel.as_ref())),
                span_ms(viewed.dwell_ms),
                before(viewed.left_unix_ms)
            ),
        ),
        None => story.line("last channel", "not known"),
    }
    match profile.recent_impressions.first() {
        Some(shown) => story.line(
            "last ad",
            format_args!(
                "creative {}, shown {} before by decision {}",
                printable(&shown.creative_id),
                before(shown.shown_unix_ms),
                printable(&shown.decision_id)
            ),
        ),
        None => story.line("last ad", "none confirmed"),
    }
    story.line("consent", of_consent(profile.consent.as_ref()));
    if !profile.model.is_empty() {
        story.line(
            "box",
            format_args!(
                "{}, firmware {}, agent {}",
                printable(&profile.model),
                printable(&profile.firmware),
                printable(&profile.agent_version)
            ),
        );
    }
}

fn of_consent(consent: Option<&Consent>) -> String {
    let Some(consent) = consent else {
        return "not known".to_owned();
    };
    let choice = match consent.personalised_ads() {
        consent::Choice::Unspecified => "not told for personalised ads",
        consent::Choice::OptedIn => "opted in to personalised ads",
        consent::Choice::OptedOut => "opted out of personalised ads",
    };
    match consent.version.as_str() {
        "" => choice.to_owned(),
        version => format!("{choice} (text {})", printable(version)),
    }
}
