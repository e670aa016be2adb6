//! The core itself.

use returnpath_shared::{BatchId, Epoch, wire};

use crate::{Acceptance, ClientToken, Config, Effect, Input, Start, Status, StoredBatch, Uptime};

/// What to store, send, resend and drop, and when.
#[derive(Debug)]
pub struct Delivery {
    config: Config,
}

impl Delivery {
    /// Starts a run with what the queue file holds. `recovered` are its
    /// batches, oldest first; an iterator, because a full queue's rows would
    /// not fit the box's memory budget at once.
    #[must_use]
    pub fn new(
        config: Config,
        start: Start,
        recovered: impl IntoIterator<Item = StoredBatch>,
        now: Uptime,
    ) -> Self {
        let _ = (start, recovered.into_iter().count(), now);
        Self { config }
    }

    /// Takes an event. A client that gets [`Acceptance::Pending`] is answered
    /// later by an [`Effect::Answer`] with its token.
    pub fn accept(&mut self, event: wire::Event, token: ClientToken, now: Uptime) -> Acceptance {
        let _ = (event, token, now, &self.config);
        Acceptance::Busy
    }

    /// Takes what happened.
    pub fn handle(&mut self, input: Input<'_>, now: Uptime) {
        let _ = (input, now);
    }

    /// Does what is due; to be called when [`Self::poll_timeout`] has passed.
    pub fn tick(&mut self, now: Uptime) {
        let _ = now;
    }

    /// The answer to [`Effect::Rebuild`]: there is a new queue file with this
    /// epoch (its start row synced), and these batches in it.
    pub fn rebuilt(
        &mut self,
        epoch: Epoch,
        copied: impl IntoIterator<Item = BatchId>,
        now: Uptime,
    ) {
        let _ = (epoch, copied.into_iter().count(), now);
    }

    /// The next thing to do; to be called until `None` after every call.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        None
    }

    /// When [`Self::tick`] is wanted; `None` when nothing is pending, so that
    /// an idle box is never woken.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Uptime> {
        None
    }

    /// A view for people and health events.
    #[must_use]
    pub fn status(&self, now: Uptime) -> Status {
        let _ = now;
        Status::default()
    }
}
