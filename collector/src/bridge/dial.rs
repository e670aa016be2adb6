//! From a broker's address to a connection on which a subscription is asked
//! for: TCP, mutual TLS 1.3, CONNECT, SUBSCRIBE.

use std::{io, time::Instant};

use returnpath_shared::{MQTT_PACKET_BYTES_MAX, UPLINK_FILTER};
use rumqttc::{
    mqttbytes::{
        QoS,
        v5::{
            Connect, ConnectAuth, ConnectProperties, ConnectReturnCode, Packet, RetainForwardRule,
            Subscribe, SubscribeFilter,
        },
    },
    tokio_rustls::{TlsConnector, client::TlsStream},
};
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use thiserror::Error;
use tokio::net::TcpStream;

use super::{
    Broker, Config,
    socket::{PacketError, Reading, Socket},
    tls::{self, TlsError},
};
use crate::node_id::NodeId;

/// Keep-alive told to the broker, in seconds: after one and a half times that
/// without a packet it gives our share to the others.
pub(super) const KEEP_ALIVE_SECONDS: u16 = 20;

/// Packet id of SUBSCRIBE and later of UNSUBSCRIBE: the only ones we send.
pub(super) const PACKET_ID: u16 = 1;

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum DialError {
    /// The certificate files cannot be used at the moment.
    #[error(transparent)]
    Files(#[from] TlsError),
    /// The host is no name that a certificate can carry.
    #[error("host is neither a DNS name nor an address")]
    Host(#[from] InvalidDnsNameError),
    /// TCP failed.
    #[error("cannot connect")]
    Tcp(#[source] io::Error),
    /// TLS failed: their certificate, ours, or the versions.
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    /// The connection broke before the broker answered.
    #[error("connection lost before CONNACK")]
    Lost(#[source] io::Error),
    /// The broker does not speak MQTT 5.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// The broker said something else than CONNACK.
    #[error("broker did not answer CONNECT with CONNACK")]
    Answer,
    /// The broker does not want us.
    #[error("broker refused: {0:?}")]
    Refused(ConnectReturnCode),
    /// The broker cannot do what we need.
    #[error("broker has no {0}")]
    Lacks(&'static str),
}

/// The shared subscription of a group.
pub(super) fn filter(config: &Config) -> String {
    format!("$share/{}/{UPLINK_FILTER}", config.share_group.as_str())
}

/// Connects and asks for the subscription. The answer to that comes later,
/// among the first batches.
pub(super) async fn dial(
    broker: &Broker,
    config: &Config,
    node_id: &NodeId,
) -> Result<Socket<TlsStream<TcpStream>>, DialError> {
    let connector = TlsConnector::from(tls::client_config(&config.tls)?);
    let name = ServerName::try_from(broker.host.clone())?;
    let tcp = TcpStream::connect((broker.host.as_str(), broker.port))
        .await
        .map_err(DialError::Tcp)?;
    // What goes out is collected here already.
    tcp.set_nodelay(true).map_err(DialError::Tcp)?;
    let stream = connector.connect(name, tcp).await.map_err(DialError::Tls)?;
    let mut socket = Socket::new(stream, Instant::now());

    socket.send(&connect(config, node_id), Instant::now())?;
    let answer = loop {
        socket
            .exchange(Reading::Open)
            .await
            .map_err(DialError::Lost)?;
        if let Some(packet) = socket.receive()? {
            break packet;
        }
    };
    let Packet::ConnAck(connack) = answer else {
        return Err(DialError::Answer);
    };
    if connack.code != ConnectReturnCode::Success {
        return Err(DialError::Refused(connack.code));
    }
    if let Some(properties) = connack.properties {
        if properties.shared_subscription_available == Some(0) {
            return Err(DialError::Lacks("shared subscriptions"));
        }
        if properties.wildcard_subscription_available == Some(0) {
            return Err(DialError::Lacks("wildcard subscriptions"));
        }
        socket.limit_packets(properties.max_packet_size);
    }

    let filter = SubscribeFilter {
        path: filter(config),
        qos: QoS::AtLeastOnce,
        nolocal: false,
        preserve_retain: true,
        retain_forward_rule: RetainForwardRule::Never,
    };
    let mut subscribe = Subscribe::new(filter, None);
    subscribe.pkid = PACKET_ID;
    socket.send(&Packet::Subscribe(subscribe), Instant::now())?;
    Ok(socket)
}

fn connect(config: &Config, node_id: &NodeId) -> Packet {
    let properties = ConnectProperties {
        // Nothing waits in a broker for a collector that is gone.
        session_expiry_interval: Some(0),
        receive_maximum: Some(config.receive_maximum.get()),
        max_packet_size: u32::try_from(MQTT_PACKET_BYTES_MAX).ok(),
        ..ConnectProperties::new()
    };
    let connect = Connect {
        keep_alive: KEEP_ALIVE_SECONDS,
        client_id: node_id.to_string(),
        clean_start: true,
        properties: Some(properties),
    };
    Packet::Connect(connect, None, ConnectAuth::None)
}
