//! A box's way to the broker: dialling, TCP that breaks, batches that leave.

use std::time::Duration;

use prost::Message as _;
use returnpath_delivery::{Input, Loss, Publish};

use crate::{
    faults::Fault,
    transition::{BoxIndex, Message, Transition},
    world::World,
};

impl World {
    pub(super) fn dials_after(&mut self, of: BoxIndex, run: u64, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap();
        self.schedule.after(delay_ms, Transition::Dials { of, run });
    }

    pub(crate) fn dials(&mut self, of: BoxIndex, run: u64) {
        if self.boxes[of].run != run {
            return;
        }
        let latency_ms = self.random.between(20, 2_000);
        let stb = &mut self.boxes[of];
        stb.link += 1;
        stb.link_stands = true;
        let link = stb.link;
        self.schedule
            .after(latency_ms, Transition::Connected { of, run, link });
    }

    pub(crate) fn connected(&mut self, of: BoxIndex, run: u64, link: u64) {
        let now = self.boxes[of].uptime(self.schedule.now_ms());
        let stb = &mut self.boxes[of];
        if stb.run != run || stb.link != link || !stb.link_stands {
            return;
        }
        if let Some(agent) = &mut stb.agent {
            agent.reconnect.connected(now);
        }
        self.tell(of, &Input::LinkUp);
        if let Some(agent) = &mut self.boxes[of].agent {
            let live_age_ms = self.climate.config.live_age_max.as_millis();
            let live_age_ms = u64::try_from(live_age_ms).unwrap();
            agent.slots.linked(live_age_ms, now.0);
            self.settle(of);
        }
    }

    /// TCP breaks. The agent notices within its keep-alive.
    pub(crate) fn link_cut(&mut self, of: BoxIndex) {
        let notices_ms = self.random.between(0, 30_000);
        let stb = &mut self.boxes[of];
        if !stb.link_stands {
            return;
        }
        stb.link_stands = false;
        self.faults.count(Fault::LinkCut);
        let (run, link) = (stb.run, stb.link);
        self.schedule
            .after(notices_ms, Transition::LinkLost { of, run, link });
    }

    pub(crate) fn link_lost(&mut self, of: BoxIndex, run: u64, link: u64) {
        let now = self.boxes[of].uptime(self.schedule.now_ms());
        let by_broker = self.random.chance(500);
        let stb = &mut self.boxes[of];
        if stb.run != run || stb.link != link {
            return;
        }
        let Some(agent) = &mut stb.agent else { return };
        let loss = if by_broker {
            Loss::ByBroker
        } else {
            Loss::Other
        };
        let dial = agent.reconnect.lost(loss, now);
        agent.slots.unlinked();
        self.dials_after(of, run, dial.at.since(now));
        self.tell(of, &Input::LinkDown);
    }

    /// Whether packets of a link still pass.
    pub(crate) fn passes(&self, of: BoxIndex, link: u64) -> bool {
        let stb = &self.boxes[of];
        stb.link == link && stb.link_stands
    }

    /// The link over which the broker reaches a box.
    pub(crate) fn link_of(&self, of: BoxIndex) -> Option<u64> {
        let stb = &self.boxes[of];
        stb.link_stands.then_some(stb.link)
    }

    pub(super) fn publish(&mut self, of: BoxIndex, publish: Publish) {
        let (id, lane, class) = (publish.id, publish.lane, publish.class);
        self.reference.invariant_an_id_names_one_batch(of, &publish);
        let stb = &self.boxes[of];
        let clock = stb.clock(self.schedule.now_ms());
        let payload = publish.into_envelope(clock).encode_to_vec().into();
        let link = stb.link;
        let latency_ms = self.random.between(5, 300);
        let message = Message {
            from: of,
            id,
            class,
            lane,
            payload,
        };
        self.schedule
            .after(latency_ms, Transition::ReachesBroker { of, link, message });
    }
}
