//! The node that owns a partition: the shell around the real core of refine,
//! with Kafka transactions that are aborted, whose outcome is not known, or
//! that end with the node, and takeovers in the order of the real engine:
//! stable offsets, then the state up to where it ends.

use returnpath_refinery::{Destination, Output, Partition, RawRecord, WAITING_RECORDS_MAX};
use returnpath_shared::{Lane, Stream};

use crate::{
    faults::Fault,
    kafka::{Changes, Role, Topic},
    transition::Transition,
    world::World,
};

/// Records of a lane in one poll.
const LIVE_RECORDS_MAX: u64 = 40;
const BACKLOG_RECORDS_MAX: u64 = 10;

/// How long nobody may know what became of a commit.
const LEARNS_MS_MAX: u64 = 5_000;

/// How long a node may stand still that does not know that it was given up.
const STALLS_MS_MAX: u64 = 60_000;

/// The node of one partition; none between a death and the next poll.
#[derive(Default)]
pub(crate) struct Refiner {
    node: Option<Node>,
    /// A former node that stood still while another took over, and will go on.
    zombie: Option<Node>,
    polls_at_ms: Option<u64>,
    out: Output,
}

struct Node {
    core: Partition,
    /// In which it was given the partition; names it.
    generation: u64,
    /// Next offset of each lane.
    next: [usize; 2],
    /// What became of the commit that it waits for.
    made: Option<bool>,
}

/// How a transaction ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Committed,
    Aborted,
    /// The node does not know until later.
    Unknown {
        made: bool,
    },
    /// The node never knows, as it dies or drops all that it has in memory.
    NeverKnown {
        made: bool,
    },
}

impl World {
    /// The node of a partition polls, at this time at the latest.
    pub(crate) fn refine_by(&mut self, partition: usize, at_ms: u64) {
        let polls_at_ms = &mut self.refiners[partition].polls_at_ms;
        if polls_at_ms.is_none_or(|before_ms| before_ms > at_ms) {
            *polls_at_ms = Some(at_ms);
            self.schedule.at(at_ms, Transition::Refines { partition });
        }
    }

    pub(crate) fn refines(&mut self, partition: usize) {
        let now_ms = self.schedule.now_ms();
        // A poll that was moved.
        if self.refiners[partition].polls_at_ms != Some(now_ms) {
            return;
        }
        self.refiners[partition].polls_at_ms = None;
        let end = self.draw_end(self.climate.refine_aborts);
        let shares = [
            self.random.between(1, LIVE_RECORDS_MAX),
            self.random.below(BACKLOG_RECORDS_MAX + 1),
        ];
        if self.transact(partition, shares, end, |_, _| {})
            && let End::NeverKnown { .. } = end
        {
            self.faults.count(if self.random.chance(500) {
                Fault::CommitUnknownGivenUp
            } else {
                Fault::RefineDiedMidTransaction
            });
        }
        self.polls_again(partition);
    }

    /// How a transaction ends, where so many in a thousand end badly.
    pub(crate) fn draw_end(&mut self, ends_badly: u64) -> End {
        if self.is_calm || !self.random.chance(ends_badly) {
            return End::Committed;
        }
        let made = self.random.chance(500);
        self.random.pick(&[
            End::Aborted,
            End::Aborted,
            End::Unknown { made },
            End::NeverKnown { made },
        ])
    }

    /// While there is something to refine, or something waits.
    fn polls_again(&mut self, partition: usize) {
        let now_ms = self.schedule.now_ms();
        let log = &self.kafka.partitions[partition];
        let next = match &self.refiners[partition].node {
            Some(node) => node.next,
            None => log.refine.committed,
        };
        let is_behind = Lane::ALL.into_iter().any(|lane| {
            let at = lane as usize;
            next[at] < log.raw[at].len() && log.parted_until_ms[at] <= now_ms
        });
        let waits_until_ms = self.refiners[partition]
            .node
            .as_ref()
            .and_then(|node| node.core.poll_timeout());
        if is_behind {
            let pause_ms = self.random.between(5, 400);
            self.refine_by(partition, now_ms + pause_ms);
        } else if let Some(at_ms) = waits_until_ms {
            self.refine_by(partition, at_ms.max(now_ms + 1));
        }
    }

    pub(crate) fn refine_dies(&mut self, partition: usize) {
        if self.refiners[partition].node.take().is_some() {
            self.faults.count(Fault::RefineDied);
        }
        let group = &mut self.kafka.partitions[partition].refine;
        if !group.is_ending() && self.random.chance(500) {
            group.compact();
        }
        self.polls_again(partition);
    }

    /// Handed over in order: what waits is refined first.
    pub(crate) fn handed_over(&mut self, partition: usize) {
        self.transact(partition, [0, 0], End::Committed, |core, out| {
            core.flush(out)
        });
        let refiner = &mut self.refiners[partition];
        if refiner
            .node
            .as_ref()
            .is_some_and(|node| node.made.is_none())
        {
            refiner.node = None;
            self.faults.count(Fault::RebalancedInOrder);
        }
        self.polls_again(partition);
    }

    /// Given to another while a transaction is open, which Kafka then commits
    /// or aborts; the new owner may come before either shows everywhere.
    pub(crate) fn taken_away(&mut self, partition: usize) {
        let made = self.random.chance(600);
        let end = End::NeverKnown { made };
        let shares = [LIVE_RECORDS_MAX, BACKLOG_RECORDS_MAX];
        if self.transact(partition, shares, end, |_, _| {}) {
            self.faults.count(Fault::RebalancedMidTransaction);
        }
        self.polls_again(partition);
    }

    /// A node stands still for so long that its group gives the partition to
    /// another; it does not know, and goes on where it was.
    pub(crate) fn refine_stalls(&mut self, partition: usize) {
        let refiner = &mut self.refiners[partition];
        if refiner.node.as_ref().is_none_or(|node| node.made.is_some()) {
            return;
        }
        refiner.zombie = refiner.node.take();
        self.kafka.partitions[partition].refine.rebalance();
        self.refine_zombie_sleeps(partition);
        self.polls_again(partition);
    }

    fn refine_zombie_sleeps(&mut self, partition: usize) {
        let wakes_ms = self.random.between(1, STALLS_MS_MAX);
        self.schedule
            .after(wakes_ms, Transition::RefineZombieWakes { partition });
    }

    /// It refines what it reads, as if nothing had happened.
    pub(crate) fn refine_zombie_wakes(&mut self, partition: usize) {
        if self.refiners[partition].node.is_none() {
            // Nobody has taken over yet.
            if !self.is_calm {
                self.refine_zombie_sleeps(partition);
            }
            return;
        }
        let Some(zombie) = self.refiners[partition].zombie.take() else {
            return;
        };
        let owner = self.refiners[partition].node.take();
        let shares = [LIVE_RECORDS_MAX, BACKLOG_RECORDS_MAX];
        self.transact_by(partition, zombie, shares, End::Committed, |core, out| {
            core.flush(out);
        });
        self.refiners[partition].node = owner;
    }

    /// Whether there was anything in the transaction. An empty one is not made.
    fn transact(
        &mut self,
        partition: usize,
        shares: [u64; 2],
        end: End,
        last: impl FnOnce(&mut Partition, &mut Output),
    ) -> bool {
        let Some(node) = self.owner(partition) else {
            return false;
        };
        self.transact_by(partition, node, shares, end, last)
    }

    fn transact_by(
        &mut self,
        partition: usize,
        mut node: Node,
        shares: [u64; 2],
        end: End,
        last: impl FnOnce(&mut Partition, &mut Output),
    ) -> bool {
        let now_ms = self.schedule.now_ms();
        let mut out = std::mem::take(&mut self.refiners[partition].out);
        out.clear();
        let log = &self.kafka.partitions[partition];
        let before = node.next;
        for lane in Lane::ALL {
            let at = lane as usize;
            if log.parted_until_ms[at] > now_ms {
                continue;
            }
            for _ in 0..shares[at] {
                let Some(raw) = log.raw[at].get(node.next[at]) else {
                    break;
                };
                let record = RawRecord {
                    key: raw.key.as_str().as_bytes(),
                    value: &raw.value,
                    lane,
                    received_unix_ms: raw.received_unix_ms,
                    offset: i64::try_from(node.next[at]).unwrap(),
                };
                node.core.refine(&record, now_ms, &mut out);
                node.next[at] += 1;
            }
        }
        if node
            .core
            .poll_timeout()
            .is_some_and(|at_ms| at_ms <= now_ms)
        {
            node.core.handle_timeout(now_ms, &mut out);
        }
        last(&mut node.core, &mut out);
        assert!(node.core.waiting() <= WAITING_RECORDS_MAX);
        node.core.changes(&mut out);
        let offsets = Lane::ALL.map(|lane| {
            node.core
                .lowest_waiting_offset(lane)
                .map_or(node.next[lane as usize], |offset| {
                    usize::try_from(offset).unwrap()
                })
        });
        let has_content = node.next != before || out.records().next().is_some();
        if has_content {
            self.ends_by(partition, node, &out, offsets, end);
        } else {
            self.refiners[partition].node = Some(node);
        }
        self.refiners[partition].out = out;
        has_content
    }

    fn ends_by(
        &mut self,
        partition: usize,
        mut node: Node,
        out: &Output,
        offsets: [usize; 2],
        end: End,
    ) {
        let group = &self.kafka.partitions[partition].refine;
        if group.fences(node.generation) {
            // Its transaction is refused, and its session over.
            self.faults.count(Fault::RefineFenced);
            return;
        }
        let made = match end {
            End::Committed => true,
            End::Aborted => false,
            End::Unknown { made } | End::NeverKnown { made } => made,
        };
        let changes = self.written(out, offsets, made);
        match end {
            End::Committed => {
                self.kafka.partitions[partition].refine.commit(changes);
                self.counts += node.core.commit();
                self.refiners[partition].node = Some(node);
                self.decide_what_came(partition);
            }
            End::Aborted => {
                self.faults.count(Fault::TransactionAborted);
                node.abort(self.kafka.partitions[partition].refine.committed);
                self.refiners[partition].node = Some(node);
            }
            End::Unknown { .. } => {
                self.ends(Role::Refine, partition, changes, made);
                node.made = Some(made);
                let generation = node.generation;
                self.refiners[partition].node = Some(node);
                let learns_ms = self.random.between(1, LEARNS_MS_MAX);
                let learned = Transition::CommitLearned {
                    role: Role::Refine,
                    partition,
                    generation,
                };
                self.schedule.after(learns_ms, learned);
            }
            End::NeverKnown { .. } => self.ends(Role::Refine, partition, changes, made),
        }
    }

    /// A commit was retried until its outcome was known. The producer is told
    /// when every topic knows.
    pub(crate) fn refine_commit_learned(&mut self, partition: usize, generation: u64) {
        let Some(node) = &mut self.refiners[partition].node else {
            return;
        };
        if node.generation != generation {
            return;
        }
        let Some(made) = node.made.take() else {
            return;
        };
        let group = &mut self.kafka.partitions[partition].refine;
        group.all_markers_arrive();
        if made {
            self.counts += node.core.commit();
            self.faults.count(Fault::CommitUnknownMade);
        } else {
            node.abort(group.committed);
            self.faults.count(Fault::CommitUnknownAborted);
        }
        self.decide_what_came(partition);
        self.polls_again(partition);
    }

    /// The node of a partition, where it can work: a new one has loaded what
    /// its predecessor left.
    fn owner(&mut self, partition: usize) -> Option<Node> {
        let now_ms = self.schedule.now_ms();
        let refiner = &mut self.refiners[partition];
        if let Some(node) = refiner.node.take() {
            if node.made.is_some() {
                refiner.node = Some(node);
                return None;
            }
            return Some(node);
        }
        let group = &mut self.kafka.partitions[partition].refine;
        if group.is_ending() {
            if group.is_ahead_of_its_state() {
                self.faults.count(Fault::MarkerLate);
            }
            let looks_again_ms = self.random.between(20, 500);
            self.refine_by(partition, now_ms + looks_again_ms);
            return None;
        }
        if group.compact_where_long() {
            self.faults.count(Fault::LoadedCompacted);
        }
        let mut core = Partition::with_limits(self.limits);
        for (key, value) in group.topic(Topic::State) {
            core.restore(key, value.as_deref())
                .expect("refine reads what it wrote");
        }
        for (key, value) in group.topic(Topic::Devices) {
            core.restore_profile(key, value.as_deref())
                .expect("refine reads what it wrote");
        }
        for (key, value) in group.topic(Topic::Completeness) {
            core.restore_completeness(key, value.as_deref())
                .expect("refine reads what it wrote");
        }
        Some(Node {
            core,
            generation: group.rebalance(),
            next: group.committed,
            made: None,
        })
    }

    /// What a transaction writes. Outputs of a commit stand from the moment it
    /// is decided: nobody reads past them before.
    fn written(&mut self, out: &Output, offsets: [usize; 2], is_made: bool) -> Changes {
        let mut changes = Changes::up_to(offsets);
        if !is_made {
            return changes;
        }
        for record in out.records() {
            let value = record.value.unwrap_or_default();
            let topic = match record.destination {
                Destination::State => Topic::State,
                Destination::Device => Topic::Devices,
                Destination::Completeness => Topic::Completeness,
                Destination::Refined(stream) => {
                    let refined = self.reference.refined(stream, record.key, value);
                    if stream != Stream::Ads || !self.has_breaks() {
                        continue;
                    }
                    self.decisions.told(&refined);
                    Topic::Ads
                }
                Destination::Rejected => {
                    self.reference.rejected(value);
                    continue;
                }
                Destination::Opportunity => {
                    self.reference.asked(record.key, value);
                    if !self.has_breaks() {
                        continue;
                    }
                    self.decisions.asked(value);
                    Topic::Opportunities
                }
            };
            changes.put(topic, record.key, record.value);
        }
        changes
    }

    /// Whether every record has been refined, as everybody can see.
    pub(crate) fn is_refined(&self) -> bool {
        let mut logs = self.kafka.partitions.iter();
        logs.all(|log| {
            !log.refine.is_ending() && Lane::ALL.into_iter().all(|lane| log.is_refined(lane))
        })
    }
}

impl Node {
    fn abort(&mut self, committed: [usize; 2]) {
        self.core.abort();
        self.next = committed;
    }
}
