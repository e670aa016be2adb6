//! The operator's configuration as the core's and the link's settings: what
//! follows from it, and the bounds that nobody needs to set.

use std::time::Duration;

use returnpath_delivery::{Config as DeliveryConfig, Pace, ReconnectConfig, SyncPolicy};

use crate::config::{Config, ProofSync};

/// Proof goes to flash when its batch has had no receipt for this long: longer
/// than a receipt takes on a healthy link, and the client still waits.
const DURABLE_AFTER: Duration = Duration::from_millis(300);

/// Proof events that arrive within this time share one sync.
const GROUP_COMMIT: Duration = Duration::from_millis(20);

/// Remembered ids of proof: a client that got no answer asks again within
/// minutes, and a box has a few ads an hour.
const PROOF_IDS_MAX: usize = 1_024;

/// Remembered ids of ordinary events, in memory.
const ORDINARY_IDS_MAX: usize = 1_024;

/// Publishes without PUBACK. Above the largest window, because a batch may be
/// sent again while its first copy is still unacknowledged.
pub(super) const IN_FLIGHT_MAX: u16 = 80;

/// A link that held for this long counts as good.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// What the file needs beside batches: ids, ledger, free pages.
const FILE_OVERHEAD_BYTES: u64 = 256 * 1024;

/// Size that a batch takes at least, with its row, when many are small.
const ROW_BYTES: u64 = 256;

/// The pace that the file sets.
#[must_use]
pub fn pace(config: &Config) -> Pace {
    Pace {
        batch_interval: config.batch.interval,
        window_batches_max: u32::from(config.link.window_batches_max),
        backlog_rate: u32::from(config.link.backlog_rate),
    }
}

/// How the core is to store, send and drop, at this pace.
#[must_use]
pub fn delivery(config: &Config, pace: Pace) -> DeliveryConfig {
    let queue_bytes_max = payload_bytes_max(config.queue.bytes_max);
    let rows_max = usize::try_from(config.queue.bytes_max / ROW_BYTES).unwrap_or(usize::MAX);
    DeliveryConfig {
        pace,
        flush_interval: config.queue.flush_interval,
        sync: match config.queue.proof_sync {
            ProofSync::Grouped => SyncPolicy::WhenNeeded,
            ProofSync::Always => SyncPolicy::Always,
        },
        durable_after: DURABLE_AFTER,
        group_commit: GROUP_COMMIT,
        queue_bytes_max,
        queue_batches_max: config.queue.batches_max.min(rows_max),
        age_max: config.queue.age_max,
        ram_bytes_max: config.queue.memory_bytes_max,
        live_age_max: config.link.live_age_max,
        resend_after_prompt: config.link.resend_after_prompt,
        resend_after: config.link.resend_after,
        resend_after_max: config.link.resend_after_max,
        flash_bytes_per_day_max: config.queue.flash_bytes_per_day_max,
        proof_ids_max: PROOF_IDS_MAX,
        ordinary_ids_max: ORDINARY_IDS_MAX,
    }
}

/// Packed bytes that fit into a file of this size in the worst case: with
/// 1 KiB pages a batch of a little over half a page takes a whole one.
fn payload_bytes_max(file_bytes_max: u64) -> u64 {
    file_bytes_max.saturating_sub(FILE_OVERHEAD_BYTES) / 2
}

pub(super) fn reconnect(config: &Config, spread: Duration) -> ReconnectConfig {
    ReconnectConfig {
        base: config.link.reconnect_wait_base,
        cap: config.link.reconnect_wait_max,
        spread,
        stable_after: STABLE_AFTER,
    }
}
