//! When the clock is looked at, and what is new about it.

use std::time::Duration;

use returnpath_delivery::Uptime;
use tracing::info;

use crate::clock::{self, SyncSource, TrustedTime};

/// While the clock is not synchronised it is looked at this often; afterwards
/// only when the agent is awake anyway.
const INTERVAL: Duration = Duration::from_secs(30);

/// What the agent knows of the time.
#[derive(Debug)]
pub(super) struct Timekeeping {
    trusted: TrustedTime,
    look_at: Uptime,
}

/// What a look at the clock brought.
#[derive(Debug)]
pub(super) struct Look {
    /// Seconds since 1970 that the time has certainly passed; while the clock is
    /// synchronised.
    pub(super) floor_unix_s: Option<u64>,
    /// The wall clock in ms, when it has just become synchronised.
    pub(super) synchronised_at_unix_ms: Option<i64>,
}

impl Timekeeping {
    pub(super) fn new(trusted: TrustedTime, now: Uptime) -> Self {
        Self {
            trusted,
            look_at: now,
        }
    }

    /// When to look at the clock, if somebody has to be woken for it.
    pub(super) fn due(&self) -> Option<Uptime> {
        (!self.is_synchronised()).then_some(self.look_at)
    }

    pub(super) fn is_synchronised(&self) -> bool {
        self.trusted.is_synchronised()
    }

    /// Looks at the clock when it is time to.
    pub(super) fn look(&mut self, source: &SyncSource, now: Uptime) -> Option<Look> {
        if now < self.look_at {
            return None;
        }
        self.look_at = now.plus(INTERVAL);
        let before = self.trusted.is_synchronised();
        let synchronised = source.is_synchronised();
        let unix_ms = clock::unix_ms();
        self.trusted.observe(unix_ms, synchronised);
        let is_new = synchronised && !before;
        if is_new {
            info!(unix_ms, "the clock is synchronised");
        }
        Some(Look {
            floor_unix_s: synchronised.then(|| self.trusted.floor_unix_s()),
            synchronised_at_unix_ms: is_new.then_some(unix_ms),
        })
    }
}
