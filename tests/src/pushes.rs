//! Everything that collectors push to boxes, read at the broker by someone who
//! is no box: what a box was sent again must be the same to the byte.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use prost::Message as _;
use returnpath_shared::wire;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
    sync::watch,
};

use crate::{mosquitto::Mosquitto, mqtt_client::MqttClient, pki::DevelopmentPki, wait::wait_until};

/// Who may read along; see the access control of the broker under test.
const OBSERVER: &str = "observer";

const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(20);

const PUSH_LIMIT: Duration = Duration::from_secs(90);

/// One message as it was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// An encoded `SignedDecision`, as it was sent.
    pub payload: Vec<u8>,
    /// What it decides.
    pub decision: wire::Decision,
}

/// Reads along until it is dropped, or the broker ends.
pub struct Pushes {
    seen: watch::Receiver<Vec<Pushed>>,
    _subscriber: Child,
}

impl Pushes {
    /// Subscribes to the decisions of all boxes.
    ///
    /// # Errors
    /// When the broker cannot be reached, or does not take the subscription.
    pub async fn watch(mosquitto: &Mosquitto, pki: &DevelopmentPki) -> anyhow::Result<Self> {
        let client = MqttClient {
            port: mosquitto.port(),
            authority: pki.authority(),
            identity: Some(pki.device(&OBSERVER.parse()?)?),
            client_id: OBSERVER.to_owned(),
        };
        let log = mosquitto.log()?;
        let subscribed = |log: &str| log.matches("observer 1 rp/v1/+/decisions").count();
        let before = subscribed(&log);
        let mut subscriber = client.subscribe("rp/v1/+/decisions")?;
        let output = subscriber.stdout.take().context("its output is piped")?;
        wait_until(
            "the observer to be subscribed",
            SUBSCRIBE_LIMIT,
            async || {
                ensure!(subscribed(&mosquitto.log()?) > before, "it is not");
                Ok(())
            },
        )
        .await?;
        let (tell, seen) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                // What a test forges on purpose need not be readable.
                if let Some(pushed) = pushed(&line) {
                    tell.send_modify(|all: &mut Vec<Pushed>| all.push(pushed));
                }
            }
        });
        Ok(Self {
            seen,
            _subscriber: subscriber,
        })
    }

    /// Waits until `count` messages of one decision have passed.
    ///
    /// # Errors
    /// When they do not.
    pub async fn wait_for(&self, decision_id: &str, count: usize) -> anyhow::Result<()> {
        wait_until("a push", PUSH_LIMIT, async || {
            let passed = self.of(decision_id).len();
            ensure!(passed >= count, "{passed} of {count}");
            Ok(())
        })
        .await
    }

    /// How many messages have passed so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.seen.borrow().len()
    }

    /// Messages from the `passed`-th on.
    #[must_use]
    pub fn since(&self, passed: usize) -> Vec<Pushed> {
        let seen = self.seen.borrow();
        seen.get(passed..).unwrap_or_default().to_vec()
    }

    /// Every message of one decision so far.
    #[must_use]
    pub fn of(&self, decision_id: &str) -> Vec<Pushed> {
        let seen = self.seen.borrow();
        let of_decision = |pushed: &&Pushed| pushed.decision.decision_id == decision_id;
        seen.iter().filter(of_decision).cloned().collect()
    }
}

fn pushed(hexadecimal: &str) -> Option<Pushed> {
    let digits = hexadecimal.trim();
    let payload = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect::<Option<Vec<u8>>>()?;
    let signed = wire::SignedDecision::decode(&payload[..]).ok()?;
    let decision = wire::Decision::decode(signed.decision).ok()?;
    Some(Pushed { payload, decision })
}
