//! The node that owns a partition: the shell around the real core of refine,
//! with Kafka transactions that may be aborted, or end with the node.

use bytes::Bytes;
use returnpath_refinery::{Destination, Output, Partition, RawRecord, WAITING_RECORDS_MAX};
use returnpath_shared::Lane;

use crate::{transition::Transition, world::World};

/// Records of a lane in one poll.
const LIVE_RECORDS_MAX: u64 = 40;
const BACKLOG_RECORDS_MAX: u64 = 10;

/// The node of one partition; none between a death and the next poll.
#[derive(Default)]
pub(crate) struct Refiner {
    node: Option<Node>,
}

struct Node {
    core: Partition,
    /// Next offset of each lane.
    next: [usize; 2],
}

/// How a transaction ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Committed,
    Aborted,
    /// The node dies before the commit reaches Kafka.
    DiesBefore,
    /// The node dies before it learns that Kafka has committed.
    DiesAfter,
}

impl World {
    pub(crate) fn refines(&mut self, partition: usize) {
        let pause_ms = self.random.between(5, 400);
        self.schedule
            .after(pause_ms, Transition::Refines { partition });
        let end = if self.is_calm || !self.random.chance(self.climate.refine_aborts) {
            End::Committed
        } else {
            self.random
                .pick(&[End::Aborted, End::Aborted, End::DiesBefore, End::DiesAfter])
        };
        let shares = [
            self.random.below(LIVE_RECORDS_MAX + 1),
            self.random.below(BACKLOG_RECORDS_MAX + 1),
        ];
        self.transact(partition, shares, end, |_, _| {});
    }

    pub(crate) fn refine_dies(&mut self, partition: usize) {
        self.refiners[partition].node = None;
        if self.random.chance(500) {
            self.kafka.partitions[partition].compact();
        }
    }

    /// Handed over in order: what waits is refined first.
    pub(crate) fn rebalances(&mut self, partition: usize) {
        self.transact(partition, [0, 0], End::Committed, |core, out| {
            core.flush(out)
        });
        self.refiners[partition].node = None;
    }

    fn transact(
        &mut self,
        partition: usize,
        shares: [u64; 2],
        end: End,
        last: impl FnOnce(&mut Partition, &mut Output),
    ) {
        let now_ms = self.schedule.now_ms();
        let log = &mut self.kafka.partitions[partition];
        let mut node = match self.refiners[partition].node.take() {
            Some(node) => node,
            None => {
                log.compact_where_long();
                let mut core = Partition::new();
                for (key, value) in &log.changelog {
                    core.restore(key, value.as_deref())
                        .expect("refine reads what it wrote");
                }
                for (key, value) in &log.profiles {
                    core.restore_profile(key, value.as_deref())
                        .expect("refine reads what it wrote");
                }
                for (key, value) in &log.completeness {
                    core.restore_completeness(key, value.as_deref())
                        .expect("refine reads what it wrote");
                }
                Node {
                    core,
                    next: log.committed,
                }
            }
        };
        let mut out = Output::new();
        for lane in Lane::ALL {
            let at = lane as usize;
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
        if matches!(end, End::Committed | End::DiesAfter) {
            self.commit(partition, &out, offsets);
        }
        match end {
            End::Committed => {
                self.counts += node.core.commit();
                self.refiners[partition].node = Some(node);
            }
            End::Aborted => {
                node.core.abort();
                node.next = self.kafka.partitions[partition].committed;
                self.refiners[partition].node = Some(node);
            }
            End::DiesBefore | End::DiesAfter => {}
        }
    }

    fn commit(&mut self, partition: usize, out: &Output, offsets: [usize; 2]) {
        let log = &mut self.kafka.partitions[partition];
        for at in 0..2 {
            assert!(
                offsets[at] >= log.committed[at],
                "offsets never go back: from {:?} to {offsets:?}",
                log.committed
            );
        }
        log.committed = offsets;
        for record in out.records() {
            let value = record.value.unwrap_or_default();
            match record.destination {
                Destination::State => log.changelog.push((
                    Bytes::copy_from_slice(record.key),
                    record.value.map(Bytes::copy_from_slice),
                )),
                Destination::Refined(stream) => self.reference.refined(stream, record.key, value),
                Destination::Rejected => self.reference.rejected(value),
                Destination::Device => log.profiles.push((
                    Bytes::copy_from_slice(record.key),
                    record.value.map(Bytes::copy_from_slice),
                )),
                Destination::Completeness => log.completeness.push((
                    Bytes::copy_from_slice(record.key),
                    record.value.map(Bytes::copy_from_slice),
                )),
                Destination::Opportunity => self.reference.asked(record.key, value),
            }
        }
    }

    /// Whether every record has been refined.
    pub(crate) fn is_refined(&self) -> bool {
        self.kafka
            .partitions
            .iter()
            .all(|log| log.committed == [log.raw[0].len(), log.raw[1].len()])
    }
}
