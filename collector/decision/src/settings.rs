//! How decide decides: what the operator configured, checked once.

use alloc::{format, string::String, sync::Arc, vec::Vec};
use core::fmt;

use returnpath_shared::wire::{Policy, PolicyKind};
use thiserror::Error;

use crate::{call::Adapter, offer::PRICE_MICROS_MAX, rules::Rules};

/// Aggregators configured at once: bounds the record of a decision. More are
/// refused at start.
pub const AGGREGATORS_MAX: usize = 16;

/// Longest deadline of an aggregator, and of an asking, in ms: no break waits
/// longer.
pub const DEADLINE_MS_MAX: u32 = 10_000;

/// Longest name of an aggregator, in bytes: it stands in every record.
const NAME_BYTES_MAX: usize = 64;

/// Longest time after the start of its slot at which an ad may begin, in ms.
const LATE_MS_MAX: u32 = 60_000;

/// Longest window of a cap, in ms: 31 days.
const CAP_WINDOW_MS_MAX: u64 = 31 * 24 * 60 * 60 * 1_000;

/// Everything that the core must know. Check it with [`Settings::check`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// In the order in which they are asked, and preferred.
    pub aggregators: Vec<Aggregator>,
    /// How the choice is made; recorded with every decision.
    pub policy: Policy,
    /// What offers must be like.
    pub rules: Rules,
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

/// How often an aggregator may be asked: a bucket of tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Tokens that come back each second.
    pub per_second: u32,
    /// Tokens that it holds at most.
    pub burst: u32,
}

/// When an aggregator is left alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BreakerSettings {
    /// Failures are counted over this long, in ms.
    pub window_ms: u32,
    /// So many calls must have ended within it before the share of failures
    /// says something.
    pub calls_min: u32,
    /// Share of failures within it at which the breaker opens, in percent.
    pub failures_percent: u32,
    /// How long it stays open before a probe is let through, in ms; also the
    /// least time between two probes.
    pub open_ms: u32,
    /// Probes that must succeed one after the other until it closes.
    pub probes_min: u32,
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
        self.check_policy()?;
        let names = self.aggregators.iter().map(|one| one.name.as_str());
        expect(
            "aggregators",
            (1..=AGGREGATORS_MAX).contains(&self.aggregators.len()),
            "1 to 16 of them",
        )?;
        for (place, aggregator) in self.aggregators.iter().enumerate() {
            aggregator.check(&format!("aggregators[{place}]"))?;
            let is_alone = names
                .clone()
                .filter(|name| *name == aggregator.name)
                .count()
                == 1;
            expect(
                &format!("aggregators[{place}].name"),
                is_alone,
                "a name that no other has",
            )?;
        }
        if let Some(cap) = self.cap {
            expect("cap.impressions_max", cap.impressions_max > 0, "1 or more")?;
            let is_window = (1..=CAP_WINDOW_MS_MAX).contains(&cap.window_ms);
            expect("cap.window_ms", is_window, "1 ms to 31 days")?;
        }
        expect("late_ms", self.late_ms <= LATE_MS_MAX, "0 to 60000")?;
        let is_deadline = (1..=DEADLINE_MS_MAX).contains(&self.budget_ms);
        expect("budget_ms", is_deadline, "1 to 10000")?;
        Ok(Arc::new(self))
    }

    fn check_policy(&self) -> Result<(), SettingError> {
        let Policy {
            floor_price_micros,
            currency,
            takes_unpriced,
            ..
        } = &self.policy;
        let kind = self.policy.kind();
        let is_known = kind != PolicyKind::Unspecified;
        expect("policy.kind", is_known, "waterfall or highest price")?;
        let is_price = (0..=PRICE_MICROS_MAX).contains(floor_price_micros);
        expect("policy.floor_price_micros", is_price, "0 to 10^12")?;
        let is_code = currency.len() == 3 && currency.bytes().all(|c| c.is_ascii_uppercase());
        expect(
            "policy.currency",
            is_code,
            "three capital letters (ISO 4217)",
        )?;
        expect(
            "policy.takes_unpriced",
            !takes_unpriced || kind == PolicyKind::Waterfall,
            "false, unless the policy is waterfall",
        )
    }
}

impl Aggregator {
    fn check(&self, path: &str) -> Result<(), SettingError> {
        let Self {
            name,
            deadline_ms,
            rate,
            breaker,
            calls_max,
            ..
        } = self;
        let key = |key: &str| format!("{path}.{key}");
        let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
            && name
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.'));
        expect(&key("name"), is_name, "1 to 64 of [A-Za-z0-9._-]")?;
        let is_deadline = (1..=DEADLINE_MS_MAX).contains(deadline_ms);
        expect(&key("deadline_ms"), is_deadline, "1 to 10000")?;
        if let Some(rate) = rate {
            expect(&key("rate.per_second"), rate.per_second > 0, "1 or more")?;
            expect(&key("rate.burst"), rate.burst > 0, "1 or more")?;
        }
        expect(&key("calls_max"), *calls_max > 0, "1 or more")?;
        let is_window = (100..=600_000).contains(&breaker.window_ms);
        expect(&key("breaker.window_ms"), is_window, "100 to 600000")?;
        expect(
            &key("breaker.calls_min"),
            breaker.calls_min > 0,
            "1 or more",
        )?;
        let is_share = (1..=100).contains(&breaker.failures_percent);
        expect(&key("breaker.failures_percent"), is_share, "1 to 100")?;
        let is_open = (1..=600_000).contains(&breaker.open_ms);
        expect(&key("breaker.open_ms"), is_open, "1 to 600000")?;
        expect(
            &key("breaker.probes_min"),
            breaker.probes_min > 0,
            "1 or more",
        )
    }
}

fn expect(key: &str, is_so: bool, expected: &'static str) -> Result<(), SettingError> {
    if is_so {
        return Ok(());
    }
    Err(SettingError {
        key: key.into(),
        expected,
    })
}
