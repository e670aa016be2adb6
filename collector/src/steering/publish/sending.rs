//! Which boxes a message still has to reach, over as many connections as that
//! takes. Does no I/O: packets and what confirms them pass through it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use returnpath_shared::{DeviceId, Downlink};
use rumqttc::mqttbytes::{
    QoS,
    v5::{PubAck, PubAckReason, Publish},
};

/// Messages on their way at once: hides the broker's distance, and is below
/// what every broker takes.
const IN_FLIGHT_MAX: u16 = 64;

/// What the broker said of one box's message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Confirmed {
    /// It keeps it, for the box that is there or comes.
    Published,
    /// It does not take it from us.
    Refused(PubAckReason),
}

/// One message, and the boxes that it goes to.
#[derive(Debug)]
pub(super) struct Sending {
    message: Bytes,
    waiting: BTreeSet<DeviceId>,
    /// By packet id. A box has one message, so ids are taken from the lowest.
    in_flight: BTreeMap<u16, DeviceId>,
    in_flight_max: u16,
    confirmed: BTreeMap<DeviceId, Confirmed>,
}

impl Sending {
    /// A message that nobody has yet.
    pub(super) fn new(boxes: BTreeSet<DeviceId>, message: Bytes) -> Self {
        Self {
            message,
            waiting: boxes,
            in_flight: BTreeMap::new(),
            in_flight_max: IN_FLIGHT_MAX,
            confirmed: BTreeMap::new(),
        }
    }

    /// A connection stands, to a broker that takes as many messages at once.
    /// What was on its way on the last one is sent again: it does no harm.
    pub(super) fn connected(&mut self, receive_maximum: Option<u16>) {
        self.in_flight_max = IN_FLIGHT_MAX.min(receive_maximum.unwrap_or(u16::MAX));
        self.waiting
            .extend(std::mem::take(&mut self.in_flight).into_values());
    }

    /// The next message to send, while the broker takes more.
    pub(super) fn next(&mut self) -> Option<Publish> {
        let free = (1..=self.in_flight_max).find(|id| !self.in_flight.contains_key(id))?;
        let device = self.waiting.pop_first()?;
        let mut publish = Publish::new(
            Downlink::Config.topic(&device),
            QoS::AtLeastOnce,
            self.message.clone(),
            None,
        );
        publish.retain = true;
        publish.pkid = free;
        self.in_flight.insert(free, device);
        Some(publish)
    }

    /// What the broker says of one that was sent.
    pub(super) fn acknowledged(&mut self, acknowledgement: &PubAck) {
        let Some(device) = self.in_flight.remove(&acknowledgement.pkid) else {
            return;
        };
        let confirmed = match acknowledgement.reason {
            // It is retained, whether somebody listens or not.
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Confirmed::Published,
            refused @ (PubAckReason::UnspecifiedError
            | PubAckReason::ImplementationSpecificError
            | PubAckReason::NotAuthorized
            | PubAckReason::TopicNameInvalid
            | PubAckReason::PacketIdentifierInUse
            | PubAckReason::QuotaExceeded
            | PubAckReason::PayloadFormatInvalid) => Confirmed::Refused(refused),
        };
        self.confirmed.insert(device, confirmed);
    }

    /// Whether the broker has spoken of every box.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// Boxes of which the broker has spoken.
    pub(super) fn confirmed(&self) -> usize {
        self.confirmed.len()
    }

    /// Every box and what the broker said of it; nothing where it was silent.
    pub(super) fn ended(self) -> BTreeMap<DeviceId, Option<Confirmed>> {
        let silent = self.waiting.into_iter().chain(self.in_flight.into_values());
        let silent = silent.map(|device| (device, None));
        let confirmed = self.confirmed.into_iter();
        confirmed
            .map(|(device, confirmed)| (device, Some(confirmed)))
            .chain(silent)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sending(count: usize) -> Sending {
        let boxes = (0..count).map(|index| format!("box-{index:03}").parse().unwrap());
        Sending::new(boxes.collect(), Bytes::from_static(b"message"))
    }

    fn acknowledge(sending: &mut Sending, packet_id: u16, reason: PubAckReason) {
        let mut acknowledgement = PubAck::new(packet_id, None);
        acknowledgement.reason = reason;
        sending.acknowledged(&acknowledgement);
    }

    #[test]
    fn each_box_gets_the_message_retained_on_its_own_topic() {
        let mut sending = sending(2);
        let first = sending.next().unwrap();
        assert_eq!(&first.topic[..], b"rp/v1/box-000/config");
        assert_eq!((first.qos, first.retain), (QoS::AtLeastOnce, true));
        assert_eq!(&first.payload[..], b"message");
        let second = sending.next().unwrap();
        assert_eq!(&second.topic[..], b"rp/v1/box-001/config");
        assert_ne!(first.pkid, second.pkid);
        assert!(sending.next().is_none());
    }

    #[test]
    fn no_more_are_on_their_way_than_the_broker_takes() {
        for (receive_maximum, expected) in [(Some(3), 3), (None, 64), (Some(u16::MAX), 64)] {
            let mut sending = sending(100);
            sending.connected(receive_maximum);
            let count = std::iter::from_fn(|| sending.next()).count();
            assert_eq!(count, expected);
            acknowledge(&mut sending, 2, PubAckReason::Success);
            assert_eq!(sending.next().unwrap().pkid, 2);
            assert!(sending.next().is_none());
        }
    }

    #[test]
    fn what_a_lost_connection_left_unconfirmed_is_sent_again_and_nothing_else() {
        let mut sending = sending(3);
        while sending.next().is_some() {}
        acknowledge(&mut sending, 1, PubAckReason::NoMatchingSubscribers);
        acknowledge(&mut sending, 2, PubAckReason::NotAuthorized);
        sending.connected(None);
        let again = sending.next().unwrap();
        assert_eq!(&again.topic[..], b"rp/v1/box-002/config");
        assert!(sending.next().is_none());
        assert!(!sending.is_done());
        // Of the last connection.
        acknowledge(&mut sending, 9, PubAckReason::Success);
        assert_eq!(sending.confirmed(), 2);
        let ended: Vec<_> = sending.ended().into_values().collect();
        let refused = Confirmed::Refused(PubAckReason::NotAuthorized);
        assert_eq!(ended, [Some(Confirmed::Published), Some(refused), None]);
    }
}
