//! How a run ends: no new events, everything committed, clients answered, file
//! closed, broker told, exit; or what of it the deadline leaves.

use std::time::Duration;

use returnpath_delivery::{Input, Uptime};
use tracing::{info, warn};

use super::Agent;
use crate::queue::{self, Outcome};

/// How long the broker's goodbye may take.
const DISCONNECT_GRACE: Duration = Duration::from_secs(1);

/// How far a stop has come.
#[derive(Debug, Default)]
pub(super) struct Stop {
    /// Since when the agent stops.
    began: Option<Uptime>,
    /// Everything is in the file.
    core_stopped: bool,
    signals: u32,
}

/// How a stop came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stopping {
    InOrder,
    CutShort,
}

impl Stop {
    /// When it is cut short.
    pub(super) fn deadline(&self, after: Duration) -> Option<Uptime> {
        self.began.map(|began| began.plus(after))
    }

    pub(super) fn core_stopped(&mut self) {
        self.core_stopped = true;
    }

    /// Whether the loop is to end: everything is in the file, or the deadline
    /// has passed, or a second signal came.
    pub(super) fn ended(&self, now: Uptime, deadline_after: Duration) -> Option<Stopping> {
        let deadline = self.deadline(deadline_after)?;
        if self.core_stopped {
            return Some(Stopping::InOrder);
        }
        (deadline <= now || self.signals > 1).then_some(Stopping::CutShort)
    }
}

impl Agent {
    /// A signal asks the agent to stop.
    pub(super) fn stop(&mut self, now: Uptime) {
        self.stop.signals += 1;
        if self.stop.began.is_none() {
            info!("stopping");
            self.stop.began = Some(now);
            self.delivery.handle(Input::Stop, now);
        }
    }

    /// Closes the file, tells the broker, and lets the last answers out.
    pub(super) async fn finish(mut self, stopping: Stopping) {
        if stopping == Stopping::CutShort {
            warn!("the stop was cut short; what was not durable may be lost");
        }
        self.queue.request(queue::Request::Close);
        let closed = async {
            loop {
                match self.queue.next().await {
                    Some(Outcome::Closed) | None => return,
                    Some(_) => {}
                }
            }
        };
        let deadline = self.config.shutdown_deadline;
        if tokio::time::timeout(deadline, closed).await.is_err() {
            warn!("the queue file did not close in time");
        }
        self.link.disconnect(DISCONNECT_GRACE).await;
        // Clients' tasks wrote their answers while the two above waited.
        info!("stopped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(5);

    fn stop(core_stopped: bool, signals: u32) -> Stop {
        Stop {
            began: Some(Uptime(1_000)),
            core_stopped,
            signals,
        }
    }

    #[test]
    fn a_stop_ends_in_order_or_is_cut_short_by_time_or_a_second_signal() {
        let ended = |stop: &Stop, now| stop.ended(Uptime(now), AFTER);
        assert_eq!(ended(&Stop::default(), u64::MAX), None);
        assert_eq!(ended(&stop(false, 1), 5_999), None);
        assert_eq!(ended(&stop(false, 1), 6_000), Some(Stopping::CutShort));
        assert_eq!(ended(&stop(false, 2), 1_000), Some(Stopping::CutShort));
        assert_eq!(ended(&stop(true, 2), 9_000), Some(Stopping::InOrder));
    }
}
