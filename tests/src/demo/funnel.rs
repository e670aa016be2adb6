//! From opportunity to completed ad, counted from the records of decisions as
//! they are read. Pure. `table` shows it to people; `counting` is how it
//! comes about.

mod counting;

use std::collections::BTreeMap;

use serde::Serialize;

pub(super) use self::counting::Counting;

/// What became of the slots that were decided.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Funnel {
    /// Breaks for which ads were asked.
    pub opportunities: u64,
    /// Slots of these breaks, each decided once.
    pub decided: u64,
    /// Slots with an ad.
    pub filled: u64,
    /// Ads that the MQTT broker took for their box.
    pub pushed: u64,
    /// Ads that their box verified and bound to their slot.
    pub acknowledged: u64,
    /// Ads of which the first frame was shown.
    pub shown: u64,
    /// Ads shown to their end.
    pub completed: u64,
    /// Ads that the viewer zapped away from.
    pub skipped: u64,
    /// Ads that did not play.
    pub failed: u64,
    /// Decisions refused by their box.
    pub refused: u64,
    /// Ads not shown in time: the viewer was elsewhere.
    pub expired: u64,
    /// Slots without an ad.
    pub unfilled: Unfilled,
    /// Of all these, what happened on boxes with a real agent.
    pub on_agents: OnAgents,
    /// The same by aggregator.
    pub aggregators: BTreeMap<String, AggregatorFunnel>,
    /// Slots decided more than once; must be 0.
    pub decided_twice: u64,
    /// Decisions of which something is told and that were never recorded; must
    /// be 0.
    pub without_record: u64,
}

/// What became of the slots for which no ad was found: their boxes are told
/// at once, and show their default.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unfilled {
    /// How many.
    pub slots: u64,
    /// Why, in words.
    pub reasons: BTreeMap<String, u64>,
    /// Taken by the MQTT broker.
    pub pushed: u64,
    /// Bound by the box.
    pub acknowledged: u64,
}

/// The ads of boxes with a real agent.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OnAgents {
    /// Slots with an ad.
    pub filled: u64,
    /// Verified, and bound to their slot on flash.
    pub acknowledged: u64,
    /// Ads shown.
    pub shown: u64,
    /// Ads shown to their end.
    pub completed: u64,
}

/// One aggregator's part.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AggregatorFunnel {
    /// Slots that it was asked for.
    pub asked: u64,
    /// Not asked, because it failed too often just before.
    pub left_alone: u64,
    /// Answered with offers, standing or not.
    pub offered: u64,
    /// Neither offers nor a plain no.
    pub failures: u64,
    /// How it failed, in words.
    pub failed_by: BTreeMap<String, u64>,
    /// Slots for which its offer was picked.
    pub filled: u64,
    /// Of these, taken by the MQTT broker.
    pub pushed: u64,
    /// Of these, bound by the box.
    pub acknowledged: u64,
    /// Of these, shown.
    pub shown: u64,
    /// Of these, shown to their end.
    pub completed: u64,
}
