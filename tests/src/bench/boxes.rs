//! Batches of many boxes, made as cheaply as possible: for load, where how
//! viewers behave does not matter and the order within each box does.

use bytes::Bytes;
use prost::Message as _;
use returnpath_shared::{
    BatchId, DeviceId, Epoch, Incarnation, Lane, Sequence, Uplink, pack, wire,
};

/// Events in each batch, as in the figures that are to be beaten.
pub const EVENTS: usize = 3;

/// A service of the London line-up.
const NETWORK_ID: u32 = 64_257;
const SERVICE_IDS: [u32; 6] = [4_164, 4_287, 4_288, 8_261, 8_325, 8_384];

/// Boxes that take turns.
#[derive(Debug)]
pub struct Boxes {
    devices: Vec<DeviceId>,
    epoch: Epoch,
    turn: usize,
    sequence: u64,
}

/// A batch, ready to be published.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The box.
    pub device: DeviceId,
    /// Where it publishes.
    pub topic: String,
    /// What it publishes.
    pub payload: Bytes,
}

impl Boxes {
    /// `count` boxes whose ids begin with `prefix`; `run` tells one run's
    /// batches from another's of the same ids.
    ///
    /// # Errors
    /// When prefix or run make no id.
    pub fn new(prefix: &str, count: usize, run: u64) -> anyhow::Result<Self> {
        let incarnation = Incarnation::new(run)
            .ok_or_else(|| anyhow::anyhow!("the run must be greater than 0"))?;
        let devices = (0..count)
            .map(|number| format!("{prefix}{number}").parse())
            .collect::<Result<_, _>>()?;
        Ok(Self {
            devices,
            epoch: Epoch {
                incarnation,
                start: 1,
            },
            turn: 0,
            sequence: 1,
        })
    }

    /// The next batch: box after box, each with its sequences from 1.
    ///
    /// # Errors
    /// Never for batches of this size.
    pub fn next_batch(&mut self, uptime_ms: u64, unix_ms: i64) -> anyhow::Result<Envelope> {
        let device = self.devices[self.turn].clone();
        let id = BatchId {
            epoch: self.epoch,
            sequence: Sequence(self.sequence),
        };
        let batch = pack(&batch(self.sequence, self.turn, uptime_ms))?;
        self.turn += 1;
        if self.turn == self.devices.len() {
            self.turn = 0;
            self.sequence += 1;
        }
        let envelope = wire::Envelope {
            id: Some(id.into()),
            class: wire::Class::Ordinary as i32,
            codec: batch.codec as i32,
            batch: batch.bytes,
            boot_id: id.epoch.incarnation.get(),
            uptime_ms,
            unix_ms,
            clock_synchronised: true,
            sender: Some(id.epoch.into()),
            oldest_held: vec![id.into()],
        };
        Ok(Envelope {
            topic: Uplink {
                device: device.clone(),
                lane: Lane::Live,
            }
            .to_string(),
            device,
            payload: envelope.encode_to_vec().into(),
        })
    }
}

/// A viewer zaps, presses a key and goes on watching.
fn batch(sequence: u64, turn: usize, uptime_ms: u64) -> wire::Batch {
    let pick = (turn + usize::try_from(sequence).unwrap_or(0)) % SERVICE_IDS.len();
    let channel = Some(wire::Channel {
        network_id: NETWORK_ID,
        service_id: SERVICE_IDS[pick],
        ..wire::Channel::default()
    });
    let source = wire::Source::Live as i32;
    let kinds = [
        wire::event::Kind::Tune(wire::Tune {
            channel: channel.clone(),
            source,
            cause: wire::tune::Cause::User as i32,
            tune_duration_ms: 850,
            ..wire::Tune::default()
        }),
        wire::event::Kind::UserActivity(wire::UserActivity { inputs: 3 }),
        wire::event::Kind::ViewingHeartbeat(wire::ViewingHeartbeat {
            channel,
            source,
            position_ms: 0,
        }),
    ];
    let mut events = Vec::with_capacity(EVENTS);
    for (step_ms, kind) in (0..).step_by(1_500).zip(kinds) {
        events.push(wire::Event {
            uptime_ms: uptime_ms.saturating_sub(4_000) + step_ms,
            kind: Some(kind),
            ..wire::Event::default()
        });
    }
    wire::Batch {
        boot_id: turn as u64 + 1,
        first_ordinal: (sequence - 1) * EVENTS as u64 + 1,
        events,
    }
}
