//! The event loop: one function that waits and yields an event, one that
//! changes state and never waits.
//!
//! Order that it keeps: effects of the core are carried out in the order in
//! which they come, so an answer `durable` follows the commit or receipt that
//! makes it true, and a batch leaves the file only after its receipt. A stop
//! is: no new events, everything committed, clients answered, file closed,
//! broker told, exit. A part that ends unasked ends the process; the supervisor
//! starts it anew.

mod decisions;
mod linked;
mod opening;
mod report;
mod settings;
mod steered;

use std::{collections::BTreeMap, future::pending, io, num::NonZeroU32, time::Duration};

use returnpath_delivery::{
    Acceptance, Answer as LaterAnswer, ClientToken, CommitOutcome, Delivery, Dial, Effect,
    FirstAnswer, Input, Reconnect, Unreadable, Uptime,
};
use returnpath_shared::{DeviceId, Epoch};
use rustix::process::getuid;
use thiserror::Error;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};
use tracing::{error, info, warn};

use crate::{
    clock::{self, TrustedTime},
    config::Config,
    exit::Exit,
    identity::{Identity, IdentityError},
    intake::{
        Answer, Incoming, Intake, Permissions, Refusal, RefusalReason, Reply, Request, SocketError,
    },
    link::{Link, LinkConfig, LinkEvent, ListensTo, TlsError, client_config},
    queue::{self, Outcome, Queue, QueueError},
    trust::TrustError,
};

use self::{decisions::Decisions, steered::Steered};

/// Requests taken before effects are carried out: amortises them in a burst,
/// and is short against the 50 ms that no client may wait.
const REQUESTS_PER_TURN: usize = 64;

/// While the clock is not synchronised it is looked at this often; afterwards
/// only when the agent is awake anyway.
const CLOCK_INTERVAL: Duration = Duration::from_secs(30);

/// How long the broker's goodbye may take.
const DISCONNECT_GRACE: Duration = Duration::from_secs(1);

/// Why the agent did not run, or stopped unasked.
#[derive(Debug, Error)]
pub enum RunError {
    /// The box's identity is unusable.
    #[error("identity")]
    Identity(#[from] IdentityError),
    /// The certificate names another device than the configuration.
    #[error("identity.device is {configured}, but the certificate names {certified}")]
    OtherDevice {
        /// From the configuration.
        configured: DeviceId,
        /// From the certificate.
        certified: DeviceId,
    },
    /// A file of public keys cannot be used.
    #[error("trust")]
    Trust(#[from] TrustError),
    /// Certificate and key cannot be used.
    #[error("identity")]
    Tls(#[from] TlsError),
    /// The queue cannot be used.
    #[error("queue")]
    Queue(#[from] QueueError),
    /// The socket cannot be made.
    #[error("intake")]
    Socket(#[from] SocketError),
    /// The runtime or signals cannot be set up.
    #[error("the system refused")]
    System(#[from] io::Error),
    /// A part ended that should not have.
    #[error("the {0} ended unasked")]
    Ended(&'static str),
}

impl RunError {
    /// The process's exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Identity(_) | Self::OtherDevice { .. } | Self::Tls(_) | Self::Trust(_) => {
                Exit::Configuration
            }
            Self::Socket(SocketError::Group { .. }) => Exit::Configuration,
            Self::Socket(SocketError::InUse { .. }) => Exit::TemporaryFailure,
            Self::Queue(error) if error.is_in_use() => Exit::TemporaryFailure,
            Self::Queue(_) | Self::Socket(_) => Exit::CannotCreate,
            Self::System(_) | Self::Ended(_) => Exit::Software,
        }
    }
}

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
        if let Some(stopping) = agent.stopped() {
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

/// How a stop came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stopping {
    InOrder,
    CutShort,
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

    reconnect: Reconnect,
    /// The attempt that is due; `None` while there is a connection.
    dial: Option<Dial>,
    connections: u32,
    link_error: Option<String>,

    trusted: TrustedTime,
    clock_due: Uptime,
    health_due: Option<Uptime>,

    /// Clients that wait for `durable`; bounded by the unanswered requests
    /// that clients may have.
    waiting: BTreeMap<ClientToken, Reply>,
    next_token: u64,

    /// Since when the agent stops.
    stop_began: Option<Uptime>,
    core_stopped: bool,
    stop_signals: u32,
}

impl Agent {
    fn start(config: Config) -> Result<Self, RunError> {
        let identity = Identity::load(&config.identity.files)?;
        if let Some(configured) = &config.identity.device
            && *configured != identity.device
        {
            return Err(RunError::OtherDevice {
                configured: configured.clone(),
                certified: identity.device,
            });
        }
        let mut open = opening::queue(&config)?;
        let trusted = TrustedTime::new(open.found().trusted_unix_s);
        let tls = client_config(&identity, trusted.clone())?;
        let steered = Steered::new(&config, &identity.device, open.found())?;
        let listens_to = ListensTo {
            decisions: steered.in_force().decision_keys.is_some(),
            config: steered.listens(),
        };
        // Last of what can fail by configuration, so that no client connects
        // to an agent that does not start.
        let permissions = Permissions::new(
            getuid().as_raw(),
            &config.intake.allow,
            listens_to.decisions,
        );
        let intake = Intake::listen(&config.intake, permissions)?;

        let now = Uptime(clock::uptime_ms());
        let has_file = open.has_file();
        let start = opening::start(&open, &config);
        let epoch = start.epoch;
        let decisions = Decisions::new(
            &identity.device,
            start.boot_id,
            open.found(),
            steered.in_force().decision_keys.clone(),
            now,
        );
        let settings = settings::delivery(&config, steered.in_force().pace);
        let mut delivery = open.each_batch(|batches| Delivery::new(settings, start, batches, now));
        if !has_file {
            delivery.handle(Input::RebuildFailed, now);
        }

        let brokers = config.link.brokers.clone();
        let addresses = u32::try_from(brokers.len())
            .ok()
            .and_then(NonZeroU32::new)
            .unwrap_or(NonZeroU32::MIN);
        let mut reconnect = Reconnect::new(
            settings::reconnect(&config, steered.in_force().reconnect_spread),
            &identity.device,
            addresses,
            clock::random_u64(),
        );
        let dial = Some(reconnect.first(now));
        let link_config = LinkConfig {
            device: identity.device.clone(),
            brokers,
            tls,
            keep_alive: config.link.keep_alive,
            connect_timeout: config.link.connect_timeout,
            acknowledgement_timeout: config.link.acknowledgement_timeout,
            in_flight_max: settings::IN_FLIGHT_MAX,
            listens_to,
        };
        let link = Link::new(link_config, epoch);
        info!(
            device = %identity.device,
            %epoch,
            version = env!("CARGO_PKG_VERSION"),
            sqlite = queue::sqlite_version(),
            socket = %config.intake.socket.display(),
            "started"
        );
        Ok(Self {
            device: identity.device,
            epoch,
            delivery,
            queue: open.spawn()?,
            link,
            intake,
            decisions,
            steered,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reconnect,
            dial,
            connections: 0,
            link_error: None,
            trusted,
            clock_due: now,
            health_due: config.health_interval.map(|interval| now.plus(interval)),
            waiting: BTreeMap::new(),
            next_token: 0,
            stop_began: None,
            core_stopped: false,
            stop_signals: 0,
            config,
        })
    }

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
        let clock_due = (!self.trusted.is_synchronised()).then_some(self.clock_due);
        let deadline = self
            .stop_began
            .map(|began| began.plus(self.config.shutdown_deadline));
        [
            self.delivery.poll_timeout(),
            self.decisions.due(),
            self.dial.map(|dial| dial.at),
            clock_due,
            self.health_due,
            deadline,
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

    fn request(&mut self, incoming: Incoming, now: Uptime) {
        let Incoming { request, reply } = incoming;
        let event = match request {
            Request::Event(event) => *event,
            Request::Status => {
                let report = self.report(now);
                reply.send(&Answer::Report(report));
                return;
            }
            Request::FollowDecisions => {
                self.decisions.follow(reply, now);
                return;
            }
        };
        let asked = self.decisions.asked(&event);
        let token = self.token();
        match self.delivery.accept(event, token, now) {
            Acceptance::Accepted { epoch, ordinal } => {
                reply.send(&Answer::Accepted(epoch, ordinal));
                if let Some(asked) = asked {
                    self.decisions.slots.asked(asked, now.0);
                }
            }
            Acceptance::Pending { .. } => {
                self.waiting.insert(token, reply);
            }
            Acceptance::Repeated {
                epoch,
                ordinal,
                answer,
            } => reply.send(&match answer {
                FirstAnswer::Accepted => Answer::Accepted(epoch, ordinal),
                FirstAnswer::Durable => Answer::Durable(epoch, ordinal),
            }),
            Acceptance::Busy => reply.send(&Answer::Busy),
            Acceptance::TooLarge { length, length_max } => {
                let reason = RefusalReason::TooLarge;
                self.intake.counters().refuse(reason);
                reply.send(&Answer::Refused(Refusal {
                    reason,
                    field: Some("event".into()),
                    expected: Some(format!(
                        "at most {length_max} bytes encoded, these are {length}"
                    )),
                }));
            }
        }
    }

    fn token(&mut self) -> ClientToken {
        self.next_token += 1;
        ClientToken(self.next_token)
    }

    fn stored(&mut self, outcome: Outcome, now: Uptime) {
        match outcome {
            Outcome::Committed { number, outcome } => {
                if outcome != CommitOutcome::Done {
                    warn!(number, ?outcome, "commit did not stand");
                }
                self.delivery
                    .handle(Input::Committed { number, outcome }, now);
            }
            Outcome::Bound {
                number,
                outcome,
                took,
            } => self.decisions.bound(number, outcome, took, now),
            Outcome::ConfigStored { version, outcome } => {
                self.config_stored(version, outcome, now);
            }
            Outcome::Loaded { id, bytes } => {
                let bytes = bytes.ok_or(Unreadable);
                self.delivery.handle(Input::Loaded { id, bytes }, now);
            }
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
        if let Some(dial) = self.dial
            && dial.at <= now
        {
            self.dial = None;
            self.link.connect(dial.address);
        }
        if let (Some(due), Some(interval)) = (self.health_due, self.config.health_interval)
            && due <= now
        {
            self.health_due = Some(now.plus(interval));
            let status = self.delivery.status(now);
            let counters = self.intake.counters();
            let way_back = self.way_back(now);
            let health = report::health(&status, self.reconnects(), counters, &way_back, now.0);
            let token = self.token();
            // A busy agent skips a report on itself; the next one says more.
            let _acceptance = self.delivery.accept(health, token, now);
        }
        self.decisions.slots.tick(now.0);
        self.delivery.tick(now);
    }

    fn observe_clock(&mut self, now: Uptime) {
        if now < self.clock_due {
            return;
        }
        self.clock_due = now.plus(CLOCK_INTERVAL);
        let before = self.trusted.is_synchronised();
        let synchronised = self.config.clock.is_synchronised();
        let unix_ms = clock::unix_ms();
        self.trusted.observe(unix_ms, synchronised);
        if synchronised {
            self.queue
                .request(queue::Request::Trusted(self.trusted.floor_unix_s()));
        }
        if synchronised && !before {
            info!(unix_ms, "the clock is synchronised");
            self.delivery
                .handle(Input::ClockSynchronised { unix_ms }, now);
        }
    }

    fn stop(&mut self, now: Uptime) {
        self.stop_signals += 1;
        if self.stop_began.is_none() {
            info!("stopping");
            self.stop_began = Some(now);
            self.delivery.handle(Input::Stop, now);
        }
    }

    /// Whether the loop is to end: everything is in the file, or the deadline
    /// has passed, or a second signal came.
    fn stopped(&self) -> Option<Stopping> {
        let began = self.stop_began?;
        if self.core_stopped {
            return Some(Stopping::InOrder);
        }
        let late = Uptime(clock::uptime_ms()).since(began) >= self.config.shutdown_deadline;
        (late || self.stop_signals > 1).then_some(Stopping::CutShort)
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
                Effect::Answer { token, .. } if self.told(token, now) => {}
                Effect::Answer { token, answer } => {
                    if let Some(reply) = self.waiting.remove(&token) {
                        reply.send(&match answer {
                            LaterAnswer::Durable { epoch, ordinal } => {
                                Answer::Durable(epoch, ordinal)
                            }
                            LaterAnswer::AcceptedOnly { epoch, ordinal } => {
                                Answer::Accepted(epoch, ordinal)
                            }
                        });
                    }
                }
                Effect::Rebuild { epochs } => {
                    error!("the queue file is given up; making a new one");
                    self.queue.request(queue::Request::Rebuild {
                        incarnation: opening::new_incarnation(),
                        epochs,
                    });
                }
                Effect::Stopped => self.core_stopped = true,
            }
        }
        any
    }

    fn report(&self, now: Uptime) -> serde_json::Value {
        report::status(
            &self.delivery.status(now),
            &report::Facts {
                device: self.device.as_str(),
                epoch: self.epoch.to_string(),
                uptime_ms: now.0,
                clock_synchronised: self.trusted.is_synchronised(),
                link_error: self.link_error.as_deref(),
                reconnects: self.reconnects(),
                queue_file_bytes: queue::size_bytes(&self.config.queue.directory),
                queue_bytes_max: self.config.queue.bytes_max,
                counters: self.intake.counters(),
                way_back: self.way_back(now),
            },
        )
    }

    fn way_back(&self, now: Uptime) -> report::WayBack {
        report::WayBack {
            decisions: self.decisions.facts(now),
            decisions_served: self.steered.in_force().decision_keys.is_some(),
            config_version: self.steered.version,
            config_refused: self.steered.refused().collect(),
        }
    }

    fn reconnects(&self) -> u32 {
        self.connections.saturating_sub(1)
    }

    /// Closes the file, tells the broker, and lets the last answers out.
    async fn finish(mut self, stopping: Stopping) {
        if stopping == Stopping::CutShort {
            warn!("the stop was cut short; what was not durable may be lost");
        }
        self.queue.request(queue::Request::Close);
        let closed = async {
            loop {
                match self.queue.next().await {
                    Some(Outcome::Closed) | None => return,
                    Some(_) => {}
                }
            }
        };
        let deadline = self.config.shutdown_deadline;
        if tokio::time::timeout(deadline, closed).await.is_err() {
            warn!("the queue file did not close in time");
        }
        self.link.disconnect(DISCONNECT_GRACE).await;
        // Clients' tasks wrote their answers while the two above waited.
        info!("stopped");
    }
}
