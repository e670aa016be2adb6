//! Carries out planned kills (`kill -9`) on running processes, and starts them
//! again, as the power and a supervisor such as systemd would. Owns which are
//! down at a moment; the processes stay with the caller.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Context as _;
use tokio::time::{Instant, sleep_until};

use super::{
    peak_memory::PeakMemory,
    plan::{Kill, Kind, Part},
};
use crate::{agent::Agent, collector::Collector, kafka::Kafka, mosquitto::Mosquitto};

/// How often the supervisor looks who has ended, and at memory.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often one that ends again and again is started at the end, before this
/// is taken for what it is.
const STARTS_MAX: u32 = 5;

/// The processes that may be killed, all running.
pub struct Parts<'a> {
    /// The Kafka node.
    pub kafka: &'a mut Kafka,
    /// The MQTT broker, which keeps nothing on disk.
    pub mosquitto: &'a mut Mosquitto,
    /// Collectors, of one group.
    pub collectors: &'a mut [Collector],
    /// Agents, each on its own flash.
    pub agents: &'a mut [Agent],
}

/// What was done to processes of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Killed {
    /// How often one was killed.
    pub times: u64,
    /// How long they were down in all, until they were started again.
    pub down: Duration,
    /// How often one ended by itself and was started by the supervisor.
    pub ended_by_themselves: u64,
}

/// What a storm came to.
#[derive(Clone, Debug, Default)]
pub struct Storm {
    /// By kind.
    pub killed: BTreeMap<Kind, Killed>,
    /// Kills that fell while something else was down.
    pub overlapping: u64,
    /// Peaks of every process.
    pub peak_memory: PeakMemory,
    down: BTreeSet<Part>,
}

impl Parts<'_> {
    /// Who can be killed.
    #[must_use]
    pub fn all(&self) -> Vec<Part> {
        let numbered = |kind, count| (0..count).map(move |number| Part { kind, number });
        numbered(Kind::Agent, self.agents.len())
            .chain(numbered(Kind::Collector, self.collectors.len()))
            .chain(numbered(Kind::MqttBroker, 1))
            .chain(numbered(Kind::Kafka, 1))
            .collect()
    }

    fn process_id(&self, part: Part) -> anyhow::Result<u32> {
        match part.kind {
            Kind::Agent => self.agents[part.number].process_id(),
            Kind::Collector => self.collectors[part.number].process_id(),
            Kind::MqttBroker => self.mosquitto.process_id(),
            Kind::Kafka => self.kafka.process_id(),
        }
    }

    fn kill(&mut self, part: Part) -> anyhow::Result<()> {
        match part.kind {
            Kind::Agent => self.agents[part.number].kill(),
            Kind::Collector => self.collectors[part.number].kill(),
            Kind::MqttBroker => self.mosquitto.kill(),
            Kind::Kafka => self.kafka.kill(),
        }
    }

    /// Starts a part. Collectors and Kafka, which take seconds, are not waited
    /// for, so that the next kill may meet them starting.
    async fn start(&mut self, part: Part) -> anyhow::Result<()> {
        match part.kind {
            Kind::Agent => self.agents[part.number].start().await,
            Kind::Collector => self.collectors[part.number].spawn(),
            Kind::MqttBroker => self.mosquitto.resume().await,
            Kind::Kafka => self.kafka.spawn(),
        }
    }

    fn check_running(&mut self, part: Part) -> anyhow::Result<()> {
        match part.kind {
            Kind::Agent => self.agents[part.number].check_running(),
            Kind::Collector => self.collectors[part.number].check_running(),
            Kind::MqttBroker => self.mosquitto.check_running(),
            Kind::Kafka => self.kafka.check_running(),
        }
    }
}

impl Storm {
    /// Carries out `kills`, telling of each, and leaves everything running and
    /// ready.
    ///
    /// # Errors
    /// When an agent ends by itself, or something cannot be started again.
    pub async fn rage(
        parts: &mut Parts<'_>,
        kills: &[Kill],
        mut tell: impl FnMut(&Kill),
    ) -> anyhow::Result<Self> {
        let mut storm = Self::default();
        let begun = Instant::now();
        let mut kills = kills.iter().peekable();
        let mut starts: BTreeSet<(Duration, Part)> = BTreeSet::new();
        loop {
            let next_start = starts.first().copied();
            let next_kill = kills.peek().map(|kill| kill.at);
            let at = match (next_start, next_kill) {
                (None, None) => break,
                (Some((at, _)), None) => at,
                (start, Some(kill)) => start.map_or(kill, |(at, _)| at.min(kill)),
            };
            storm.look_until(parts, begun + at).await?;
            match next_start {
                Some((due, part)) if due <= at => {
                    starts.pop_first();
                    storm.down.remove(&part);
                    parts.start(part).await?;
                }
                _ => {
                    if let Some(kill) = kills.next() {
                        tell(kill);
                        storm.kill(parts, kill)?;
                        starts.insert((kill.at + kill.down_for, kill.part));
                    }
                }
            }
        }
        storm.calm(parts).await?;
        Ok(storm)
    }

    /// How often anything was killed.
    #[must_use]
    pub fn kills(&self) -> u64 {
        self.killed.values().map(|killed| killed.times).sum()
    }

    fn kill(&mut self, parts: &mut Parts<'_>, kill: &Kill) -> anyhow::Result<()> {
        self.peak_memory
            .look(&kill.part.to_string(), parts.process_id(kill.part));
        parts.kill(kill.part)?;
        if !self.down.is_empty() {
            self.overlapping += 1;
        }
        self.down.insert(kill.part);
        let killed = self.killed.entry(kill.part.kind).or_default();
        killed.times += 1;
        killed.down += kill.down_for;
        Ok(())
    }

    /// Is the supervisor until `end`.
    async fn look_until(&mut self, parts: &mut Parts<'_>, end: Instant) -> anyhow::Result<()> {
        while Instant::now() < end {
            self.look(parts).await?;
            sleep_until(end.min(Instant::now() + LOOK_EVERY)).await;
        }
        Ok(())
    }

    async fn look(&mut self, parts: &mut Parts<'_>) -> anyhow::Result<()> {
        for part in parts.all() {
            if self.down.contains(&part) {
                continue;
            }
            self.peak_memory
                .look(&part.to_string(), parts.process_id(part));
            let Err(ended) = parts.check_running(part) else {
                continue;
            };
            // Nothing that happens outside of a box may end its agent. The
            // others may give up, and be started again.
            if part.kind == Kind::Agent {
                return Err(ended.context("an agent ended by itself"));
            }
            self.killed
                .entry(part.kind)
                .or_default()
                .ended_by_themselves += 1;
            parts.start(part).await?;
        }
        Ok(())
    }

    /// Waits until everything is up and ready.
    async fn calm(&mut self, parts: &mut Parts<'_>) -> anyhow::Result<()> {
        parts.kafka.resume().await?;
        parts.mosquitto.resume().await?;
        for collector in &mut *parts.collectors {
            let mut starts = 0;
            while let Err(error) = collector.ready().await {
                starts += 1;
                if starts == STARTS_MAX || collector.check_running().is_ok() {
                    return Err(error).context("after the storm");
                }
                let killed = self.killed.entry(Kind::Collector).or_default();
                killed.ended_by_themselves += 1;
                collector.spawn()?;
            }
        }
        self.look(parts).await
    }
}
