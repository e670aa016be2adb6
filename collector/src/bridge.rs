//! The bridge: batches from the MQTT brokers into Kafka, receipts back.
//!
//! Owns one MQTT connection and one Kafka producer, both on one thread with a
//! runtime of its own: a batch crosses no thread but librdkafka's. Never looks
//! into a batch (refine does), never decides what a box may forget but by
//! Kafka's word. Guarantees: no receipt before Kafka confirmed with
//! `acks=all`; acknowledgements in order and never across a reconnect; bounded
//! memory whatever Kafka, the brokers or the boxes do.
//!
//! `triage` decides about one PUBLISH, `quota` about one box; `passage` takes
//! a batch through; `receipts` and `acknowledgements` know what is owed;
//! `dial` and `session` are the connection; `producer` is Kafka.

mod acknowledgements;
mod config;
mod dial;
mod in_flight;
mod metrics;
mod passage;
mod producer;
mod quota;
mod receipts;
mod session;
mod triage;

use std::{
    io, thread,
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::{
    runtime,
    sync::{oneshot, watch},
    time,
};
use tracing::{info, warn};

use self::{
    dial::dial,
    passage::Passage,
    producer::Producer,
    session::{Lost, serve},
};
use crate::{
    admin::{Readiness, RoleHealth},
    kafka,
    mqtt::{self, TlsError},
    node_id::NodeId,
    topics::{self, PreconditionError},
};

pub use config::{Compression, Config, InFlight, Quota, ShareGroup};
pub use metrics::Metrics;

/// Table of the configuration with the files of the connection.
const SECTION: &str = "bridge.tls";

/// Time for a connection to stand: TCP, TLS and CONNECT.
const DIAL_MAX: Duration = Duration::from_secs(10);

/// A connection that stood this long was no failure: the next pause is short
/// again. One that is refused its subscription at once is.
const STEADY_AFTER: Duration = Duration::from_secs(10);

/// Why the bridge ended unasked.
#[derive(Debug, Error)]
pub enum Error {
    /// The files named in the configuration cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Kafka is not as it must be.
    #[error(transparent)]
    Preconditions(#[from] PreconditionError),
    /// The Kafka client does not take its settings.
    #[error("cannot produce to Kafka")]
    Kafka(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No thread or no runtime.
    #[error("cannot start the bridge's thread")]
    Thread(#[source] io::Error),
    /// The thread is gone without a result: a bug of ours.
    #[error("the bridge's thread panicked")]
    Panicked,
}

/// Says what of the configuration cannot be used, without connecting.
///
/// # Errors
/// Names the key.
pub fn check(config: &Config) -> Result<(), TlsError> {
    mqtt::client_config(SECTION, &config.tls).map(|_| ())
}

/// Runs the role until `stop` holds `true`, then drains.
///
/// # Errors
/// When the configuration turns out to be unusable. Brokers that are away are
/// waited for, before and after the first connection.
pub async fn run(
    config: Config,
    kafka: kafka::Config,
    node_id: NodeId,
    health: RoleHealth,
    metrics: Metrics,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    check(&config)?;
    let Some(partitions) = topics::preconditions(&kafka, "bridge", &health, &mut stop).await?
    else {
        return Ok(());
    };
    let (ended, end) = oneshot::channel();
    let bridge = Bridge {
        config,
        kafka,
        node_id,
        partitions,
        health,
        stop,
    };
    thread::Builder::new()
        .name("bridge".into())
        .spawn(move || {
            let result = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(Error::Thread)
                .and_then(|runtime| runtime.block_on(bridge.run(metrics)));
            // Nobody listens when the drain took longer than its budget.
            let _ = ended.send(result);
        })
        .map_err(Error::Thread)?;
    end.await.unwrap_or(Err(Error::Panicked))
}

struct Bridge {
    config: Config,
    kafka: kafka::Config,
    node_id: NodeId,
    partitions: u32,
    health: RoleHealth,
    stop: watch::Receiver<bool>,
}

impl Bridge {
    async fn run(mut self, metrics: Metrics) -> Result<(), Error> {
        let mut stop = self.stop.clone();
        let producer = self.open_producer()?;
        let mut passage = Passage::new(&self.config, producer, metrics, Instant::now());
        let filter = dial::filter(&self.config);
        let brokers = self.config.brokers.clone();
        let mut failures = 0;
        // Collectors start together after a power cut: not all at one broker.
        let mut turn = mqtt::random(brokers.len());
        while !*self.stop.borrow() {
            self.health.set(Readiness::NotReady("no MQTT connection"));
            let broker = &brokers[turn % brokers.len()];
            turn = turn.wrapping_add(1);
            let dialled = time::timeout(DIAL_MAX, dial(broker, &self.config, &self.node_id));
            let dialled = tokio::select! {
                dialled = self.meanwhile(&mut passage, dialled) => dialled,
                () = stopped(&mut stop) => break,
            };
            let lost = match dialled {
                Err(_) => format!("no connection within {} s", DIAL_MAX.as_secs()),
                Ok(Err(cause)) => mqtt::chain(&cause),
                Ok(Ok(socket)) => {
                    info!(%broker, "MQTT connected");
                    let connected_at = Instant::now();
                    let metrics = passage.metrics().clone();
                    metrics.connections.inc();
                    metrics.connected.set(1);
                    let health = self.health.clone();
                    let end = serve(&mut passage, socket, &filter, &health, &mut self.stop).await;
                    metrics.connected.set(0);
                    if connected_at.elapsed() >= STEADY_AFTER {
                        failures = 0;
                    }
                    match end {
                        Ok(()) => {
                            info!(%broker, "MQTT disconnected");
                            break;
                        }
                        Err(cause) => {
                            if let Lost::Producer(_) = cause {
                                passage.replace_producer(self.open_producer()?, Instant::now());
                            }
                            mqtt::chain(&cause)
                        }
                    }
                }
            };
            passage.metrics().connections_lost.inc();
            let pause = mqtt::pause(failures);
            failures += 1;
            warn!(%broker, pause_ms = pause.as_millis(), "MQTT connection lost: {lost}");
            tokio::select! {
                () = self.meanwhile(&mut passage, time::sleep(pause)) => {}
                () = stopped(&mut stop) => {}
            }
        }
        Ok(())
    }

    fn open_producer(&self) -> Result<Producer, Error> {
        Producer::open(&self.config, &self.kafka, &self.node_id, self.partitions)
            .map_err(|cause| Error::Kafka(cause.into()))
    }

    /// Awaits `work` and serves Kafka meanwhile: reports are taken in, and
    /// what they say is owed to boxes is kept for the next connection.
    async fn meanwhile<T>(&self, passage: &mut Passage, work: impl Future<Output = T>) -> T {
        /// Longer than while connected: nothing can be answered now.
        const INTERVAL: Duration = Duration::from_millis(50);

        let mut work = std::pin::pin!(work);
        loop {
            self.health.progressed();
            passage.serve_kafka(Instant::now());
            passage.observe();
            tokio::select! {
                done = &mut work => return done,
                () = time::sleep(INTERVAL) => {}
            }
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody can tell us to stop any more: stop then too.
    let _ = stop.wait_for(|stop| *stop).await;
}
