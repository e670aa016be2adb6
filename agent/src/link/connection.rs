//! One connection, from dialling to its end: the only file that drives
//! rumqttc's event loop. Never reconnects; the link starts another.

use std::{io, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use returnpath_shared::{BatchId, Downlink, MQTT_PACKET_BYTES_MAX, wire};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, IncomingPacketSizeLimit, MqttOptions, Packet,
    PubAckReason, Publish, PublishNoticeError, PublishResult, QoS, StateError, SubscribeFilter,
    SubscribeReasonCode, TlsConfiguration, Transport, mqttbytes,
};
use rustix::net::sockopt;
use tokio::{net::TcpStream, sync::mpsc, task::JoinHandle, time::timeout};
use tracing::{debug, warn};

use super::{
    Acknowledgement, BrokerAddress, CloseReason, LinkConfig, ListensTo, presence::Presence,
};

/// Largest packet taken from the cloud, which the broker is told: a receipt of
/// a few hundred ranges. Decisions and configuration are far smaller.
const DOWNLINK_BYTES_MAX: u32 = 16 * 1024;

/// QoS 1 packets from the cloud that may be unacknowledged at once.
const DOWNLINK_IN_FLIGHT_MAX: u16 = 8;

/// Packets read before the loop turns to writing.
const READS_MAX: usize = 16;

/// What a PUBLISH packet adds to topic and payload: fixed header with its
/// length (5), topic length (2), packet id (2), property length (1).
const PUBLISH_HEADER_BYTES: usize = 10;

/// What a connection tells its link.
#[derive(Debug)]
pub(super) enum Notice {
    Connected {
        packet_bytes_max: usize,
    },
    Acknowledged {
        id: BatchId,
        answer: Acknowledgement,
    },
    Receipt(wire::Receipt),
    Decision(Bytes),
    Config(Bytes),
    Closed(CloseReason),
}

/// Starts a connection as a task of its own. Its last notice is `Closed`.
pub(super) fn start(
    config: &LinkConfig,
    broker: &BrokerAddress,
    presence: Presence,
    attempt: u64,
    notices: mpsc::Sender<(u64, Notice)>,
) -> (AsyncClient, JoinHandle<()>) {
    let mut options = options(config, broker);
    options.set_last_will(presence.will());
    let (client, event_loop) = AsyncClient::builder(options)
        // Beside publishes: the subscription and the presence.
        .capacity(usize::from(config.in_flight_max) + 2)
        .build();
    let driver = Driver {
        client: client.clone(),
        event_loop,
        heard: heard(config),
        presence,
        packet_bytes_max: MQTT_PACKET_BYTES_MAX,
        attempt,
        notices,
    };
    // rumqttc pings after each keep-alive without traffic and gives up on a
    // missing answer by itself; a poll that outlasts both hangs in a write.
    let poll_max = config.keep_alive * 2 + config.connect_timeout;
    (client, tokio::spawn(driver.run(poll_max)))
}

fn heard(config: &LinkConfig) -> Vec<(Downlink, String)> {
    let ListensTo {
        decisions,
        config: of_config,
    } = config.listens_to;
    [
        (true, Downlink::Receipts),
        (decisions, Downlink::Decisions),
        (of_config, Downlink::Config),
    ]
    .into_iter()
    .filter(|(listens, _)| *listens)
    .map(|(_, downlink)| (downlink, downlink.topic(&config.device)))
    .collect()
}

/// Lost receipts cost a resend; the others are not sent again by themselves.
fn quality(downlink: Downlink) -> QoS {
    match downlink {
        Downlink::Receipts => QoS::AtMostOnce,
        Downlink::Decisions | Downlink::Config => QoS::AtLeastOnce,
    }
}

fn options(config: &LinkConfig, broker: &BrokerAddress) -> MqttOptions {
    let mut options = MqttOptions::new(config.device.as_str(), (broker.host.as_str(), broker.port));
    let keep_alive_s = u16::try_from(config.keep_alive.as_secs()).unwrap_or(u16::MAX);
    // A dead path is noticed by the kernel before a second ping is due.
    let user_timeout_ms =
        u32::try_from((config.keep_alive + config.connect_timeout).as_millis()).unwrap_or(u32::MAX);
    options
        .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(
            config.tls.clone(),
        )))
        .set_keep_alive(keep_alive_s)
        .set_clean_start(true)
        .set_session_expiry_interval(Some(0))
        .set_connect_timeout(config.connect_timeout)
        // Without this limit rumqttc allocates 14 MB.
        .set_outgoing_inflight_upper_limit(config.in_flight_max)
        .set_receive_maximum(Some(DOWNLINK_IN_FLIGHT_MAX))
        .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(DOWNLINK_BYTES_MAX))
        .set_read_batch_size(READS_MAX)
        .set_socket_connector(move |address, _network_options| dial(address, user_timeout_ms));
    options
}

/// Small packets must not wait for each other (Nagle), and a peer that is gone
/// must be noticed although TCP would retransmit for a quarter of an hour.
async fn dial(address: String, user_timeout_ms: u32) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    sockopt::set_tcp_user_timeout(&stream, user_timeout_ms)?;
    Ok(stream)
}

/// Size of the PUBLISH packet that carries an envelope.
pub(super) fn packet_bytes(topic: &str, envelope: &Bytes) -> usize {
    PUBLISH_HEADER_BYTES + topic.len() + envelope.len()
}

/// What the broker said to a publish; `None` when the connection ended first,
/// which is told once for all.
pub(super) fn acknowledgement(
    outcome: Result<PublishResult, PublishNoticeError>,
) -> Option<Acknowledgement> {
    use wire::RefusalReason;

    let Ok(PublishResult::Qos1(ack)) = outcome else {
        return None;
    };
    Some(match ack.reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Acknowledgement::Taken,
        PubAckReason::NotAuthorized | PubAckReason::TopicNameInvalid => {
            Acknowledgement::Refused(RefusalReason::NotAllowed)
        }
        PubAckReason::PayloadFormatInvalid => Acknowledgement::Refused(RefusalReason::Undecodable),
        PubAckReason::UnspecifiedError
        | PubAckReason::ImplementationSpecificError
        | PubAckReason::PacketIdentifierInUse
        | PubAckReason::QuotaExceeded => Acknowledgement::Later,
    })
}

struct Driver {
    client: AsyncClient,
    event_loop: EventLoop,
    /// What is subscribed to, receipts first, and the topics.
    heard: Vec<(Downlink, String)>,
    presence: Presence,
    /// As the broker's CONNACK says.
    packet_bytes_max: usize,
    attempt: u64,
    notices: mpsc::Sender<(u64, Notice)>,
}

impl Driver {
    async fn run(mut self, poll_max: Duration) {
        let reason = loop {
            let event = match timeout(poll_max, self.event_loop.poll()).await {
                Ok(Ok(event)) => event,
                Ok(Err(error)) => break classify(&error),
                Err(_elapsed) => break CloseReason::NoProgress(poll_max),
            };
            let notice = match self.turn(event) {
                Ok(Some(notice)) => notice,
                Ok(None) => continue,
                Err(reason) => break reason,
            };
            if self.notices.send((self.attempt, notice)).await.is_err() {
                // The link says goodbye: keep polling until that is written.
                while self.event_loop.poll().await.is_ok() {}
                return;
            }
        };
        // Fails only when the link is gone, and then nobody asks.
        let _gone = self
            .notices
            .send((self.attempt, Notice::Closed(reason)))
            .await;
    }

    /// Turns one event into what the link must know.
    fn turn(&mut self, event: Event) -> Result<Option<Notice>, CloseReason> {
        let Event::Incoming(packet) = event else {
            return Ok(None);
        };
        // Only these concern a client that subscribes once and publishes.
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the other packets are rumqttc's own business"
        )]
        match packet {
            Packet::ConnAck(ack) => {
                if let Some(limit) = ack.properties.and_then(|given| given.max_packet_size) {
                    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                    self.packet_bytes_max = self.packet_bytes_max.min(limit);
                }
                let filters = self.heard.iter();
                let filters = filters.map(|(downlink, topic)| {
                    SubscribeFilter::new(topic.clone(), quality(*downlink))
                });
                self.client
                    .try_subscribe_many(filters)
                    .map_err(|error| CloseReason::Failed(error.to_string()))?;
                Ok(None)
            }
            Packet::SubAck(ack) => self.subscribed(&ack.return_codes).map(Some),
            Packet::Publish(publish) => Ok(self.heard(publish)),
            Packet::Disconnect(disconnect) => Err(CloseReason::Disconnected(format!(
                "{:?}",
                disconnect.reason_code
            ))),
            _ => Ok(None),
        }
    }

    /// The broker's word on each topic. Without receipts nothing can leave the
    /// box; without the others it goes on as one that nobody steers.
    fn subscribed(&self, codes: &[SubscribeReasonCode]) -> Result<Notice, CloseReason> {
        for (index, (downlink, topic)) in self.heard.iter().enumerate() {
            let code = codes.get(index);
            if matches!(code, Some(SubscribeReasonCode::Success(_))) {
                continue;
            }
            if *downlink == Downlink::Receipts {
                return Err(CloseReason::SubscriptionRefused(format!("{code:?}")));
            }
            warn!(%topic, ?code, "the broker refused a subscription");
        }
        self.presence
            .announce(&self.client)
            .map_err(|error| CloseReason::Failed(error.to_string()))?;
        Ok(Notice::Connected {
            packet_bytes_max: self.packet_bytes_max,
        })
    }

    /// A receipt that cannot be read is skipped: losing it costs a resend.
    fn heard(&self, publish: Publish) -> Option<Notice> {
        let mut heard = self.heard.iter();
        let Some((downlink, _)) = heard.find(|(_, topic)| publish.topic == topic.as_bytes()) else {
            debug!("publish on another topic skipped");
            return None;
        };
        match downlink {
            Downlink::Receipts => match wire::Receipt::decode(publish.payload.clone()) {
                Ok(receipt) => Some(Notice::Receipt(receipt)),
                Err(error) => {
                    warn!(%error, bytes = publish.payload.len(), "receipt cannot be decoded");
                    None
                }
            },
            Downlink::Decisions => Some(Notice::Decision(publish.payload)),
            Downlink::Config => Some(Notice::Config(publish.payload)),
        }
    }
}

/// Why a connection ended: boxes come back in turn where the broker ended all of
/// them, so that is told apart.
pub(super) fn classify(error: &ConnectionError) -> CloseReason {
    if let ConnectionError::ConnectionRefused(code) = error {
        return CloseReason::Refused(format!("{code:?}"));
    }
    if let ConnectionError::MqttState(StateError::ConnectionAborted) = error {
        return CloseReason::Dropped;
    }
    // What is read from a connection that was cut comes as the last of these.
    if let ConnectionError::Io(error)
    | ConnectionError::MqttState(
        StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)),
    ) = error
        && matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        )
    {
        return CloseReason::Dropped;
    }
    // rumqttc's messages carry some of their causes and not others.
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    CloseReason::Failed(text)
}
