//! From a broker's address to a connection on which the boxes' batches are
//! asked for.

use std::time::Instant;

use returnpath_shared::UPLINK_FILTER;
use rumqttc::{
    mqttbytes::{
        QoS,
        v5::{Packet, RetainForwardRule, Subscribe, SubscribeFilter},
    },
    tokio_rustls::client::TlsStream,
};
use tokio::net::TcpStream;

use super::{Config, SECTION};
use crate::{
    mqtt::{self, Broker, DialError, Socket},
    node_id::NodeId,
};

/// Packet id of SUBSCRIBE and later of UNSUBSCRIBE: the only ones we send.
pub(super) const PACKET_ID: u16 = 1;

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
    let session = mqtt::Session {
        section: SECTION,
        tls: &config.tls,
        client_id: node_id.as_str(),
        receive_maximum: config.receive_maximum.get(),
    };
    let (mut socket, properties) = mqtt::dial(broker, session).await?;
    if let Some(properties) = properties {
        if properties.shared_subscription_available == Some(0) {
            return Err(DialError::Lacks("shared subscriptions"));
        }
        if properties.wildcard_subscription_available == Some(0) {
            return Err(DialError::Lacks("wildcard subscriptions"));
        }
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
