//! Decisions to their boxes: published on a connection of decide's own, and
//! confirmed by the broker.
//!
//! A push is taken without waiting and ends in one of six ways, each counted.
//! While no broker is there it waits, until it expires or there is no room;
//! nothing of it is kept beyond the process, because a box that was not told
//! asks again, and whoever takes a partition over pushes again what is open.
//! Confirmed (PUBACK) means that the broker had a subscriber for it: brokers of
//! MQTT 5 say when they had none (reason 0x10, Mosquitto does), and a box that
//! is away was not told, whatever the broker answers.
//!
//! The connection must have a certificate of its own: the broker takes the
//! common name for the client id, and throws the bridge's off where both are
//! the same.
//!
//! `backlog` decides what goes out; `session` is one connection.

mod backlog;
mod session;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use returnpath_decision::Push;
use returnpath_shared::DeviceId;
use tokio::{sync::mpsc, task::JoinHandle, time};
use tracing::{info, warn};

use self::{
    backlog::{Backlog, Entry},
    session::serve,
};
use super::{
    config::Mqtt,
    metrics::{Metrics, PushEnd},
};
use crate::{mqtt, node_id::NodeId};

/// Pushes handed over and not yet taken into the backlog: what one transaction
/// commits at most in a burst.
const HANDED_MAX: usize = 1_024;

/// Time for a connection to stand: TCP, TLS and CONNECT.
const DIAL_MAX: Duration = Duration::from_secs(10);

/// A connection that stood this long was no failure: the next pause is short
/// again.
const STEADY_AFTER: Duration = Duration::from_secs(10);

/// The broker has a decision and somebody to give it to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pushed {
    /// Of the partition that pushed it.
    pub(super) partition: i32,
    /// The box.
    pub(super) device: DeviceId,
    /// The decision.
    pub(super) decision_id: Arc<str>,
}

/// Takes pushes. Cheap to clone; when the last is dropped, what is left is
/// sent and the connection closed.
#[derive(Clone, Debug)]
pub(super) struct Pusher {
    handed: mpsc::Sender<Entry>,
    connected: Arc<AtomicBool>,
    metrics: Metrics,
}

impl Pusher {
    /// Hands a push over. Never waits: without room it is counted and gone.
    pub(super) fn push(&self, partition: i32, push: Push) {
        // Whoever decided has read it as a device's id before.
        let Ok(device) = push.device.parse() else {
            self.metrics.push_ended(PushEnd::Refused);
            return;
        };
        let entry = Entry {
            partition,
            device,
            decision_id: push.decision_id,
            payload: push.payload,
            expires: Instant::now() + left(push.expiry_unix_ms),
        };
        if let Err(error) = self.handed.try_send(entry) {
            self.metrics.push_ended(match error {
                mpsc::error::TrySendError::Full(_) => PushEnd::NoRoom,
                mpsc::error::TrySendError::Closed(_) => PushEnd::Abandoned,
            });
        }
    }

    /// Whether a broker is connected just then.
    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }
}

/// Starts publishing, on the runtime of the caller. `on_pushed` is called with
/// every confirmation, from a task: it must not wait. The task ends once every
/// [`Pusher`] is gone and what they left is sent, within seconds.
pub(super) fn start(
    config: Mqtt,
    node_id: &NodeId,
    metrics: Metrics,
    on_pushed: impl Fn(Pushed) + Send + 'static,
) -> (Pusher, JoinHandle<()>) {
    let (handed, taken) = mpsc::channel(HANDED_MAX);
    let connected = Arc::new(AtomicBool::new(false));
    let publisher = Publisher {
        brokers_from: mqtt::random(config.brokers.len()),
        config,
        client_id: format!("{node_id}-decide"),
        outgoing: Outgoing {
            handed: taken,
            ended: false,
            backlog: Backlog::new(),
            metrics: metrics.clone(),
            on_pushed: Box::new(on_pushed),
        },
        connected: Arc::clone(&connected),
        metrics: metrics.clone(),
    };
    let pusher = Pusher {
        handed,
        connected,
        metrics,
    };
    (pusher, tokio::spawn(publisher.run()))
}

/// What goes out, and what is done when it ends. Outlives connections.
struct Outgoing {
    handed: mpsc::Receiver<Entry>,
    /// Nobody hands anything over any more.
    ended: bool,
    backlog: Backlog,
    metrics: Metrics,
    on_pushed: Box<dyn Fn(Pushed) + Send>,
}

impl Outgoing {
    /// Waits for something to be handed over, or for the end of that; for ever
    /// after it. Cancel safe.
    async fn changed(&mut self) {
        if self.ended {
            return std::future::pending().await;
        }
        match self.handed.recv().await {
            Some(entry) => self.admit(entry),
            None => self.ended = true,
        }
        while let Ok(entry) = self.handed.try_recv() {
            self.admit(entry);
        }
    }

    fn admit(&mut self, entry: Entry) {
        if self.backlog.admit(entry).is_err() {
            self.metrics.push_ended(PushEnd::NoRoom);
        }
    }

    fn expire(&mut self, now: Instant) {
        for _ in 0..self.backlog.expire(now) {
            self.metrics.push_ended(PushEnd::Expired);
        }
    }

    fn observe(&self) {
        let size = |number| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics
            .pushes_waiting
            .set(size(self.backlog.waiting()));
        self.metrics
            .pushes_in_flight
            .set(size(self.backlog.in_flight()));
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        for _ in 0..self.backlog.waiting() + self.backlog.in_flight() {
            self.metrics.push_ended(PushEnd::Abandoned);
        }
    }
}

struct Publisher {
    config: Mqtt,
    client_id: String,
    /// Collectors start together after a power cut: not all at one broker.
    brokers_from: usize,
    outgoing: Outgoing,
    connected: Arc<AtomicBool>,
    metrics: Metrics,
}

impl Publisher {
    async fn run(mut self) {
        let mut failures = 0;
        let mut turn = self.brokers_from;
        loop {
            let broker = self.config.brokers[turn % self.config.brokers.len()].clone();
            turn = turn.wrapping_add(1);
            let session = mqtt::Session {
                section: Mqtt::TLS_SECTION,
                tls: &self.config.tls,
                client_id: &self.client_id,
                // Nobody publishes to us.
                receive_maximum: 1,
            };
            let dialled = time::timeout(DIAL_MAX, mqtt::dial(&broker, session));
            let Some(dialled) = meanwhile(&mut self.outgoing, dialled).await else {
                return;
            };
            let lost = match dialled {
                Err(_) => format!("no connection within {} s", DIAL_MAX.as_secs()),
                Ok(Err(cause)) => mqtt::chain(&cause),
                Ok(Ok((socket, properties))) => {
                    info!(%broker, "MQTT connected for decisions");
                    let connected_at = Instant::now();
                    self.metrics.connections.inc();
                    self.stands(true);
                    let receive_maximum = properties.and_then(|properties| properties.receive_max);
                    self.outgoing.backlog.connected(receive_maximum);
                    let end = serve(socket, &mut self.outgoing).await;
                    self.stands(false);
                    if connected_at.elapsed() >= STEADY_AFTER {
                        failures = 0;
                    }
                    match end {
                        Ok(()) => return,
                        Err(cause) => mqtt::chain(&cause),
                    }
                }
            };
            self.metrics.connections_lost.inc();
            let pause = mqtt::pause(failures);
            failures += 1;
            warn!(
                %broker,
                pause_ms = pause.as_millis(),
                "MQTT connection for decisions lost: {lost}"
            );
            if meanwhile(&mut self.outgoing, time::sleep(pause))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    fn stands(&self, stands: bool) {
        self.connected.store(stands, Ordering::Relaxed);
        self.metrics.connected.set(stands.into());
    }
}

/// Awaits `work` and takes in meanwhile what is handed over; `None` when
/// nothing more will be.
async fn meanwhile<T>(outgoing: &mut Outgoing, work: impl Future<Output = T>) -> Option<T> {
    /// Pushes expire at least this often: what waited too long is counted while
    /// its operator looks.
    const INTERVAL: Duration = Duration::from_millis(500);

    let mut work = std::pin::pin!(work);
    loop {
        if outgoing.ended {
            return None;
        }
        outgoing.expire(Instant::now());
        outgoing.observe();
        tokio::select! {
            done = &mut work => return Some(done),
            () = outgoing.changed() => {}
            () = time::sleep(INTERVAL) => {}
        }
    }
}

/// Time until a moment of the collector's clock; none where it has passed.
fn left(unix_ms: i64) -> Duration {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let then = Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0));
    then.saturating_sub(now)
}

#[cfg(test)]
mod tests;
