//! Wakes the loop when something came from another thread: a record that Kafka
//! sent, an answer that the work waits for.
//!
//! Says that there may be something, never what: the loop looks everywhere
//! before it sleeps, so a ring in between is not lost, and one in vain costs
//! one look.

use std::{
    sync::{Arc, OnceLock},
    thread::{self, Thread},
    time::Duration,
};

/// The bell of one loop. Cheap to clone; ringing it is one wake-up of a thread,
/// or nothing where it is awake. Until a loop runs it does nothing: the loop
/// begins by looking.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bell(Arc<OnceLock<Thread>>);

impl Bell {
    /// The loop of this thread, from now on.
    pub(super) fn hang_here(&self) {
        self.0.get_or_init(thread::current);
    }

    /// Wakes the loop, or has it look once more before it sleeps.
    pub(crate) fn ring(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// Sleeps until the bell of this thread rings, at most as long as told.
pub(super) fn sleep(limit: Duration) {
    thread::park_timeout(limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_before_the_sleep_ends_it_at_once() {
        let bell = Bell::default();
        bell.hang_here();
        let ringer = bell.clone();
        thread::spawn(move || ringer.ring()).join().unwrap();
        // Would outlast any test otherwise.
        sleep(Duration::from_secs(3_600));
    }
}
