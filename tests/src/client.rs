//! A client of an agent's socket, as middleware is one: hands in events as
//! JSON lines and keeps what it was answered, for the audit.

use std::{
    collections::HashMap,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use returnpath_shared::{DeviceId, ProofKey, wire};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use crate::agent::Agent;

/// Proof waits for the receipt, or for the flash at most 300 ms later; this is
/// for a loaded machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What the agent answered to one request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Answer {
    /// As given with the request.
    pub id: String,
    /// `accepted`, `durable`, `refused` or `busy`.
    pub status: String,
    /// Epoch of the event.
    #[serde(default)]
    pub epoch: String,
    /// Ordinal of the event in its epoch.
    #[serde(default)]
    pub ordinal: String,
    /// Why it was refused.
    #[serde(default)]
    pub reason: String,
    /// Which field was wrong.
    #[serde(default)]
    pub field: String,
}

/// A connection to an agent.
pub struct Client {
    device: DeviceId,
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
    requests: u64,
    /// Proof keys of requests not answered yet.
    waiting: HashMap<String, Option<ProofKey>>,
    /// Answers that came while another was waited for.
    early: HashMap<String, Answer>,
    /// Where answers are kept.
    answers: PathBuf,
}

impl Client {
    /// Connects to `agent`; answers are appended to the file `answers`.
    ///
    /// # Errors
    /// When the agent's socket cannot be reached.
    pub async fn connect(agent: &Agent, answers: &Path) -> anyhow::Result<Self> {
        Self::connect_to(agent.device(), &agent.socket(), answers).await
    }

    /// Connects to the agent of `device` at this socket, as a client does that
    /// outlives it.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_to(
        device: &DeviceId,
        socket: &Path,
        answers: &Path,
    ) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket)
            .await
            .with_context(|| format!("connect to {}", socket.display()))?;
        let (reader, writer) = stream.into_split();
        Ok(Self {
            device: device.clone(),
            lines: BufReader::new(reader).lines(),
            writer,
            requests: 0,
            waiting: HashMap::new(),
            early: HashMap::new(),
            answers: answers.to_owned(),
        })
    }

    /// Hands in an event, in the proto3 JSON mapping, and returns the id of
    /// the request without waiting for the answer.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn hand_in(&mut self, event: &Value) -> anyhow::Result<String> {
        self.requests += 1;
        let id = format!("r{}", self.requests);
        let key = serde_json::from_value::<wire::Event>(event.clone())
            .ok()
            .and_then(|event| ProofKey::of(&event));
        let mut line = json!({"id": id, "event": event}).to_string();
        line.push('\n');
        self.writer.write_all(line.as_bytes()).await?;
        self.waiting.insert(id.clone(), key);
        Ok(id)
    }

    /// Waits for the answer to the request `id`.
    ///
    /// # Errors
    /// When it does not come in time, or the connection ends.
    pub async fn answer(&mut self, id: &str) -> anyhow::Result<Answer> {
        loop {
            if let Some(answer) = self.early.remove(id) {
                return Ok(answer);
            }
            let line = timeout(ANSWER_LIMIT, self.lines.next_line())
                .await
                .with_context(|| format!("no answer to {id} from {}", self.device))??
                .with_context(|| format!("{} closed before it answered {id}", self.device))?;
            let answer: Answer =
                serde_json::from_str(&line).with_context(|| format!("answer {line:?}"))?;
            let Some(key) = self.waiting.remove(&answer.id) else {
                bail!("answer {line:?} belongs to no request");
            };
            self.keep(&answer, key)?;
            self.early.insert(answer.id.clone(), answer);
        }
    }

    /// Hands in an event and waits for its answer.
    ///
    /// # Errors
    /// As [`Self::hand_in`] and [`Self::answer`].
    pub async fn send(&mut self, event: &Value) -> anyhow::Result<Answer> {
        let id = self.hand_in(event).await?;
        self.answer(&id).await
    }

    /// Hands in an event that must be answered with `status`.
    ///
    /// # Errors
    /// When it is answered otherwise.
    pub async fn expect(&mut self, status: &str, event: &Value) -> anyhow::Result<Answer> {
        let answer = self.send(event).await?;
        ensure!(answer.status == status, "{event} was answered {answer:?}");
        Ok(answer)
    }

    fn keep(&self, answer: &Answer, key: Option<ProofKey>) -> anyhow::Result<()> {
        let class = match answer.status.as_str() {
            "accepted" => "ordinary",
            "durable" => "proof",
            _ => return Ok(()),
        };
        let mut line = json!({
            "device": self.device.as_str(),
            "epoch": answer.epoch,
            "ordinal": answer.ordinal,
            "status": answer.status,
            "class": class,
        });
        if let Some(ProofKey(key)) = key {
            line["proofKey"] = format!("{key:032x}").into();
        }
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(&self.answers)?;
        // One write a line, so that clients may share the file.
        file.write_all(format!("{line}\n").as_bytes())?;
        Ok(())
    }
}
