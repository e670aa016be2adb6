//! How a transaction of decide ends, and what is pushed then. It is sealed with
//! its offsets and given to Kafka; until its end is known the next one fills.

use returnpath_shared::wire::Decision;

use super::{Node, Sealed, Staged};
use crate::{
    faults::Fault,
    kafka::{Changes, Role},
    reference::index,
    refiner::End,
    transition::Transition,
    world::World,
};

/// How long Kafka takes to commit.
const COMMITS_MS_MAX: u64 = 300;

/// How long nobody may know what became of a commit.
const LEARNS_MS_MAX: u64 = 5_000;

impl World {
    /// The open transaction is given to Kafka, unless it has one already.
    pub(super) fn decide_seals(&mut self, partition: usize, node: &mut Node) {
        if node.sealed.is_some() || !node.staged.is_touched {
            return;
        }
        let out = &mut self.deciders[partition].out;
        out.clear();
        let offsets = node.offsets();
        node.core.changes(out);
        node.staged.keep(out);
        node.staged.changes.offsets = offsets;
        node.sealed = Some(Sealed {
            staged: std::mem::take(&mut node.staged),
            made: None,
        });
        let takes_ms = self.random.between(2, COMMITS_MS_MAX);
        let ends = Transition::DecideCommitEnds {
            partition,
            generation: node.generation,
        };
        self.schedule.after(takes_ms, ends);
    }

    pub(crate) fn decide_commit_ends(&mut self, partition: usize, generation: u64) {
        let now_ms = self.schedule.now_ms();
        let Some(mut node) = self.deciders[partition].take(generation) else {
            return;
        };
        if node.stalled_until_ms > now_ms || node.sealed.as_ref().is_none_or(|it| it.made.is_some())
        {
            self.deciders[partition].nodes.push(node);
            return;
        }
        if self.kafka.partitions[partition].decide.fences(generation) {
            // Refused, and its session over.
            self.faults.count(Fault::DecideFenced);
            return;
        }
        let end = self.draw_end(self.climate.way_back.decide_aborts);
        match end {
            End::Committed => {
                let changes = self.decided(&mut node);
                self.kafka.partitions[partition].decide.commit(changes);
                if self
                    .random
                    .chance(self.climate.way_back.decide_dies_unpushed)
                    && !self.is_calm
                {
                    self.faults.count(Fault::DecideDiedBeforePush);
                } else {
                    self.decide_committed(partition, node);
                }
            }
            End::Aborted => {
                self.faults.count(Fault::DecideTransactionAborted);
                node.abort(self.kafka.partitions[partition].decide.committed);
                self.deciders[partition].nodes.push(node);
            }
            End::Unknown { made } => {
                self.decide_ends(partition, &mut node, made);
                let learns_ms = self.random.between(1, LEARNS_MS_MAX);
                let learned = Transition::CommitLearned {
                    role: Role::Decide,
                    partition,
                    generation,
                };
                self.schedule.after(learns_ms, learned);
                self.deciders[partition].nodes.push(node);
            }
            End::NeverKnown { made } => {
                self.decide_ends(partition, &mut node, made);
                self.faults.count(if self.random.chance(500) {
                    Fault::DecideCommitUnknownGivenUp
                } else {
                    Fault::DecideDiedWhileCommitting
                });
            }
        }
        self.decide_polls_again(partition);
    }

    /// Kafka decides what becomes of what was sealed; the node does not know.
    pub(super) fn decide_ends(&mut self, partition: usize, node: &mut Node, made: bool) {
        let changes = if made {
            self.decided(node)
        } else {
            Changes::default()
        };
        if let Some(sealed) = &mut node.sealed {
            sealed.made = Some(made);
        }
        self.ends(Role::Decide, partition, changes, made);
    }

    /// What was sealed stands. Records stand from the moment that is decided.
    fn decided(&mut self, node: &mut Node) -> Changes {
        let Some(sealed) = &mut node.sealed else {
            return Changes::default();
        };
        let now_ms = self.schedule.now_ms();
        for (key, value) in sealed.staged.decisions.drain(..) {
            let is_over = |decision: &Decision| {
                let of = index(&decision.device_id);
                self.boxes[of].is_past(decision, now_ms)
            };
            self.decisions.recorded(&key, &value, is_over);
        }
        std::mem::take(&mut sealed.staged.changes)
    }

    pub(crate) fn decide_commit_learned(&mut self, partition: usize, generation: u64) {
        let now_ms = self.schedule.now_ms();
        let Some(node) = self.deciders[partition].take(generation) else {
            return;
        };
        if node.stalled_until_ms > now_ms {
            self.deciders[partition].nodes.push(node);
            return;
        }
        let group = &mut self.kafka.partitions[partition].decide;
        if !group.fences(generation) {
            group.all_markers_arrive();
        }
        self.decide_learns(partition, node);
        self.decide_polls_again(partition);
    }

    /// A node learns what became of what it sealed, if it has to.
    pub(super) fn decide_learns(&mut self, partition: usize, mut node: Node) {
        match node.sealed.as_ref().and_then(|sealed| sealed.made) {
            None => self.deciders[partition].nodes.push(node),
            Some(true) => {
                self.faults.count(Fault::DecideCommitUnknownMade);
                self.decide_committed(partition, node);
            }
            Some(false) => {
                self.faults.count(Fault::DecideCommitUnknownAborted);
                node.abort(self.kafka.partitions[partition].decide.committed);
                self.deciders[partition].nodes.push(node);
            }
        }
    }

    /// What was sealed is committed, and pushed.
    fn decide_committed(&mut self, partition: usize, mut node: Node) {
        node.sealed = None;
        let mut pushes = Vec::new();
        self.decisions.counts += &node.core.commit(&mut pushes);
        let generation = node.generation;
        let is_zombie = self.kafka.partitions[partition].decide.fences(generation);
        if is_zombie && !pushes.is_empty() {
            self.faults.count(Fault::DecideZombiePushed);
        }
        self.decide_seals(partition, &mut node);
        self.deciders[partition].nodes.push(node);
        self.pushes(partition, generation, pushes);
    }
}

impl Node {
    fn abort(&mut self, committed: [usize; 2]) {
        self.core.abort();
        self.sealed = None;
        self.staged = Staged::default();
        self.next = committed;
    }
}
