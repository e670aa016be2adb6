//! The way between a box and Kafka: a broker that promises nothing, and
//! bridges that receipt what Kafka has.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use returnpath_delivery::{Input, PubAckOutcome};
use returnpath_shared::{
    BatchId, Class, Lane,
    wire::{self, Receipt, Refusal, RefusalReason, SequenceRange},
};

use crate::{
    set_top_box::unix_ms,
    transition::{BoxIndex, Message, Transition},
    world::World,
};

/// A bridge: sessions name its lives. What boxes are owed dies with it.
pub(crate) struct Bridge {
    session: u64,
    owed: BTreeMap<BoxIndex, Owed>,
    /// What its clock is off by.
    clock_off_ms: i64,
}

/// What one box is owed, and when.
struct Owed {
    due_ms: u64,
    receipt: Receipt,
}

impl Bridge {
    pub(crate) fn new(clock_off_ms: i64) -> Self {
        Self {
            session: 0,
            owed: BTreeMap::new(),
            clock_off_ms,
        }
    }
}

impl World {
    pub(crate) fn reaches_broker(
        &mut self,
        of: BoxIndex,
        link: u64,
        id: BatchId,
        message: Message,
    ) {
        if !self.passes(of, link) {
            return;
        }
        let outcome = if self.random.chance(self.climate.broker_refuses) {
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
                id,
                outcome,
            },
        );
        if outcome != PubAckOutcome::Ok || self.random.chance(self.climate.broker_drops) {
            return;
        }
        let copies = 1 + u8::from(self.random.chance(self.climate.broker_doubles));
        for _ in 0..copies {
            let bridge = self.random.index(self.bridges.len());
            let session = self.bridges[bridge].session;
            let latency_ms = self.random.between(1, 100);
            let message = message.clone();
            self.schedule.after(
                latency_ms,
                Transition::ReachesBridge {
                    bridge,
                    session,
                    message,
                },
            );
        }
    }

    pub(crate) fn pub_ack(&mut self, of: BoxIndex, link: u64, id: BatchId, outcome: PubAckOutcome) {
        if self.passes(of, link) {
            self.tell(of, &Input::PubAck { id, outcome });
        }
    }

    /// Restarts with an empty memory: everyone is disconnected.
    pub(crate) fn broker_forgets(&mut self) {
        for bridge in &mut self.bridges {
            // What was on its way to a bridge is lost; what the bridge knows
            // is not.
            bridge.session += 1;
        }
        for of in 0..self.boxes.len() {
            self.link_cut(of);
        }
    }

    pub(crate) fn reaches_bridge(&mut self, bridge: usize, session: u64, message: Message) {
        if self.bridges[bridge].session != session {
            return;
        }
        if self.random.chance(self.climate.bridge_refuses)
            && let Some((id, _)) = head(&message.payload)
        {
            let reason = RefusalReason::TooLarge as i32;
            self.owe(bridge, message.from, 20, |receipt| {
                receipt.refused.push(Refusal {
                    batch: Some(id.into()),
                    reason,
                });
            });
            return;
        }
        let takes_ms = self.random.between(2, 60);
        self.schedule.after(
            takes_ms,
            Transition::Produced {
                bridge,
                session,
                message,
            },
        );
    }

    /// Kafka takes the record, or does not; the bridge learns it, or does not.
    pub(crate) fn produced(&mut self, bridge: usize, session: u64, message: Message) {
        let refuses = self.kafka.refuses_until_ms > self.schedule.now_ms();
        let unknown = self.random.chance(self.climate.produce_unknown);
        if refuses && !unknown {
            return;
        }
        let received_unix_ms = unix_ms(self.schedule.now_ms()) + self.bridges[bridge].clock_off_ms;
        let device = self.boxes[message.from].device.clone();
        self.reference
            .stands_in_kafka(message.from, &message.payload);
        self.kafka.append(
            &device,
            message.lane,
            message.payload.clone(),
            received_unix_ms,
        );
        if unknown || self.bridges[bridge].session != session {
            return;
        }
        let Some((id, class)) = head(&message.payload) else {
            return;
        };
        let patience_ms = match (class, message.lane) {
            (Class::Proof, _) => 20,
            (Class::Ordinary, Lane::Backlog) => 500,
            (Class::Ordinary, Lane::Live) => 30_000,
        };
        self.owe(bridge, message.from, patience_ms, |receipt| {
            receipt.confirmed.push(SequenceRange {
                epoch: Some(id.epoch.into()),
                first_sequence: id.sequence.0,
                last_sequence: id.sequence.0,
            });
        });
    }

    fn owe(
        &mut self,
        bridge: usize,
        of: BoxIndex,
        patience_ms: u64,
        enter: impl FnOnce(&mut Receipt),
    ) {
        let due_ms = self.schedule.now_ms() + patience_ms;
        let owed = self.bridges[bridge].owed.entry(of).or_insert(Owed {
            due_ms,
            receipt: Receipt::default(),
        });
        owed.due_ms = owed.due_ms.min(due_ms);
        enter(&mut owed.receipt);
        self.schedule.at(due_ms, Transition::ReceiptsDue { bridge });
    }

    pub(crate) fn receipts_due(&mut self, bridge: usize) {
        let now_ms = self.schedule.now_ms();
        let due: Vec<BoxIndex> = self.bridges[bridge]
            .owed
            .iter()
            .filter(|(_, owed)| owed.due_ms <= now_ms)
            .map(|(of, _)| *of)
            .collect();
        for of in due {
            let Some(owed) = self.bridges[bridge].owed.remove(&of) else {
                continue;
            };
            let lost = self.random.chance(self.climate.receipts_lost);
            let latency_ms = self.random.between(5, 300);
            if let (false, Some(link)) = (lost, self.link_of(of)) {
                let receipt = owed.receipt;
                self.schedule.after(
                    latency_ms,
                    Transition::ReceiptReachesBox { of, link, receipt },
                );
            }
        }
    }

    pub(crate) fn receipt_reaches_box(&mut self, of: BoxIndex, link: u64, receipt: &Receipt) {
        if self.passes(of, link) {
            self.tell(of, &Input::Receipt(receipt));
        }
    }

    pub(crate) fn bridge_dies(&mut self, bridge: usize) {
        let bridge = &mut self.bridges[bridge];
        bridge.session += 1;
        bridge.owed.clear();
    }

    pub(crate) fn kafka_refuses(&mut self) {
        let for_ms = self.random.between(1_000, 600_000);
        self.kafka.refuses_until_ms = self.schedule.now_ms() + for_ms;
    }
}

/// What a bridge reads of an envelope.
fn head(payload: &Bytes) -> Option<(BatchId, Class)> {
    let envelope = wire::Envelope::decode(payload.clone()).ok()?;
    let class = match envelope.class() {
        wire::Class::Proof => Class::Proof,
        wire::Class::Ordinary | wire::Class::Unspecified => Class::Ordinary,
    };
    Some((BatchId::try_from(envelope.id?).ok()?, class))
}
