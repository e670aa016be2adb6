//! The link to the broker: MQTT 5 over TLS 1.3. Publishes envelopes, reports
//! what the broker said to each, hands up what the cloud sends (receipts,
//! decisions, configuration), and tells the broker whether the box is
//! connected. Decisions and configuration are bytes here: whose they are and
//! what they say is judged elsewhere.
//!
//! Keeps nothing: every connection is a new client that starts clean, and what
//! was in flight when one ends is the caller's to send again. When to connect
//! is the caller's decision too. One `Link` is one box; a process may hold
//! many. Calls never block; [`Link::next`] is cancel-safe.

mod address;
mod connection;
mod presence;
mod tls;

use std::{collections::BTreeMap, future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use returnpath_shared::{BatchId, DeviceId, Epoch, Lane, Uplink, wire};
use rumqttc::{
    AsyncClient, ClientError, DisconnectProperties, DisconnectReasonCode, PublishOptions,
};
use thiserror::Error;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info};

pub use self::{
    address::{AddressError, BrokerAddress},
    tls::{TlsError, client_config},
};
use self::{connection::Notice, presence::Presence};

/// Notices on their way to the caller. The connection waits when it is full,
/// which stops reading from the broker; the caller never waits for the
/// connection, so neither can wait for the other.
const NOTICES_MAX: usize = 64;

/// What a link needs to know.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// The box; also its MQTT client id.
    pub device: DeviceId,
    /// What [`Link::connect`] chooses from. At least one.
    pub brokers: Arc<[BrokerAddress]>,
    /// From [`client_config`].
    pub tls: Arc<rustls::ClientConfig>,
    /// Longest silence before a ping.
    pub keep_alive: Duration,
    /// From dialling to the first answer.
    pub connect_timeout: Duration,
    /// A connection on which a publish stays without PUBACK for this long makes
    /// no progress and is torn down.
    pub acknowledgement_timeout: Duration,
    /// Publishes without PUBACK: at most this many are taken.
    pub in_flight_max: u16,
    /// What the box listens to beside receipts.
    pub listens_to: ListensTo,
}

/// What a box listens to beside receipts. Nothing, unless it has keys to judge
/// it by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ListensTo {
    /// Signed decisions.
    pub decisions: bool,
    /// Signed configuration.
    pub config: bool,
}

/// What happened on the link.
#[derive(Debug)]
pub enum LinkEvent {
    /// Connected and subscribed: receipts will be heard, and what else the
    /// broker lets the box listen to.
    Connected,
    /// What the broker said to a publish.
    Acknowledged {
        /// The batch that was published.
        id: BatchId,
        /// What it said.
        answer: Acknowledgement,
    },
    /// The collector's answer to earlier publishes.
    Receipt(wire::Receipt),
    /// What came as a signed decision.
    Decision(Bytes),
    /// What came as signed configuration.
    Config(Bytes),
    /// The connection ended, or did not come about. What was in flight may or
    /// may not have arrived.
    Closed(CloseReason),
}

/// What a broker can say to a publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acknowledgement {
    /// The broker has it; the receipt tells whether Kafka does.
    Taken,
    /// Refused for good: the same batch would be refused again.
    Refused(wire::RefusalReason),
    /// Refused for now.
    Later,
}

/// Why a connection ended.
#[derive(Debug, Error)]
pub enum CloseReason {
    /// The broker said no to the connection.
    #[error("the broker refused the connection: {0}")]
    Refused(String),
    /// The broker said no to the subscription to receipts.
    #[error("the broker refused the subscription to receipts: {0}")]
    SubscriptionRefused(String),
    /// The network, TLS or the protocol failed.
    #[error("{0}")]
    Failed(String),
    /// The other end closed or reset an established connection.
    #[error("the broker closed the connection")]
    Dropped,
    /// The broker went away in an orderly way.
    #[error("the broker disconnected: {0}")]
    Disconnected(String),
    /// Nothing moved for too long.
    #[error("no progress for {0:?}")]
    NoProgress(Duration),
}

impl CloseReason {
    /// Whether the broker ended it: it does so to everyone at once.
    #[must_use]
    pub fn is_by_broker(&self) -> bool {
        matches!(self, Self::Dropped | Self::Disconnected(_))
    }
}

/// Why a publish was not taken. Nothing was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum PublishError {
    /// Not connected.
    #[error("not connected")]
    Down,
    /// As much in flight as may be.
    #[error("the in-flight window is full")]
    Full,
    /// Larger than this broker takes.
    #[error("larger than the broker's packet limit")]
    TooLarge,
}

/// One box's link.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    epoch: Epoch,
    /// Attempts so far; names the current connection, so that late notices of
    /// an earlier one are told apart, and late wills.
    attempt: u64,
    connection: Option<Connection>,
    notices: mpsc::Receiver<(u64, Notice)>,
    notices_sender: mpsc::Sender<(u64, Notice)>,
}

#[derive(Debug)]
struct Connection {
    client: AsyncClient,
    driver: JoinHandle<()>,
    /// Known once connected.
    packet_bytes_max: Option<usize>,
    in_flight: BTreeMap<BatchId, Instant>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Link {
    /// A link that is not connected. `epoch` names the run, so that what is
    /// said of a connection in an earlier one is known to be earlier.
    #[must_use]
    pub fn new(config: LinkConfig, epoch: Epoch) -> Self {
        let (notices_sender, notices) = mpsc::channel(NOTICES_MAX);
        Self {
            config,
            epoch,
            attempt: 0,
            connection: None,
            notices,
            notices_sender,
        }
    }

    /// Starts a connection to a broker by its place in the configuration,
    /// ending the one before. The outcome comes from [`Self::next`].
    pub fn connect(&mut self, address: u32) {
        let index = usize::try_from(address).unwrap_or(0) % self.config.brokers.len().max(1);
        let Some(broker) = self.config.brokers.get(index) else {
            return;
        };
        self.attempt += 1;
        info!(%broker, "connecting");
        let (client, driver) = connection::start(
            &self.config,
            broker,
            Presence::new(&self.config, self.epoch, self.attempt),
            self.attempt,
            self.notices_sender.clone(),
        );
        self.connection = Some(Connection {
            client,
            driver,
            packet_bytes_max: None,
            in_flight: BTreeMap::new(),
        });
    }

    /// Whether envelopes can be published.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| connection.packet_bytes_max.is_some())
    }

    /// Publishes an envelope with QoS 1.
    ///
    /// # Errors
    /// When it was not taken; nothing was sent then.
    pub fn publish(
        &mut self,
        id: BatchId,
        lane: Lane,
        envelope: Bytes,
    ) -> Result<(), PublishError> {
        let connection = self.connection.as_mut().ok_or(PublishError::Down)?;
        let packet_bytes_max = connection.packet_bytes_max.ok_or(PublishError::Down)?;
        if connection.in_flight.len() >= usize::from(self.config.in_flight_max) {
            return Err(PublishError::Full);
        }
        let topic = Uplink {
            device: self.config.device.clone(),
            lane,
        }
        .to_string();
        if connection::packet_bytes(&topic, &envelope) > packet_bytes_max {
            return Err(PublishError::TooLarge);
        }
        let notice = connection
            .client
            .try_publish_tracked(topic, envelope, PublishOptions::at_least_once())
            .map_err(|error| {
                if matches!(error, ClientError::RequestChannelFull(_)) {
                    PublishError::Full
                } else {
                    PublishError::Down
                }
            })?;
        connection.in_flight.insert(id, Instant::now());
        // At most `in_flight_max` of these live at a time.
        let notices = self.notices_sender.clone();
        let attempt = self.attempt;
        tokio::spawn(async move {
            if let Some(answer) = connection::acknowledgement(notice.wait_async().await) {
                // Fails only when the link is gone, and then nobody asks.
                let _gone = notices
                    .send((attempt, Notice::Acknowledged { id, answer }))
                    .await;
            }
        });
        Ok(())
    }

    /// The next thing that happens. Waits for ever while nothing does.
    pub async fn next(&mut self) -> LinkEvent {
        loop {
            let deadline = self.progress_deadline();
            let stalled = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => pending().await,
                }
            };
            let notice = tokio::select! {
                notice = self.notices.recv() => notice,
                () = stalled => {
                    self.connection = None;
                    let reason = CloseReason::NoProgress(self.config.acknowledgement_timeout);
                    return LinkEvent::Closed(reason);
                }
            };
            // The link holds a sender itself: the channel never ends.
            let Some((attempt, notice)) = notice else {
                return pending().await;
            };
            if attempt != self.attempt {
                continue;
            }
            if let Some(event) = self.apply(notice) {
                return event;
            }
        }
    }

    /// Enters a notice of the current connection.
    fn apply(&mut self, notice: Notice) -> Option<LinkEvent> {
        let connection = self.connection.as_mut()?;
        Some(match notice {
            Notice::Connected { packet_bytes_max } => {
                connection.packet_bytes_max = Some(packet_bytes_max);
                LinkEvent::Connected
            }
            Notice::Acknowledged { id, answer } => {
                connection.in_flight.remove(&id);
                debug!(%id, ?answer, "acknowledged");
                LinkEvent::Acknowledged { id, answer }
            }
            Notice::Receipt(receipt) => LinkEvent::Receipt(receipt),
            Notice::Decision(message) => LinkEvent::Decision(message),
            Notice::Config(message) => LinkEvent::Config(message),
            Notice::Closed(reason) => {
                self.connection = None;
                LinkEvent::Closed(reason)
            }
        })
    }

    fn progress_deadline(&self) -> Option<Instant> {
        let in_flight = &self.connection.as_ref()?.in_flight;
        let oldest = in_flight.values().min()?;
        Some(*oldest + self.config.acknowledgement_timeout)
    }

    /// Says goodbye to the broker within `grace`; what is in flight is not
    /// waited for. The broker is told to publish the last will: a message of
    /// our own could be held up by what is in flight.
    pub async fn disconnect(&mut self, grace: Duration) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let goodbye = connection.client.try_disconnect_now_with_properties(
            DisconnectReasonCode::DisconnectWithWillMessage,
            DisconnectProperties {
                session_expiry_interval: None,
                reason_string: None,
                user_properties: Vec::new(),
                server_reference: None,
            },
        );
        if goodbye.is_ok() {
            // Nobody reads notices any more: make room for the driver.
            self.notices.close();
            let _too_late = timeout(grace, &mut connection.driver).await;
        }
    }
}

#[cfg(test)]
mod tests;
