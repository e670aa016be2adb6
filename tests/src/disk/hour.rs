//! An hour of a box in seconds: the agent's real delivery core and its real
//! queue on a given folder, under a clock and a cloud that are simulated.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use returnpath_agent::queue::{OpenQueue, Outcome, Queue, Request};
use returnpath_delivery::{
    BootFacts, ClientToken, CommitOutcome, Config, Delivery, Durability, Effect, Input, Pace,
    Start, Status, SyncPolicy, Unreadable, Uptime,
};
use returnpath_shared::{BatchId, Class, Incarnation, wire};

use super::LoopDisk;

/// What the box tells and what the cloud answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Story {
    /// Four ordinary events in 5 s, their receipts every 30 s.
    OrdinaryOnline,
    /// The same without a link.
    OrdinaryOffline,
    /// An impression every 30 s, its receipt 100 ms later.
    ProofOnline,
    /// The same without a link.
    ProofOffline,
}

impl Story {
    fn is_online(self) -> bool {
        matches!(self, Self::OrdinaryOnline | Self::ProofOnline)
    }

    fn event_every_ms(self) -> u64 {
        match self {
            Self::OrdinaryOnline | Self::OrdinaryOffline => 1_250,
            Self::ProofOnline | Self::ProofOffline => 30_000,
        }
    }

    /// As the collector coalesces them.
    fn receipt_after_ms(class: Class) -> u64 {
        match class {
            Class::Ordinary => 30_000,
            Class::Proof => 100,
        }
    }
}

/// What an hour cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Bytes that reached the block device.
    pub device_bytes: u64,
    /// Bytes that the core charged to its budget.
    pub charged_bytes: u64,
    /// Transactions.
    pub commits: u64,
    /// Encoded bytes of the events that were handed in.
    pub payload_bytes: u64,
}

const EVENT_BYTES: usize = 250;

const QUEUE_BYTES_MAX: u64 = 32 << 20;

/// Until the start's own writes are over.
const WARM_UP_MS: u64 = 10 * 60 * 1_000;

const HOUR_MS: u64 = 3_600 * 1_000;

/// The agent's defaults, which `agent/returnpath-agent.example.toml` gives
/// reasons for.
fn config() -> Config {
    Config {
        pace: Pace {
            batch_interval: Duration::from_secs(5),
            window_batches_max: 16,
            backlog_rate: 50,
        },
        flush_interval: Duration::from_secs(60),
        sync: SyncPolicy::WhenNeeded,
        durable_after: Duration::from_millis(300),
        group_commit: Duration::from_millis(20),
        queue_bytes_max: QUEUE_BYTES_MAX / 2,
        queue_batches_max: 16_384,
        age_max: Duration::from_secs(336 * 3_600),
        ram_bytes_max: 512 * 1_024,
        live_age_max: Duration::from_secs(120),
        resend_after_prompt: Duration::from_secs(5),
        resend_after: Duration::from_secs(45),
        resend_after_max: Duration::from_secs(600),
        flash_bytes_per_day_max: Some(64 << 20),
        proof_ids_max: 1_024,
        ordinary_ids_max: 1_024,
    }
}

struct SimulatedBox<'d> {
    disk: &'d LoopDisk,
    queue: Queue,
    delivery: Delivery,
    story: Story,
    now: Uptime,
    /// When which batch is receipted.
    receipts: Vec<(Uptime, BatchId)>,
    events: u64,
    payload_bytes: u64,
}

/// Lets a box live for an hour on a disk, and says what that cost it.
///
/// # Errors
/// When the queue does not do as asked, or the kernel does not count.
pub async fn live(disk: &LoopDisk, story: Story) -> anyhow::Result<Cost> {
    let incarnation = Incarnation::new(1).context("an incarnation")?;
    let directory = disk.point().join("queue");
    let mut simulated = SimulatedBox::start(disk, &directory, incarnation, story)?;
    simulated.run_until(Uptime(WARM_UP_MS)).await?;
    let before = simulated.status();
    let (bytes_before, payload_before) = (disk.bytes_written()?, simulated.payload_bytes);
    simulated.run_until(Uptime(WARM_UP_MS + HOUR_MS)).await?;
    let after = simulated.status();
    Ok(Cost {
        device_bytes: disk.bytes_written()? - bytes_before,
        charged_bytes: after.flash_charged_bytes - before.flash_charged_bytes,
        commits: after.commits - before.commits,
        payload_bytes: simulated.payload_bytes - payload_before,
    })
}

impl<'d> SimulatedBox<'d> {
    fn start(
        disk: &'d LoopDisk,
        directory: &Path,
        incarnation: Incarnation,
        story: Story,
    ) -> anyhow::Result<Self> {
        let mut open = OpenQueue::open(directory, QUEUE_BYTES_MAX, incarnation)?;
        let found = open.found();
        let start = Start {
            epoch: found.epoch,
            boot_id: 1,
            facts: BootFacts::default(),
            ledger: found.ledger.clone(),
            proof_ids: found.proof_ids.clone(),
            anchors: found.anchors.clone(),
            unclean: found.unclean.clone(),
            powered: found.powered,
            seed: 1,
        };
        let now = Uptime(0);
        let mut delivery = open.each_batch(|batches| Delivery::new(config(), start, batches, now));
        if story.is_online() {
            delivery.handle(Input::LinkUp, now);
        }
        Ok(Self {
            disk,
            queue: open.spawn()?,
            delivery,
            story,
            now,
            receipts: Vec::new(),
            events: 0,
            payload_bytes: 0,
        })
    }

    fn status(&self) -> Status {
        self.delivery.status(self.now)
    }

    async fn run_until(&mut self, end: Uptime) -> anyhow::Result<()> {
        loop {
            self.carry_out().await?;
            let event = Uptime(self.events * self.story.event_every_ms());
            let receipt = self.receipts.iter().map(|(at, _)| *at).min();
            let timer = self.delivery.poll_timeout();
            let next = [Some(event), receipt, timer].into_iter().flatten().min();
            let next = next.unwrap_or(end);
            if next >= end {
                self.now = end;
                return Ok(());
            }
            self.now = self.now.max(next);
            if receipt.is_some_and(|at| at <= self.now) {
                self.receipt();
            } else if event <= self.now {
                self.tell();
            } else {
                self.delivery.tick(self.now);
            }
        }
    }

    fn tell(&mut self) {
        let event = match self.story {
            Story::OrdinaryOnline | Story::OrdinaryOffline => measurement(self.events),
            Story::ProofOnline | Story::ProofOffline => impression(self.events),
        };
        self.payload_bytes += prost::Message::encoded_len(&event) as u64;
        self.events += 1;
        let token = ClientToken(self.events);
        let _acceptance = self.delivery.accept(event, token, self.now);
    }

    fn receipt(&mut self) {
        let now = self.now;
        let due: Vec<BatchId> = self
            .receipts
            .extract_if(.., |(at, _)| *at <= now)
            .map(|(_, id)| id)
            .collect();
        let confirmed = due.into_iter().map(|id| wire::SequenceRange {
            epoch: Some(id.epoch.into()),
            first_sequence: id.sequence.0,
            last_sequence: id.sequence.0,
        });
        let receipt = wire::Receipt {
            confirmed: confirmed.collect(),
            refused: Vec::new(),
        };
        self.delivery.handle(Input::Receipt(&receipt), now);
    }

    async fn carry_out(&mut self) -> anyhow::Result<()> {
        while let Some(effect) = self.delivery.poll_effect() {
            match effect {
                Effect::Publish(publish) => {
                    let after = Duration::from_millis(Story::receipt_after_ms(publish.class));
                    self.receipts.push((self.now.plus(after), publish.id));
                }
                Effect::Commit(commit) => self.ask(Request::Commit(commit)).await?,
                Effect::Load(id) => self.ask(Request::Load(id)).await?,
                Effect::Answer { .. } => {}
                Effect::ReadStarts | Effect::Rebuild { .. } | Effect::Stopped => {
                    bail!("unexpected: {effect:?}")
                }
            }
        }
        Ok(())
    }

    async fn ask(&mut self, request: Request) -> anyhow::Result<()> {
        let is_behind = matches!(
            &request,
            Request::Commit(commit) if commit.durability == Durability::Behind
        );
        self.queue.request(request);
        match self.queue.next().await {
            Some(Outcome::Committed { number, outcome }) => {
                anyhow::ensure!(outcome == CommitOutcome::Done, "{outcome:?}");
                self.delivery
                    .handle(Input::Committed { number, outcome }, self.now);
                if is_behind {
                    // In the minute until the next one the kernel would write
                    // it back.
                    self.disk.sync()?;
                }
                Ok(())
            }
            Some(Outcome::Loaded { id, bytes }) => {
                let bytes = bytes.ok_or(Unreadable);
                self.delivery.handle(Input::Loaded { id, bytes }, self.now);
                Ok(())
            }
            other => bail!("unexpected: {other:?}"),
        }
    }
}

fn event(number: u64, kind: wire::event::Kind) -> wire::Event {
    wire::Event {
        uptime_ms: 0,
        client_id: format!("client-{number}"),
        kind: Some(kind),
    }
}

/// An ordinary event of [`EVENT_BYTES`] that hardly packs.
fn measurement(number: u64) -> wire::Event {
    let mut state = number;
    let mut character = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap_or(0))
    };
    let noise = (0..EVENT_BYTES - 50).map(|_| character()).collect();
    event(
        number,
        wire::event::Kind::Custom(wire::Custom {
            name: "operator.quality".into(),
            attributes: [("noise".to_owned(), noise)].into_iter().collect(),
            proof: false,
        }),
    )
}

fn impression(number: u64) -> wire::Event {
    event(
        number,
        wire::event::Kind::AdEvent(wire::AdEvent {
            kind: wire::ad_event::Kind::Start as i32,
            decision_id: format!("decision-{number:032}"),
            ..wire::AdEvent::default()
        }),
    )
}

#[cfg(test)]
mod tests;
