//! The player of a box: follows the decisions on its agent's socket, as
//! firmware would, and keeps every one that it was handed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use returnpath_shared::wire;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use crate::agent::Agent;

/// From an opportunity to its decision: a collector may have to be started in
/// between, and the sessions of its killed predecessor to time out.
const DECISION_LIMIT: Duration = Duration::from_secs(90);

const FOLLOW_LIMIT: Duration = Duration::from_secs(20);

/// A decision, and when the player had it.
#[derive(Clone, Debug)]
pub struct Handed {
    /// When its line was read.
    pub at: Instant,
    /// What it says.
    pub decision: wire::Decision,
}

/// A player that follows, until it is dropped or its agent ends.
pub struct Player {
    handed: watch::Receiver<Vec<Handed>>,
    reading: JoinHandle<()>,
}

impl Player {
    /// Begins to follow, and waits until the agent says so.
    ///
    /// # Errors
    /// When the agent's socket cannot be reached, or it refuses.
    pub async fn follow(agent: &Agent) -> anyhow::Result<Self> {
        let socket = agent.socket();
        let stream = UnixStream::connect(&socket)
            .await
            .with_context(|| format!("connect to {}", socket.display()))?;
        let (reader, mut writer) = stream.into_split();
        let request = json!({"id": "player", "follow": "decisions"});
        writer.write_all(format!("{request}\n").as_bytes()).await?;
        let mut lines = BufReader::new(reader).lines();
        let first = timeout(FOLLOW_LIMIT, lines.next_line())
            .await
            .context("no answer to the request to follow")??
            .context("the agent closed")?;
        let answer: Value = serde_json::from_str(&first)?;
        ensure!(
            answer == json!({"id": "player", "status": "following"}),
            "the request to follow was answered {first}"
        );
        let (hand, handed) = watch::channel(Vec::new());
        let reading = tokio::spawn(async move {
            // Kept: an agent serves a client for as long as it can write.
            let _writer = writer;
            while let Ok(Some(line)) = lines.next_line().await {
                let at = Instant::now();
                // A line that is no decision ends the following, which whoever
                // waits sees.
                let Some(decision) = decision(&line) else {
                    return;
                };
                hand.send_modify(|all: &mut Vec<Handed>| all.push(Handed { at, decision }));
            }
        });
        Ok(Self { handed, reading })
    }

    /// Waits for the decision of a slot; of several, the first.
    ///
    /// # Errors
    /// When it does not come, or the agent ends before.
    pub async fn decision(&mut self, break_id: &str, slot: u32) -> anyhow::Result<Handed> {
        let of_slot = |all: &Vec<Handed>| {
            let is_of_slot =
                |one: &&Handed| one.decision.break_id == break_id && one.decision.slot == slot;
            all.iter().find(is_of_slot).cloned()
        };
        let found = timeout(
            DECISION_LIMIT,
            self.handed.wait_for(|all| of_slot(all).is_some()),
        )
        .await
        .map(|waited| waited.map(|all| of_slot(&all)));
        match found {
            Ok(Ok(handed)) => handed.context("it was there"),
            Ok(Err(_)) => bail!("the agent ended before slot {slot} of {break_id}"),
            Err(_) => bail!(
                "no decision for slot {slot} of {break_id}; handed so far: {:?}",
                self.handed()
            ),
        }
    }

    /// Everything handed over so far, in order.
    #[must_use]
    pub fn handed(&self) -> Vec<Handed> {
        self.handed.borrow().clone()
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// `{"decision": …}` in the proto3 mapping.
fn decision(line: &str) -> Option<wire::Decision> {
    let mut line: Value = serde_json::from_str(line).ok()?;
    serde_json::from_value(line.get_mut("decision")?.take()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_read_from_its_line_and_nothing_else_is_one() {
        let line = r#"{"decision":{"decisionId":"d","deviceId":"box-1","breakId":"b","slot":2}}"#;
        let read = decision(line).unwrap();
        assert_eq!((read.decision_id.as_str(), read.slot), ("d", 2));
        for other in [
            "",
            "not json",
            r#"{"id":"player","status":"following"}"#,
            r#"{"decision":{"slot":"two"}}"#,
        ] {
            assert_eq!(decision(other), None, "{other}");
        }
    }
}
