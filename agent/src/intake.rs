//! The Unix socket: clients in, requests out, answers back.
//!
//! Reads and judges lines, says who may send what, and keeps clients from
//! hurting each other; what an accepted event becomes is not decided here.
//! Every client is a task of its own that waits for the event loop; the loop
//! never waits for a client.

mod answer;
mod client;
mod permission;
mod request;
mod socket;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde_json::Value;
use tokio::{
    net::UnixListener,
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};
use tracing::{debug, warn};

pub use self::{
    answer::{Answer, RefusalReason},
    permission::{Permissions, Permitted},
    request::{Refusal, Request, parse},
    socket::{SocketError, SocketFile},
};
use crate::config::IntakeConfig;

/// Decisions on their way to a client that follows: as many as can be open at
/// once, so that the first ones always fit. A client that lets them pile up is
/// disconnected, and gets what is open when it comes back.
const FOLLOWED_MAX: usize = returnpath_slots::HELD_MAX;

/// Requests on their way to the event loop. Small, because it is what one
/// client can put before another's request; senders wait in turn.
const REQUESTS_MAX: usize = 32;

/// A request of a client, and the way back to it.
#[derive(Debug)]
pub struct Incoming {
    /// What it asks.
    pub request: Request,
    /// Where its answer goes. Every request gets exactly one.
    pub reply: Reply,
}

/// The way back to a client, for one answer.
#[derive(Debug)]
pub struct Reply {
    id: Option<Value>,
    answers: mpsc::Sender<String>,
    /// For a request to follow.
    decisions: Option<mpsc::Sender<String>>,
}

impl Reply {
    /// Answers. Never waits: a client has no more unanswered requests than its
    /// channel has room for. Whether the client is still there does not matter.
    pub fn send(self, answer: &Answer) {
        let line = answer.line(self.id.as_ref());
        if self.answers.try_send(line).is_err() {
            debug!("a client left before its answer");
        }
    }

    /// Answers that decisions follow, and lets them.
    #[must_use]
    pub fn follow(mut self) -> Option<Following> {
        let decisions = self.decisions.take();
        self.send(&Answer::Following);
        decisions.map(Following)
    }
}

/// The way to a client that follows decisions. Dropped, it ends the client.
#[derive(Debug)]
pub struct Following(mpsc::Sender<String>);

impl Following {
    /// Sends a line, with its newline. Never waits; `false` when the client is
    /// gone or does not read: it is to be dropped then.
    #[must_use]
    pub fn send(&self, line: String) -> bool {
        self.0.try_send(line).is_ok()
    }

    /// Whether the client is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

/// What the intake counts, since its start.
#[derive(Debug, Default)]
pub struct Counters {
    refused: [AtomicU64; RefusalReason::ALL.len()],
    clients: AtomicU64,
    clients_turned_away: AtomicU64,
    clients_too_slow: AtomicU64,
}

impl Counters {
    /// Counts a refusal.
    pub fn refuse(&self, reason: RefusalReason) {
        if let Some(count) = self.refused.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests refused, by reason; only reasons that occurred.
    pub fn refused(&self) -> impl Iterator<Item = (RefusalReason, u64)> {
        RefusalReason::ALL
            .into_iter()
            .zip(&self.refused)
            .map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
    }

    /// Clients connected.
    #[must_use]
    pub fn clients(&self) -> u64 {
        self.clients.load(Ordering::Relaxed)
    }

    /// Clients beyond the bound, turned away.
    #[must_use]
    pub fn clients_turned_away(&self) -> u64 {
        self.clients_turned_away.load(Ordering::Relaxed)
    }

    /// Clients that did not read their answers, disconnected.
    #[must_use]
    pub fn clients_too_slow(&self) -> u64 {
        self.clients_too_slow.load(Ordering::Relaxed)
    }
}

/// The intake, running.
#[derive(Debug)]
pub struct Intake {
    requests: mpsc::Receiver<Incoming>,
    counters: Arc<Counters>,
    acceptor: JoinHandle<()>,
    /// Removed when dropped.
    _file: SocketFile,
}

impl Intake {
    /// Listens.
    ///
    /// # Errors
    /// When the socket cannot be made, or another agent listens on it.
    pub fn listen(config: &IntakeConfig, permissions: Permissions) -> Result<Self, SocketError> {
        let (listener, file) = socket::listen(config)?;
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let counters = Arc::new(Counters::default());
        let acceptor = Acceptor {
            listener,
            clients_max: config.clients_max,
            permissions: Arc::new(permissions),
            requests: sender,
            counters: Arc::clone(&counters),
        };
        Ok(Self {
            requests,
            counters,
            acceptor: tokio::spawn(acceptor.run()),
            _file: file,
        })
    }

    /// The next request; `None` when the intake has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Incoming> {
        self.requests.recv().await
    }

    /// A request that is there already.
    pub fn try_next(&mut self) -> Option<Incoming> {
        self.requests.try_recv().ok()
    }

    /// What it counted.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

impl Drop for Intake {
    /// Ends the clients' tasks as well: the acceptor owns them.
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

struct Acceptor {
    listener: UnixListener,
    clients_max: usize,
    permissions: Arc<Permissions>,
    requests: mpsc::Sender<Incoming>,
    counters: Arc<Counters>,
}

impl Acceptor {
    async fn run(self) {
        let mut clients = JoinSet::new();
        loop {
            let stream = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of descriptors: wait for a client to leave.
                        warn!(%error, "cannot accept a client");
                        if clients.join_next().await.is_none() {
                            return;
                        }
                        continue;
                    }
                },
                Some(_) = clients.join_next() => {
                    self.count_clients(clients.len());
                    continue;
                }
            };
            if clients.len() >= self.clients_max {
                self.turn_away(&stream);
                continue;
            }
            match stream.peer_cred() {
                Ok(peer) => {
                    let client = client::Client::new(
                        stream,
                        self.permissions.of(peer.uid()),
                        self.requests.clone(),
                        Arc::clone(&self.counters),
                    );
                    clients.spawn(client.run());
                    self.count_clients(clients.len());
                }
                Err(error) => warn!(%error, "the kernel does not say who a client is"),
            }
        }
    }

    fn count_clients(&self, clients: usize) {
        self.counters
            .clients
            .store(clients as u64, Ordering::Relaxed);
    }

    /// Says why, if that fits into the socket's buffer, and hangs up.
    fn turn_away(&self, stream: &tokio::net::UnixStream) {
        self.counters
            .clients_turned_away
            .fetch_add(1, Ordering::Relaxed);
        let line = Answer::Refused(Refusal {
            reason: RefusalReason::TooManyClients,
            field: None,
            expected: Some(format!("at most {} clients at once", self.clients_max)),
        })
        .line(None);
        let _full = stream.try_write(line.as_bytes());
    }
}

#[cfg(test)]
mod tests;
