//! Whether an aggregator may be asked just then: its breaker, its rate and the
//! calls that are under way. One for the whole process, because an aggregator
//! does not care which partition asks it. Not kept over restarts.

use alloc::vec::Vec;

use returnpath_shared::wire::Exclusion;

use crate::settings::{Aggregator, Settings};

mod breaker;
mod bucket;

pub(crate) use breaker::Health;

use breaker::Breaker;
use bucket::Bucket;

/// Names one call of this process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId {
    /// Of all calls of the process, from 1.
    pub number: u64,
    /// Index into [`Settings::aggregators`].
    pub aggregator: usize,
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

/// The gates of all aggregators. Owned by whoever drives the partitions, one
/// for all of them.
#[derive(Debug)]
pub struct Gates {
    gates: Vec<Gate>,
    calls: u64,
}

#[derive(Debug)]
struct Gate {
    breaker: Breaker,
    bucket: Option<Bucket>,
    under_way: u32,
    calls_max: u32,
}

impl Gates {
    /// All open, nothing under way.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let gate = |aggregator: &Aggregator| Gate {
            breaker: Breaker::new(aggregator.breaker),
            bucket: aggregator.rate.map(Bucket::new),
            under_way: 0,
            calls_max: aggregator.calls_max,
        };
        Self {
            gates: settings.aggregators.iter().map(gate).collect(),
            calls: 0,
        }
    }

    /// A call whose partition is gone has ended, or was never made: it is no
    /// longer under way, and says nothing about the aggregator.
    pub fn abandoned(&mut self, call: CallId, now_us: u64) {
        self.end(call, None, now_us);
    }

    /// State of the breaker of an aggregator, for metrics.
    #[must_use]
    pub fn breaker_state(&self, aggregator: usize, now_us: u64) -> BreakerState {
        self.gates
            .get(aggregator)
            .map_or(BreakerState::Closed, |gate| gate.breaker.state(now_us))
    }

    /// Calls of an aggregator that are under way, for metrics.
    #[must_use]
    pub fn under_way(&self, aggregator: usize) -> u32 {
        self.gates.get(aggregator).map_or(0, |gate| gate.under_way)
    }

    /// Why an aggregator may not be asked just now. Takes nothing: a request
    /// that cannot be made costs no token.
    pub(crate) fn refusal(&mut self, aggregator: usize, now_us: u64) -> Option<Exclusion> {
        let gate = self.gates.get_mut(aggregator)?;
        if !gate.breaker.admits(now_us) {
            return Some(Exclusion::BreakerOpen);
        }
        if gate.under_way >= gate.calls_max {
            return Some(Exclusion::Busy);
        }
        let bucket = gate.bucket.as_mut()?;
        (!bucket.has_token(now_us)).then_some(Exclusion::RateLimit)
    }

    /// Begins a call that was not refused.
    pub(crate) fn begin(&mut self, aggregator: usize, now_us: u64) -> CallId {
        self.calls += 1;
        if let Some(gate) = self.gates.get_mut(aggregator) {
            gate.breaker.begin(self.calls, now_us);
            if let Some(bucket) = &mut gate.bucket {
                bucket.take();
            }
            gate.under_way += 1;
        }
        CallId {
            number: self.calls,
            aggregator,
        }
    }

    /// Ends a call.
    pub(crate) fn end(&mut self, call: CallId, health: Option<Health>, now_us: u64) {
        if let Some(gate) = self.gates.get_mut(call.aggregator) {
            gate.under_way = gate.under_way.saturating_sub(1);
            gate.breaker.end(call.number, health, now_us);
        }
    }
}
