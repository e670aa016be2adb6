//! Between the link and the cores: what came from the broker, and what is to be
//! published.

use prost::Message as _;
use returnpath_delivery::{Input, Loss, PubAckOutcome, Publish, SendingClock, Uptime};
use returnpath_shared::wire;
use tracing::{info, warn};

use super::Agent;
use crate::{
    clock,
    link::{Acknowledgement, CloseReason, LinkEvent, PublishError},
};

impl Agent {
    pub(super) fn linked(&mut self, event: LinkEvent, now: Uptime) {
        match event {
            LinkEvent::Connected => {
                info!("connected");
                self.dialling.connected(now);
                self.delivery.handle(Input::LinkUp, now);
                let live_age_ms = self.config.link.live_age_max.as_millis();
                let live_age_ms = u64::try_from(live_age_ms).unwrap_or(u64::MAX);
                self.decisions.slots.linked(live_age_ms, now.0);
            }
            LinkEvent::Acknowledged { id, answer } => {
                let outcome = match answer {
                    Acknowledgement::Taken => PubAckOutcome::Ok,
                    Acknowledgement::Refused(reason) => PubAckOutcome::Refused(reason),
                    Acknowledgement::Later => PubAckOutcome::Retry,
                };
                self.delivery.handle(Input::PubAck { id, outcome }, now);
            }
            LinkEvent::Receipt(receipt) => self.delivery.handle(Input::Receipt(&receipt), now),
            LinkEvent::Decision(message) => self.decisions.arrived(&message, now),
            LinkEvent::Config(message) => self.configured(&message, now),
            LinkEvent::Closed(reason) => self.disconnected(&reason, now),
        }
    }

    fn disconnected(&mut self, reason: &CloseReason, now: Uptime) {
        let loss = if reason.is_by_broker() {
            Loss::ByBroker
        } else {
            Loss::Other
        };
        let dial = self.dialling.lost(loss, reason.to_string(), now);
        warn!(%reason, next_in = ?dial.at.since(now), "not connected");
        self.delivery.handle(Input::LinkDown, now);
        self.decisions.slots.unlinked();
    }

    pub(super) fn publish(&mut self, publish: Publish) {
        let now = Uptime(clock::uptime_ms());
        let (id, lane) = (publish.id, publish.lane);
        let envelope = publish.into_envelope(SendingClock {
            uptime: now,
            unix_ms: clock::unix_ms(),
            synchronised: self.timekeeping.is_synchronised(),
        });
        let outcome = match self.link.publish(id, lane, envelope.encode_to_vec().into()) {
            Ok(()) => return,
            Err(PublishError::Down | PublishError::Full) => PubAckOutcome::Retry,
            Err(PublishError::TooLarge) => PubAckOutcome::Refused(wire::RefusalReason::TooLarge),
        };
        self.delivery.handle(Input::PubAck { id, outcome }, now);
    }
}
