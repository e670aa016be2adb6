//! What a commit lets metrics know: records read of each input, how far behind
//! they were, and how many boxes have state.
//!
//! Only what was committed is counted as read; what the work found in the
//! records it counts itself.

use std::time::{SystemTime, UNIX_EPOCH};

use super::Session;
use crate::exactly_once::{Input, Work, Worker};

/// What was read of one input in one transaction, for metrics.
#[derive(Clone, Copy, Default)]
pub(super) struct Read {
    pub(super) records: u64,
    pub(super) newest_unix_ms: i64,
}

impl<W: Work> Session<'_, W> {
    pub(super) fn count_read(&self, read: &[Read; Input::ALL.len()], worker: &Worker) {
        let now_unix_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_millis()).ok())
            .unwrap_or_default();
        for input in Input::ALL {
            let read = read[input as usize];
            if read.records > 0 {
                worker.metrics.add_records(input, read.records);
                let lag_ms = now_unix_ms.saturating_sub(read.newest_unix_ms);
                worker.metrics.set_lag(input, lag_ms);
            }
        }
    }

    pub(super) fn count_devices(&self, worker: &Worker) {
        let devices: usize = self
            .partitions
            .values()
            .map(|owned| self.work.devices(&owned.state))
            .sum();
        worker
            .metrics
            .devices
            .set(i64::try_from(devices).unwrap_or(i64::MAX));
    }
}
