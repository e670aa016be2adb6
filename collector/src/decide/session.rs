//! What decide does with a partition: hands records and answers to the core,
//! what comes out to the open transaction and to the aggregators, and once the
//! transaction is committed, pushes to the boxes.
//!
//! Nothing here waits. Calls leave the thread at once and belong to no
//! transaction; `news` brings back how they ended, and which pushes the broker
//! has. What is being asked is bounded by the core (askings of a partition,
//! calls of an aggregator): where a partition has no room, no opportunity is
//! read until it has. A transaction ends as soon as nothing else is at hand
//! when a decision is in it, or an opportunity that a box asked again; while
//! decisions keep coming they go together (`exactly_once::cadence`). While Kafka
//! commits one, the next is worked on: a commit takes as long as twenty
//! decisions, and they would all be late by the work of all.
//!
//! An opportunity is *pending* while its aggregators are asked: its offset is
//! not committed, and it needs no transaction. Where the partition is handed
//! over meanwhile, what is being asked is dropped, and the next owner asks
//! again; where the transaction is undone, the same happens here.
//!
//! `own_time` measures what of the way was ours.

mod news;
mod own_time;

use std::{
    collections::BTreeSet,
    error::Error,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use returnpath_decision::{
    Answer, Call, Destination, Ended, Gates, InputRecord, Lent, Output, Partition, Pseudonyms,
    Push, Request, Settings, Signer,
};
use tokio::runtime::Handle;

use super::{clock::Clock, metrics::Metrics};
use crate::{
    exactly_once::{Input, Record, Stand, Work, Writer},
    kafka::TopicNames,
};
pub(super) use news::{Letterbox, News, post};
use own_time::Confirmations;

/// How often gauges that nothing else moves are set, in ms: more often than
/// they are read.
const GAUGES_EVERY_MS: u64 = 1_000;

/// Asks aggregators.
pub(super) trait Aggregators: Send + Sync + 'static {
    /// Asks one, by its place in the settings; ends within `deadline`.
    fn call(
        &self,
        aggregator: usize,
        request: Request,
        deadline: Duration,
    ) -> impl Future<Output = Answer> + Send;
}

/// Brings decisions to the boxes.
pub(super) trait Boxes: Send + 'static {
    /// Hands a push over, without waiting; what has no room is gone.
    fn push(&self, partition: i32, push: Push);

    /// Whether pushes get through just then.
    fn is_connected(&self) -> bool;
}

/// What the partitions share, and what they are driven with.
pub(super) struct Deciding<A, B> {
    pub(super) settings: Arc<Settings>,
    pub(super) signer: Box<dyn Signer + Send>,
    pub(super) pseudonyms: Box<dyn Pseudonyms + Send>,
    pub(super) aggregators: Arc<A>,
    pub(super) boxes: B,
    pub(super) names: TopicNames,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    pub(super) runtime: Handle,
    pub(super) letterbox: Letterbox,
    pub(super) state: State,
}

/// What the driver itself remembers.
pub(super) struct State {
    gates: Gates,
    out: Output,
    pushes: Vec<Push>,
    confirmations: Confirmations,
    /// Partitions that take no further opportunity for now.
    full: BTreeSet<i32>,
    /// Opportunities being decided, in all partitions.
    under_way: usize,
    gauges_set_ms: u64,
}

impl State {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            gates: Gates::new(settings),
            out: Output::new(),
            pushes: Vec::new(),
            confirmations: Confirmations::default(),
            full: BTreeSet::new(),
            under_way: 0,
            gauges_set_ms: 0,
        }
    }
}

/// A partition that is ours.
pub(super) struct Owned {
    number: i32,
    core: Partition,
}

impl<A: Aggregators, B: Boxes> Deciding<A, B> {
    /// Lets the core do something; makes the calls and writes the records that
    /// come of it. Says whether the transaction has to do with it.
    fn step(
        &mut self,
        owned: &mut Owned,
        writer: &mut Writer<'_>,
        act: impl FnOnce(&mut Partition, Lent<'_>, &mut Output),
    ) -> Stand {
        let State {
            gates,
            out,
            under_way,
            full,
            ..
        } = &mut self.state;
        let lent = Lent {
            now: self.clock.now(),
            gates,
            signer: &*self.signer,
            pseudonyms: &*self.pseudonyms,
        };
        let before = owned.core.under_way();
        out.clear();
        act(&mut owned.core, lent, out);
        let after = owned.core.under_way();
        *under_way = (*under_way + after).saturating_sub(before);
        if owned.core.has_room() {
            full.remove(&owned.number);
        } else {
            full.insert(owned.number);
        }
        let calls = out.take_calls();
        for record in out.records() {
            let topic = match record.destination {
                Destination::Decisions => &self.names.decisions,
                Destination::State => &self.names.decide_state,
            };
            writer.write(topic, record.key, record.value);
        }
        if out.is_urgent() {
            writer.urge();
        }
        let stand = if out.is_urgent() || !out.is_empty() || after < before {
            Stand::Done
        } else {
            Stand::Pending
        };
        self.make(owned.number, calls);
        stand
    }

    /// Makes calls, on the runtime; their ends come back as news.
    fn make(&self, partition: i32, calls: Vec<Call>) {
        if calls.is_empty() {
            return;
        }
        let aggregators = Arc::clone(&self.aggregators);
        let settings = Arc::clone(&self.settings);
        let letterbox = self.letterbox.for_answers();
        let clock = self.clock;
        // Only the first crosses over to the runtime: each time wakes it.
        self.runtime.spawn(async move {
            for call in calls {
                let aggregators = Arc::clone(&aggregators);
                let settings = Arc::clone(&settings);
                let letterbox = letterbox.clone();
                // Called within, or the task would hold, and move, all of it
                // twice.
                tokio::spawn(async move {
                    let ended = ask(&*aggregators, &settings, call, clock).await;
                    letterbox.answered(partition, ended);
                });
            }
        });
    }

    /// Hands pushes over.
    fn push(&mut self, partition: i32, pushes: Vec<Push>) {
        for push in pushes {
            if let Some(timing) = push.timing {
                let time = self.state.confirmations.judge(timing, self.clock.now_us());
                self.metrics.own.observe(time.own.as_secs_f64());
                self.metrics.total.observe(time.total.as_secs_f64());
            }
            self.boxes.push(partition, push);
        }
    }

    fn set_gauges(&mut self) {
        let size = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.under_way.set(size(self.state.under_way));
        let now_us = self.clock.now_us();
        for aggregator in 0..self.settings.aggregators.len() {
            self.metrics.set_aggregator(
                aggregator,
                self.state.gates.breaker_state(aggregator, now_us),
                self.state.gates.under_way(aggregator),
            );
        }
    }
}

/// Makes one call, to its end, and reads what came of it.
async fn ask<A: Aggregators>(
    aggregators: &A,
    settings: &Settings,
    call: Call,
    clock: Clock,
) -> Ended {
    let deadline = Duration::from_millis(call.deadline_ms.into());
    let sent_us = clock.now_us();
    let answer = aggregators
        .call(call.id.aggregator, call.request, deadline)
        .await;
    let ended_us = clock.now_us();
    Ended {
        call: call.id,
        answered: settings.read(call.id, call.slot_duration_ms, &answer),
        sent_us,
        ended_us,
    }
}

impl<A: Aggregators, B: Boxes> Work for Deciding<A, B> {
    const WORKS_AHEAD: bool = true;

    type Partition = Owned;
    type News = News;

    fn partition(&mut self, number: i32) -> Owned {
        Owned {
            number,
            core: Partition::new(Arc::clone(&self.settings)),
        }
    }

    fn restore(
        &mut self,
        owned: &mut Owned,
        _changelog: usize,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(owned.core.restore(key, value)?)
    }

    /// A former owner may have gone between its commit and its pushes.
    fn resumed(&mut self, owned: &mut Owned, _now_ms: u64) {
        let mut pushes = Vec::new();
        owned.core.resume(self.clock.now(), &mut pushes);
        self.push(owned.number, pushes);
    }

    fn has_room(&self) -> bool {
        self.state.full.is_empty()
    }

    fn take(
        &mut self,
        owned: &mut Owned,
        record: &Record<'_>,
        _now_ms: u64,
        writer: &mut Writer<'_>,
    ) -> Stand {
        let input = InputRecord {
            key: record.key,
            value: record.value,
            offset: record.offset,
        };
        match record.input {
            Input::Assigned => {
                let before = owned.core.under_way();
                let stand = self.step(owned, writer, |core, lent, out| {
                    core.opportunity(&input, lent, out);
                });
                // Where nothing began, its offset alone is to be committed.
                if owned.core.under_way() > before {
                    stand
                } else {
                    Stand::Done
                }
            }
            Input::Followed => {
                self.step(owned, writer, |core, lent, out| {
                    core.ad_event(&input, lent.now, out);
                });
                Stand::Done
            }
        }
    }

    fn poll_timeout(&self, owned: &Owned, now_ms: u64) -> Option<u64> {
        let now = self.clock.now();
        let due_us = owned.core.poll_timeout(now)?;
        let left_us = due_us.saturating_sub(now.monotonic_us);
        // Both clocks are cut to whole units: one more, and it is over by both.
        let left_ms = if left_us == 0 {
            0
        } else {
            left_us.div_ceil(1_000) + 1
        };
        Some(now_ms.saturating_add(left_ms))
    }

    fn handle_timeout(
        &mut self,
        owned: &mut Owned,
        _now_ms: u64,
        writer: &mut Writer<'_>,
    ) -> Stand {
        self.step(owned, writer, Partition::handle_timeout)
    }

    fn news(&mut self) -> Option<(i32, News)> {
        self.letterbox.take()
    }

    fn disregard(&mut self, news: News) {
        match news {
            News::Answered(ended) => {
                let now_us = self.clock.now_us();
                self.state.gates.abandoned(ended.call, now_us);
            }
            // Whoever owns the partition pushes again until it is acknowledged.
            News::Pushed { .. } => {}
        }
    }

    fn hear(
        &mut self,
        owned: &mut Owned,
        news: News,
        _now_ms: u64,
        writer: &mut Writer<'_>,
    ) -> Stand {
        self.step(owned, writer, |core, lent, out| match news {
            News::Answered(ended) => core.answered(ended, lent, out),
            News::Pushed {
                device,
                decision_id,
            } => core.pushed(device.as_str(), &decision_id, lent.now, out),
        })
    }

    /// What is being asked cannot be finished at once; it is read again.
    fn flush(&mut self, _owned: &mut Owned, _writer: &mut Writer<'_>) -> Stand {
        Stand::Pending
    }

    fn lowest_unfinished(&self, owned: &Owned, input: Input) -> Option<i64> {
        owned.core.lowest_unfinished_offset(match input {
            Input::Assigned => returnpath_decision::Input::Opportunities,
            Input::Followed => returnpath_decision::Input::Ads,
        })
    }

    fn changes(&mut self, owned: &mut Owned, writer: &mut Writer<'_>) {
        let out = &mut self.state.out;
        out.clear();
        owned.core.changes(out);
        for record in out.records() {
            writer.write(&self.names.decide_state, record.key, record.value);
        }
        self.state.confirmations.begin(self.clock.now_us());
    }

    fn committed(&mut self, owned: &mut Owned, at: Instant) {
        self.state.confirmations.end(self.clock.us_at(at));
        let mut pushes = mem::take(&mut self.state.pushes);
        let counts = owned.core.commit(&mut pushes);
        self.metrics.add(&counts);
        self.push(owned.number, pushes);
    }

    fn aborted(&mut self, owned: &mut Owned) {
        self.state.confirmations.end(self.clock.now_us());
        self.forget(owned);
        owned.core.abort();
    }

    fn released(&mut self, owned: Owned) {
        self.forget(&owned);
    }

    fn hindrance(&mut self, now_ms: u64) -> Option<&'static str> {
        if now_ms.saturating_sub(self.state.gauges_set_ms) >= GAUGES_EVERY_MS {
            self.state.gauges_set_ms = now_ms;
            self.set_gauges();
        }
        (!self.boxes.is_connected()).then_some("no MQTT connection for decisions")
    }

    fn devices(&self, owned: &Owned) -> usize {
        owned.core.devices()
    }
}

impl<A, B> Deciding<A, B> {
    /// What a partition is asking is being dropped.
    fn forget(&mut self, owned: &Owned) {
        let state = &mut self.state;
        state.under_way = state.under_way.saturating_sub(owned.core.under_way());
        state.full.remove(&owned.number);
    }
}

#[cfg(test)]
mod tests;
