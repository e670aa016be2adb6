//! A box that is offline for days, lived through in minutes: the agent's core
//! and its queue file as they are, on a clock of ours. What comes out is the
//! file that a real agent finds when its link comes back.
//!
//! Not real here: time, and the socket. Syncs are as fast as the folder's
//! medium, since nothing waits for the clock.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use returnpath_agent::{
    clock,
    config::{self, Config},
    queue::{self, OpenQueue, Outcome, Queue, Request},
    run::settings,
};
use returnpath_collector::audit::Answer as Audited;
use returnpath_delivery::{
    Acceptance, Answer, BootFacts, ClientToken, Delivery, Effect, Input, Start, Status, Unreadable,
    Uptime,
};
use returnpath_shared::{Class, DeviceId, Epoch, Incarnation, Ordinal, wire::Event};

/// What `returnpath-agent` needs to be told; the rest are its defaults.
const LEAST: &str = "\
[identity]
certificate = \"c\"
private_key = \"k\"
ca = \"a\"

[link]
brokers = [\"localhost\"]
";

/// A box without a link.
pub struct Outage {
    device: DeviceId,
    delivery: Delivery,
    queue: Queue,
    tokens: u64,
    /// What clients were answered.
    pub answers: Vec<Audited>,
}

/// What it came to.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// What the core says of itself.
    pub status: Status,
    /// Bytes of the queue's files.
    pub file_bytes: u64,
}

impl Held {
    /// Batches held.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.status.ordinary.batches + self.status.proof.batches
    }

    /// Their packed bytes.
    #[must_use]
    pub fn packed_bytes(&self) -> u64 {
        self.status.ordinary.bytes + self.status.proof.bytes
    }
}

/// The defaults of the agent, with these lines of configuration laid over.
///
/// # Errors
/// When a line is wrong.
pub fn configured(lines: &str) -> anyhow::Result<Config> {
    let loaded = config::parse(&format!("{LEAST}\n{lines}"))?;
    ensure!(loaded.unknown.is_empty(), "{:?}", loaded.unknown);
    Ok(loaded.config)
}

impl Outage {
    /// A box out of the factory with its queue in `directory`, just booted and
    /// its clock right, which counts its uptime from `now`.
    ///
    /// # Errors
    /// When the queue cannot be opened.
    pub fn begin(
        device: &DeviceId,
        directory: &Path,
        config: &Config,
        now: Uptime,
        unix_ms: i64,
    ) -> anyhow::Result<Self> {
        let incarnation = Incarnation::new(clock::random_u64().max(1)).context("incarnation")?;
        let mut open = OpenQueue::open(directory, config.queue.bytes_max, incarnation)?;
        let start = Start {
            epoch: open.found().epoch,
            boot_id: clock::random_u64().max(1),
            facts: BootFacts::default(),
            ledger: Vec::new(),
            proof_ids: Vec::new(),
            anchors: Vec::new(),
            unclean: Vec::new(),
            powered: None,
            seed: 1,
        };
        let settings = settings::delivery(config, settings::pace(config));
        let mut delivery = open.each_batch(|batches| Delivery::new(settings, start, batches, now));
        delivery.handle(Input::ClockSynchronised { unix_ms }, now);
        Ok(Self {
            device: device.clone(),
            delivery,
            queue: open.spawn()?,
            tokens: 0,
            answers: Vec::new(),
        })
    }

    /// Hands in an event at its time.
    ///
    /// # Errors
    /// When the queue's thread is gone.
    pub async fn take(&mut self, at: Uptime, event: Event) -> anyhow::Result<()> {
        self.pass(at).await?;
        self.tokens += 1;
        let token = ClientToken(self.tokens);
        match self.delivery.accept(event, token, at) {
            Acceptance::Accepted { epoch, ordinal } => self.keep(epoch, ordinal, Class::Ordinary),
            Acceptance::Pending { .. } | Acceptance::Repeated { .. } | Acceptance::Busy => {}
            Acceptance::TooLarge { length, .. } => bail!("an event of {length} bytes"),
        }
        self.carry_out(at).await
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// When the queue's thread is gone.
    pub async fn pass(&mut self, until: Uptime) -> anyhow::Result<()> {
        while let Some(at) = self.delivery.poll_timeout().filter(|at| *at <= until) {
            self.delivery.tick(at);
            self.carry_out(at).await?;
        }
        Ok(())
    }

    /// What is held, and how large the file is.
    #[must_use]
    pub fn held(&self, directory: &Path, now: Uptime) -> Held {
        Held {
            status: self.delivery.status(now),
            file_bytes: queue::size_bytes(directory),
        }
    }

    /// Stops in order, with everything in the file.
    ///
    /// # Errors
    /// When the queue's thread is gone.
    pub async fn stop(mut self, now: Uptime) -> anyhow::Result<Vec<Audited>> {
        self.delivery.handle(Input::Stop, now);
        self.carry_out(now).await?;
        self.queue.request(Request::Close);
        match self.queue.next().await {
            Some(Outcome::Closed) => Ok(self.answers),
            outcome => bail!("the queue was to be closed: {outcome:?}"),
        }
    }

    async fn carry_out(&mut self, now: Uptime) -> anyhow::Result<()> {
        while let Some(effect) = self.delivery.poll_effect() {
            let request = match effect {
                Effect::Commit(commit) => Request::Commit(commit),
                Effect::Load(id) => Request::Load(id),
                Effect::Answer { answer, .. } => {
                    match answer {
                        Answer::Durable { epoch, ordinal } => {
                            self.keep(epoch, ordinal, Class::Proof);
                        }
                        Answer::AcceptedOnly { epoch, ordinal } => {
                            self.keep(epoch, ordinal, Class::Ordinary);
                        }
                    }
                    continue;
                }
                Effect::Publish(_) | Effect::Stopped => continue,
                Effect::ReadStarts => bail!("there are no earlier runs"),
                Effect::Rebuild { .. } => bail!("the queue file failed"),
            };
            self.queue.request(request);
            match self.queue.next().await.context("the queue is gone")? {
                Outcome::Committed { number, outcome } => {
                    let input = Input::Committed { number, outcome };
                    self.delivery.handle(input, now);
                }
                Outcome::Loaded { id, bytes } => {
                    let bytes = bytes.ok_or(Unreadable);
                    self.delivery.handle(Input::Loaded { id, bytes }, now);
                }
                outcome @ (Outcome::Bound { .. }
                | Outcome::ConfigStored { .. }
                | Outcome::Starts(_)
                | Outcome::Rebuilt { .. }
                | Outcome::RebuildFailed
                | Outcome::Closed) => bail!("not asked for: {outcome:?}"),
            }
        }
        Ok(())
    }

    fn keep(&mut self, epoch: Epoch, ordinal: Ordinal, class: Class) {
        self.answers.push(Audited {
            device: self.device.clone(),
            epoch,
            ordinal,
            class,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bench::{drain::fill, week::events_in},
        place,
    };
    use returnpath_delivery::Dropped;

    const WEEK_HOURS: u64 = 7 * 24;

    async fn after(hours: usize, lines: &str) -> anyhow::Result<(usize, Held)> {
        let directory = place::fresh_directory("outage")?;
        let config = configured(lines)?;
        let events = events_in(hours);
        let answers = directory.join("answers.jsonl");
        let device = "box-1".parse()?;
        let held = fill(&device, &directory.join("flash"), &config, events, &answers).await?;
        Ok((events, held))
    }

    #[tokio::test]
    async fn four_hours_offline_take_less_than_their_part_of_what_a_week_may() {
        let hours = 4;
        let (events, held) = after(hours, "[queue]\nflash_bytes_per_day_max = 0")
            .await
            .unwrap();
        assert_eq!(held.status.dropped, Dropped::default());
        assert_eq!(held.status.events_busy, 0);
        // The agent's own two: that it booted, and its clock.
        assert_eq!(held.status.events_accepted, events as u64 + 2);
        let parts = WEEK_HOURS / hours as u64;
        let file_bytes_max = 32 << 20;
        // The file's log, however long the outage is.
        let log_bytes_max = 1 << 20;
        let grown_bytes = held.file_bytes.saturating_sub(log_bytes_max);
        assert!(
            grown_bytes * parts <= file_bytes_max - log_bytes_max,
            "{} bytes",
            held.file_bytes
        );
        let batches_max = 16_384;
        assert!(
            held.batches() * parts <= batches_max,
            "{} batches",
            held.batches()
        );
    }
}
