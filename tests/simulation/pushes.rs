//! The way of a decision from its node to its box, through a broker that drops,
//! doubles, delays, reorders and forgets; and what somebody else who can publish
//! to a box sends it.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;
use returnpath_decision::{Push, Signer as _, decision_id};
use returnpath_shared::wire::{Creative, Decision, SignedDecision};

use crate::{
    faults::Fault,
    signing::{Key, OPERATORS, STRANGERS},
    transition::{BoxIndex, Transition},
    world::World,
};

/// How late a push may come that is not lost.
const DELAY_MS_MAX: u64 = 300_000;

/// Pushes to a box that a stranger remembers.
const OVERHEARD_MAX: usize = 16;

/// Pushes that a stranger has heard, by box.
pub(crate) struct Stranger {
    overheard: Vec<VecDeque<Bytes>>,
}

impl Stranger {
    pub(crate) fn new(boxes: usize) -> Self {
        Self {
            overheard: vec![VecDeque::new(); boxes],
        }
    }

    fn hears(&mut self, of: BoxIndex, payload: Bytes) {
        let overheard = &mut self.overheard[of];
        if overheard.len() >= OVERHEARD_MAX {
            overheard.pop_front();
        }
        overheard.push_back(payload);
    }
}

impl World {
    /// A node of decide pushes what is committed.
    pub(crate) fn pushes(&mut self, partition: usize, generation: u64, pushes: Vec<Push>) {
        for push in pushes {
            self.trace(&(partition, generation, &push));
            let of = self.decisions.invariant_what_is_pushed_is_committed(&push);
            self.stranger.hears(of, push.payload.clone());
            self.publishes(partition, generation, of, push);
        }
    }

    fn publishes(&mut self, partition: usize, generation: u64, of: BoxIndex, push: Push) {
        let Some(link) = self.link_of(of) else {
            // The broker says that nobody has subscribed.
            self.faults.count(Fault::PushFoundNobody);
            if self.boxes[of].misses_its_break(self.schedule.now_ms()) {
                self.faults.count(Fault::DarkDuringItsBreak);
            }
            return;
        };
        if self.random.chance(self.climate.broker_drops) {
            self.faults.count(Fault::PushLost);
        } else {
            self.push_travels(of, link, push.payload.clone());
            if self.random.chance(self.climate.broker_doubles) {
                self.faults.count(Fault::PushDoubled);
                self.push_travels(of, link, push.payload.clone());
            }
        }
        if self.random.chance(self.climate.way_back.confirmations_lost) {
            self.faults.count(Fault::PushConfirmationLost);
            return;
        }
        let latency_ms = self.random.between(1, 300);
        let confirmed = Transition::PushConfirmed {
            partition,
            generation,
            push: Box::new(push),
        };
        self.schedule.after(latency_ms, confirmed);
    }

    fn push_travels(&mut self, of: BoxIndex, link: u64, payload: Bytes) {
        let latency_ms = if self.random.chance(self.climate.broker_delays) {
            self.faults.count(Fault::PushDelayed);
            self.random.between(1_000, DELAY_MS_MAX)
        } else {
            self.random.between(5, 400)
        };
        let reaches = Transition::PushReachesBox { of, link, payload };
        self.schedule.after(latency_ms, reaches);
    }

    pub(crate) fn push_reaches_box(&mut self, of: BoxIndex, link: u64, payload: &Bytes) {
        if !self.passes(of, link) {
            self.faults.count(Fault::PushDiedWithItsLink);
            return;
        }
        if self.decisions.arrives_out_of_order(of, payload) {
            self.faults.count(Fault::PushReordered);
        }
        self.decision_arrives(of, payload);
    }

    /// Somebody who can publish to a box tries to have an ad of his own shown,
    /// another box's, or one of before.
    pub(crate) fn stranger_publishes(&mut self, of: BoxIndex) {
        if self.link_of(of).is_none() {
            return;
        }
        let payload = match self.random.below(3) {
            0 => self.forged(of),
            1 => self.of_another_box(of),
            _ => self.of_before(of),
        };
        let payload = self.superseding(of).or(payload);
        if let Some(payload) = payload {
            self.decision_arrives(of, &payload);
        }
    }

    /// For the break that the box has asked for, as good as the operator's but
    /// for the key.
    fn forged(&mut self, of: BoxIndex) -> Option<Bytes> {
        let (boot_id, break_id) = self.boxes[of].asked_break()?;
        let device_id = self.boxes[of].device.to_string();
        let uptime_ms = self.boxes[of].uptime(self.schedule.now_ms()).0;
        let decision = Decision {
            decision_id: decision_id(&device_id, boot_id, &break_id, 0),
            device_id,
            break_id,
            slot: 0,
            number: 0,
            expiry_boot_id: boot_id,
            expiry_uptime_ms: uptime_ms + 60_000,
            creative: Some(strangers_ad()),
        };
        Some(signed(&decision, STRANGERS))
    }

    fn of_another_box(&mut self, of: BoxIndex) -> Option<Bytes> {
        let other = self.random.index(self.boxes.len());
        let overheard = self.stranger.overheard[other].back().cloned();
        overheard.filter(|_| other != of)
    }

    fn of_before(&mut self, of: BoxIndex) -> Option<Bytes> {
        let count = self.stranger.overheard[of].len();
        let which = self.random.index(count.max(1));
        self.stranger.overheard[of].get(which).cloned()
    }

    /// With the operator's own key, for a slot whose ad a player has: what a
    /// collector would sign that had forgotten what it decided.
    fn superseding(&mut self, of: BoxIndex) -> Option<Bytes> {
        let mut decision = self.boxes[of].handed_over_now(self.schedule.now_ms())?;
        decision.expiry_uptime_ms += 60_000;
        decision.creative = Some(strangers_ad());
        Some(signed(&decision, OPERATORS))
    }
}

fn strangers_ad() -> Creative {
    Creative {
        creative_id: "strangers".into(),
        url: "https://strangers.example/ad.mp4".into(),
        media_type: "video/mp4".into(),
        duration_ms: 15_000,
    }
}

fn signed(decision: &Decision, key: Key) -> Bytes {
    let decision = decision.encode_to_vec();
    let signed = SignedDecision {
        signature: key.sign(&decision).to_vec().into(),
        decision: decision.into(),
        key_id: key.key_id().into(),
    };
    signed.encode_to_vec().into()
}
