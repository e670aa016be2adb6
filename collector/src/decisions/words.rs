//! What the codes of a decision record mean, in words for people. Codes of a
//! later version are named by their number.

use std::borrow::Cow;

use returnpath_shared::wire::{
    Channel, Exclusion, NoFill, OfferFault, Outcome, PolicyKind, Privacy, Source, Stage,
};

type Words = Cow<'static, str>;

/// A code of ours in words, or its number when it is not known here.
fn known<T: TryFrom<i32>>(what: &str, code: i32, words: impl Fn(T) -> &'static str) -> Words {
    T::try_from(code).map_or_else(
        |_| Words::from(format!("{what} {code}, of a later version")),
        |value| words(value).into(),
    )
}

/// Why an aggregator was not asked.
#[must_use]
pub fn exclusion(code: i32) -> Words {
    known("reason", code, |exclusion| match exclusion {
        Exclusion::Unspecified => "no reason",
        Exclusion::BreakerOpen => "it failed too often lately, its breaker is open",
        Exclusion::RateLimit => "its rate limit is used up",
        Exclusion::Privacy => "it may not be asked without consent",
        Exclusion::TooLate => "too little time was left",
        Exclusion::NotNeeded => "one before it had an offer that stood",
        Exclusion::Busy => "so many calls were under way that there was no room",
        Exclusion::FieldMissing => "a field that its request must have is not known",
    })
}

/// What came of asking.
#[must_use]
pub fn outcome(code: i32) -> Words {
    known("outcome", code, |outcome| match outcome {
        Outcome::Unspecified => "not asked",
        Outcome::Offered => "offered",
        Outcome::NoBid => "has nothing",
        Outcome::Timeout => "no answer in time",
        Outcome::Error => "answered with an error",
        Outcome::Unreachable => "cannot be reached",
        Outcome::Invalid => "answered what cannot be read",
        Outcome::TooLarge => "answered more than is taken",
    })
}

/// Why an offer does not stand.
#[must_use]
pub fn fault(code: i32) -> Words {
    known("fault", code, |fault| match fault {
        OfferFault::Unspecified => "none",
        OfferFault::Duration => "its length does not fit the slot",
        OfferFault::MediaType => "the boxes do not play its media type",
        OfferFault::Url => "its URL is not allowed",
        OfferFault::Advertiser => "its advertiser is blocked, or not named",
        OfferFault::Capped => "this box has seen the advertiser as often as it may",
        OfferFault::BelowFloor => "below the floor price",
        OfferFault::Price => "no price, or in another currency",
        OfferFault::Field => "a field is missing or too long",
    })
}

/// Why a slot was not filled.
#[must_use]
pub fn no_fill(code: i32) -> Words {
    known("reason", code, |no_fill| match no_fill {
        NoFill::Unspecified => "no reason is given",
        NoFill::NobodyAsked => "nobody could be asked",
        NoFill::NoOffer => "nobody offered anything",
        NoFill::NoOfferStood => "no offer stood",
        NoFill::Expired => "the opportunity came too late",
        NoFill::StateBound => "the box has more decisions open than are remembered",
    })
}

/// What aggregators might see.
#[must_use]
pub fn privacy(code: i32) -> Words {
    known("privacy", code, |privacy| match privacy {
        Privacy::Unspecified => "not recorded",
        Privacy::Personalised => "personalised: aggregators see what each is configured to see",
        Privacy::Contextual => {
            "contextual: aggregators see the break and its channel, no id, nothing viewed before"
        }
    })
}

/// How the choice is made.
#[must_use]
pub fn policy(code: i32) -> Words {
    known("policy", code, |kind| match kind {
        PolicyKind::Unspecified => "no policy",
        PolicyKind::Waterfall => "waterfall",
        PolicyKind::HighestPrice => "highest price",
    })
}

/// A stage, as it stands in a list of stages.
#[must_use]
pub fn stage(code: i32) -> Words {
    known("stage", code, |stage| match stage {
        Stage::Unspecified => "unknown",
        Stage::Pushed => "pushed",
        Stage::Acknowledged => "acknowledged",
        Stage::Refused => "refused",
        Stage::Shown => "shown",
        Stage::FirstQuartile => "first quartile",
        Stage::Midpoint => "midpoint",
        Stage::ThirdQuartile => "third quartile",
        Stage::Completed => "completed",
        Stage::Skipped => "skipped",
        Stage::Clicked => "clicked",
        Stage::Failed => "failed",
        Stage::Expired => "expired",
    })
}

/// Where the pictures come from.
#[must_use]
pub fn source(code: i32) -> Words {
    known("source", code, |source| match source {
        Source::Unspecified => "source not told",
        Source::Live => "live",
        Source::Timeshift => "timeshift",
        Source::Recording => "recording",
        Source::OnDemand => "on demand",
        Source::App => "an application",
    })
}

/// A channel: the operator's own id, or the DVB triplet (network, transport
/// stream, service).
#[must_use]
pub fn channel(channel: Option<&Channel>) -> String {
    match channel {
        None => "no channel".to_owned(),
        Some(channel) if channel.channel_id.is_empty() => format!(
            "channel {}/{}/{}",
            channel.network_id, channel.transport_stream_id, channel.service_id
        ),
        Some(channel) => format!("channel {}", channel.channel_id),
    }
}

/// Text that others wrote, safe to print: what would steer a terminal or end
/// the line stands as its escape.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        let escape = |letter: char| {
            let control = letter.is_control().then(|| letter.escape_default());
            let plain = (!letter.is_control()).then_some(letter);
            control.into_iter().flatten().chain(plain)
        };
        return text.chars().flat_map(escape).collect::<String>().into();
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_a_later_version_are_named_by_their_number() {
        assert_eq!(stage(8), "completed");
        assert_eq!(stage(77), "stage 77, of a later version");
        assert_eq!(outcome(-1), "outcome -1, of a later version");
    }

    #[test]
    fn control_characters_stand_as_escapes() {
        assert_eq!(printable("a\u{1b}[31m\nü"), "a\\u{1b}[31m\\nü");
    }

    #[test]
    fn channels_are_named_by_the_operator_or_by_their_triplet() {
        let triplet = Channel {
            network_id: 9018,
            transport_stream_id: 4164,
            service_id: 7,
            ..Channel::default()
        };
        assert_eq!(channel(Some(&triplet)), "channel 9018/4164/7");
        let own = Channel {
            channel_id: "sport-1".to_owned(),
            ..Channel::default()
        };
        assert_eq!(channel(Some(&own)), "channel sport-1");
        assert_eq!(channel(None), "no channel");
    }
}
