//! Whether a connection to an aggregator stands, as far as one can tell from
//! its answers; and one call at a time to bring one up while none does.
//!
//! hyper opens a connection for every call that finds none, and learns only
//! then that HTTP/2 carries them all on one: a hundred calls at start would be
//! a hundred handshakes. Here the first goes ahead and the others wait for it,
//! each at most until its own deadline.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Shaved off the life of an idle connection, so that a call does not count on
/// one that the pool is about to drop.
const MARGIN: Duration = Duration::from_secs(5);

/// What is known of the connections to one aggregator.
#[derive(Debug)]
pub(super) struct Warmth {
    began: Instant,
    lasts: Duration,
    /// Milliseconds after `began` at which an answer last came, plus one; 0
    /// while no connection is known to stand.
    answered_ms: AtomicU64,
    opening: Arc<Semaphore>,
}

/// Held by the call that goes ahead; dropped, it lets the others go.
#[derive(Debug)]
pub(super) struct Opening {
    _permit: OwnedSemaphorePermit,
}

impl Warmth {
    /// None stands; once one does, it does for `idle_max` after an answer.
    pub(super) fn new(idle_max: Duration) -> Self {
        Self {
            began: Instant::now(),
            lasts: idle_max.saturating_sub(MARGIN),
            answered_ms: AtomicU64::new(0),
            opening: Arc::new(Semaphore::new(1)),
        }
    }

    /// Waits until a connection stands (`None`), or until it is on this call to
    /// bring one up. Cancel safe.
    pub(super) async fn enter(&self) -> Option<Opening> {
        if self.is_warm() {
            return None;
        }
        // Never closed; if it were, nobody need wait.
        let permit = Arc::clone(&self.opening).acquire_owned().await.ok()?;
        (!self.is_warm()).then_some(Opening { _permit: permit })
    }

    /// The beginning of an answer came.
    pub(super) fn answered(&self) {
        self.answered_ms
            .store(millis(self.began.elapsed()) + 1, Ordering::Relaxed);
    }

    /// A connection broke, or none came about.
    pub(super) fn lost(&self) {
        self.answered_ms.store(0, Ordering::Relaxed);
    }

    fn is_warm(&self) -> bool {
        match self.answered_ms.load(Ordering::Relaxed) {
            0 => false,
            answered_ms => {
                millis(self.began.elapsed()).saturating_sub(answered_ms) < millis(self.lasts)
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn one_call_goes_ahead_and_the_others_follow_once_it_is_answered() {
        let warmth = Warmth::new(LONG);
        let Poll::Ready(Some(opening)) = poll(warmth.enter()) else {
            panic!("nobody goes ahead");
        };
        let mut context = Context::from_waker(Waker::noop());
        let mut second = pin!(warmth.enter());
        let mut third = pin!(warmth.enter());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(third.as_mut().poll(&mut context).is_pending());
        warmth.answered();
        drop(opening);
        assert!(matches!(second.poll(&mut context), Poll::Ready(None)));
        assert!(matches!(third.poll(&mut context), Poll::Ready(None)));
        assert!(matches!(poll(warmth.enter()), Poll::Ready(None)));
    }

    #[test]
    fn when_the_first_fails_the_next_goes_ahead() {
        let warmth = Warmth::new(LONG);
        let first = poll(warmth.enter());
        warmth.lost();
        drop(first);
        assert!(matches!(poll(warmth.enter()), Poll::Ready(Some(_))));
    }

    #[test]
    fn a_connection_that_broke_or_was_idle_too_long_is_not_counted_on() {
        let broken = Warmth::new(LONG);
        broken.answered();
        broken.lost();
        assert!(matches!(poll(broken.enter()), Poll::Ready(Some(_))));
        let idle = Warmth::new(MARGIN);
        idle.answered();
        assert!(matches!(poll(idle.enter()), Poll::Ready(Some(_))));
    }
}
