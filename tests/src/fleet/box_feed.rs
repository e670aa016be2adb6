//! A household for a box of the caller's own: the same viewers as those of the
//! simulated boxes, handed to a real agent.

use std::{sync::Arc, time::Duration};

use returnpath_agent::clock;
use returnpath_delivery::Uptime;
use returnpath_shared::wire;

use super::{
    feed::Feed,
    lineup::Lineup,
    load::{AdSource, Load},
    moment::Moment,
};

/// Tells what its household does, by the clock of this machine.
#[derive(Debug)]
pub struct BoxFeed(Feed);

impl BoxFeed {
    /// A household that begins now, at the moment `from` of its own time.
    #[must_use]
    pub fn household(
        lineup: &Arc<Lineup>,
        seed: u64,
        from: Moment,
        speed: u32,
        ads: AdSource,
    ) -> Self {
        let load = Load::Viewers { from, speed, ads };
        Self(load.feed(lineup, 1, 1, seed, Uptime(clock::uptime_ms())))
    }

    /// How long nothing happens.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.0.next_at().since(Uptime(clock::uptime_ms()))
    }

    /// The box was given a decision, which its player shows in its slot.
    pub fn decided(&mut self, decision: wire::Decision) {
        self.0.decided(decision);
    }

    /// What has happened since it was last asked.
    pub fn take(&mut self) -> Vec<wire::Event> {
        self.0.take(Uptime(clock::uptime_ms()))
    }
}
