//! Bridges: produce what the broker delivers, and receipt what Kafka has.

use std::collections::BTreeMap;

use returnpath_delivery::Input;
use returnpath_shared::{
    Class, Lane,
    wire::{Receipt, Refusal, RefusalReason, SequenceRange},
};

use crate::{
    faults::Fault,
    set_top_box::unix_ms,
    transition::{BoxIndex, Message, Transition},
    world::World,
};

/// How long refused and proof batches wait for company in a receipt.
const PROOF_PATIENCE_MS: u64 = 20;
const BACKLOG_PATIENCE_MS: u64 = 500;
const LIVE_PATIENCE_MS: u64 = 30_000;

/// A bridge: sessions name its lives. What boxes are owed dies with it.
pub(crate) struct Bridge {
    pub(crate) session: u64,
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

    pub(crate) fn unix_ms(&self, now_ms: u64) -> i64 {
        unix_ms(now_ms) + self.clock_off_ms
    }
}

impl World {
    pub(crate) fn reaches_bridge(&mut self, bridge: usize, session: u64, message: Message) {
        if self.bridges[bridge].session != session {
            self.faults.count(Fault::MessageForgotten);
            return;
        }
        if self
            .reference
            .arrives_out_of_order(message.from, message.id)
        {
            self.faults.count(Fault::MessageReordered);
        }
        if self.random.chance(self.climate.bridge_refuses) {
            self.faults.count(Fault::BatchRefused);
            let reason = RefusalReason::TooLarge as i32;
            self.owe(bridge, message.from, PROOF_PATIENCE_MS, |receipt| {
                receipt.refused.push(Refusal {
                    batch: Some(message.id.into()),
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
                is_awaited: true,
            },
        );
    }

    /// Kafka has confirmed a record: its box is owed a receipt.
    pub(crate) fn confirm(&mut self, bridge: usize, session: u64, message: &Message) {
        if self.bridges[bridge].session != session {
            return;
        }
        let patience_ms = match (message.class, message.lane) {
            (Class::Proof, _) => PROOF_PATIENCE_MS,
            (Class::Ordinary, Lane::Backlog) => BACKLOG_PATIENCE_MS,
            (Class::Ordinary, Lane::Live) => LIVE_PATIENCE_MS,
        };
        let id = message.id;
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
        let mut is_sooner = false;
        let owed = self.bridges[bridge].owed.entry(of).or_insert_with(|| {
            is_sooner = true;
            Owed {
                due_ms,
                receipt: Receipt::default(),
            }
        });
        is_sooner |= owed.due_ms > due_ms;
        owed.due_ms = owed.due_ms.min(due_ms);
        enter(&mut owed.receipt);
        if is_sooner {
            self.schedule.at(due_ms, Transition::ReceiptsDue { bridge });
        }
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
            let latency_ms = self.random.between(5, 300);
            if self.random.chance(self.climate.receipts_lost) || self.is_awaiting_the_dark(of) {
                self.receipt_lost(of, &owed.receipt);
            } else if let Some(link) = self.link_of(of) {
                let receipt = owed.receipt;
                self.schedule.after(
                    latency_ms,
                    Transition::ReceiptReachesBox { of, link, receipt },
                );
            } else {
                self.receipt_lost(of, &owed.receipt);
            }
        }
    }

    pub(crate) fn receipt_reaches_box(&mut self, of: BoxIndex, link: u64, receipt: &Receipt) {
        if self.passes(of, link) {
            self.tell(of, &Input::Receipt(receipt));
        } else {
            self.receipt_lost(of, receipt);
        }
    }

    pub(crate) fn receipt_lost(&mut self, of: BoxIndex, receipt: &Receipt) {
        self.faults.count(Fault::ReceiptLost);
        self.goes_dark_if_it_holds(of, receipt);
    }

    pub(crate) fn bridge_dies(&mut self, bridge: usize) {
        let bridge = &mut self.bridges[bridge];
        bridge.session += 1;
        bridge.owed.clear();
        self.faults.count(Fault::BridgeDied);
    }
}
