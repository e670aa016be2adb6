//! A stand-in ad market: several aggregators over HTTPS (HTTP/2 and 1.1) on
//! loopback ports, each with an API of its own, and each with a behaviour that
//! a test can switch while it runs, from fine to a compression bomb.
//!
//! Owns the servers, what they offer and the memory of what they were asked.
//! The same seed and the same order of requests give the same answers. It
//! knows nothing of decisions: it is what the decide role must survive.

mod api;
mod behaviour;
mod body;
mod memory;
mod section;
mod server;
mod stock;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use tokio::{sync::watch, task::JoinHandle};

pub use self::{
    api::Api,
    behaviour::Behaviour,
    memory::{Asked, Counts},
    section::Terms,
    stock::{Latency, Stock},
};
use self::{behaviour::Applied, memory::Memory, server::Server};
use crate::{
    pki::{DevelopmentPki, Flaw},
    place,
};

/// Where the market's creatives lie: the one host that has to be allowed.
pub const CREATIVES_HOST: &str = "creatives.example";

/// What one aggregator is like.
#[derive(Clone, Debug)]
pub struct AggregatorSettings {
    /// Names it, among the aggregators too.
    pub name: String,
    /// How it is spoken to.
    pub api: Api,
    /// What it offers, and how fast.
    pub stock: Stock,
}

/// A running market. Ends when it is dropped.
pub struct Market {
    aggregators: Vec<Aggregator>,
}

/// One running aggregator.
pub struct Aggregator {
    name: String,
    api: Api,
    port: u16,
    secret_file: PathBuf,
    behaviour: watch::Sender<Behaviour>,
    applied: watch::Receiver<Applied>,
    memory: Arc<Memory>,
    running: JoinHandle<()>,
}

impl Market {
    /// Opens the aggregators with the certificate of `pki`; the secrets that
    /// they ask for are written to files in `directory`.
    ///
    /// # Errors
    /// When a port or a file cannot be had.
    pub async fn open(
        pki: &DevelopmentPki,
        directory: &Path,
        seed: u64,
        aggregators: &[AggregatorSettings],
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        let tls = server::acceptor(&pki.aggregators())?;
        let mut flawed = BTreeMap::new();
        for flaw in Flaw::ALL {
            flawed.insert(flaw, server::acceptor(&pki.flawed_aggregators(flaw)?)?);
        }
        let mut open = Vec::new();
        for (number, settings) in (0..).zip(aggregators) {
            let name = &settings.name;
            let secret = format!("secret-of-{name}-in-market-{seed}");
            let secret_file = directory.join(format!("{name}.secret"));
            fs::write(&secret_file, &secret)
                .with_context(|| format!("write {}", secret_file.display()))?;
            let port = place::free_port()?;
            let memory = Arc::new(Memory::default());
            let (behaviour, behaves) = watch::channel(Behaviour::Fine);
            let (done, mut applied) = watch::channel(Applied::default());
            let server = Server {
                port,
                tls: tls.clone(),
                flawed: flawed.clone(),
                api: settings.api,
                secret,
                stock: settings.stock.clone(),
                seed: seed.wrapping_add(number),
                memory: Arc::clone(&memory),
                behaviour: behaves,
                applied: done,
            };
            let running = tokio::spawn(server.run());
            applied
                .wait_for(|applied| applied.is(Behaviour::Fine))
                .await
                .with_context(|| format!("{name} cannot listen on port {port}"))?;
            open.push(Aggregator {
                name: name.clone(),
                api: settings.api,
                port,
                secret_file,
                behaviour,
                applied,
                memory,
                running,
            });
        }
        Ok(Self { aggregators: open })
    }

    /// All of them, in the order of the settings.
    #[must_use]
    pub fn aggregators(&self) -> &[Aggregator] {
        &self.aggregators
    }

    /// The one called `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn aggregator(&self, name: &str) -> anyhow::Result<&Aggregator> {
        self.aggregators
            .iter()
            .find(|aggregator| aggregator.name == name)
            .with_context(|| format!("the market has no aggregator {name:?}"))
    }
}

impl Aggregator {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is spoken to.
    #[must_use]
    pub fn api(&self) -> Api {
        self.api
    }

    /// Where it is asked, without query.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}{}", self.port, self.api.path())
    }

    /// File with the secret that it asks for.
    #[must_use]
    pub fn secret_file(&self) -> &Path {
        &self.secret_file
    }

    /// Has it behave so from now on. On return, no connection or request is
    /// taken any more as it was before; what was asked before may end so.
    ///
    /// # Errors
    /// When its server has ended.
    pub async fn behave(&self, behaviour: Behaviour) -> anyhow::Result<()> {
        self.behaviour.send_replace(behaviour);
        let mut applied = self.applied.clone();
        applied
            .wait_for(|applied| applied.is(behaviour))
            .await
            .with_context(|| format!("the server of {} has ended", self.name))?;
        Ok(())
    }

    /// Totals so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.memory.counts()
    }

    /// The latest requests, oldest first.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.memory.asked()
    }
}

impl Drop for Aggregator {
    fn drop(&mut self) {
        self.running.abort();
    }
}

#[cfg(test)]
mod tests;
