//! When to connect to which broker next, and what became of the last time.

use returnpath_delivery::{Dial, Loss, Reconnect, Uptime};

/// Attempts to connect, and connections, so far.
#[derive(Debug)]
pub(super) struct Dialling {
    pub(super) reconnect: Reconnect,
    /// The attempt that is due; `None` while one is under way or there is a
    /// connection.
    next: Option<Dial>,
    connections: u32,
    /// Why there is no connection.
    error: Option<String>,
}

impl Dialling {
    /// Nothing was tried yet.
    pub(super) fn new(mut reconnect: Reconnect, now: Uptime) -> Self {
        Self {
            next: Some(reconnect.first(now)),
            reconnect,
            connections: 0,
            error: None,
        }
    }

    pub(super) fn due(&self) -> Option<Uptime> {
        self.next.map(|dial| dial.at)
    }

    /// The attempt to begin with, once it is due.
    pub(super) fn take(&mut self, now: Uptime) -> Option<Dial> {
        self.next.take_if(|dial| dial.at <= now)
    }

    pub(super) fn connected(&mut self, now: Uptime) {
        self.connections = self.connections.saturating_add(1);
        self.error = None;
        self.reconnect.connected(now);
    }

    /// An attempt failed, or a connection ended: when the next one begins.
    pub(super) fn lost(&mut self, loss: Loss, error: String, now: Uptime) -> Dial {
        let dial = self.reconnect.lost(loss, now);
        self.error = Some(error);
        self.next = Some(dial);
        dial
    }

    /// Connections after the first.
    pub(super) fn reconnects(&self) -> u32 {
        self.connections.saturating_sub(1)
    }

    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}
