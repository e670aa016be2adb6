//! The nodes of decide: the shell around its real core. It asks outside of
//! transactions, works on the next one while Kafka commits the last, and pushes
//! what is committed and nothing else.
//!
//! A node that stood still while another took its partition over goes on where
//! it was, a *zombie*: it reads, asks, decides and pushes what Kafka had
//! committed for it; what it wants to commit Kafka refuses.
//!
//! How a transaction ends is `ending`'s, how nodes come and go `ownership`'s.

mod ending;
mod ownership;

use returnpath_decision::{
    Destination, Gates, Input, InputRecord, Lent, Now, Output, Partition, Push,
};

use crate::{
    aggregators::Asked,
    kafka::{Changes, Topic},
    set_top_box::unix_ms,
    signing::OPERATORS,
    transition::Transition,
    world::World,
};

/// Records of an input in one poll.
const OPPORTUNITIES_MAX: u64 = 8;
const ADS_MAX: u64 = 60;

/// Ad events wait for each other: nobody waits for them.
const ADS_WAIT_MS_MAX: u64 = 30_000;

/// What it reads, in the order of its offsets.
const INPUTS: [(Input, Topic); 2] = [
    (Input::Opportunities, Topic::Opportunities),
    (Input::Ads, Topic::Ads),
];

/// The nodes of one partition.
pub(crate) struct Decider {
    /// Whoever owns it, and those that do not know that they no longer do.
    nodes: Vec<Node>,
    polls_at_ms: Option<u64>,
    /// What the clock of these nodes is off by.
    clock_off_ms: i64,
    out: Output,
}

struct Node {
    core: Partition,
    gates: Gates,
    /// In which it was given the partition; names it.
    generation: u64,
    /// Next offsets of opportunities and ads.
    next: [usize; 2],
    /// Of the open transaction.
    staged: Staged,
    /// What Kafka is committing.
    sealed: Option<Sealed>,
    /// Stands still until then.
    stalled_until_ms: u64,
    /// Polls of a zombie until its group tells it, should it have nothing to
    /// commit by then.
    zombie_polls: u32,
}

/// Held back until its transaction is sealed.
#[derive(Default)]
struct Staged {
    changes: Changes,
    /// For rp.decisions.
    decisions: Vec<(Vec<u8>, Vec<u8>)>,
    is_touched: bool,
}

struct Sealed {
    staged: Staged,
    /// What became of it, where Kafka knows and the node does not.
    made: Option<bool>,
}

impl Decider {
    pub(crate) fn new(clock_off_ms: i64) -> Self {
        Self {
            nodes: Vec::new(),
            polls_at_ms: None,
            clock_off_ms,
            out: Output::new(),
        }
    }

    /// Takes a node out, to let it do something.
    fn take(&mut self, generation: u64) -> Option<Node> {
        let mut nodes = self.nodes.iter();
        let place = nodes.position(|node| node.generation == generation)?;
        Some(self.nodes.swap_remove(place))
    }
}

impl World {
    /// Whether there are ad breaks in this world; where there are none, nobody
    /// decides.
    pub(crate) fn has_breaks(&self) -> bool {
        self.climate.way_back.break_ms_max > 0
    }

    /// Something may have come to read.
    pub(crate) fn decide_what_came(&mut self, partition: usize) {
        if !self.has_breaks() {
            return;
        }
        let now_ms = self.schedule.now_ms();
        let log = &self.kafka.partitions[partition];
        let next = self.deciders[partition]
            .nodes
            .iter()
            .find(|node| !log.decide.fences(node.generation))
            .map_or(log.decide.committed, |node| node.next);
        let [asked, told] = INPUTS.map(|(_, topic)| log.refine.topic(topic).len());
        if asked > next[0] {
            let pause_ms = self.random.between(1, 100);
            self.decide_by(partition, now_ms + pause_ms);
        } else if told > next[1] {
            let pause_ms = self.random.between(100, ADS_WAIT_MS_MAX);
            self.decide_by(partition, now_ms + pause_ms);
        }
    }

    /// The owner of a partition polls, at this time at the latest.
    fn decide_by(&mut self, partition: usize, at_ms: u64) {
        let polls_at_ms = &mut self.deciders[partition].polls_at_ms;
        if polls_at_ms.is_none_or(|before_ms| before_ms > at_ms) {
            *polls_at_ms = Some(at_ms);
            self.schedule.at(at_ms, Transition::Decides { partition });
        }
    }

    pub(crate) fn decides(&mut self, partition: usize) {
        let now_ms = self.schedule.now_ms();
        // A poll that was moved.
        if self.deciders[partition].polls_at_ms != Some(now_ms) {
            return;
        }
        self.deciders[partition].polls_at_ms = None;
        let Some(mut node) = self.decide_owner(partition) else {
            return;
        };
        self.decide_reads(partition, &mut node);
        self.decide_seals(partition, &mut node);
        self.deciders[partition].nodes.push(node);
        self.decide_polls_again(partition);
    }

    /// Reads what comes next of both inputs, and does what is due.
    fn decide_reads(&mut self, partition: usize, node: &mut Node) {
        let now_ms = self.schedule.now_ms();
        let shares = [
            self.random.between(1, OPPORTUNITIES_MAX),
            self.random.below(ADS_MAX + 1),
        ];
        for (at, (input, topic)) in INPUTS.into_iter().enumerate() {
            for _ in 0..shares[at] {
                let records = self.kafka.partitions[partition].refine.topic(topic);
                let Some((key, value)) = records.get(node.next[at]).cloned() else {
                    break;
                };
                if input == Input::Opportunities && !node.core.has_room() {
                    break;
                }
                let record = InputRecord {
                    key: &key,
                    value: value.as_deref().unwrap_or_default(),
                    offset: i64::try_from(node.next[at]).unwrap(),
                };
                node.next[at] += 1;
                let before = node.core.under_way();
                self.decide_steps(partition, node, |core, lent, out| match input {
                    Input::Opportunities => core.opportunity(&record, lent, out),
                    Input::Ads => core.ad_event(&record, lent.now, out),
                });
                if node.core.under_way() > before {
                    self.decide_falters(partition);
                }
                // Where nothing began, its offset alone is to be committed.
                node.staged.is_touched |= input == Input::Ads || node.core.under_way() <= before;
            }
        }
        let now = self.decide_now(partition);
        if node
            .core
            .poll_timeout(now)
            .is_some_and(|due_us| due_us <= now_ms * 1_000)
        {
            self.decide_steps(partition, node, Partition::handle_timeout);
        }
    }

    /// Lets the core do something, makes the calls and keeps the records that
    /// come of it.
    fn decide_steps(
        &mut self,
        partition: usize,
        node: &mut Node,
        act: impl FnOnce(&mut Partition, Lent<'_>, &mut Output),
    ) {
        let now = self.decide_now(partition);
        let out = &mut self.deciders[partition].out;
        out.clear();
        let before = node.core.under_way();
        let lent = Lent {
            now,
            gates: &mut node.gates,
            signer: &OPERATORS,
            pseudonyms: &OPERATORS,
        };
        act(&mut node.core, lent, out);
        let ended = node.core.under_way() < before;
        node.staged.is_touched |= ended || out.is_urgent() || !out.is_empty();
        node.staged.keep(out);
        let calls = out.take_calls();
        self.aggregators_are_asked(partition, node.generation, calls);
    }

    fn decide_now(&self, partition: usize) -> Now {
        let now_ms = self.schedule.now_ms();
        Now {
            monotonic_us: now_ms * 1_000,
            unix_ms: unix_ms(now_ms) + self.deciders[partition].clock_off_ms,
        }
    }

    /// While there is something to read, something waits, or nobody is there.
    pub(crate) fn decide_polls_again(&mut self, partition: usize) {
        if !self.has_breaks() {
            return;
        }
        self.decide_what_came(partition);
        self.decide_waits(partition);
    }

    /// Somebody is there when something is due.
    fn decide_waits(&mut self, partition: usize) {
        let now_ms = self.schedule.now_ms();
        let now = self.decide_now(partition);
        let group = &self.kafka.partitions[partition].decide;
        let mut nodes = self.deciders[partition].nodes.iter();
        let Some(node) = nodes.find(|node| !group.fences(node.generation)) else {
            // Somebody takes over, whether there is something to read or not:
            // decisions may be left to push.
            let takes_ms = self.random.between(20, 3_000);
            self.decide_by(partition, now_ms + takes_ms);
            return;
        };
        if let Some(due_us) = node.core.poll_timeout(now) {
            self.decide_by(partition, due_us.div_ceil(1_000).max(now_ms + 1));
        }
    }

    pub(crate) fn aggregator_answers(
        &mut self,
        partition: usize,
        generation: u64,
        asked: Box<Asked>,
    ) {
        let now_ms = self.schedule.now_ms();
        let Some(mut node) = self.deciders[partition].take(generation) else {
            return;
        };
        if node.stalled_until_ms > now_ms {
            let answers = Transition::AggregatorAnswers {
                partition,
                generation,
                asked,
            };
            self.schedule.at(node.stalled_until_ms, answers);
        } else {
            let ended = asked.ended(&self.settings, now_ms * 1_000);
            self.decide_steps(partition, &mut node, |core, lent, out| {
                core.answered(ended, lent, out);
            });
            self.decide_seals(partition, &mut node);
        }
        self.deciders[partition].nodes.push(node);
        self.decide_waits(partition);
    }

    /// The broker has a decision, and somebody to give it to.
    pub(crate) fn push_confirmed(&mut self, partition: usize, generation: u64, push: &Push) {
        let Some(mut node) = self.deciders[partition].take(generation) else {
            return;
        };
        // Who stands still hears nothing, and loses the connection.
        if node.stalled_until_ms <= self.schedule.now_ms() {
            self.decide_steps(partition, &mut node, |core, lent, out| {
                core.pushed(&push.device, &push.decision_id, lent.now, out);
            });
            self.decide_seals(partition, &mut node);
        }
        self.deciders[partition].nodes.push(node);
    }

    /// Whether every opportunity is answered and every decision closed, as
    /// everybody can see.
    pub(crate) fn is_decided(&self) -> bool {
        if !self.has_breaks() {
            return true;
        }
        let partitions = self.kafka.partitions.iter().zip(&self.deciders);
        let mut partitions = partitions.enumerate();
        partitions.all(|(partition, (log, decider))| {
            let read = INPUTS.map(|(_, topic)| log.refine.topic(topic).len());
            let mut nodes = decider.nodes.iter();
            let owner = nodes.find(|node| !log.decide.fences(node.generation));
            !log.decide.is_ending()
                && log.decide.committed == read
                && owner.is_some_and(|node| {
                    node.sealed.is_none()
                        && !node.staged.is_touched
                        && node.core.poll_timeout(self.decide_now(partition)).is_none()
                })
        })
    }
}

impl Staged {
    fn keep(&mut self, out: &Output) {
        for record in out.records() {
            match record.destination {
                Destination::Decisions => {
                    let value = record.value.unwrap_or_default();
                    self.decisions.push((record.key.into(), value.into()));
                }
                Destination::State => self.changes.put(Topic::State, record.key, record.value),
            }
        }
    }
}

impl Node {
    /// How far its inputs need not be read again.
    fn offsets(&self) -> [usize; 2] {
        let unfinished = INPUTS.map(|(input, _)| self.core.lowest_unfinished_offset(input));
        let mut offsets = self.next;
        for (offset, unfinished) in offsets.iter_mut().zip(unfinished) {
            if let Some(unfinished) = unfinished {
                *offset = usize::try_from(unfinished).unwrap();
            }
        }
        offsets
    }
}
