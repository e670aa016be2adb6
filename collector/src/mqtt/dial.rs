//! From a broker's address to a connection that it accepted: TCP, mutual
//! TLS 1.3, CONNECT and CONNACK.

use std::{io, time::Instant};

use returnpath_shared::MQTT_PACKET_BYTES_MAX;
use rumqttc::{
    mqttbytes::v5::{
        ConnAckProperties, Connect, ConnectAuth, ConnectProperties, ConnectReturnCode, Packet,
    },
    tokio_rustls::{TlsConnector, client::TlsStream},
};
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use thiserror::Error;
use tokio::net::TcpStream;

use super::{
    Broker, Tls,
    socket::{PacketError, Reading, Socket},
    tls::{self, TlsError},
};

/// Keep-alive told to the broker, in seconds: after one and a half times that
/// without a packet it counts us as gone.
pub(crate) const KEEP_ALIVE_SECONDS: u16 = 20;

/// Why there is no connection.
#[derive(Debug, Error)]
pub(crate) enum DialError {
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

/// Who connects, and what it says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session<'a> {
    /// Table of the configuration that names the files.
    pub(crate) section: &'static str,
    /// The files.
    pub(crate) tls: &'a Tls,
    /// Client id, unless the broker takes the certificate's common name for it.
    pub(crate) client_id: &'a str,
    /// PUBLISH packets that the broker may send without our acknowledgement.
    pub(crate) receive_maximum: u16,
}

/// Connects, and says what the broker said of itself.
pub(crate) async fn dial(
    broker: &Broker,
    session: Session<'_>,
) -> Result<(Socket<TlsStream<TcpStream>>, Option<ConnAckProperties>), DialError> {
    let connector = TlsConnector::from(tls::client_config(session.section, session.tls)?);
    let name = ServerName::try_from(broker.host.clone())?;
    let tcp = TcpStream::connect((broker.host.as_str(), broker.port))
        .await
        .map_err(DialError::Tcp)?;
    // What goes out is collected here already.
    tcp.set_nodelay(true).map_err(DialError::Tcp)?;
    let stream = connector.connect(name, tcp).await.map_err(DialError::Tls)?;
    let mut socket = Socket::new(stream, Instant::now());

    socket.send(&connect(session), Instant::now())?;
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
    if let Some(properties) = &connack.properties {
        socket.limit_packets(properties.max_packet_size);
    }
    Ok((socket, connack.properties))
}

fn connect(session: Session<'_>) -> Packet {
    let properties = ConnectProperties {
        // Nothing waits in a broker for a collector that is gone.
        session_expiry_interval: Some(0),
        receive_maximum: Some(session.receive_maximum),
        max_packet_size: u32::try_from(MQTT_PACKET_BYTES_MAX).ok(),
        ..ConnectProperties::new()
    };
    let connect = Connect {
        keep_alive: KEEP_ALIVE_SECONDS,
        client_id: session.client_id.to_owned(),
        clean_start: true,
        properties: Some(properties),
    };
    Packet::Connect(connect, None, ConnectAuth::None)
}
