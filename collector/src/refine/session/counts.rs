//! What a commit lets metrics know: records read of each lane, how far behind
//! they were, and how many boxes have state.
//!
//! Only what was committed is counted as read; what the refinery found in the
//! records it counts itself.

use std::time::{SystemTime, UNIX_EPOCH};

use returnpath_shared::Lane;

use super::Session;
use crate::refine::Worker;

/// What was read of one lane since the last commit, for metrics.
#[derive(Clone, Copy, Default)]
pub(super) struct Read {
    pub(super) records: u64,
    pub(super) newest_unix_ms: i64,
}

impl Session {
    pub(super) fn count_read(&mut self, worker: &Worker) {
        let now_unix_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_millis()).ok())
            .unwrap_or_default();
        for lane in Lane::ALL {
            let read = std::mem::take(&mut self.read[lane as usize]);
            if read.records > 0 {
                let metrics = &worker.metrics;
                let label = lane.into();
                metrics.records.get_or_create(&label).inc_by(read.records);
                let lag_ms = now_unix_ms.saturating_sub(read.newest_unix_ms);
                metrics.lag_milliseconds.get_or_create(&label).set(lag_ms);
            }
        }
    }

    pub(super) fn count_devices(&self, worker: &Worker) {
        let devices: usize = self
            .partitions
            .values()
            .map(|owned| owned.state.devices())
            .sum();
        worker
            .metrics
            .devices
            .set(i64::try_from(devices).unwrap_or(i64::MAX));
    }
}
