//! How decide decides: what the operator configured, checked once.

use alloc::{string::String, sync::Arc, vec::Vec};
use core::fmt;

use returnpath_shared::wire::{Policy, PolicyKind};
use thiserror::Error;

use crate::{
    call::Adapter,
    gates::{BreakerSettings, Rate},
};

/// Aggregators configured at once: bounds the record of a decision. More are
/// refused at start.
pub const AGGREGATORS_MAX: usize = 16;

/// Longest deadline of an aggregator, and of an asking, in ms: no break waits
/// longer.
pub const DEADLINE_MS_MAX: u32 = 10_000;

/// Everything that the core must know. Check it with [`Settings::check`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// In the order in which they are asked, and preferred.
    pub aggregators: Vec<Aggregator>,
    /// How the choice is made; recorded with every decision.
    pub policy: Policy,
    /// How often a box may see one advertiser; `None` for as often as may be.
    pub cap: Option<Cap>,
    /// How long after the start of its slot an ad may begin, in ms.
    pub late_ms: u32,
    /// How long a whole asking may take, all aggregators together, in ms.
    pub budget_ms: u32,
    /// What unknown consent counts as.
    pub unknown_consent: UnknownConsent,
}

/// One aggregator.
#[derive(Clone)]
pub struct Aggregator {
    /// As it stands in records and metrics.
    pub name: String,
    /// Speaks its API.
    pub adapter: Arc<dyn Adapter>,
    /// How long one call may take, in ms.
    pub deadline_ms: u32,
    /// How often it may be asked; `None` for as often as needed.
    pub rate: Option<Rate>,
    /// When it is left alone.
    pub breaker: BreakerSettings,
    /// Calls under way at a time.
    pub calls_max: u32,
    /// Whether it is asked for boxes without consent to personalised ads.
    pub without_consent: WithoutConsent,
}

/// Whether an aggregator is asked for boxes without consent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WithoutConsent {
    /// It is, and sees what describes the break and the channel.
    Asked,
    /// It is not.
    NotAsked,
}

/// What a box counts as that never told its consent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnknownConsent {
    /// Opted out.
    OptedOut,
    /// Opted in: where the operator has the consent by contract.
    OptedIn,
}

/// How often a box may see one advertiser.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cap {
    /// Ads of one advertiser.
    pub impressions_max: u32,
    /// Within this long, in ms, from one decision to another.
    pub window_ms: u64,
}

/// A setting that cannot be.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{key}: expected {expected}")]
pub struct SettingError {
    /// Path of the setting.
    pub key: String,
    /// What was expected.
    pub expected: &'static str,
}

impl fmt::Debug for Aggregator {
    /// Without the adapter: it may hold secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Aggregator")
            .field("name", &self.name)
            .field("deadline_ms", &self.deadline_ms)
            .field("rate", &self.rate)
            .field("breaker", &self.breaker)
            .field("calls_max", &self.calls_max)
            .field("without_consent", &self.without_consent)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// The settings, when each of them can be.
    ///
    /// # Errors
    /// Names the first that cannot.
    pub fn check(self) -> Result<Arc<Self>, SettingError> {
        let wrong = |key: &str, expected| SettingError {
            key: key.into(),
            expected,
        };
        if PolicyKind::try_from(self.policy.kind).unwrap_or_default() == PolicyKind::Unspecified {
            return Err(wrong("policy.kind", "waterfall or highest price"));
        }
        Ok(Arc::new(self))
    }
}
