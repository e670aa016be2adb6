//! What one role changes in one partition number: the offsets of its consumer
//! group, and the topics that it writes. A transaction happens whole or not at
//! all, but its end reaches each topic in its own time; and whoever does not own
//! the partition any more commits nothing.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Records of a compacted topic beyond which Kafka has compacted it before
/// anyone loads it: to read a world's whole past with each takeover would take
/// most of the simulation's time.
const UNCOMPACTED_RECORDS_MAX: usize = 128;

/// A record: key and value.
pub(crate) type Change = (Bytes, Option<Bytes>);

/// Whose consumer group it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Refine,
    Decide,
}

impl Role {
    /// Where a transaction of this role ends by a marker that others wait for.
    fn markers(self) -> &'static [Marker] {
        match self {
            Self::Refine => &[
                Marker::Offsets,
                Marker::Topic(Topic::State),
                Marker::Topic(Topic::Devices),
                Marker::Topic(Topic::Completeness),
                Marker::Topic(Topic::Opportunities),
                Marker::Topic(Topic::Ads),
            ],
            Self::Decide => &[Marker::Offsets, Marker::Topic(Topic::State)],
        }
    }
}

/// A topic that a role writes, and somebody reads in the world. What nobody
/// does is judged by the references at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Topic {
    /// rp.refine.state, rp.decide.state.
    State,
    /// rp.devices.
    Devices,
    /// rp.completeness.
    Completeness,
    /// rp.opportunities.
    Opportunities,
    /// rp.ads.
    Ads,
}

const TOPICS: usize = Topic::Ads as usize + 1;

/// Kept to the last record of each key, at any time.
const COMPACTED: [Topic; 3] = [Topic::State, Topic::Devices, Topic::Completeness];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Marker {
    /// The group's offsets.
    Offsets,
    Topic(Topic),
}

/// What a role changes in one transaction.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) offsets: [usize; 2],
    records: [Vec<Change>; TOPICS],
}

impl Changes {
    /// None but that the inputs were read up to there.
    pub(crate) fn up_to(offsets: [usize; 2]) -> Self {
        Self {
            offsets,
            ..Self::default()
        }
    }

    pub(crate) fn put(&mut self, topic: Topic, key: &[u8], value: Option<&[u8]>) {
        self.records[topic as usize].push((
            Bytes::copy_from_slice(key),
            value.map(Bytes::copy_from_slice),
        ));
    }
}

/// A transaction that is decided, and of whose end not every topic knows.
struct Ending {
    commits: bool,
    changes: Changes,
    /// Topics that know.
    arrived: Vec<Marker>,
}

pub(crate) struct Group {
    role: Role,
    /// Counts rebalances: a transaction carries that of its node.
    generation: u64,
    /// Offsets of both inputs.
    pub(crate) committed: [usize; 2],
    topics: [Vec<Change>; TOPICS],
    /// What a former owner left behind.
    ending: Option<Ending>,
}

impl Group {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            generation: 0,
            committed: [0; 2],
            topics: Default::default(),
            ending: None,
        }
    }

    pub(crate) fn topic(&self, topic: Topic) -> &[Change] {
        &self.topics[topic as usize]
    }

    /// The partition is given to a node, or taken from one that is not heard of
    /// any more. Gives the generation from here on.
    pub(crate) fn rebalance(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// Whether Kafka takes nothing from a node of this generation: another owns
    /// the partition, or nobody does.
    pub(crate) fn fences(&self, generation: u64) -> bool {
        generation != self.generation
    }

    /// Whether the end of a transaction is not known everywhere yet.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Whether the offsets show a commit of which a changelog does not know.
    pub(crate) fn is_ahead_of_its_state(&self) -> bool {
        let ending = self.ending.as_ref();
        ending.is_some_and(|ending| ending.commits && ending.arrived.contains(&Marker::Offsets))
    }

    /// A transaction that ends everywhere at once.
    pub(crate) fn commit(&mut self, changes: Changes) {
        self.begin_ending(changes, true);
        self.all_markers_arrive();
    }

    /// A transaction is decided. Gives the markers that travel now.
    pub(super) fn begin_ending(&mut self, changes: Changes, commits: bool) -> &'static [Marker] {
        assert!(self.ending.is_none(), "one transaction after the other");
        self.ending = Some(Ending {
            commits,
            changes,
            arrived: Vec::new(),
        });
        self.role.markers()
    }

    pub(crate) fn all_markers_arrive(&mut self) {
        for marker in self.role.markers() {
            self.marker_arrives(*marker);
        }
    }

    pub(super) fn marker_arrives(&mut self, marker: Marker) {
        let Some(ending) = &mut self.ending else {
            return;
        };
        if ending.arrived.contains(&marker) {
            return;
        }
        ending.arrived.push(marker);
        if ending.commits {
            let changes = &mut ending.changes;
            match marker {
                Marker::Offsets => {
                    for at in 0..2 {
                        assert!(
                            changes.offsets[at] >= self.committed[at],
                            "offsets never go back: from {:?} to {:?}",
                            self.committed,
                            changes.offsets
                        );
                    }
                    self.committed = changes.offsets;
                }
                Marker::Topic(topic) => {
                    let records = &mut changes.records[topic as usize];
                    self.topics[topic as usize].append(records);
                }
            }
        }
        if ending.arrived.len() == self.role.markers().len() {
            self.ending = None;
        }
    }

    /// Before it is loaded. Whether there was anything to compact.
    pub(crate) fn compact_where_long(&mut self) -> bool {
        let lengths = [Topic::State, Topic::Devices].map(|topic| self.topic(topic).len());
        let is_long = lengths
            .into_iter()
            .any(|length| length > UNCOMPACTED_RECORDS_MAX);
        if is_long {
            self.compact();
        }
        is_long
    }

    /// Keeps the last record of each key, as compaction may at any time.
    pub(crate) fn compact(&mut self) {
        for topic in COMPACTED {
            let topic = &mut self.topics[topic as usize];
            let mut last = BTreeMap::new();
            for (at, (key, _)) in topic.iter().enumerate() {
                last.insert(key.clone(), at);
            }
            let mut at = 0;
            topic.retain(|(key, _)| {
                at += 1;
                last[key] == at - 1
            });
        }
    }
}
