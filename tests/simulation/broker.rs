//! The MQTT broker, which promises nothing: it drops, doubles, delays, reorders,
//! refuses and forgets.

use returnpath_delivery::{Input, PubAckOutcome};
use returnpath_shared::{BatchId, wire::RefusalReason};

use crate::{
    faults::Fault,
    transition::{BoxIndex, Message, Transition},
    world::World,
};

/// How late a message may come that is not lost.
const DELAY_MS_MAX: u64 = 300_000;

impl World {
    pub(crate) fn reaches_broker(&mut self, of: BoxIndex, link: u64, message: Message) {
        if !self.passes(of, link) {
            self.faults.count(Fault::PublishLost);
            return;
        }
        let outcome = if self.random.chance(self.climate.broker_refuses) {
            self.faults.count(Fault::PublishRefused);
            self.random.pick(&[
                PubAckOutcome::Retry,
                PubAckOutcome::Retry,
                PubAckOutcome::Refused(RefusalReason::NotAllowed),
            ])
        } else {
            PubAckOutcome::Ok
        };
        let latency_ms = self.random.between(5, 300);
        self.schedule.after(
            latency_ms,
            Transition::PubAck {
                of,
                link,
                id: message.id,
                outcome,
            },
        );
        if outcome != PubAckOutcome::Ok {
            return;
        }
        if self.random.chance(self.climate.broker_drops) {
            self.faults.count(Fault::MessageDropped);
            return;
        }
        if self.random.chance(self.climate.broker_doubles) {
            self.faults.count(Fault::MessageDoubled);
            self.delivers(message.clone());
        }
        self.delivers(message);
    }

    fn delivers(&mut self, message: Message) {
        let bridge = self.random.index(self.bridges.len());
        let session = self.bridges[bridge].session;
        let latency_ms = if self.random.chance(self.climate.broker_delays) {
            self.faults.count(Fault::MessageDelayed);
            self.random.between(1_000, DELAY_MS_MAX)
        } else {
            self.random.between(1, 100)
        };
        self.schedule.after(
            latency_ms,
            Transition::ReachesBridge {
                bridge,
                session,
                message,
            },
        );
    }

    pub(crate) fn pub_ack(&mut self, of: BoxIndex, link: u64, id: BatchId, outcome: PubAckOutcome) {
        if self.passes(of, link) {
            self.tell(of, &Input::PubAck { id, outcome });
        } else {
            self.faults.count(Fault::PubAckLost);
        }
    }

    /// Restarts with an empty memory: everyone is disconnected.
    pub(crate) fn broker_forgets(&mut self) {
        self.faults.count(Fault::BrokerForgot);
        for bridge in &mut self.bridges {
            // What was on its way to a bridge is lost; what the bridge knows
            // is not.
            bridge.session += 1;
        }
        for of in 0..self.boxes.len() {
            self.link_cut(of);
        }
    }
}
