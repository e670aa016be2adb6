//! How nodes of decide get a partition and lose it: a takeover in the order of
//! the real engine, deaths between any two steps, a handing over in order, and
//! nodes that stand still and do not know that they were given up.

use returnpath_decision::{Gates, Partition};

use super::{Node, Staged};
use crate::{faults::Fault, kafka::Topic, transition::Transition, world::World};

/// How long a node may stand still that does not know that it was given up.
const STALLS_MS_MAX: u64 = 60_000;

/// How long it is until somebody notices, at least.
const STALLS_MS_MIN: u64 = 2_000;

/// After so many polls the group tells a node that it is out.
const ZOMBIE_POLLS_MAX: u32 = 20;

/// Within this of an opportunity a node falters, if it does: while it asks, or
/// Kafka commits.
const FALTERS_MS_MAX: u64 = 400;

impl World {
    /// The node that owns a partition, where it can work: a new one has loaded
    /// what its predecessor left, and pushes again what is open.
    pub(super) fn decide_owner(&mut self, partition: usize) -> Option<Node> {
        let now_ms = self.schedule.now_ms();
        let group = &mut self.kafka.partitions[partition].decide;
        let mut nodes = self.deciders[partition].nodes.iter();
        if let Some(place) = nodes.position(|node| !group.fences(node.generation)) {
            return Some(self.deciders[partition].nodes.swap_remove(place));
        }
        if group.is_ending() {
            if group.is_ahead_of_its_state() {
                self.faults.count(Fault::DecideMarkerLate);
            }
            let looks_again_ms = self.random.between(20, 500);
            self.decide_by(partition, now_ms + looks_again_ms);
            return None;
        }
        if group.compact_where_long() {
            self.faults.count(Fault::DecideLoadedCompacted);
        }
        let mut core = Partition::with_limits(self.settings.clone(), self.decide_limits);
        for (key, value) in group.topic(Topic::State) {
            core.restore(key, value.as_deref())
                .expect("decide reads what it wrote");
        }
        let mut node = Node {
            generation: group.rebalance(),
            next: group.committed,
            gates: Gates::new(&self.settings),
            core,
            staged: Staged::default(),
            sealed: None,
            stalled_until_ms: 0,
            zombie_polls: 0,
        };
        self.decisions.takeovers += 1;
        let mut pushes = Vec::new();
        node.core.resume(self.decide_now(partition), &mut pushes);
        self.pushes(partition, node.generation, pushes);
        Some(node)
    }

    /// The owner, if there is one that can be taken from.
    fn decide_loses_owner(&mut self, partition: usize) -> Option<Node> {
        let group = &self.kafka.partitions[partition].decide;
        let decider = &mut self.deciders[partition];
        let mut nodes = decider.nodes.iter();
        let place = nodes.position(|node| !group.fences(node.generation))?;
        Some(decider.nodes.swap_remove(place))
    }

    /// Now and then the owner dies or stands still just when it decides.
    pub(super) fn decide_falters(&mut self, partition: usize) {
        if self.is_calm || !self.random.chance(self.climate.way_back.decide_falters) {
            return;
        }
        let falters = if self.random.chance(500) {
            Transition::DecideDies { partition }
        } else {
            Transition::DecideStalls { partition }
        };
        let after_ms = self.random.below(FALTERS_MS_MAX);
        self.schedule.after(after_ms, falters);
    }

    pub(crate) fn decide_dies(&mut self, partition: usize) {
        let Some(mut node) = self.decide_loses_owner(partition) else {
            return;
        };
        // A commit of an unknown outcome stays that: nobody is left to learn it.
        let is_committing = node.sealed.as_ref().is_some_and(|it| it.made.is_none());
        let fault = if is_committing {
            let made = self.random.chance(500);
            self.decide_ends(partition, &mut node, made);
            Fault::DecideDiedWhileCommitting
        } else if node.staged.is_touched || node.core.under_way() > 0 {
            Fault::DecideDiedMidTransaction
        } else {
            Fault::DecideDied
        };
        self.faults.count(fault);
        let group = &mut self.kafka.partitions[partition].decide;
        group.rebalance();
        if !group.is_ending() && self.random.chance(500) {
            group.compact();
        }
        self.decide_polls_again(partition);
    }

    /// Handed over in order: what is done is committed first; what is being
    /// asked is asked again by the next.
    pub(crate) fn decide_handed_over(&mut self, partition: usize) {
        let group = &self.kafka.partitions[partition].decide;
        let nodes = &self.deciders[partition].nodes;
        let owner = nodes.iter().find(|node| !group.fences(node.generation));
        let Some(generation) = owner.map(|node| node.generation) else {
            return;
        };
        if owner.is_some_and(|node| node.sealed.is_some() || node.staged.is_touched) {
            // Waits for the commit under way.
            self.schedule
                .after(50, Transition::DecideHandedOver { partition });
            return;
        }
        self.deciders[partition].take(generation);
        self.kafka.partitions[partition].decide.rebalance();
        self.faults.count(Fault::DecideHandedOver);
        self.decide_polls_again(partition);
    }

    /// The owner stands still for so long that its group gives the partition to
    /// another. What it had given to Kafka is committed, or times out.
    pub(crate) fn decide_stalls(&mut self, partition: usize) {
        let Some(mut node) = self.decide_loses_owner(partition) else {
            return;
        };
        if node.sealed.as_ref().is_some_and(|it| it.made.is_none()) {
            let made = self.random.chance(700);
            self.decide_ends(partition, &mut node, made);
        }
        let now_ms = self.schedule.now_ms();
        let wakes_ms = now_ms + self.random.between(STALLS_MS_MIN, STALLS_MS_MAX);
        node.stalled_until_ms = wakes_ms;
        let generation = node.generation;
        self.deciders[partition].nodes.push(node);
        self.kafka.partitions[partition].decide.rebalance();
        let wakes = Transition::DecideZombieWakes {
            partition,
            generation,
        };
        self.schedule.at(wakes_ms, wakes);
        self.decide_polls_again(partition);
    }

    /// It goes on as if nothing had happened, until Kafka refuses something.
    pub(crate) fn decide_zombie_wakes(&mut self, partition: usize, generation: u64) {
        let Some(node) = self.deciders[partition].take(generation) else {
            return;
        };
        self.decide_learns(partition, node);
        let Some(mut node) = self.deciders[partition].take(generation) else {
            return;
        };
        self.decide_reads(partition, &mut node);
        self.decide_seals(partition, &mut node);
        node.zombie_polls += 1;
        let is_idle = node.sealed.is_none() && node.core.under_way() == 0;
        if is_idle && node.zombie_polls >= ZOMBIE_POLLS_MAX {
            return;
        }
        self.deciders[partition].nodes.push(node);
        let polls_ms = self.random.between(50, 2_000);
        let wakes = Transition::DecideZombieWakes {
            partition,
            generation,
        };
        self.schedule.after(polls_ms, wakes);
    }
}
