//! What each role reports about itself, readable from any thread.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

/// Whether a role can do its work at the moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// Connected or assigned.
    Ready,
    /// What is missing, for a person.
    NotReady(&'static str),
}

/// Health of all roles of the process.
#[derive(Clone, Debug)]
pub struct Health {
    started: Instant,
    roles: Vec<(&'static str, Arc<State>)>,
}

/// One role's end: it reports here.
#[derive(Clone, Debug)]
pub struct RoleHealth {
    started: Instant,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    silence_max: Duration,
    /// Milliseconds after `started`.
    progressed_ms: AtomicU64,
    readiness: watch::Sender<Readiness>,
}

impl Health {
    /// No roles yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            roles: Vec::new(),
        }
    }

    /// Adds a role, not ready, which must report progress at least every
    /// `silence_max` from now on.
    pub fn role(&mut self, name: &'static str, silence_max: Duration) -> RoleHealth {
        let state = Arc::new(State {
            silence_max,
            progressed_ms: AtomicU64::new(millis_since(self.started)),
            readiness: watch::Sender::new(Readiness::NotReady("starting")),
        });
        self.roles.push((name, Arc::clone(&state)));
        RoleHealth {
            started: self.started,
            state,
        }
    }

    /// Roles that are silent beyond their limit, and for how long.
    #[must_use]
    pub fn stuck(&self) -> Vec<(&'static str, Duration)> {
        let now_ms = millis_since(self.started);
        self.roles
            .iter()
            .filter_map(|(name, state)| {
                let silent_ms = now_ms.saturating_sub(state.progressed_ms.load(Ordering::Relaxed));
                let silent = Duration::from_millis(silent_ms);
                (silent > state.silence_max).then_some((*name, silent))
            })
            .collect()
    }

    /// Roles that are not ready, and why.
    #[must_use]
    pub fn unready(&self) -> Vec<(&'static str, &'static str)> {
        self.roles
            .iter()
            .filter_map(|(name, state)| match *state.readiness.borrow() {
                Readiness::Ready => None,
                Readiness::NotReady(reason) => Some((*name, reason)),
            })
            .collect()
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl RoleHealth {
    /// The role's loop went round. Cheap: one relaxed store.
    pub fn progressed(&self) {
        self.state
            .progressed_ms
            .store(millis_since(self.started), Ordering::Relaxed);
    }

    /// Says whether the role can do its work.
    pub fn set(&self, readiness: Readiness) {
        self.state.readiness.send_if_modified(|current| {
            let changed = *current != readiness;
            *current = readiness;
            changed
        });
    }

    /// A handle that no one reads, for tests of a role.
    #[must_use]
    pub fn unobserved() -> Self {
        Health::new().role("unobserved", Duration::MAX)
    }
}

fn millis_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_unready_until_it_says_otherwise_and_again_when_it_says_so() {
        let mut health = Health::new();
        let bridge = health.role("bridge", Duration::MAX);
        assert_eq!(health.unready(), [("bridge", "starting")]);
        bridge.set(Readiness::Ready);
        assert_eq!(health.unready(), []);
        bridge.set(Readiness::NotReady("no MQTT connection"));
        assert_eq!(health.unready(), [("bridge", "no MQTT connection")]);
    }

    #[test]
    fn a_silent_role_is_stuck_and_a_talking_one_is_not() {
        let mut health = Health::new();
        let silent = health.role("silent", Duration::ZERO);
        let _talking = health.role("talking", Duration::MAX);
        while health.stuck().is_empty() {
            std::hint::spin_loop();
        }
        assert_eq!(health.stuck()[0].0, "silent");
        assert_eq!(health.stuck().len(), 1);
        silent.progressed();
    }
}
