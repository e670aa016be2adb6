//! The event loop: one function that waits and yields an event, one that
//! changes state and never waits.
//!
//! Order that it keeps: effects of the core are carried out in the order in
//! which they come, so an answer `durable` follows the commit or receipt that
//! makes it true, and a batch leaves the file only after its receipt. A stop
//! is: no new events, everything committed, clients answered, file closed,
//! broker told, exit. A part that ends unasked ends the process; the supervisor
//! starts it anew.

mod clients;
mod decisions;
mod dialling;
mod error;
mod linked;
mod opening;
mod report;
pub mod settings;
mod starting;
mod steered;
mod stopping;
mod timekeeping;

use std::future::pending;

use returnpath_delivery::{CommitOutcome, Delivery, Effect, Input, Unreadable, Uptime};
use returnpath_shared::{DeviceId, Epoch};
use tokio::{signal::unix::Signal, time::sleep};
use tracing::{error, warn};

use crate::{
    clock,
    config::Config,
    intake::{Incoming, Intake},
    link::{Link, LinkEvent},
    queue::{self, Outcome, Queue},
};

pub use self::error::RunError;
use self::{
    clients::Clients, decisions::Decisions, dialling::Dialling, steered::Steered, stopping::Stop,
    timekeeping::Timekeeping,
};

/// Requests taken before effects are carried out: amortises them in a burst,
/// and is short against the 50 ms that no client may wait.
const REQUESTS_PER_TURN: usize = 64;

/// Runs the agent until a signal stops it. Needs a tokio runtime with time,
/// network and signals.
///
/// # Errors
/// When it cannot start, or a part ends unasked.
pub async fn run(config: Config) -> Result<(), RunError> {
    let mut agent = Agent::start(config)?;
    agent.carry_out(Uptime(clock::uptime_ms()));
    let stopping = loop {
        let event = agent.next().await;
        agent.apply(event)?;
        let now = Uptime(clock::uptime_ms());
        if let Some(stopping) = agent.stop.ended(now, agent.config.shutdown_deadline) {
            break stopping;
        }
    };
    agent.finish(stopping).await;
    Ok(())
}

/// What the loop waits for.
#[derive(Debug)]
enum Event {
    Request(Option<Incoming>),
    Queue(Option<Outcome>),
    Link(LinkEvent),
    Timer,
    Stop,
}

struct Agent {
    config: Config,
    device: DeviceId,
    epoch: Epoch,
    delivery: Delivery,
    queue: Queue,
    link: Link,
    intake: Intake,
    decisions: Decisions,
    steered: Steered,
    terminate: Signal,
    interrupt: Signal,

    clients: Clients,
    dialling: Dialling,
    timekeeping: Timekeeping,
    health_due: Option<Uptime>,
    flash_budget_spent: bool,
    stop: Stop,
}

impl Agent {
    /// Waits. Every branch is cancel-safe: nothing is taken that is not
    /// returned.
    async fn next(&mut self) -> Event {
        let due = self.due();
        let timer = async {
            match due {
                Some(due) => sleep(due.since(Uptime(clock::uptime_ms()))).await,
                None => pending().await,
            }
        };
        // Fair: tokio picks at random among what is ready, so that a flood of
        // requests does not starve receipts.
        tokio::select! {
            incoming = self.intake.next() => Event::Request(incoming),
            outcome = self.queue.next() => Event::Queue(outcome),
            event = self.link.next() => Event::Link(event),
            () = timer => Event::Timer,
            Some(()) = self.terminate.recv() => Event::Stop,
            Some(()) = self.interrupt.recv() => Event::Stop,
        }
    }

    fn due(&self) -> Option<Uptime> {
        [
            self.delivery.poll_timeout(),
            self.decisions.due(),
            self.dialling.due(),
            self.timekeeping.due(),
            self.health_due,
            self.stop.deadline(self.config.shutdown_deadline),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Changes state; never waits.
    fn apply(&mut self, event: Event) -> Result<(), RunError> {
        let now = Uptime(clock::uptime_ms());
        self.observe_clock(now);
        match event {
            Event::Request(Some(incoming)) => {
                self.request(incoming, now);
                for _ in 1..REQUESTS_PER_TURN {
                    let Some(incoming) = self.intake.try_next() else {
                        break;
                    };
                    self.request(incoming, now);
                }
            }
            Event::Request(None) => return Err(RunError::Ended("intake")),
            Event::Queue(Some(outcome)) => self.stored(outcome, now),
            Event::Queue(None) => return Err(RunError::Ended("queue")),
            Event::Link(event) => self.linked(event, now),
            Event::Timer => self.timer(now),
            Event::Stop => self.stop(now),
        }
        self.carry_out(now);
        Ok(())
    }

    /// Carries out what both cores want, until neither wants anything: what is
    /// told becomes an event, and its answer may let a slot be forgotten.
    fn carry_out(&mut self, now: Uptime) {
        loop {
            self.carry_out_decisions(now);
            if !self.carry_out_effects(now) {
                return;
            }
        }
    }

    fn stored(&mut self, outcome: Outcome, now: Uptime) {
        match outcome {
            Outcome::Committed { number, outcome } => {
                if outcome != CommitOutcome::Done {
                    warn!(number, ?outcome, "commit did not stand");
                }
                let spent = self.delivery.is_flash_budget_spent();
                if spent && !self.flash_budget_spent {
                    warn!("the flash budget is spent: ordinary batches stay in memory");
                }
                self.flash_budget_spent = spent;
                self.delivery
                    .handle(Input::Committed { number, outcome }, now);
            }
            Outcome::Bound {
                number,
                outcome,
                took,
            } => {
                self.delivery.written_beside(now);
                self.decisions.bound(number, outcome, took, now);
            }
            Outcome::ConfigStored { version, outcome } => {
                self.config_stored(version, outcome, now);
            }
            Outcome::Loaded { id, bytes } => {
                let bytes = bytes.ok_or(Unreadable);
                self.delivery.handle(Input::Loaded { id, bytes }, now);
            }
            Outcome::Starts(Some(rows)) => self.delivery.handle(Input::Starts(rows), now),
            // The file is given up, and its successor is asked again.
            Outcome::Starts(None) => {}
            Outcome::Rebuilt {
                epoch,
                copied,
                declared,
            } => {
                self.epoch = epoch;
                self.delivery.rebuilt(epoch, copied, declared, now);
                self.store_again();
            }
            Outcome::RebuildFailed => self.delivery.handle(Input::RebuildFailed, now),
            // Asked for in `finish` only.
            Outcome::Closed => {}
        }
    }

    fn timer(&mut self, now: Uptime) {
        if let Some(dial) = self.dialling.take(now) {
            self.link.connect(dial.address);
        }
        if let (Some(due), Some(interval)) = (self.health_due, self.config.health_interval)
            && due <= now
        {
            self.health_due = Some(now.plus(interval));
            let health = self.health(now);
            let token = self.token();
            // A busy agent skips a report on itself; the next one says more.
            let _acceptance = self.delivery.accept(health, token, now);
        }
        self.decisions.slots.tick(now.0);
        self.delivery.tick(now);
    }

    fn observe_clock(&mut self, now: Uptime) {
        let Some(look) = self.timekeeping.look(&self.config.clock, now) else {
            return;
        };
        if let Some(unix_s) = look.floor_unix_s {
            self.queue.request(queue::Request::Trusted(unix_s));
        }
        if let Some(unix_ms) = look.synchronised_at_unix_ms {
            self.delivery
                .handle(Input::ClockSynchronised { unix_ms }, now);
        }
    }

    /// Carries out what the core wants, in order, until it wants nothing.
    /// Says whether there was anything.
    fn carry_out_effects(&mut self, now: Uptime) -> bool {
        let mut any = false;
        while let Some(effect) = self.delivery.poll_effect() {
            any = true;
            match effect {
                Effect::Publish(publish) => self.publish(publish),
                Effect::Commit(commit) => self.queue.request(queue::Request::Commit(commit)),
                Effect::Load(id) => self.queue.request(queue::Request::Load(id)),
                Effect::ReadStarts => self.queue.request(queue::Request::ReadStarts),
                Effect::Answer { token, .. } if self.told(token, now) => {}
                Effect::Answer { token, answer } => self.clients.answer(token, &answer),
                Effect::Rebuild { epochs } => {
                    error!("the queue file is given up; making a new one");
                    self.queue.request(queue::Request::Rebuild {
                        incarnation: opening::new_incarnation(),
                        epochs,
                    });
                }
                Effect::Stopped => self.stop.core_stopped(),
            }
        }
        any
    }
}
