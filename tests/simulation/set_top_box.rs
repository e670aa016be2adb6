//! A box: power, queue file, viewer, and the shell around the real core of the
//! agent, which carries out effects in their order as the real one does.
//!
//! `power` has mains and clocks, `agent` the run of a process, `storage` its
//! queue file's thread, `link` the way to the broker, `middleware` its clients,
//! `way_back` what it does with decisions, `player` who shows them.

mod agent;
mod link;
mod middleware;
mod player;
mod power;
mod storage;
mod way_back;

use returnpath_delivery::{SendingClock, Uptime};
use returnpath_shared::DeviceId;

pub(crate) use self::{agent::Agent, player::Play};
use self::{player::Player, power::Power};
use crate::{queue_file::QueueFile, transition::BoxIndex, viewer::Viewer, world::UNIX_AT_START_MS};

pub(crate) struct SetTopBox {
    pub(crate) device: DeviceId,
    pub(crate) file: QueueFile,
    viewer: Viewer,
    player: Player,
    power: Option<Power>,
    agent: Option<Agent>,
    /// Boots, runs of the agent and links, counted: names what is not stale.
    boot: u64,
    run: u64,
    link: u64,
    /// Whether TCP stands, which the agent may not know yet.
    link_stands: bool,
    /// No mains before this.
    pub(crate) unplugged_until_ms: u64,
    /// How long it had power, before the power that it has.
    powered_ms: u64,
}

impl SetTopBox {
    pub(crate) fn new(index: BoxIndex) -> Self {
        Self {
            device: format!("box-{index}").parse().unwrap(),
            file: QueueFile::default(),
            viewer: Viewer::default(),
            player: Player::default(),
            power: None,
            agent: None,
            boot: 0,
            run: 0,
            link: 0,
            link_stands: false,
            unplugged_until_ms: 0,
            powered_ms: 0,
        }
    }

    pub(crate) fn uptime(&self, now_ms: u64) -> Uptime {
        Uptime(
            self.power
                .as_ref()
                .map_or(0, |power| now_ms - power.since_ms),
        )
    }

    fn clock(&self, now_ms: u64) -> SendingClock {
        let power = self.power.as_ref().unwrap();
        SendingClock {
            uptime: self.uptime(now_ms),
            unix_ms: unix_ms(now_ms) + power.clock_off_ms,
            synchronised: power.synchronised,
        }
    }

    /// How long it has had power so far.
    pub(crate) fn powered_ms(&self, now_ms: u64) -> u64 {
        self.powered_ms + self.uptime(now_ms).0
    }

    /// What it holds, for people.
    pub(crate) fn status(&self, now_ms: u64) -> String {
        match &self.agent {
            Some(agent) => format!(
                "{}: {:?}",
                self.device,
                agent.delivery.status(self.uptime(now_ms))
            ),
            None => format!("{}: no agent", self.device),
        }
    }

    /// Whether nothing is held and nothing under way. Deletions may still wait
    /// for a spent flash budget.
    pub(crate) fn is_idle(&self, now_ms: u64) -> bool {
        self.agent.as_ref().is_some_and(|agent| {
            let status = agent.delivery.status(self.uptime(now_ms));
            agent.commit.is_none()
                && agent.binding.is_empty()
                && agent.telling.is_empty()
                && agent.slots_due_ms.is_none()
                && (agent.delivery.poll_timeout().is_none() || status.flash_budget_spent)
                && status.ordinary.batches + status.proof.batches == 0
                && status.open_events == 0
                && status.ledger_rows == 0
        })
    }
}

/// The true wall clock.
pub(crate) fn unix_ms(now_ms: u64) -> i64 {
    UNIX_AT_START_MS + i64::try_from(now_ms).unwrap()
}
