//! One simulated box: a feed, the agent's own delivery core and link, and
//! memory in place of flash. The loop is that of an agent without its socket:
//! effects are carried out in order, and nothing is awaited but the next input.

use std::{
    collections::HashMap,
    future::pending,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prost::Message as _;
use returnpath_agent::{
    clock,
    link::{Acknowledgement, CloseReason, Link, LinkConfig, LinkEvent, PublishError},
};
use returnpath_collector::audit;
use returnpath_delivery::{
    Acceptance, Answer, ClientToken, CommitOutcome, Config, Delivery, Dial, Effect, Input, Loss,
    PubAckOutcome, Publish, Reconnect, ReconnectConfig, SendingClock, Start, Status, Uptime,
};
use returnpath_shared::{Class, DeviceId, Epoch, Ordinal, Urgency, wire};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use super::{
    counters::Counters,
    feed::Feed,
    memory::Memory,
    way_back::{Step, Taken, WayBack},
};

/// Goodbye to the broker.
const DISCONNECT_GRACE: Duration = Duration::from_secs(1);

/// What the boxes of a fleet are told to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Take what the feed has.
    Feeding,
    /// Take nothing more; send what is held.
    Draining,
    /// End.
    Stopped,
}

/// What a box is made of.
pub(super) struct Parts {
    pub(super) device: DeviceId,
    pub(super) start: Start,
    pub(super) config: Config,
    pub(super) reconnect: ReconnectConfig,
    pub(super) link: LinkConfig,
    pub(super) feed: Feed,
    /// In boxes that follow decisions.
    pub(super) way_back: Option<WayBack>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) answers: mpsc::Sender<audit::Answer>,
    pub(super) counters: Arc<Counters>,
}

/// The box.
pub(super) struct SimulatedBox {
    device: DeviceId,
    delivery: Delivery,
    reconnect: Reconnect,
    /// The next attempt; `None` while there is a connection or an attempt.
    dial: Option<Dial>,
    link: Link,
    memory: Memory,
    feed: Feed,
    way_back: Option<WayBack>,
    phase: watch::Receiver<Phase>,
    answers: mpsc::Sender<audit::Answer>,
    /// Answers that were given and are not handed on yet.
    given: Vec<audit::Answer>,
    /// When the urgent proof events that wait for their answer were handed in.
    /// The core bounds how many do.
    waiting: HashMap<ClientToken, Uptime>,
    requests: u64,
    counters: Arc<Counters>,
    /// What the core had counted when it was last added to `counters`.
    counted: Status,
    settled: bool,
    drained: bool,
}

impl SimulatedBox {
    pub(super) fn new(parts: Parts) -> Self {
        let now = uptime();
        let (epoch, seed) = (parts.start.epoch, parts.start.seed);
        let mut reconnect = Reconnect::new(parts.reconnect, &parts.device, NonZeroU32::MIN, seed);
        let dial = Some(reconnect.first(now));
        let mut delivery = Delivery::new(parts.config, parts.start, [], now);
        delivery.handle(
            Input::ClockSynchronised {
                unix_ms: clock::unix_ms(),
            },
            now,
        );
        Self {
            device: parts.device,
            delivery,
            reconnect,
            dial,
            link: Link::new(parts.link, epoch),
            memory: Memory::default(),
            feed: parts.feed,
            way_back: parts.way_back,
            phase: parts.phase,
            answers: parts.answers,
            given: Vec::new(),
            waiting: HashMap::new(),
            requests: 0,
            counters: parts.counters,
            counted: Status::default(),
            settled: false,
            drained: false,
        }
    }

    /// Lives until it is told to stop.
    pub(super) async fn run(mut self) {
        loop {
            // What is told goes into the queue, and its answers come out of it.
            while self.follow() || self.carry_out() {}
            self.count();
            for answer in self.given.split_off(0) {
                // Nobody keeps the answers: the run is over.
                if self.answers.send(answer).await.is_err() {
                    return;
                }
            }
            let phase = *self.phase.borrow();
            if phase == Phase::Stopped {
                break;
            }
            let wake_at = self.wake_at(phase);
            let wake = async {
                match wake_at {
                    Some(at) => sleep(at.since(uptime())).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                event = self.link.next() => self.heard(event, uptime()),
                () = wake => self.due(phase, uptime()),
                changed = self.phase.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
            }
        }
        if self.link.is_connected() {
            self.counters.connected.fetch_sub(1, Ordering::Relaxed);
        }
        self.link.disconnect(DISCONNECT_GRACE).await;
    }

    fn wake_at(&self, phase: Phase) -> Option<Uptime> {
        let feed = (phase == Phase::Feeding).then(|| self.feed.next_at());
        let dial = self.dial.map(|dial| dial.at);
        let way_back = self.way_back.as_ref().and_then(WayBack::next_at);
        [feed, dial, way_back, self.delivery.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    fn due(&mut self, phase: Phase, now: Uptime) {
        if let Some(dial) = self.dial
            && dial.at <= now
        {
            self.dial = None;
            self.link.connect(dial.address);
        }
        if phase == Phase::Feeding && self.feed.next_at() <= now {
            for event in self.feed.take(now) {
                if let Some(way_back) = &mut self.way_back
                    && let Some(wire::event::Kind::AdOpportunity(ad)) = &event.kind
                {
                    way_back.asks(ad, now);
                }
                self.offer(event, now);
            }
        }
        if self.delivery.poll_timeout().is_some_and(|at| at <= now) {
            self.delivery.tick(now);
        }
        if let Some(way_back) = &mut self.way_back {
            way_back.tick(now);
        }
    }

    /// Shows and tells what the way back wants; false when that is nothing.
    fn follow(&mut self) -> bool {
        let now = uptime();
        let mut steps = false;
        while let Some(step) = self.way_back.as_mut().and_then(|it| it.next_step(now)) {
            steps = true;
            match step {
                Step::Show(decision) => self.feed.decided(*decision),
                Step::Tell { number, event } => {
                    let taken = self.offer(*event, now);
                    if let Some(way_back) = &mut self.way_back {
                        way_back.told(number, taken, now);
                    }
                }
            }
        }
        steps
    }

    fn offer(&mut self, event: wire::Event, now: Uptime) -> Taken {
        self.requests += 1;
        let token = ClientToken(self.requests);
        let is_urgent = Urgency::of(&event) == Urgency::Urgent;
        let counted = match self.delivery.accept(event, token, now) {
            Acceptance::Accepted { epoch, ordinal } => {
                self.give(epoch, ordinal, Class::Ordinary);
                &self.counters.accepted
            }
            Acceptance::Pending { .. } => {
                // Other proof waits for its batch first, for up to 5 s.
                if is_urgent {
                    self.waiting.insert(token, now);
                }
                return Taken::Waits(token);
            }
            Acceptance::Repeated { .. } => &self.counters.repeated,
            Acceptance::Busy => {
                self.counters.busy.fetch_add(1, Ordering::Relaxed);
                return Taken::Not;
            }
            Acceptance::TooLarge { .. } => &self.counters.refused,
        };
        counted.fetch_add(1, Ordering::Relaxed);
        Taken::Settled
    }

    fn give(&mut self, epoch: Epoch, ordinal: Ordinal, class: Class) {
        self.given.push(audit::Answer {
            device: self.device.clone(),
            epoch,
            ordinal,
            class,
        });
    }

    fn heard(&mut self, event: LinkEvent, now: Uptime) {
        match event {
            LinkEvent::Connected => {
                self.counters.connected.fetch_add(1, Ordering::Relaxed);
                self.reconnect.connected(now);
                self.delivery.handle(Input::LinkUp, now);
            }
            LinkEvent::Acknowledged { id, answer } => {
                let outcome = match answer {
                    Acknowledgement::Taken => PubAckOutcome::Ok,
                    Acknowledgement::Refused(reason) => PubAckOutcome::Refused(reason),
                    Acknowledgement::Later => PubAckOutcome::Retry,
                };
                self.delivery.handle(Input::PubAck { id, outcome }, now);
            }
            LinkEvent::Receipt(receipt) => self.delivery.handle(Input::Receipt(&receipt), now),
            LinkEvent::Decision(message) => {
                if let Some(way_back) = &mut self.way_back {
                    way_back.arrived(&message, now);
                }
            }
            // Nothing of it applies to a box without a file of settings.
            LinkEvent::Config(_) => {}
            LinkEvent::Closed(reason) => self.closed(&reason, now),
        }
    }

    fn closed(&mut self, reason: &CloseReason, now: Uptime) {
        tracing::debug!(device = %self.device, "link closed: {reason}");
        self.counters
            .connections_lost
            .fetch_add(1, Ordering::Relaxed);
        if self.delivery.status(now).link_up {
            self.counters.connected.fetch_sub(1, Ordering::Relaxed);
            self.delivery.handle(Input::LinkDown, now);
        }
        let loss = if reason.is_by_broker() {
            Loss::ByBroker
        } else {
            Loss::Other
        };
        self.dial = Some(self.reconnect.lost(loss, now));
    }

    /// Carries out what the core wants; false when that is nothing.
    fn carry_out(&mut self) -> bool {
        let now = uptime();
        let mut effects = false;
        while let Some(effect) = self.delivery.poll_effect() {
            effects = true;
            match effect {
                Effect::Publish(publish) => self.publish(publish, now),
                Effect::Commit(commit) => {
                    let number = commit.number;
                    self.memory.commit(commit);
                    let outcome = CommitOutcome::Done;
                    self.delivery
                        .handle(Input::Committed { number, outcome }, now);
                }
                Effect::Load(id) => {
                    let bytes = self.memory.load(id);
                    self.delivery.handle(Input::Loaded { id, bytes }, now);
                }
                Effect::Answer { token, answer } => self.answer(token, answer, now),
                // It keeps no starts of earlier runs.
                Effect::ReadStarts => self.delivery.handle(Input::Starts(Vec::new()), now),
                // Asked for after a failed commit, which memory has not.
                Effect::Rebuild { .. } => self.delivery.handle(Input::RebuildFailed, now),
                Effect::Stopped => {}
            }
        }
        effects
    }

    fn publish(&mut self, publish: Publish, now: Uptime) {
        let (id, lane) = (publish.id, publish.lane);
        let envelope = publish.into_envelope(SendingClock {
            uptime: now,
            unix_ms: clock::unix_ms(),
            synchronised: true,
        });
        let refused = self.link.publish(id, lane, envelope.encode_to_vec().into());
        let outcome = match refused {
            Ok(()) => return,
            Err(PublishError::Down | PublishError::Full) => PubAckOutcome::Retry,
            Err(PublishError::TooLarge) => PubAckOutcome::Refused(wire::RefusalReason::TooLarge),
        };
        self.delivery.handle(Input::PubAck { id, outcome }, now);
    }

    fn answer(&mut self, token: ClientToken, answer: Answer, now: Uptime) {
        let counted = match answer {
            Answer::Durable { epoch, ordinal } => {
                self.give(epoch, ordinal, Class::Proof);
                &self.counters.durable
            }
            Answer::AcceptedOnly { epoch, ordinal } => {
                self.give(epoch, ordinal, Class::Ordinary);
                &self.counters.not_durable
            }
        };
        counted.fetch_add(1, Ordering::Relaxed);
        if let Some(way_back) = &mut self.way_back {
            way_back.answered(token, now);
        }
        if let Some(since) = self.waiting.remove(&token) {
            let after = now.since(since).as_millis();
            self.counters
                .proof_latency
                .record(u64::try_from(after).unwrap_or(u64::MAX));
        }
    }

    fn count(&mut self) {
        let status = self.delivery.status(uptime());
        self.counters.add(&self.counted, &status);
        self.counted = status;
        if *self.phase.borrow() == Phase::Feeding {
            return;
        }
        let settled = status.waiting == 0;
        let drained = settled
            && status.open_events == 0
            && status.ordinary.batches + status.proof.batches == 0;
        // Not for ever: a decision may come, and is acknowledged.
        level(&self.counters.settled, &mut self.settled, settled);
        level(&self.counters.drained, &mut self.drained, drained);
    }
}

/// Counts a box in or out, when it has changed.
fn level(boxes: &AtomicU64, before: &mut bool, now: bool) {
    match (*before, now) {
        (false, true) => drop(boxes.fetch_add(1, Ordering::Relaxed)),
        (true, false) => drop(boxes.fetch_sub(1, Ordering::Relaxed)),
        _ => {}
    }
    *before = now;
}

fn uptime() -> Uptime {
    Uptime(clock::uptime_ms())
}
