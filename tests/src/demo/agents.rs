//! The few real agents of the demo: processes with a socket and SQLite on a
//! folder that stands for flash, each before a household that sees ads soon.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use returnpath_collector::audit;
use returnpath_shared::DeviceId;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    Settings,
    middleware::{Feeding, Middleware, MiddlewareCounts},
    story::Handed,
};
use crate::{
    agent::{self, Agent},
    fleet::{
        AdSource, BoxFeed,
        lineup::Lineup,
        moment::MINUTE_MS,
        viewer::{Sight, Viewer},
    },
    pki::DevelopmentPki,
};

/// What their ids begin with.
pub(super) const PREFIX: &str = "agent-";

/// Agents report every 5 s, as they do by default.
const BATCH_INTERVAL_MS: u32 = 5_000;

/// The few agents show early what a demo is about, and go on showing it: where
/// there is a household that does, it sees so many ads to their end within so
/// much of the demo's time.
const SIGHTS: [(usize, u64); 3] = [(4, 20_000), (12, 120_000), (24, 300_000)];

/// A household that lives slowly is given at least this much of its own time:
/// breaks are a quarter of an hour and more apart.
const SIGHT_WITHIN_MS_MIN: u64 = 20 * MINUTE_MS;

/// A clean stop of a process.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// Running agents, and what feeds them.
pub(super) struct Agents {
    agents: Vec<Agent>,
    middlewares: JoinSet<anyhow::Result<()>>,
    feeding: watch::Sender<Feeding>,
    counts: Arc<MiddlewareCounts>,
}

impl Agents {
    /// Starts them below `directory` and waits until each has its link.
    pub(super) async fn start(
        count: u32,
        directory: &Path,
        pki: &DevelopmentPki,
        mqtt_port: u16,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut agents = Vec::new();
        for number in 1..=count {
            let device: DeviceId = format!("{PREFIX}{number}").parse()?;
            let settings = agent::Settings {
                batch_interval_ms: BATCH_INTERVAL_MS,
            };
            let mut agent = Agent::prepare(&device, directory, pki, mqtt_port, settings)?;
            agent.start().await.context("start an agent")?;
            agents.push(agent);
        }
        for agent in &agents {
            agent.linked().await?;
        }
        Ok(Self {
            agents,
            middlewares: JoinSet::new(),
            feeding: watch::Sender::new(Feeding::Goes),
            counts: Arc::new(MiddlewareCounts::default()),
        })
    }

    /// Puts a household before each.
    pub(super) fn feed(
        &mut self,
        settings: &Settings,
        lineup: &Arc<Lineup>,
        answers: &mpsc::Sender<audit::Answer>,
        handed: &mpsc::Sender<Handed>,
    ) {
        let (from, speed) = (settings.from, settings.speed);
        let sights = SIGHTS.map(|(ads, within_ms)| Sight {
            ads,
            by: from.plus_ms(SIGHT_WITHIN_MS_MIN.max(within_ms * u64::from(speed))),
        });
        let mut seed = settings.seed;
        for agent in &self.agents {
            seed = Viewer::seed_that_sees(&sights, lineup, seed.wrapping_add(1), from, speed);
            let middleware = Middleware {
                device: agent.device().clone(),
                socket: agent.socket(),
                feed: BoxFeed::household(lineup, seed, from, speed, AdSource::Decided),
                feeding: self.feeding.subscribe(),
                answers: answers.clone(),
                handed: handed.clone(),
                counts: Arc::clone(&self.counts),
            };
            self.middlewares.spawn(middleware.run());
        }
    }

    pub(super) fn counts(&self) -> &MiddlewareCounts {
        &self.counts
    }

    /// Fails when an agent or what feeds it has ended unasked.
    pub(super) fn check_running(&mut self) -> anyhow::Result<()> {
        for agent in &mut self.agents {
            agent.check_running()?;
        }
        match self.middlewares.try_join_next() {
            Some(Ok(Err(error))) => Err(error.context("middleware of an agent")),
            Some(Err(error)) => Err(error).context("middleware of an agent"),
            Some(Ok(Ok(()))) | None => Ok(()),
        }
    }

    /// Feeds no more.
    pub(super) fn stop_feeding(&self) {
        self.feeding.send_replace(Feeding::Ended);
    }

    /// Whether, after feeding has ended, every request had its answer.
    pub(super) fn is_settled(&self) -> bool {
        self.middlewares.is_empty()
    }

    /// Stops them in order.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        for mut agent in self.agents {
            let status = agent.terminate(STOP_LIMIT).await?;
            ensure!(status.success(), "{} ended: {status}", agent.device());
        }
        Ok(())
    }
}
