//! The table of event kinds: class, urgency and refined stream of each. The
//! agent keeps and sends by it, refine fans out by it.

use crate::wire::{Event, ad_event, event};

/// How an event is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    /// Answered `accepted`; written behind; evicted first.
    Ordinary,
    /// Answered `durable`; evicted last.
    Proof,
}

/// When an event is sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Urgency {
    /// With the batch of its interval.
    Batched,
    /// At once: closes the open batch and travels in it.
    Urgent,
}

/// Where a refined event goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stream {
    /// `rp.viewing`
    Viewing,
    /// `rp.ads`
    Ads,
    /// `rp.health`
    Health,
    /// `rp.custom`
    Custom,
}

/// The kinds of events, as a sender's permissions and metrics name them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[expect(
    missing_docs,
    reason = "the kinds are documented in proto/returnpath/v1/event.proto"
)]
pub enum Kind {
    Tune,
    ViewingHeartbeat,
    TrickPlay,
    Power,
    Display,
    UserActivity,
    AdOpportunity,
    AdEvent,
    Consent,
    Custom,
    Health,
    Boot,
    Ledger,
    UncleanStop,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::Tune,
        Self::ViewingHeartbeat,
        Self::TrickPlay,
        Self::Power,
        Self::Display,
        Self::UserActivity,
        Self::AdOpportunity,
        Self::AdEvent,
        Self::Consent,
        Self::Custom,
        Self::Health,
        Self::Boot,
        Self::Ledger,
        Self::UncleanStop,
    ];

    /// Kind of an event; `None` where it is absent or of a later version.
    #[must_use]
    pub fn of(event: &Event) -> Option<Self> {
        Some(match event.kind.as_ref()? {
            event::Kind::Tune(_) => Self::Tune,
            event::Kind::ViewingHeartbeat(_) => Self::ViewingHeartbeat,
            event::Kind::TrickPlay(_) => Self::TrickPlay,
            event::Kind::Power(_) => Self::Power,
            event::Kind::Display(_) => Self::Display,
            event::Kind::UserActivity(_) => Self::UserActivity,
            event::Kind::AdOpportunity(_) => Self::AdOpportunity,
            event::Kind::AdEvent(_) => Self::AdEvent,
            event::Kind::Consent(_) => Self::Consent,
            event::Kind::Custom(_) => Self::Custom,
            event::Kind::Health(_) => Self::Health,
            event::Kind::Boot(_) => Self::Boot,
            event::Kind::Ledger(_) => Self::Ledger,
            event::Kind::UncleanStop(_) => Self::UncleanStop,
        })
    }

    /// Name as in the JSON mapping and in the agent's configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tune => "tune",
            Self::ViewingHeartbeat => "viewingHeartbeat",
            Self::TrickPlay => "trickPlay",
            Self::Power => "power",
            Self::Display => "display",
            Self::UserActivity => "userActivity",
            Self::AdOpportunity => "adOpportunity",
            Self::AdEvent => "adEvent",
            Self::Consent => "consent",
            Self::Custom => "custom",
            Self::Health => "health",
            Self::Boot => "boot",
            Self::Ledger => "ledger",
            Self::UncleanStop => "uncleanStop",
        }
    }

    /// The kind called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether only the agent itself makes such events: no client may.
    #[must_use]
    pub fn is_agents_own(self) -> bool {
        matches!(self, Self::Boot | Self::Ledger | Self::UncleanStop)
    }

    /// Where events of this kind go.
    #[must_use]
    pub fn stream(self) -> Stream {
        match self {
            Self::Tune
            | Self::ViewingHeartbeat
            | Self::TrickPlay
            | Self::Power
            | Self::Display
            | Self::UserActivity => Stream::Viewing,
            Self::AdOpportunity | Self::AdEvent => Stream::Ads,
            Self::Consent | Self::Health | Self::Boot | Self::Ledger | Self::UncleanStop => {
                Stream::Health
            }
            Self::Custom => Stream::Custom,
        }
    }
}

impl Stream {
    /// Every stream.
    pub const ALL: [Self; 4] = [Self::Viewing, Self::Ads, Self::Health, Self::Custom];
}

impl Class {
    /// Class of an event of a known kind; of an unknown one ordinary.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        match event.kind.as_ref() {
            Some(
                event::Kind::AdEvent(_)
                | event::Kind::Consent(_)
                | event::Kind::Ledger(_)
                | event::Kind::UncleanStop(_),
            ) => Self::Proof,
            Some(event::Kind::Custom(custom)) if custom.proof => Self::Proof,
            Some(_) | None => Self::Ordinary,
        }
    }
}

impl Urgency {
    /// Urgency of an event: opportunities, impressions and consent go at once.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        match event.kind.as_ref() {
            Some(event::Kind::AdOpportunity(_) | event::Kind::Consent(_)) => Self::Urgent,
            Some(event::Kind::AdEvent(ad)) if ad.kind() == ad_event::Kind::Start => Self::Urgent,
            Some(_) | None => Self::Batched,
        }
    }
}
