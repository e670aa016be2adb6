//! What decide counts, besides what the engine counts for every role.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};
use returnpath_decision::{BreakerState, Counts};
use returnpath_shared::wire::{Exclusion, NoFill, Outcome, Stage};

use crate::exactly_once;

/// What the inputs are called, the assigned one first.
pub(super) const INPUTS: [&str; 2] = ["opportunities", "ads"];

/// Upper bounds of an aggregator's latency, in seconds: from one nearby to the
/// longest deadline.
const CALL_SECONDS: [f64; 12] = [
    0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 10.0,
];

/// Upper bounds of our own time for a decision, in seconds; 5 ms is the most
/// that 99 of 100 may take.
const OWN_SECONDS: [f64; 12] = [
    0.000_5, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.025, 0.1, 1.0,
];

/// Upper bounds of the time from the opportunity's arrival at the collector to
/// its decision's hand-over to MQTT, all waiting included, in seconds.
const TOTAL_SECONDS: [f64; 11] = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 5.0];

/// What became of a push.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
pub(super) enum PushEnd {
    /// The broker has it, for somebody.
    Delivered,
    /// The broker has nobody to give it to: the box is away.
    NoSubscriber,
    /// The broker refuses it.
    Refused,
    /// Its time passed before the broker had it.
    Expired,
    /// No room for it: so many wait for the broker.
    NoRoom,
    /// It waited when the role ended.
    Abandoned,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct PushLabel {
    end: PushEnd,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct AggregatorLabel {
    aggregator: Arc<str>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OutcomeLabels {
    aggregator: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ExclusionLabels {
    aggregator: Arc<str>,
    reason: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct InputLabel {
    input: &'static str,
}

/// Makes the histograms of aggregators.
#[derive(Clone, Debug)]
struct CallHistogram;

impl MetricConstructor<Histogram> for CallHistogram {
    fn new_metric(&self) -> Histogram {
        Histogram::new(CALL_SECONDS)
    }
}

/// What decide counts. Cheap to clone: all clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) engine: exactly_once::Metrics,
    /// In the order of the configuration.
    names: Arc<[Arc<str>]>,
    calls: Arc<[Histogram]>,
    opportunities: Counter,
    reread: Counter,
    joined: Counter,
    pushed_again: Counter,
    repeated_late: Counter,
    undecodable: Family<InputLabel, Counter>,
    filled: Family<AggregatorLabel, Counter>,
    no_fill: Family<ReasonLabel, Counter>,
    asked: Family<OutcomeLabels, Counter>,
    excluded: Family<ExclusionLabels, Counter>,
    progress: Family<StageLabel, Counter>,
    repeated_ad_events: Counter,
    unknown_ad_events: Counter,
    breaker_state: Family<AggregatorLabel, Gauge>,
    calls_under_way: Family<AggregatorLabel, Gauge>,
    pub(super) under_way: Gauge,
    pub(super) own: Histogram,
    pub(super) total: Histogram,
    pushes: Family<PushLabel, Counter>,
    pub(super) pushes_waiting: Gauge,
    pub(super) pushes_in_flight: Gauge,
    pub(super) connected: Gauge,
    pub(super) connections: Counter,
    pub(super) connections_lost: Counter,
    pub(super) confirmations_lost: Counter,
}

impl Metrics {
    /// Registers every metric; the registry already prefixes
    /// `returnpath_decide_`. `aggregators` are their names, in the order of the
    /// configuration: labels are made of these alone.
    pub fn register<'a>(
        registry: &mut Registry,
        aggregators: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let names: Arc<[Arc<str>]> = aggregators.into_iter().map(Arc::from).collect();
        let calls = Family::<AggregatorLabel, Histogram, CallHistogram>::new_with_constructor(
            CallHistogram,
        );
        registry.register_with_unit(
            "call",
            "From asking an aggregator to the end of its answer, or to giving up",
            Unit::Seconds,
            calls.clone(),
        );
        let metrics = Self {
            calls: names
                .iter()
                .map(|name| calls.get_or_create(&label(name)).clone())
                .collect(),
            engine: exactly_once::Metrics::register(registry, "input", INPUTS),
            names,
            opportunities: Counter::default(),
            reread: Counter::default(),
            joined: Counter::default(),
            pushed_again: Counter::default(),
            repeated_late: Counter::default(),
            undecodable: Family::default(),
            filled: Family::default(),
            no_fill: Family::default(),
            asked: Family::default(),
            excluded: Family::default(),
            progress: Family::default(),
            repeated_ad_events: Counter::default(),
            unknown_ad_events: Counter::default(),
            breaker_state: Family::default(),
            calls_under_way: Family::default(),
            under_way: Gauge::default(),
            own: Histogram::new(OWN_SECONDS),
            total: Histogram::new(TOTAL_SECONDS),
            pushes: Family::default(),
            pushes_waiting: Gauge::default(),
            pushes_in_flight: Gauge::default(),
            connected: Gauge::default(),
            connections: Counter::default(),
            connections_lost: Counter::default(),
            confirmations_lost: Counter::default(),
        };
        metrics.register_counters(registry);
        metrics.register_families(registry);
        metrics.register_gauges(registry);
        metrics
    }

    /// For tests that read nothing.
    #[cfg(test)]
    pub(super) fn unobserved(aggregators: &[&str]) -> Self {
        Self::register(&mut Registry::default(), aggregators.iter().copied())
    }

    /// A call to an aggregator ended, in whatever way.
    pub(super) fn called(&self, aggregator: usize, latency: Duration) {
        if let Some(calls) = self.calls.get(aggregator) {
            calls.observe(latency.as_secs_f64());
        }
    }

    /// A push ended.
    pub(super) fn push_ended(&self, end: PushEnd) {
        self.pushes.get_or_create(&PushLabel { end }).inc();
    }

    /// How one aggregator stands just then.
    pub(super) fn set_aggregator(&self, aggregator: usize, breaker: BreakerState, calls: u32) {
        let Some(name) = self.names.get(aggregator) else {
            return;
        };
        let state = match breaker {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        self.breaker_state.get_or_create(&label(name)).set(state);
        self.calls_under_way
            .get_or_create(&label(name))
            .set(calls.into());
    }

    /// Adds what a committed transaction did.
    pub(super) fn add(&self, counts: &Counts) {
        self.opportunities.inc_by(counts.opportunities);
        self.reread.inc_by(counts.reread);
        self.joined.inc_by(counts.joined);
        self.pushed_again.inc_by(counts.pushed_again);
        self.repeated_late.inc_by(counts.repeated_late);
        self.repeated_ad_events.inc_by(counts.repeated_ad_events);
        self.unknown_ad_events.inc_by(counts.unknown_ad_events);
        for (input, count) in [
            (INPUTS[0], counts.undecodable_opportunities),
            (INPUTS[1], counts.undecodable_ads),
        ] {
            add(&self.undecodable, &InputLabel { input }, count);
        }
        for (number, count) in numbered(&counts.no_fill) {
            let reason = NoFill::try_from(number).unwrap_or_default().as_str_name();
            add(&self.no_fill, &ReasonLabel { reason }, count);
        }
        for (number, count) in numbered(&counts.progress) {
            let stage = Stage::try_from(number).unwrap_or_default().as_str_name();
            add(&self.progress, &StageLabel { stage }, count);
        }
        for (name, counts) in self.names.iter().zip(&counts.aggregators) {
            add(&self.filled, &label(name), counts.filled);
            for (number, count) in numbered(&counts.outcomes) {
                let labels = OutcomeLabels {
                    aggregator: Arc::clone(name),
                    outcome: Outcome::try_from(number).unwrap_or_default().as_str_name(),
                };
                add(&self.asked, &labels, count);
            }
            for (number, count) in numbered(&counts.excluded) {
                let exclusion = Exclusion::try_from(number).unwrap_or_default();
                let labels = ExclusionLabels {
                    aggregator: Arc::clone(name),
                    reason: exclusion.as_str_name(),
                };
                add(&self.excluded, &labels, count);
            }
        }
    }

    fn register_counters(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            (
                "opportunities",
                "Opportunities of which at least one slot was decided or asked again",
                &self.opportunities,
            ),
            (
                "reread",
                "Opportunities read twice after a restart, recorded before",
                &self.reread,
            ),
            (
                "joined",
                "Slots asked for again while they were being decided",
                &self.joined,
            ),
            (
                "pushed_again",
                "Decisions pushed again because the box asked again",
                &self.pushed_again,
            ),
            (
                "repeated_late",
                "Slots asked for again after their decision had expired",
                &self.repeated_late,
            ),
            (
                "repeated_ad_events",
                "Ad events that told what was recorded before",
                &self.repeated_ad_events,
            ),
            (
                "unknown_ad_events",
                "Ad events of decisions that are not known of their box",
                &self.unknown_ad_events,
            ),
            ("connections", "MQTT connections made", &self.connections),
            (
                "connections_lost",
                "MQTT connections lost, and attempts that failed",
                &self.connections_lost,
            ),
            (
                "confirmations_lost",
                "Confirmations of pushes for which there was no room: not recorded",
                &self.confirmations_lost,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
    }

    fn register_families(&self, registry: &mut Registry) {
        registry.register(
            "undecodable",
            "Records of an input that cannot be read; they are skipped",
            self.undecodable.clone(),
        );
        registry.register(
            "filled",
            "Slots filled, by the aggregator whose offer was picked",
            self.filled.clone(),
        );
        registry.register(
            "no_fill",
            "Slots not filled, by reason",
            self.no_fill.clone(),
        );
        registry.register(
            "asked",
            "Calls of recorded decisions, by aggregator and what came of them",
            self.asked.clone(),
        );
        registry.register(
            "excluded",
            "Aggregators not asked for a slot, by reason",
            self.excluded.clone(),
        );
        registry.register(
            "progress",
            "What became of decisions, by stage",
            self.progress.clone(),
        );
        registry.register("pushes", "Pushes, by their end", self.pushes.clone());
        registry.register_with_unit(
            "own",
            "Our own time for a decision: from taking the opportunity to handing the push over, \
             less waiting for aggregators and for Kafka's confirmation",
            Unit::Seconds,
            self.own.clone(),
        );
        registry.register_with_unit(
            "total",
            "From taking the opportunity to handing the push over",
            Unit::Seconds,
            self.total.clone(),
        );
    }

    fn register_gauges(&self, registry: &mut Registry) {
        registry.register(
            "breaker_state",
            "0 closed, 1 half open, 2 open: left alone",
            self.breaker_state.clone(),
        );
        registry.register(
            "calls_under_way",
            "Calls under way, by aggregator",
            self.calls_under_way.clone(),
        );
        for (name, help, gauge) in [
            ("under_way", "Opportunities being decided", &self.under_way),
            (
                "pushes_waiting",
                "Pushes that wait for the broker",
                &self.pushes_waiting,
            ),
            (
                "pushes_in_flight",
                "Pushes that the broker has not acknowledged",
                &self.pushes_in_flight,
            ),
            (
                "connected",
                "1 while connected to an MQTT broker",
                &self.connected,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }
}

fn label(name: &Arc<str>) -> AggregatorLabel {
    AggregatorLabel {
        aggregator: Arc::clone(name),
    }
}

fn numbered(counts: &[u64]) -> impl Iterator<Item = (i32, u64)> {
    (0_i32..).zip(counts.iter().copied())
}

/// Adds, and makes no series for what never happens.
fn add<L>(family: &Family<L, Counter>, labels: &L, count: u64)
where
    L: Clone + Eq + std::hash::Hash + std::fmt::Debug + EncodeLabelSet,
{
    if count > 0 {
        family.get_or_create(labels).inc_by(count);
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    #[test]
    fn what_a_transaction_did_appears_under_the_names_of_the_protocol() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry, ["one", "two"]);
        let mut counts = Counts {
            filled: 1,
            ..Counts::default()
        };
        counts.no_fill[NoFill::Expired as usize] = 2;
        counts.aggregators.resize(2, Default::default());
        counts.aggregators[1].filled = 1;
        counts.aggregators[1].outcomes[Outcome::NoBid as usize] = 3;
        counts.aggregators[0].excluded[Exclusion::BreakerOpen as usize] = 4;
        metrics.add(&counts);
        metrics.called(0, Duration::from_millis(40));
        metrics.set_aggregator(1, BreakerState::Open, 7);
        metrics.push_ended(PushEnd::NoSubscriber);

        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        for line in [
            "no_fill_total{reason=\"NO_FILL_EXPIRED\"} 2",
            "filled_total{aggregator=\"two\"} 1",
            "asked_total{aggregator=\"two\",outcome=\"OUTCOME_NO_BID\"} 3",
            "excluded_total{aggregator=\"one\",reason=\"EXCLUSION_BREAKER_OPEN\"} 4",
            "call_seconds_count{aggregator=\"one\"} 1",
            "breaker_state{aggregator=\"two\"} 2",
            "calls_under_way{aggregator=\"two\"} 7",
            "pushes_total{end=\"NoSubscriber\"} 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }
}
