//! The MQTT broker of the demo, in this process: TLS with required client
//! certificates.
//!
//! **Its limit:** the broker's authentication hook does not see the client's
//! certificate, so it cannot make the common name the client id nor tie topics
//! to it. Any box with a certificate could publish for another. The tests run
//! against Mosquitto, which does both.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use mqtt5::broker::{
    BrokerConfig, MqttBroker,
    config::{StorageBackend, StorageConfig, TlsConfig},
};
use returnpath_shared::MQTT_PACKET_BYTES_MAX;
use tokio::task::JoinHandle;

use crate::{pki::DevelopmentPki, place};

/// A running broker. Ends when it is dropped.
pub(super) struct EmbeddedBroker {
    port: u16,
    running: JoinHandle<()>,
}

impl EmbeddedBroker {
    /// Starts it on a free port of the loopback address.
    pub(super) async fn start(pki: &DevelopmentPki, clients_max: usize) -> anyhow::Result<Self> {
        let port = place::free_port()?;
        let identity = pki.broker();
        let tls = TlsConfig::new(identity.certificate, identity.key)
            .with_ca_file(pki.authority())
            .with_require_client_cert(true)
            .with_bind_addresses(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))]);
        let config = BrokerConfig::default()
            .with_bind_addresses(Vec::new())
            .with_max_clients(clients_max)
            .with_max_packet_size(MQTT_PACKET_BYTES_MAX)
            .with_sys_topics_enabled(false)
            // Nothing waits in the broker for someone who is gone.
            .with_storage(StorageConfig {
                backend: StorageBackend::Memory,
                enable_persistence: false,
                ..StorageConfig::default()
            })
            .with_tls(tls);
        let mut broker = MqttBroker::with_config(config)
            .await
            .context("start the MQTT broker")?;
        let running = tokio::spawn(async move {
            if let Err(error) = broker.run().await {
                tracing::error!("the MQTT broker ended: {error}");
            }
        });
        Ok(Self { port, running })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.running.abort();
    }
}
