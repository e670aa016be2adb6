//! The middleware of a box whose agent is killed: keeps handing in events,
//! comes back to the next agent, and tells proof again that had no answer, as
//! the protocol asks of it. What it was answered goes to the audit's file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use returnpath_shared::DeviceId;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{agent::Agent, client::Client, fleet::chance::Chance, wait::Hopeless};

/// Pause between steps, drawn below this: kills fall into steps and between.
const PAUSE_BELOW_MS: u64 = 300;

/// Ordinary events of a step, drawn below this.
const ORDINARY_BELOW: u64 = 5;

/// Steps that end with proof. More often would be no box any more: the
/// collector recognises a repeat among the last 128 proofs of a box, some
/// minutes of a busy one, and a minute at this rate.
const PROOF_PROBABILITY: f64 = 0.5;

/// Pause before an agent is asked again that was not there, or busy.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// An agent that answers nothing for this long is not merely restarted.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// What one middleware, or all of them, came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Handed {
    /// Events answered `accepted`.
    pub accepted: u64,
    /// Events answered `durable`.
    pub durable: u64,
    /// Times that proof was told again for want of an answer.
    pub told_again: u64,
    /// Times that the agent was `busy`.
    pub busy: u64,
}

impl Handed {
    /// Adds what another came to.
    pub fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.durable += other.durable;
        self.told_again += other.told_again;
        self.busy += other.busy;
    }
}

/// A middleware that runs until it is stopped.
pub struct Middleware {
    stop: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<Handed>>,
}

impl Middleware {
    /// Begins to hand in events to `agent`; answers are appended to `answers`.
    /// Two of the same seed must not be on the same box: they would name their
    /// proof alike.
    #[must_use]
    pub fn start(agent: &Agent, answers: &Path, seed: u64) -> Self {
        let (stop, stopped) = watch::channel(false);
        let hands = Hands {
            device: agent.device().clone(),
            socket: agent.socket(),
            answers: answers.to_owned(),
            client: None,
            silent_since: Instant::now(),
            handed: Handed::default(),
        };
        let task = tokio::spawn(hands.hand_in_until(stopped, Chance::new(seed), seed));
        Self { stop, task }
    }

    /// Stops once everything that was told is answered.
    ///
    /// # Errors
    /// When an answer was not what the protocol allows, or none came.
    pub async fn stop(self) -> anyhow::Result<Handed> {
        self.stop.send_replace(true);
        self.task.await.context("a middleware panicked")?
    }
}

struct Hands {
    device: DeviceId,
    socket: PathBuf,
    answers: PathBuf,
    client: Option<Client>,
    silent_since: Instant,
    handed: Handed,
}

impl Hands {
    async fn hand_in_until(
        mut self,
        stopped: watch::Receiver<bool>,
        mut chance: Chance,
        seed: u64,
    ) -> anyhow::Result<Handed> {
        let mut number = 0_u64;
        while !*stopped.borrow() {
            sleep(Duration::from_millis(chance.below(PAUSE_BELOW_MS))).await;
            for _ in 0..chance.below(ORDINARY_BELOW) {
                // An ordinary event without an answer is not told again: it may
                // have been taken, and would count twice.
                let event = tune(chance.below(20));
                if self.tell(&event, "accepted").await? {
                    self.handed.accepted += 1;
                }
            }
            if !chance.happens(PROOF_PROBABILITY) {
                continue;
            }
            number += 1;
            let proof = impression(&format!("{seed:x}-{number}"));
            while !self.tell(&proof, "durable").await? {
                self.handed.told_again += 1;
            }
            self.handed.durable += 1;
        }
        Ok(self.handed)
    }

    /// Whether `event` was answered, and then with `status`.
    async fn tell(&mut self, event: &Value, status: &str) -> anyhow::Result<bool> {
        let answer = match &mut self.client {
            Some(client) => client.send(event).await,
            None => {
                let connected = Client::connect_to(&self.device, &self.socket, &self.answers).await;
                match connected {
                    Ok(client) => self.client.insert(client).send(event).await,
                    Err(error) => Err(error),
                }
            }
        };
        match answer {
            Ok(answer) if answer.status == status => {
                self.silent_since = Instant::now();
                Ok(true)
            }
            Ok(answer) if answer.status == "busy" => {
                self.handed.busy += 1;
                self.pause().await?;
                Ok(false)
            }
            Ok(answer) => bail!(Hopeless(format!(
                "{}: {event} was answered {answer:?}, not {status}",
                self.device
            ))),
            // The agent is dead, or was when the event was on its way.
            Err(error) => {
                self.client = None;
                self.pause()
                    .await
                    .with_context(|| format!("{error:#}"))
                    .map(|()| false)
            }
        }
    }

    async fn pause(&self) -> anyhow::Result<()> {
        let silent = self.silent_since.elapsed();
        if silent > SILENCE_MAX {
            bail!(Hopeless(format!(
                "{} has answered nothing for {} s",
                self.device,
                silent.as_secs()
            )));
        }
        sleep(RETRY_PAUSE).await;
        Ok(())
    }
}

fn tune(service_id: u64) -> Value {
    json!({"tune": {
        "channel": {"networkId": 9018, "transportStreamId": 4164, "serviceId": service_id + 1},
        "source": "SOURCE_LIVE",
    }})
}

fn impression(decision_id: &str) -> Value {
    json!({"adEvent": {"kind": "KIND_START", "decisionId": decision_id}})
}

#[cfg(test)]
mod tests {
    use returnpath_shared::{check, wire};

    use super::*;

    #[test]
    fn the_events_that_it_hands_in_are_good() {
        for event in [tune(0), impression("d")] {
            let decoded: wire::Event = serde_json::from_value(event.clone()).unwrap();
            assert_eq!(check(&decoded), Ok(()), "{event}");
        }
    }
}
