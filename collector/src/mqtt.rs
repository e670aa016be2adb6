//! How a role speaks MQTT: one connection, encrypted and authenticated both
//! ways, on which packets go in and out in bulk.
//!
//! Owns what every connection needs (`broker` its address, `tls` its files,
//! `dial` TCP to CONNACK, `socket` the packets, `pause` how long to wait after
//! a failure) and nothing of what is said on it: that is the role's.

mod broker;
mod dial;
mod pause;
mod socket;
mod tls;

use std::path::PathBuf;

use serde::Deserialize;

pub use broker::Broker;
pub(crate) use dial::{DialError, KEEP_ALIVE_SECONDS, Session, dial};
pub(crate) use pause::{pause, random};
pub(crate) use socket::{PacketError, Reading, Socket};
pub use tls::TlsError;
pub(crate) use tls::client_config;

/// Files of the TLS connection, all PEM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Authorities that may sign the brokers' certificates.
    pub ca: PathBuf,
    /// Our certificate and those between it and the authority. Its common name
    /// is our MQTT client id, so no two processes may share it.
    pub certificate: PathBuf,
    /// The private key to it.
    pub key: PathBuf,
}

/// An error with its causes, for a log line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
