//! Kafka as a model: logs that only grow, and transactions that happen whole
//! or not at all. `group` has these.

mod group;

use bytes::Bytes;
use returnpath_collector::kafka::partition;
use returnpath_shared::{DeviceId, Lane};

pub(crate) use self::group::{Changes, Group, Marker, Role, Topic};
use crate::{
    faults::Fault,
    transition::{Message, Transition},
    world::World,
};

/// How long a bridge's producer tries before it gives a record up.
const PRODUCE_MS_MAX: u64 = 10_000;

/// How much later than that a record may still land.
const LANDS_LATE_MS_MAX: u64 = 120_000;

pub(crate) struct Kafka {
    pub(crate) partitions: Vec<Log>,
    /// Takes nothing from bridges before this.
    pub(crate) refuses_until_ms: u64,
}

/// One partition number, of every topic that refine touches.
pub(crate) struct Log {
    /// rp.raw and rp.raw.backlog.
    pub(crate) raw: [Vec<Raw>; 2],
    /// No leader before this.
    pub(crate) leaderless_until_ms: [u64; 2],
    /// Out of reach for everybody before this.
    pub(crate) parted_until_ms: [u64; 2],
    /// What refine makes of them.
    pub(crate) refine: Group,
    /// What decide makes of that.
    pub(crate) decide: Group,
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
            partitions: (0..partitions).map(|_| Log::new()).collect(),
            refuses_until_ms: 0,
        }
    }

    /// Nobody is out of reach any more.
    pub(crate) fn all_is_well(&mut self) {
        self.refuses_until_ms = 0;
        for log in &mut self.partitions {
            log.leaderless_until_ms = [0; 2];
            log.parted_until_ms = [0; 2];
        }
    }

    fn place(&self, key: &DeviceId) -> usize {
        let count = u32::try_from(self.partitions.len()).unwrap();
        usize::try_from(partition(key.as_str().as_bytes(), count)).unwrap()
    }
}

impl Log {
    fn new() -> Self {
        Self {
            raw: Default::default(),
            leaderless_until_ms: [0; 2],
            parted_until_ms: [0; 2],
            refine: Group::new(Role::Refine),
            decide: Group::new(Role::Decide),
        }
    }

    /// Whether all of a lane is refined.
    pub(crate) fn is_refined(&self, lane: Lane) -> bool {
        self.refine.committed[lane as usize] == self.raw[lane as usize].len()
    }

    pub(crate) fn group(&mut self, role: Role) -> &mut Group {
        match role {
            Role::Refine => &mut self.refine,
            Role::Decide => &mut self.decide,
        }
    }
}

impl World {
    /// A bridge's produce reaches Kafka, which takes it, or does not; the
    /// bridge learns it, or does not.
    pub(crate) fn produced(
        &mut self,
        bridge: usize,
        session: u64,
        message: Message,
        is_awaited: bool,
    ) {
        let now_ms = self.schedule.now_ms();
        let device = self.boxes[message.from].device.clone();
        let partition = self.kafka.place(&device);
        let lane = message.lane as usize;
        let log = &self.kafka.partitions[partition];
        let away_until_ms = self
            .kafka
            .refuses_until_ms
            .max(log.parted_until_ms[lane])
            .max(log.leaderless_until_ms[lane]);
        let is_away = away_until_ms > now_ms;
        let changes_leader = log.leaderless_until_ms[lane] > now_ms;
        if !is_awaited {
            // Given up long ago; it lands where there is somebody to take it.
            if is_away {
                self.faults.count(Fault::ProduceNeverLanded);
            } else {
                self.faults.count(Fault::ProduceLandedLate);
                self.lands(partition, &device, bridge, &message);
            }
            return;
        }
        if changes_leader || self.random.chance(self.climate.produce_unknown) {
            self.produced_unknown(bridge, session, message, away_until_ms);
        } else if !is_away {
            self.lands(partition, &device, bridge, &message);
            self.confirm(bridge, session, &message);
        }
    }

    /// The connection to a leader broke, or there is none: what became of the
    /// record is seen later, or never.
    fn produced_unknown(
        &mut self,
        bridge: usize,
        session: u64,
        message: Message,
        away_until_ms: u64,
    ) {
        let now_ms = self.schedule.now_ms();
        let is_away = away_until_ms > now_ms;
        let retried_ms = away_until_ms.max(now_ms) + self.random.between(1, 500);
        match self.random.below(4) {
            // The producer's own retry, which Kafka takes once.
            0 if retried_ms < now_ms + PRODUCE_MS_MAX => {
                let produced = Transition::Produced {
                    bridge,
                    session,
                    message,
                    is_awaited: true,
                };
                self.schedule.at(retried_ms, produced);
            }
            // The former leader had it replicated.
            1 if !is_away || self.random.chance(500) => {
                let device = self.boxes[message.from].device.clone();
                let partition = self.kafka.place(&device);
                self.faults.count(Fault::ProduceLandedUnknown);
                self.lands(partition, &device, bridge, &message);
            }
            2 => {
                let lands_ms = retried_ms + self.random.between(1, LANDS_LATE_MS_MAX);
                let produced = Transition::Produced {
                    bridge,
                    session,
                    message,
                    is_awaited: false,
                };
                self.schedule.at(lands_ms, produced);
            }
            _ => self.faults.count(Fault::ProduceNeverLanded),
        }
    }

    fn lands(&mut self, partition: usize, device: &DeviceId, bridge: usize, message: &Message) {
        let now_ms = self.schedule.now_ms();
        self.reference.stands_in_kafka(message.from, message.id);
        let lane = message.lane as usize;
        self.kafka.partitions[partition].raw[lane].push(Raw {
            key: device.clone(),
            value: message.payload.clone(),
            received_unix_ms: self.bridges[bridge].unix_ms(now_ms),
        });
        let fetched_ms = self.random.between(1, 400);
        self.refine_by(partition, now_ms + fetched_ms);
    }

    pub(crate) fn kafka_refuses(&mut self) {
        let for_ms = self.random.between(1_000, 600_000);
        self.faults.count(Fault::KafkaRefused);
        self.kafka.refuses_until_ms = self.schedule.now_ms() + for_ms;
    }

    pub(crate) fn leader_changes(&mut self, partition: usize, lane: Lane) {
        let for_ms = self.random.between(100, 2 * PRODUCE_MS_MAX);
        self.faults.count(Fault::LeaderChanged);
        let until_ms = self.schedule.now_ms() + for_ms;
        self.kafka.partitions[partition].leaderless_until_ms[lane as usize] = until_ms;
    }

    pub(crate) fn lanes_part(&mut self, partition: usize, lane: Lane) {
        let for_ms = self.random.between(10_000, 600_000);
        self.faults.count(Fault::LanesParted);
        let until_ms = self.schedule.now_ms() + for_ms;
        self.kafka.partitions[partition].parted_until_ms[lane as usize] = until_ms;
        self.refine_by(partition, until_ms);
    }

    /// A transaction is decided; its owner is gone, or does not know.
    pub(crate) fn ends(&mut self, role: Role, partition: usize, changes: Changes, commits: bool) {
        // An owner that died is waited for until its transaction times out.
        let decided_ms = if commits {
            0
        } else {
            self.random.between(0, 10_000)
        };
        let group = self.kafka.partitions[partition].group(role);
        for marker in group.begin_ending(changes, commits) {
            let travels_ms = self.random.between(0, 3_000);
            let arrives = Transition::MarkerArrives {
                role,
                partition,
                marker: *marker,
            };
            self.schedule.after(decided_ms + travels_ms, arrives);
        }
    }

    pub(crate) fn marker_arrives(&mut self, role: Role, partition: usize, marker: Marker) {
        let group = self.kafka.partitions[partition].group(role);
        group.marker_arrives(marker);
        self.decide_what_came(partition);
    }
}
