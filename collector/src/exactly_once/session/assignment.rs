//! Taking partitions over and giving them up, in the order that keeps their
//! state exact: stable offsets, changelogs, reading; and backwards, everything
//! committed before anything is let go.
//!
//! The group's decisions arrive through `source`, and `changelog` loads the
//! state; neither is done here.

use std::time::{Duration, Instant};

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};
use tracing::{error, info};

use super::{Exit, Session, broken, owned::Owned, working::earliest};
use crate::{
    admin::Readiness,
    exactly_once::{
        Input, Work, Worker, changelog,
        producer::Broken,
        source::{Rebalance, Start},
    },
};

/// Longest wait for the group's offsets to be stable: beyond the timeout of a
/// former owner's transaction, and Kafka's look at it (every 10 s).
const STABLE_WITHIN: Duration = Duration::from_secs(60);

/// Longest wait for partitions that Kafka's client does not know although the
/// group gave them to us. It learned of their topic before every node had, and
/// remembers that for minutes; another one asks anew.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// Pause before the offsets are asked for again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

impl<W: Work> Session<'_, W> {
    pub(super) fn rebalance(&mut self, rebalance: Rebalance, worker: &Worker) -> Result<(), Exit> {
        match rebalance {
            Rebalance::Assigned(partitions) => self.assigned(&partitions, worker)?,
            Rebalance::Revoked(partitions) => self.revoked(&partitions, worker)?,
        }
        let owned = i64::try_from(self.partitions.len()).unwrap_or(i64::MAX);
        worker.metrics.partitions.set(owned);
        self.count_devices(worker);
        self.tell_readiness(worker);
        Ok(())
    }

    pub(super) fn tell_readiness(&mut self, worker: &Worker) {
        let hindrance = if self.partitions.is_empty() {
            Some("no partition is assigned")
        } else {
            self.work.hindrance(worker.now_ms())
        };
        let readiness = hindrance.map_or(Readiness::Ready, Readiness::NotReady);
        worker.health.set(readiness);
    }

    /// Stable offsets, then the changelogs, then reading begins.
    fn assigned(&mut self, partitions: &[i32], worker: &Worker) -> Result<(), Exit> {
        if partitions.is_empty() {
            // A rebalance that changed nothing for us must be answered too.
            return self.source.accept(&[]).map_err(broken);
        }
        let restore_began = Instant::now();
        // Kafka counts the open transaction from its first record, and loading
        // may take seconds.
        self.close(worker)?;
        let starts = self.stable_offsets(partitions, worker)?;
        let states = match changelog::restore(worker, self.work, partitions) {
            Ok(states) => states,
            Err(changelog::Failure::Fatal(error)) => return Err(Exit::Fatal(error)),
            Err(changelog::Failure::Kafka(error)) => return Err(broken(error)),
            Err(changelog::Failure::Silence) => {
                return Err(Broken("a changelog does not end".into()).into());
            }
            Err(changelog::Failure::Stopped) => {
                return Err(Broken("told to stop while loading the state".into()).into());
            }
        };
        let now_ms = worker.now_ms();
        for ((partition, start), mut state) in starts.iter().zip(states) {
            tell_expired(*partition, start, worker);
            self.work.resumed(&mut state, now_ms);
            self.timeout_ms = earliest(self.timeout_ms, self.work.poll_timeout(&state, now_ms));
            let owned = Owned::new(state, start.positions);
            self.partitions.insert(*partition, owned);
        }
        let positions: Vec<_> = starts
            .iter()
            .map(|(partition, start)| (*partition, start.positions))
            .collect();
        self.source.accept(&positions).map_err(broken)?;
        worker
            .metrics
            .restore_seconds
            .observe(restore_began.elapsed().as_secs_f64());
        info!(
            role = worker.terms.role,
            ?partitions,
            milliseconds = restore_began.elapsed().as_millis(),
            "assigned"
        );
        Ok(())
    }

    /// Asks until a former owner's transaction is decided: Kafka does not tell
    /// before, and that may take its timeout.
    fn stable_offsets(
        &self,
        partitions: &[i32],
        worker: &Worker,
    ) -> Result<Vec<(i32, Start)>, Exit> {
        let began = Instant::now();
        loop {
            worker.health.progressed();
            match self.source.committed(partitions) {
                Ok(starts) => return Ok(starts),
                Err(error) if worker.is_stopping() || began.elapsed() > patience(&error) => {
                    return Err(broken(error));
                }
                Err(error) => {
                    info!(
                        role = worker.terms.role,
                        "waiting for stable offsets: {error}"
                    );
                    worker.pause(ASK_AGAIN_AFTER);
                }
            }
        }
    }

    /// Finishes what is open, then lets go. If the group gave up on us first,
    /// the commit is fenced and the transaction undone.
    fn revoked(&mut self, partitions: &[i32], worker: &Worker) -> Result<(), Exit> {
        self.flush(partitions, worker)?;
        self.close(worker)?;
        for partition in partitions {
            if let Some(owned) = self.partitions.remove(partition) {
                self.work.released(owned.state);
            }
        }
        self.source.release(partitions).map_err(broken)?;
        info!(role = worker.terms.role, ?partitions, "released");
        Ok(())
    }
}

fn patience(error: &KafkaError) -> Duration {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::UnknownPartition) => KNOWN_WITHIN,
        _ => STABLE_WITHIN,
    }
}

fn tell_expired(partition: i32, start: &Start, worker: &Worker) {
    for input in Input::ALL {
        let expired = start.expired[input as usize];
        if expired > 0 {
            error!(
                partition,
                topic = worker.topic(input).topic,
                "{expired} records were deleted by retention before they were read"
            );
            worker.metrics.add_expired(input, expired);
        }
    }
}
