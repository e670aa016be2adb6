//! The role `decide`: opportunities in, one signed decision for each slot out.
//!
//! A consumer group over `rp.opportunities`; whoever is assigned a partition
//! of it also reads the same partition of `rp.ads`, whose events close
//! decisions. What is decided, and how, is `returnpath_decision`'s; how records,
//! state and offsets become one transaction is `exactly_once`'s; here the two
//! are joined to the world:
//!
//! ```text
//! rp.opportunities ─┐                     ┌─ rp.decisions ────┐
//! rp.ads ───────────┴─► session ──────────┼─ rp.decide.state ─┤ one transaction
//!                       │ ▲   │           └─ both offsets ────┘
//!                 calls ▼ │   ▼ pushes, once it is committed
//!                     http     push ──► boxes
//! ```
//!
//! The order that keeps two ads off one slot: the record of a decision and the
//! state that remembers it are committed first, then it is pushed. What is
//! read again is recognised by its slot and pushed again as it was. An
//! opportunity that is still being asked for is not committed: whoever owns the
//! partition next asks again.

mod clock;
mod config;
mod http;
mod metrics;
mod pseudonym;
mod push;
mod secret;
mod session;

use std::{sync::Arc, time::Duration};

use returnpath_decision::{Answer, Push, Request, Signer};
use thiserror::Error;
use tokio::{runtime::Handle, sync::watch};

pub use config::{Config, ConfigError, check, complete};
pub use http::{ClientError, TrustError};
pub use metrics::Metrics;
pub use secret::{SecretError, SecretSource};

use self::{
    clock::Clock,
    config::Opened,
    http::Caller,
    push::Pusher,
    session::{Aggregators, Boxes, Deciding, State},
};
use crate::{
    admin::RoleHealth,
    exactly_once::{self, Bell, GroupId, InputTopic, Terms},
    kafka,
    node_id::NodeId,
    signing::{Purpose, SigningKey},
};

/// Bytes of opportunities fetched ahead, in kilobytes: some 4,000 of them,
/// seconds of what a collector is built for. More would only grow old here.
const OPPORTUNITIES_QUEUE_KBYTES: u32 = 8_192;

/// The same for ad events, which nobody waits for.
const ADS_QUEUE_KBYTES: u32 = 4_096;

/// How long a decision waits for others, in ms, while they keep coming: what is
/// asked at once is answered within about as much, and of the 5 ms that our own
/// part of a decision may take the rest is left for work.
const URGENT_HOLD_MS: u64 = 3;

/// Why the role ended unasked.
#[derive(Debug, Error)]
pub enum Error {
    /// A key, or a file that it names, cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Kafka is not as it must be, or what is in it.
    #[error(transparent)]
    Kafka(#[from] exactly_once::Error),
    /// Our bug: decisions are recorded and nobody is told.
    #[error("the task that pushes decisions ended")]
    Push,
}

/// Runs the role until `stop` holds `true`.
///
/// # Errors
/// When the configuration or its files cannot be used, Kafka is not as
/// required, or the state cannot be read.
pub async fn run(
    config: Config,
    kafka: kafka::Config,
    node_id: NodeId,
    health: RoleHealth,
    metrics: Metrics,
    stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let Opened {
        settings,
        caller,
        signing_key,
        pseudonyms,
    } = config.open(metrics.clone())?;
    let bell = Bell::default();
    let (letterbox, confirmations) = session::post(&settings, &bell);
    let lost = metrics.confirmations_lost.clone();
    let on_pushed = move |pushed: push::Pushed| {
        if !confirmations.pushed(pushed.partition, pushed.device, pushed.decision_id) {
            lost.inc();
        }
    };
    let (pusher, mut pushing) = push::start(config.mqtt, &node_id, metrics.clone(), on_pushed);
    // Until this one is dropped, only a fault of its own ends the task: the
    // session drops its pusher when it has drained, at the very time that it
    // says so.
    let kept = pusher.clone();
    let names = kafka.topics.clone();
    let terms = terms(config.group, config.transaction_timeout, &names, bell);
    let engine = metrics.engine.clone();
    let runtime = Handle::current();
    let deciding = exactly_once::run(terms, kafka, node_id, health, engine, stop, move || {
        Deciding {
            state: State::new(&settings),
            settings,
            signer: Box::new(signing_key),
            pseudonyms: Box::new(pseudonyms),
            aggregators: Arc::new(caller),
            boxes: pusher,
            names,
            metrics,
            clock: Clock::start(),
            runtime,
            letterbox,
        }
    });
    tokio::select! {
        ended = deciding => ended?,
        _ = &mut pushing => return Err(Error::Push),
    }
    // The session is gone, and with this the last that pushed: what it left is
    // sent, and confirmed to nobody.
    drop(kept);
    pushing.await.map_err(|_| Error::Push)
}

fn terms(
    group: GroupId,
    transaction_timeout: Duration,
    names: &kafka::TopicNames,
    bell: Bell,
) -> Terms {
    Terms {
        role: "decide",
        group,
        transaction_timeout,
        urgent_hold_ms: URGENT_HOLD_MS,
        inputs: [
            InputTopic {
                topic: names.opportunities.clone(),
                name: metrics::INPUTS[0],
                queue_kbytes: OPPORTUNITIES_QUEUE_KBYTES,
            },
            InputTopic {
                topic: names.ads.clone(),
                name: metrics::INPUTS[1],
                queue_kbytes: ADS_QUEUE_KBYTES,
            },
        ],
        changelogs: vec![names.decide_state.clone()],
        bell,
    }
}

impl Aggregators for Caller {
    fn call(
        &self,
        aggregator: usize,
        request: Request,
        deadline: Duration,
    ) -> impl Future<Output = Answer> + Send {
        Caller::call(self, aggregator, request, deadline)
    }
}

impl Boxes for Pusher {
    fn push(&self, partition: i32, push: Push) {
        Pusher::push(self, partition, push);
    }

    fn is_connected(&self) -> bool {
        Pusher::is_connected(self)
    }
}

impl Signer for SigningKey {
    fn key_id(&self) -> &str {
        SigningKey::key_id(self)
    }

    fn sign(&self, decision: &[u8]) -> [u8; 64] {
        self.signature(Purpose::Decision, decision)
    }
}
