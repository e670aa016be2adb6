//! Simulated boxes: households that behave like viewers on a real line-up, on
//! the agent's own delivery core and link. Hundreds to thousands in a process.
//!
//! Owns the boxes of one run and their certificates' use; every answer that a
//! household got goes to the caller, for the audit. What stands in for a
//! box's flash is memory, and all boxes share the clock of this machine.

mod answers;
mod box_feed;
pub mod breaks;
pub mod chance;
mod counters;
mod feed;
pub mod latency;
pub mod lineup;
mod load;
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
use returnpath_delivery::{BootFacts, ReconnectConfig, Start, Uptime};
use returnpath_shared::{DeviceId, Epoch, Incarnation};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

pub use self::{
    answers::write_answers,
    box_feed::BoxFeed,
    counters::FleetCounts,
    feed::EVENTS_PER_BATCH,
    load::{AdSource, Load},
};
use self::{
    chance::Chance,
    counters::Counters,
    lineup::Lineup,
    simulated_box::{Parts, Phase, SimulatedBox},
    way_back::WayBack,
};
use crate::{
    pki::DevelopmentPki,
    wait::{Hopeless, wait_until},
};

/// TLS handshakes a second that a broker on the same two cores takes without
/// keeping the rest waiting: boxes connect over boxes / this seconds.
const CONNECTIONS_PER_SECOND: u32 = 200;

/// Over which time boxes come back, unless told otherwise: runs are short.
const RECONNECT_SPREAD: Duration = Duration::from_secs(5);

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
        Self::start_spread(settings, pki, answers, RECONNECT_SPREAD)
    }

    /// The same, with boxes that come back over `spread` when the broker closed
    /// their links.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_spread(
        settings: &FleetSettings,
        pki: &DevelopmentPki,
        answers: &mpsc::Sender<audit::Answer>,
        spread: Duration,
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
                    spread,
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
