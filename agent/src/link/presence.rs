//! What one connection says of its box: that it is connected, and, as the last
//! will, that it is not any more. The will is handed in before anything is
//! known to work, so one number serves both.

use prost::Message as _;
use returnpath_shared::{Epoch, presence_topic, wire};
use rumqttc::{AsyncClient, ClientError, LastWill, PublishOptions, QoS};

use super::LinkConfig;

/// The presence of one connection.
#[derive(Debug)]
pub(super) struct Presence {
    topic: String,
    epoch: Epoch,
    connection: u64,
}

impl Presence {
    pub(super) fn new(config: &LinkConfig, epoch: Epoch, connection: u64) -> Self {
        Self {
            topic: presence_topic(&config.device),
            epoch,
            connection,
        }
    }

    /// What the broker is to say once the connection is gone.
    pub(super) fn will(&self) -> LastWill {
        let message = self.message(wire::PresenceState::Offline);
        LastWill::new(self.topic.clone(), message, QoS::AtLeastOnce, true, None)
    }

    /// Says that the box is connected. Whether the broker takes it is not
    /// waited for: no event depends on it.
    pub(super) fn announce(&self, client: &AsyncClient) -> Result<(), ClientError> {
        client.try_publish(
            self.topic.clone(),
            self.message(wire::PresenceState::Online),
            PublishOptions::at_least_once().retained(),
        )
    }

    fn message(&self, state: wire::PresenceState) -> Vec<u8> {
        wire::Presence {
            epoch: Some(self.epoch.into()),
            connection: self.connection,
            state: state.into(),
        }
        .encode_to_vec()
    }
}

#[cfg(test)]
mod tests {
    use returnpath_shared::Incarnation;

    use super::*;

    #[test]
    fn the_will_names_the_connection_that_it_ends() {
        let epoch = Epoch {
            incarnation: Incarnation::new(7).unwrap(),
            start: 2,
        };
        let presence = Presence {
            topic: presence_topic(&"box-1".parse().unwrap()),
            epoch,
            connection: 3,
        };
        let will = presence.will();
        assert_eq!(will.topic, "rp/v1/box-1/presence");
        assert_eq!((will.qos, will.retain), (QoS::AtLeastOnce, true));
        let said = |state: wire::PresenceState| wire::Presence {
            epoch: Some(epoch.into()),
            connection: 3,
            state: state.into(),
        };
        assert_eq!(
            wire::Presence::decode(will.message),
            Ok(said(wire::PresenceState::Offline))
        );
        let online = presence.message(wire::PresenceState::Online);
        assert_eq!(
            wire::Presence::decode(&online[..]),
            Ok(said(wire::PresenceState::Online))
        );
    }
}
