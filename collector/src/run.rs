//! Starts the chosen roles, waits for a signal or for one of them to end, and
//! stops them in order.
//!
//! The contract of a role: `run(config, kafka, node_id, health, metrics,
//! stop)` works until `stop` holds `true`, drains, and returns. Roles share no
//! memory: what one hands to another goes through Kafka. A role that ends
//! unasked ends the process, and the supervisor (systemd, Kubernetes) starts
//! it anew: half a collector would look alive and not be.

use std::{error::Error, fmt, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use prometheus_client::registry::Registry;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::{self, JoinSet},
    time,
};
use tracing::{error, info, warn};

use crate::{
    admin::{Health, Listener},
    bridge,
    config::Config,
    decide, refine,
};

/// A role that goes round less often than this is stuck. Loops go round at
/// least every second; the slowest single step is a Kafka call of 10 s.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What a collector process can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Role {
    /// MQTT to `rp.raw`, receipts back.
    Bridge,
    /// `rp.raw` to the refined topics.
    Refine,
    /// `rp.opportunities` to signed decisions on the boxes.
    Decide,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Bridge, Self::Refine, Self::Decide];

    /// The roles that a process has unless it is told others: all that are
    /// configured. Without a section `[decide]` nothing is decided.
    #[must_use]
    pub fn configured(config: &Config) -> Vec<Self> {
        let decides = config.decide.is_some();
        Self::ALL
            .into_iter()
            .filter(|role| *role != Self::Decide || decides)
            .collect()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Refine => "refine",
            Self::Decide => "decide",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Why the roles were told to stop.
enum Cause {
    Signal(&'static str),
    Ended(Role, anyhow::Result<()>),
}

/// Runs `roles` until a signal comes or one of them ends.
///
/// # Errors
/// When nothing could be started, a role failed, or the drain took longer
/// than its budget.
pub async fn run(roles: &[Role], config: Config) -> anyhow::Result<ExitCode> {
    let drain_budget = config.drain_budget;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let address = config.admin.listen;
    let listener = Listener::bind(address)
        .await
        .with_context(|| format!("admin.listen: cannot bind {address}"))?;

    let (stop, stopped) = watch::channel(false);
    let mut health = Health::new();
    let mut registry = Registry::with_prefix("returnpath");
    let mut running = start(roles, &config, &mut health, &mut registry, &stopped);
    info!(
        node_id = %config.node_id,
        roles = %roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(","),
        admin = %listener.address().unwrap_or(address),
        version = env!("CARGO_PKG_VERSION"),
        "started"
    );
    let serving = tokio::spawn(listener.serve(health, Arc::new(registry)));

    let cause = tokio::select! {
        _ = terminate.recv() => Cause::Signal("SIGTERM"),
        _ = interrupt.recv() => Cause::Signal("SIGINT"),
        Some((role, end)) = next_end(&mut running) => Cause::Ended(role, end),
    };
    match &cause {
        Cause::Signal(name) => info!(signal = name, "draining"),
        Cause::Ended(role, Ok(())) => error!(%role, "role ended unasked, draining"),
        Cause::Ended(role, Err(cause)) => error!(%role, "role failed, draining: {cause:#}"),
    }
    stop.send_replace(true);

    let drained = time::timeout(drain_budget, async {
        let mut result = Ok(());
        while let Some((role, end)) = next_end(&mut running).await {
            match end {
                Ok(()) => info!(%role, "drained"),
                Err(cause) => result = Err(cause.context(format!("{role} failed while draining"))),
            }
        }
        result
    });
    let drained = tokio::select! {
        drained = drained => drained,
        _ = interrupt.recv() => {
            warn!("second SIGINT, leaving at once");
            return Ok(ExitCode::FAILURE);
        }
    };
    serving.abort();
    drained
        .map_err(|_| anyhow!("not drained within {} s", drain_budget.as_secs()))
        .flatten()?;
    match cause {
        Cause::Signal(_) => Ok(ExitCode::SUCCESS),
        Cause::Ended(role, Ok(())) => Err(anyhow!("{role} ended unasked")),
        Cause::Ended(role, Err(cause)) => Err(cause.context(format!("{role} failed"))),
    }
}

/// The tasks of the roles, and which is whose.
struct Running {
    tasks: JoinSet<Result<(), Box<dyn Error + Send + Sync>>>,
    roles: Vec<(task::Id, Role)>,
}

fn start(
    roles: &[Role],
    config: &Config,
    health: &mut Health,
    registry: &mut Registry,
    stopped: &watch::Receiver<bool>,
) -> Running {
    let mut running = Running {
        tasks: JoinSet::new(),
        roles: Vec::new(),
    };
    for role in Role::ALL.into_iter().filter(|role| roles.contains(role)) {
        let reports = health.role(role.name(), SILENCE_MAX);
        let registry = registry.sub_registry_with_prefix(role.name());
        let (kafka, node_id) = (config.kafka.clone(), config.node_id.clone());
        let stopped = stopped.clone();
        let task = match role {
            Role::Bridge => {
                let metrics = bridge::Metrics::register(registry);
                let work = bridge::run(
                    config.bridge.clone(),
                    kafka,
                    node_id,
                    reports,
                    metrics,
                    stopped,
                );
                running.tasks.spawn(async move { Ok(work.await?) })
            }
            Role::Refine => {
                let metrics = refine::Metrics::register(registry);
                let work = refine::run(
                    config.refine.clone(),
                    kafka,
                    node_id,
                    reports,
                    metrics,
                    stopped,
                );
                running.tasks.spawn(async move { Ok(work.await?) })
            }
            Role::Decide => {
                // Whoever names the role without its section was refused.
                let Some(decide) = config.decide.clone() else {
                    continue;
                };
                let metrics = decide::Metrics::register(registry, decide.aggregator_names());
                let work = decide::run(decide, kafka, node_id, reports, metrics, stopped);
                running.tasks.spawn(async move { Ok(work.await?) })
            }
        };
        running.roles.push((task.id(), role));
    }
    running
}

/// The next role to end. A panic is our bug and passes as an error, so that
/// the other role still drains.
async fn next_end(running: &mut Running) -> Option<(Role, anyhow::Result<()>)> {
    let (task, end) = match running.tasks.join_next_with_id().await? {
        Ok((task, end)) => (task, end.map_err(anyhow::Error::from_boxed)),
        Err(cause) => (cause.id(), Err(anyhow::Error::new(cause))),
    };
    let (_, role) = running.roles.iter().find(|(id, _)| *id == task)?;
    Some((*role, end))
}
