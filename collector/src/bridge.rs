//! Not built yet: the role's contract only, so that the process stands.

mod config;

use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::sync::watch;
use tracing::warn;

pub use config::{Broker, Config, InFlight, Quota, ShareGroup, Tls};

use crate::{admin::RoleHealth, config::NodeId, kafka};

/// What the bridge counts.
#[derive(Clone, Debug)]
pub struct Metrics {}

impl Metrics {
    /// Registers every metric; the registry already prefixes `returnpath_bridge_`.
    pub fn register(_registry: &mut Registry) -> Self {
        Self {}
    }
}

/// Why the bridge ended unasked.
#[derive(Debug, Error)]
pub enum Error {}

/// Runs the role until `stop` holds `true`.
///
/// # Errors
/// None: not built yet.
pub async fn run(
    _config: Config,
    _kafka: kafka::Config,
    _node_id: NodeId,
    _health: RoleHealth,
    _metrics: Metrics,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    warn!("bridge is not built yet");
    let _ = stop.wait_for(|stop| *stop).await;
    Ok(())
}
