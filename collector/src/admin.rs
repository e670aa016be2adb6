//! What an operator's machinery asks of a running collector: alive, ready,
//! metrics.
//!
//! *Health* (`/healthz`) asks for restarts: a role that reported no progress
//! for its limit is stuck. *Readiness* (`/readyz`) says whether every role is
//! connected or assigned; a collector waiting for Kafka is healthy and not
//! ready. `/metrics` is the Prometheus text format (OpenMetrics 1.0).
//!
//! `health` owns what roles report, `http` answers it.

mod health;
mod http;

use std::net::SocketAddr;

use serde::Deserialize;

pub use health::{Health, Readiness, RoleHealth};
pub use http::Listener;

/// Where the answers are given.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Listening address. The answers name devices nowhere, but there is no
    /// access control: keep it on loopback or a private network.
    pub listen: SocketAddr,
}
