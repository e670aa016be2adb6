//! Simulated boxes: households that behave like viewers on a real line-up, on
//! the agent's own delivery core and link. Hundreds to thousands in a process.
//!
//! Owns the boxes of one run and their certificates' use; every answer that a
//! household got goes to the caller, for the audit. What stands in for a
//! box's flash is memory, and all boxes share the clock of this machine.

mod answers;
pub mod breaks;
pub mod chance;
mod counters;
mod feed;
pub mod latency;
pub mod lineup;
mod memory;
pub mod moment;
mod simulated_box;
pub mod viewer;
mod way_back;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use returnpath_agent::{
    clock::{self, TrustedTime},
    identity::{Identity, IdentityFiles},
    link::{self, BrokerAddress, LinkConfig, ListensTo},
    trust::Keys,
};
use returnpath_collector::audit;
use returnpath_delivery::{BootFacts, Config, Pace, ReconnectConfig, Start, SyncPolicy, Uptime};
use returnpath_shared::{DeviceId, Epoch, Incarnation, wire};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

pub use self::{answers::write_answers, counters::FleetCounts, feed::EVENTS_PER_BATCH};
use self::{
    chance::Chance,
    counters::Counters,
    feed::{Feed, ViewerPace},
    lineup::Lineup,
    moment::Moment,
    simulated_box::{Parts, Phase, SimulatedBox},
    viewer::Viewer,
    way_back::WayBack,
};
use crate::{
    pki::DevelopmentPki,
    wait::{Hopeless, wait_until},
};

/// TLS handshakes a second that a broker on the same two cores takes without
/// keeping the rest waiting: boxes connect over boxes / this seconds.
const CONNECTIONS_PER_SECOND: u32 = 200;

/// What the boxes do.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// Households, from this time of day on, this many times faster than real.
    Viewers {
        /// Time of day at the start.
        from: Moment,
        /// At least 1.
        speed: u32,
        /// Where the ads come from that they see.
        ads: AdSource,
    },
    /// Batches of [`EVENTS_PER_BATCH`] events at this rate, over all boxes.
    Batches {
        /// Batches a second, at least 1.
        per_second: u32,
    },
}

/// Where the ads of households come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AdSource {
    /// The players make them up: nobody decides.
    MadeUp,
    /// The boxes follow decisions, signed by `decision-a` of the development
    /// PKI, and the players show them.
    Decided,
}

/// A run of simulated boxes.
#[derive(Clone, Debug)]
pub struct FleetSettings {
    /// The MQTT broker.
    pub broker: BrokerAddress,
    /// How many; they are called {prefix}1, {prefix}2, …
    pub boxes: u32,
    /// What their ids begin with.
    pub prefix: String,
    /// Households of the same seed do the same. Their proof has the same ids
    /// too: on the same topics, a second run of the same boxes with the same
    /// seed is a repetition and is removed as one.
    pub seed: u64,
    /// What they do.
    pub load: Load,
}

/// Running boxes. They end when this is dropped.
pub struct Fleet {
    boxes: u64,
    phase: watch::Sender<Phase>,
    tasks: JoinSet<()>,
    counters: Arc<Counters>,
}

impl Fleet {
    /// Makes the boxes' certificates and starts them. `answers` is to be read
    /// all the time: boxes wait while it is full.
    ///
    /// # Errors
    /// When the settings make no sense, or a certificate cannot be made.
    pub fn start(
        settings: &FleetSettings,
        pki: &DevelopmentPki,
        answers: &mpsc::Sender<audit::Answer>,
    ) -> anyhow::Result<Self> {
        ensure!(settings.boxes > 0, "a fleet has at least 1 box");
        let lineup = Arc::new(Lineup::london()?);
        let time = TrustedTime::new(clock::build_unix_s());
        time.observe(clock::unix_ms(), true);
        let (phase, phases) = watch::channel(Phase::Feeding);
        let counters = Arc::new(Counters::default());
        let mut seeds = Chance::new(settings.seed);
        let mut tasks = JoinSet::new();
        let now = Uptime(clock::uptime_ms());
        let keys = settings
            .load
            .follows_decisions()
            .then(|| {
                Keys::load(
                    &pki.signing_key("decision-a").public,
                    returnpath_slots::PURPOSE,
                )
            })
            .transpose()?
            .map(Arc::new);
        let brokers: Arc<[BrokerAddress]> = vec![settings.broker.clone()].into();
        for number in 1..=settings.boxes {
            let id = format!("{}{number}", settings.prefix);
            let device: DeviceId = id.parse().with_context(|| format!("device {id:?}"))?;
            let files = pki.device(&device)?;
            let identity = Identity::load(&IdentityFiles {
                certificate: files.certificate,
                private_key: files.key,
                ca: pki.authority(),
            })?;
            let seed = seeds.bits();
            let start = first_start(seed)?;
            let way_back = keys.as_ref().map(|keys| {
                let (keys, counters) = (Arc::clone(keys), Arc::clone(&counters));
                WayBack::new(device.clone(), start.boot_id, keys, counters, now)
            });
            let parts = Parts {
                link: LinkConfig {
                    device: device.clone(),
                    brokers: Arc::clone(&brokers),
                    tls: link::client_config(&identity, time.clone())?,
                    keep_alive: Duration::from_secs(60),
                    connect_timeout: Duration::from_secs(20),
                    acknowledgement_timeout: Duration::from_secs(30),
                    in_flight_max: settings.load.in_flight_max(),
                    listens_to: ListensTo {
                        decisions: way_back.is_some(),
                        config: false,
                    },
                },
                device,
                start,
                config: settings.load.delivery(),
                reconnect: ReconnectConfig {
                    base: Duration::from_secs(1)
                        .max(Duration::from_secs(1) * settings.boxes / CONNECTIONS_PER_SECOND),
                    cap: Duration::from_secs(30),
                    spread: Duration::from_secs(5),
                    stable_after: Duration::from_secs(30),
                },
                feed: settings
                    .load
                    .feed(&lineup, settings.boxes, number, seed, now),
                way_back,
                phase: phases.clone(),
                answers: answers.clone(),
                counters: Arc::clone(&counters),
            };
            tasks.spawn(SimulatedBox::new(parts).run());
        }
        Ok(Self {
            boxes: settings.boxes.into(),
            phase,
            tasks,
            counters,
        })
    }

    /// Totals so far.
    #[must_use]
    pub fn counts(&self) -> FleetCounts {
        FleetCounts::of(&self.counters)
    }

    /// Waits until every box is connected.
    ///
    /// # Errors
    /// After `limit`.
    pub async fn connected(&self, limit: Duration) -> anyhow::Result<()> {
        wait_until("all boxes to be connected", limit, async || {
            let connected = self.counts().boxes_connected;
            ensure!(connected == self.boxes, "{connected} of {}", self.boxes);
            Ok(())
        })
        .await
    }

    /// Feeds no more. What the boxes hold goes on its way.
    pub fn stop_feeding(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    /// Whether, after feeding has ended, every event that was handed in has
    /// had its answer.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.counters.settled.load(Ordering::Relaxed) == self.boxes
    }

    /// Feeds no more, and waits until every box has receipts for everything:
    /// up to the collector's 30 s for ordinary batches.
    ///
    /// # Errors
    /// When one still holds something after `limit`.
    pub async fn drain(&mut self, limit: Duration) -> anyhow::Result<()> {
        self.stop_feeding();
        wait_until("all boxes to have sent everything", limit, async || {
            if let Some(Err(error)) = self.tasks.try_join_next() {
                return Err(Hopeless(format!("a box ended: {error}")).into());
            }
            let drained = self.counters.drained.load(Ordering::Relaxed);
            ensure!(drained == self.boxes, "{drained} of {} have", self.boxes);
            Ok(())
        })
        .await
    }

    /// Disconnects and ends all boxes, whatever they still hold. Their senders
    /// of answers are gone then.
    pub async fn stop(mut self) -> FleetCounts {
        self.phase.send_replace(Phase::Stopped);
        while self.tasks.join_next().await.is_some() {}
        FleetCounts::of(&self.counters)
    }
}

impl Load {
    /// The agent's defaults (`returnpath-agent.example.toml`), except where a
    /// fixed rate needs more.
    fn delivery(self) -> Config {
        let pace = match self {
            Self::Viewers { .. } => Pace {
                batch_interval: Duration::from_secs(5),
                window_batches_max: 16,
                backlog_rate: 50,
            },
            // Batches are handed in whole; nothing is gained by waiting. A real
            // box sends one in 5 s and has its receipt after 30: here a box
            // stands for many, and its window for theirs.
            Self::Batches { .. } => Pace {
                batch_interval: Duration::from_millis(5),
                window_batches_max: u32::from(self.in_flight_max()),
                backlog_rate: 50,
            },
        };
        Config {
            pace,
            flush_interval: Duration::from_secs(60),
            sync: SyncPolicy::WhenNeeded,
            durable_after: Duration::from_millis(300),
            group_commit: Duration::from_millis(20),
            queue_bytes_max: 32 * 1024 * 1024,
            queue_batches_max: 16_384,
            age_max: Duration::from_secs(14 * 24 * 3_600),
            ram_bytes_max: match self {
                Self::Viewers { .. } => 512 * 1024,
                Self::Batches { .. } => 4 * 1024 * 1024,
            },
            live_age_max: Duration::from_secs(60),
            resend_after_prompt: Duration::from_secs(5),
            resend_after: Duration::from_secs(45),
            resend_after_max: Duration::from_secs(300),
            proof_ids_max: 4_096,
            ordinary_ids_max: 256,
        }
    }

    fn follows_decisions(self) -> bool {
        match self {
            Self::Viewers { ads, .. } => ads == AdSource::Decided,
            Self::Batches { .. } => false,
        }
    }

    fn in_flight_max(self) -> u16 {
        match self {
            Self::Viewers { .. } => 16,
            Self::Batches { .. } => 4_096,
        }
    }

    fn feed(self, lineup: &Arc<Lineup>, boxes: u32, number: u32, seed: u64, now: Uptime) -> Feed {
        match self {
            Self::Viewers { from, speed, ads } => {
                let speed = speed.max(1);
                let viewer = Viewer::new(Arc::clone(lineup), seed, from);
                let viewer = match ads {
                    AdSource::MadeUp => viewer,
                    AdSource::Decided => viewer.following_decisions(speed),
                };
                Feed::Household {
                    viewer: Box::new(viewer),
                    pace: ViewerPace {
                        begun: from,
                        begun_at: now,
                        speed,
                    },
                }
            }
            Self::Batches { per_second } => {
                let interval = Duration::from_secs(1) * boxes / per_second.max(1);
                Feed::Batches {
                    // Spread evenly over the interval.
                    next: now.plus(interval * number / boxes.max(1)),
                    interval,
                }
            }
        }
    }
}

/// A household for a box of the caller's own: the same viewers, handed to a
/// real agent.
#[derive(Debug)]
pub struct BoxFeed(Feed);

impl BoxFeed {
    /// A household that begins now, at the moment `from` of its own time.
    #[must_use]
    pub fn household(
        lineup: &Arc<Lineup>,
        seed: u64,
        from: Moment,
        speed: u32,
        ads: AdSource,
    ) -> Self {
        let load = Load::Viewers { from, speed, ads };
        Self(load.feed(lineup, 1, 1, seed, Uptime(clock::uptime_ms())))
    }

    /// How long nothing happens.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.0.next_at().since(Uptime(clock::uptime_ms()))
    }

    /// The box was given a decision, which its player shows in its slot.
    pub fn decided(&mut self, decision: wire::Decision) {
        self.0.decided(decision);
    }

    /// What has happened since it was last asked.
    pub fn take(&mut self) -> Vec<wire::Event> {
        self.0.take(Uptime(clock::uptime_ms()))
    }
}

/// A box out of the factory. Its boot is a boot of its own, so that several
/// boxes on one machine are as different as real ones.
fn first_start(seed: u64) -> anyhow::Result<Start> {
    let incarnation = Incarnation::new(clock::random_u64().max(1)).context("incarnation")?;
    Ok(Start {
        epoch: Epoch {
            incarnation,
            start: 1,
        },
        boot_id: clock::random_u64().max(1),
        facts: BootFacts {
            model: "simulated".into(),
            firmware: "0".into(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            ..BootFacts::default()
        },
        ledger: Vec::new(),
        proof_ids: Vec::new(),
        anchors: Vec::new(),
        unclean: Vec::new(),
        powered: None,
        seed,
    })
}
