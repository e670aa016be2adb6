//! Kafka as a model: logs that only grow, and transactions that happen whole
//! or not at all.

use bytes::Bytes;
use returnpath_collector::kafka::partition;
use returnpath_shared::{DeviceId, Lane};

/// Records of a compacted topic beyond which Kafka has compacted it before
/// anyone loads it: to read a world's whole past with each takeover would take
/// most of the simulation's time.
const UNCOMPACTED_RECORDS_MAX: usize = 128;

pub(crate) struct Kafka {
    pub(crate) partitions: Vec<Log>,
    /// Takes nothing from bridges before this.
    pub(crate) refuses_until_ms: u64,
}

/// One partition number, of every topic that refine touches.
#[derive(Default)]
pub(crate) struct Log {
    /// rp.raw and rp.raw.backlog.
    pub(crate) raw: [Vec<Raw>; 2],
    /// Offsets of refine's consumer group.
    pub(crate) committed: [usize; 2],
    /// rp.refine.state.
    pub(crate) changelog: Vec<(Bytes, Option<Bytes>)>,
    /// rp.devices.
    pub(crate) profiles: Vec<(Bytes, Option<Bytes>)>,
    /// rp.completeness.
    pub(crate) completeness: Vec<(Bytes, Option<Bytes>)>,
}

#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) key: DeviceId,
    pub(crate) value: Bytes,
    pub(crate) received_unix_ms: i64,
}

impl Kafka {
    pub(crate) fn new(partitions: usize) -> Self {
        Self {
            partitions: (0..partitions).map(|_| Log::default()).collect(),
            refuses_until_ms: 0,
        }
    }

    pub(crate) fn append(
        &mut self,
        key: &DeviceId,
        lane: Lane,
        value: Bytes,
        received_unix_ms: i64,
    ) {
        let count = u32::try_from(self.partitions.len()).unwrap();
        let place = partition(key.as_str().as_bytes(), count);
        self.partitions[usize::try_from(place).unwrap()].raw[lane as usize].push(Raw {
            key: key.clone(),
            value,
            received_unix_ms,
        });
    }
}

impl Log {
    /// Before it is loaded.
    pub(crate) fn compact_where_long(&mut self) {
        if self.changelog.len().max(self.profiles.len()) > UNCOMPACTED_RECORDS_MAX {
            self.compact();
        }
    }

    /// Keeps the last record of each key, as compaction may at any time.
    pub(crate) fn compact(&mut self) {
        for topic in [
            &mut self.changelog,
            &mut self.profiles,
            &mut self.completeness,
        ] {
            let mut kept: Vec<(Bytes, Option<Bytes>)> = Vec::new();
            for (key, value) in topic.drain(..) {
                kept.retain(|(other, _)| *other != key);
                kept.push((key, value));
            }
            *topic = kept;
        }
    }
}
