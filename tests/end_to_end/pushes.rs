//! Everything that collectors push to boxes, read at the broker by someone who
//! is no box: what a box was sent again must be the same to the byte.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use prost::Message as _;
use returnpath_shared::wire;
use returnpath_tests::{mqtt_client::MqttClient, wait::wait_until};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
    sync::watch,
};

use crate::scene::Scene;

/// Who may read along; see the access control of the broker under test.
const OBSERVER: &str = "observer";

const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(20);

const PUSH_LIMIT: Duration = Duration::from_secs(90);

/// One message as it was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pushed {
    pub(crate) payload: Vec<u8>,
    pub(crate) decision_id: String,
}

/// Reads along until it is dropped, or the broker ends.
pub(crate) struct Pushes {
    seen: watch::Receiver<Vec<Pushed>>,
    _subscriber: Child,
}

impl Pushes {
    /// Subscribes to the decisions of all boxes.
    pub(crate) async fn watch(scene: &Scene) -> anyhow::Result<Self> {
        let client = MqttClient {
            port: scene.mosquitto.port(),
            authority: scene.pki.authority(),
            identity: Some(scene.pki.device(&OBSERVER.parse()?)?),
            client_id: OBSERVER.to_owned(),
        };
        let log = scene.mosquitto.log()?;
        let subscribed = |log: &str| log.matches("observer 1 rp/v1/+/decisions").count();
        let before = subscribed(&log);
        let mut subscriber = client.subscribe("rp/v1/+/decisions")?;
        let output = subscriber.stdout.take().context("its output is piped")?;
        wait_until(
            "the observer to be subscribed",
            SUBSCRIBE_LIMIT,
            async || {
                ensure!(subscribed(&scene.mosquitto.log()?) > before, "it is not");
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
    pub(crate) async fn wait_for(&self, decision_id: &str, count: usize) -> anyhow::Result<()> {
        wait_until("a push", PUSH_LIMIT, async || {
            let passed = self.of(decision_id).len();
            ensure!(passed >= count, "{passed} of {count}");
            Ok(())
        })
        .await
    }

    /// Every message of one decision so far.
    pub(crate) fn of(&self, decision_id: &str) -> Vec<Pushed> {
        let seen = self.seen.borrow();
        let of_decision = |pushed: &&Pushed| pushed.decision_id == decision_id;
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
    Some(Pushed {
        payload,
        decision_id: decision.decision_id,
    })
}
