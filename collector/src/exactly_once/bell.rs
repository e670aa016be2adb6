//! Wakes the loop when something came from another thread: a record that Kafka
//! sent, an answer that the work waits for.
//!
//! Says that there may be something, never what: the loop looks everywhere
//! before it sleeps, so a ring in between is not lost, and one in vain costs
//! one look.

use std::{
    thread::{self, Thread},
    time::Duration,
};

/// One thread's bell. Cheap to clone; ringing it is one wake-up of a thread,
/// or nothing where it is awake.
#[derive(Clone, Debug)]
pub(crate) struct Bell(Thread);

impl Bell {
    pub(super) fn of_this_thread() -> Self {
        Self(thread::current())
    }

    /// Wakes the loop, or has it look once more before it sleeps.
    pub(crate) fn ring(&self) {
        self.0.unpark();
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
        let bell = Bell::of_this_thread();
        let (rang, heard) = std::sync::mpsc::channel();
        thread::spawn(move || {
            bell.ring();
            let _ = rang.send(());
        });
        heard.recv().unwrap();
        // Would outlast any test otherwise.
        sleep(Duration::from_secs(3_600));
    }
}
