//! Whether an aggregator may be asked just then: its breaker, its rate and the
//! calls that are under way. One for the whole process, because an aggregator
//! does not care which partition asks it. Not kept over restarts.

use alloc::vec::Vec;

use returnpath_shared::wire::Exclusion;

use crate::settings::Settings;

/// Names one call of this process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId {
    /// Of all calls of the process, from 1.
    pub number: u64,
    /// Index into [`Settings::aggregators`].
    pub aggregator: usize,
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

/// State of a breaker, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// None does.
    Open,
    /// Single probes do.
    HalfOpen,
}

/// Whether a call showed that the aggregator works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Health {
    Worked,
    Failed,
}

/// The gates of all aggregators.
#[derive(Debug)]
pub struct Gates {
    gates: Vec<u32>,
    calls: u64,
}

impl Gates {
    /// All open, nothing under way.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            gates: settings.aggregators.iter().map(|_| 0).collect(),
            calls: 0,
        }
    }

    /// A call whose partition is gone has ended, or was never made: it is no
    /// longer under way, and says nothing about the aggregator.
    pub fn abandoned(&mut self, call: CallId, now_us: u64) {
        let _ = now_us;
        if let Some(under_way) = self.gates.get_mut(call.aggregator) {
            *under_way = under_way.saturating_sub(1);
        }
    }

    /// State of the breaker of an aggregator, for metrics.
    #[must_use]
    pub fn breaker_state(&self, aggregator: usize, now_us: u64) -> BreakerState {
        let _ = (aggregator, now_us);
        BreakerState::Closed
    }

    /// Calls of an aggregator that are under way, for metrics.
    #[must_use]
    pub fn under_way(&self, aggregator: usize) -> u32 {
        self.gates.get(aggregator).copied().unwrap_or(0)
    }
}
