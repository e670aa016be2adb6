//! The player of a box: asks for the ads of a break, shows what it gets, and
//! tells of it. It outlives the agent, and not the power.

use std::collections::BTreeSet;

use returnpath_shared::wire::{AdEvent, AdOpportunity, Channel, Decision, Source, ad_event, event};

use super::SetTopBox;
use crate::{
    faults::Fault,
    random::Random,
    transition::{BoxIndex, Transition},
    world::World,
};

/// How long before its break a player asks, at most.
const AHEAD_MS_MAX: u64 = 15_000;

#[derive(Default)]
pub(super) struct Player {
    breaks: u64,
    /// The last one; it may be over.
    current: Option<Break>,
    /// Ids of what it has got in this boot.
    got: BTreeSet<String>,
    /// The last decision that it has got.
    last: Option<Decision>,
}

struct Break {
    id: String,
    starts_ms: u64,
    slots_ms: Vec<u32>,
    /// Asked for in this boot the last time.
    boot: u64,
    asked: u32,
}

/// An ad on its way to the screen.
#[derive(Clone, Debug)]
pub(crate) struct Play {
    decision: Decision,
    is_on: bool,
}

impl Player {
    pub(super) fn power_cut(&mut self) {
        self.got.clear();
        self.last = None;
    }
}

impl Break {
    fn new(number: u64, now_ms: u64, random: &mut Random) -> Self {
        let slots = random.between(1, 3);
        Self {
            id: format!("break-{number}"),
            starts_ms: now_ms + random.between(0, AHEAD_MS_MAX),
            slots_ms: (0..slots).map(|_| random.pick(&[15_000, 30_000])).collect(),
            boot: 0,
            asked: 0,
        }
    }

    fn ends_ms(&self) -> u64 {
        self.starts_ms + self.slots_ms.iter().copied().map(u64::from).sum::<u64>()
    }

    /// When a slot of it begins.
    fn slot_starts_ms(&self, slot: u32) -> u64 {
        let before = self.slots_ms.iter().take(slot as usize);
        self.starts_ms + before.copied().map(u64::from).sum::<u64>()
    }
}

impl World {
    /// A break is announced to the player, if the box is on.
    pub(crate) fn break_comes(&mut self, of: BoxIndex) {
        if self.is_calm {
            return;
        }
        let pause_ms = self.random.between(1, self.climate.way_back.break_ms_max);
        let next_ms = self.light_again_ms() + pause_ms;
        self.schedule.at(next_ms, Transition::BreakComes(of));
        let now_ms = self.schedule.now_ms();
        let player = &mut self.boxes[of].player;
        let is_on_one = player
            .current
            .as_ref()
            .is_some_and(|it| it.ends_ms() > now_ms);
        if self.boxes[of].power.is_none() || is_on_one {
            return;
        }
        let player = &mut self.boxes[of].player;
        player.breaks += 1;
        player.current = Some(Break::new(player.breaks, now_ms, &mut self.random));
        self.player_asks(of);
    }

    /// Its connection, or its whole memory, is gone, and the break is not over.
    pub(super) fn player_asks_again(&mut self, of: BoxIndex) {
        let now_ms = self.schedule.now_ms();
        let stb = &self.boxes[of];
        let Some(current) = &stb.player.current else {
            return;
        };
        if current.ends_ms() <= now_ms {
            return;
        }
        self.faults.count(if current.boot == stb.boot {
            Fault::AskedAgainAfterRestart
        } else {
            Fault::AskedAgainAfterReboot
        });
        self.player_asks(of);
    }

    fn player_asks(&mut self, of: BoxIndex) {
        let now_ms = self.schedule.now_ms();
        let stb = &mut self.boxes[of];
        let uptime = stb.uptime(now_ms);
        let (Some(power), Some(current)) = (&stb.power, &mut stb.player.current) else {
            return;
        };
        // At 0 an agent takes the time for not said.
        if uptime.0 == 0 {
            return;
        }
        current.boot = stb.boot;
        current.asked += 1;
        let opportunity = AdOpportunity {
            break_id: current.id.clone(),
            start_uptime_ms: current.starts_ms.saturating_sub(power.since_ms),
            duration_ms: current.slots_ms.iter().sum(),
            slot_durations_ms: current.slots_ms.clone(),
            channel: Some(Channel {
                network_id: 9_018,
                transport_stream_id: 4_164,
                service_id: 64,
                channel_id: String::new(),
            }),
            source: Source::Live as i32,
            ..AdOpportunity::default()
        };
        let client_id = format!("{}-{}", current.id, current.asked);
        let kind = event::Kind::AdOpportunity(opportunity);
        let (number, report) = stb.viewer.take(kind, client_id, now_ms, uptime.0);
        self.report(of, number, &report);
    }

    pub(super) fn player_gets(&mut self, of: BoxIndex, decision: Decision) {
        let now_ms = self.schedule.now_ms();
        let stb = &mut self.boxes[of];
        let player = &mut stb.player;
        if !player.got.insert(decision.decision_id.clone()) {
            return;
        }
        player.last = Some(decision.clone());
        if !self.is_calm && self.random.chance(self.climate.way_back.stranger_meddles) {
            let meddles_ms = self.random.below(5_000);
            self.schedule
                .after(meddles_ms, Transition::StrangerPublishes(of));
        }
        let current = player.current.as_ref();
        let Some(current) = current.filter(|it| it.id == decision.break_id) else {
            return;
        };
        if decision.creative.is_none() {
            return;
        }
        let at_ms = current.slot_starts_ms(decision.slot).max(now_ms);
        let plays = Transition::Plays {
            of,
            boot: stb.boot,
            play: Box::new(Play {
                decision,
                is_on: false,
            }),
        };
        self.schedule.at(at_ms, plays);
    }

    /// An ad begins, or ends.
    pub(crate) fn plays(&mut self, of: BoxIndex, boot: u64, play: Play) {
        let now_ms = self.schedule.now_ms();
        let stb = &mut self.boxes[of];
        let uptime = stb.uptime(now_ms);
        if stb.boot != boot || stb.power.is_none() {
            return;
        }
        let Play { decision, is_on } = play;
        let kind = if is_on {
            let ends = [ad_event::Kind::Complete, ad_event::Kind::Skip];
            ends[usize::from(self.random.chance(250))]
        } else if uptime.0 < decision.expiry_uptime_ms {
            ad_event::Kind::Start
        } else {
            return;
        };
        let creative = decision.creative.as_ref().expect("an ad plays");
        let lasts_ms = u64::from(creative.duration_ms);
        let told = AdEvent {
            kind: kind as i32,
            decision_id: decision.decision_id.clone(),
            break_id: decision.break_id.clone(),
            slot: decision.slot,
            creative_id: creative.creative_id.clone(),
            ..AdEvent::default()
        };
        let kind = event::Kind::AdEvent(told);
        let viewer = &mut self.boxes[of].viewer;
        let (number, report) = viewer.take(kind, String::new(), now_ms, uptime.0);
        self.report(of, number, &report);
        if !is_on {
            let plays = Transition::Plays {
                of,
                boot,
                play: Box::new(Play {
                    is_on: true,
                    decision,
                }),
            };
            self.schedule.after(lasts_ms, plays);
        }
    }
}

impl SetTopBox {
    /// The break that it asked for in this boot, and the boot.
    pub(crate) fn asked_break(&self) -> Option<(u64, String)> {
        let power = self.power.as_ref()?;
        let current = self.player.current.as_ref()?;
        (current.boot == self.boot).then(|| (power.boot_id, current.id.clone()))
    }

    /// What its player got last, while nothing else may take its place.
    pub(crate) fn handed_over_now(&self, now_ms: u64) -> Option<Decision> {
        let decision = self.player.last.as_ref()?;
        (self.uptime(now_ms).0 < decision.expiry_uptime_ms).then(|| decision.clone())
    }

    /// Whether a decision cannot be taken any more.
    pub(crate) fn is_past(&self, decision: &Decision, now_ms: u64) -> bool {
        let boot_id = self.power.as_ref().map(|power| power.boot_id);
        boot_id != Some(decision.expiry_boot_id)
            || self.uptime(now_ms).0 >= decision.expiry_uptime_ms
    }

    /// Whether it has no power, and its break is not over.
    pub(crate) fn misses_its_break(&self, now_ms: u64) -> bool {
        let current = self.player.current.as_ref();
        self.power.is_none() && current.is_some_and(|it| it.ends_ms() > now_ms)
    }
}
