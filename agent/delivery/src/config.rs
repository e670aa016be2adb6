//! What an operator sets, already parsed. Defaults live in the agent's example
//! file, not here.

use core::time::Duration;

/// When proof goes to flash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyncPolicy {
    /// Only where a receipt does not come first: no flash is written online.
    WhenNeeded,
    /// Every proof event, as soon as it is accepted.
    Always,
}

/// Settings of the core.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// What the cloud may change while the agent runs.
    pub pace: Pace,
    /// While the link is down batches grow for this long; ordinary batches
    /// are written at most this often. Above the collector's coalescing of
    /// receipts (30 s), or online batches touch flash.
    pub flush_interval: Duration,
    /// When proof goes to flash.
    pub sync: SyncPolicy,
    /// Proof goes to flash when its batch has had no receipt for this long.
    pub durable_after: Duration,
    /// Proof events that arrive within this time share one sync.
    pub group_commit: Duration,
    /// Packed bytes of all batches held, on flash and in RAM.
    pub queue_bytes_max: u64,
    /// Batches held. Each takes 32 bytes of RAM while it is on flash, so that
    /// 16,384 of them cost 512 KiB.
    pub queue_batches_max: usize,
    /// Batches held longer than this, in powered time, are dropped.
    pub age_max: Duration,
    /// Bytes in RAM that are not on flash: the open batch and closed ones
    /// waiting to be written. Beyond it clients are answered `busy`.
    pub ram_bytes_max: usize,
    /// A batch older than this, by its first event, goes by the backlog lane.
    pub live_age_max: Duration,
    /// A batch whose receipt is due at once (proof, backlog) is sent again
    /// after this long without one. Above the collector's 1 s.
    pub resend_after_prompt: Duration,
    /// An ordinary live batch is sent again after this long without a
    /// receipt. Above the collector's coalescing (30 s).
    pub resend_after: Duration,
    /// The longest pause between probes when no receipts come.
    pub resend_after_max: Duration,
    /// Bytes that may reach the flash in a day: past it ordinary batches stay
    /// in RAM. `None` sets no bound.
    pub flash_bytes_per_day_max: Option<u64>,
    /// Remembered ids of proof events, also across restarts.
    pub proof_ids_max: usize,
    /// Remembered ids of ordinary events that carry one, in RAM.
    pub ordinary_ids_max: usize,
}

/// How fast the box sends: the part of the settings that the cloud may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Time from the first event of a batch to its closing, while connected.
    pub batch_interval: Duration,
    /// Most batches in flight without receipt, at least 1.
    pub window_batches_max: u32,
    /// Backlog batches a second; 0 stops the backlog lane.
    pub backlog_rate: u32,
}
