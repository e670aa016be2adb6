//! What goes wrong next, and where.

use returnpath_shared::Lane;

use crate::{transition::Transition, world::World};

impl World {
    /// Something goes wrong somewhere, and the next time is chosen.
    pub(crate) fn misfortune(&mut self) {
        if self.is_calm {
            return;
        }
        let pause_ms = self.random.between(1, self.climate.misfortune_ms_max);
        let next_ms = self.light_again_ms() + pause_ms;
        self.schedule.at(next_ms, Transition::Misfortune);
        let of = self.random.index(self.boxes.len());
        let bridge = self.random.index(self.bridges.len());
        let partition = self.random.index(self.refiners.len());
        let lane = self.random.pick(&Lane::ALL);
        let weights = &self.climate.weights;
        let fates = [
            (weights.power_cut, Transition::PowerCut(of)),
            (weights.goes_dark, Transition::GoesDark(of)),
            (weights.agent_killed, Transition::AgentKilled(of)),
            (weights.agent_stops, Transition::AgentStops(of)),
            (weights.link_cut, Transition::LinkCut(of)),
            (weights.clock_steps, Transition::ClockSteps(of)),
            (weights.page_goes_bad, Transition::PageGoesBad(of)),
            (weights.broker_forgets, Transition::BrokerForgets),
            (weights.bridge_dies, Transition::BridgeDies { bridge }),
            (weights.kafka_refuses, Transition::KafkaRefuses),
            (
                weights.leader_changes,
                Transition::LeaderChanges { partition, lane },
            ),
            (
                weights.lanes_part,
                Transition::LanesPart { partition, lane },
            ),
            (weights.refine_dies, Transition::RefineDies { partition }),
            (weights.handed_over, Transition::HandedOver { partition }),
            (weights.taken_away, Transition::TakenAway { partition }),
            (
                weights.refine_stalls,
                Transition::RefineStalls { partition },
            ),
            (weights.decide_dies, Transition::DecideDies { partition }),
            (
                weights.decide_handed_over,
                Transition::DecideHandedOver { partition },
            ),
            (
                weights.decide_stalls,
                Transition::DecideStalls { partition },
            ),
            (weights.strangers, Transition::StrangerPublishes(of)),
        ];
        let all: u64 = fates.iter().map(|(weight, _)| weight).sum();
        let mut drawn = self.random.below(all);
        for (weight, fate) in fates {
            if drawn < weight {
                self.schedule.after(0, fate);
                return;
            }
            drawn -= weight;
        }
    }
}
