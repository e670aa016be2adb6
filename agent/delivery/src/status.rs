//! What the core tells about itself, for `returnpath-agent status` and health
//! events. Totals count from the start of the agent.

use core::time::Duration;

/// A view of the core at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Whether the link is up.
    pub link_up: bool,
    /// Whether there is a queue file that is trusted.
    pub storage_good: bool,
    /// Closed batches held, ordinary.
    pub ordinary: Held,
    /// Closed batches held, proof.
    pub proof: Held,
    /// Of both, those that would go by the live lane.
    pub live: Held,
    /// Of both, those that would go by the backlog lane.
    pub backlog: Held,
    /// Powered age of the oldest batch held.
    pub oldest_age: Option<Duration>,
    /// Bytes in RAM that are not on flash, the open batch included.
    pub unflushed_bytes: u64,
    /// Events in the open batch.
    pub open_events: u32,
    /// Batches in flight without receipt.
    pub in_flight: u32,
    /// Batches that may be.
    pub window: u32,
    /// Ledger rows that the cloud has not confirmed.
    pub ledger_rows: u32,
    /// Clients that wait for `durable`.
    pub waiting: u32,
    /// Events that got an ordinal, the agent's own included.
    pub events_accepted: u64,
    /// Events in batches that were receipted.
    pub events_receipted: u64,
    /// Requests that repeated an earlier one.
    pub events_repeated: u64,
    /// Requests answered `busy`.
    pub events_busy: u64,
    /// Batches published, resends included.
    pub batches_sent: u64,
    /// Batches published again.
    pub batches_resent: u64,
    /// Batches receipted.
    pub batches_receipted: u64,
    /// Batches written to the queue file.
    pub batches_written: u64,
    /// Packed bytes of those.
    pub batch_bytes_written: u64,
    /// Transactions, and how many of them were synced.
    pub commits: u64,
    /// See `commits`.
    pub commits_synced: u64,
    /// Transactions that failed or were rolled back.
    pub commits_failed: u64,
    /// Bytes charged to the flash budget.
    pub flash_charged_bytes: u64,
    /// Bytes that ordinary batches may still use of it; `None` without a bound.
    pub flash_left_bytes: Option<u64>,
    /// Whether it is spent: ordinary batches stay in RAM.
    pub flash_budget_spent: bool,
    /// Receipts, or parts of them, that named nothing known or made no sense.
    pub receipts_ignored: u64,
    /// Events dropped, by reason.
    pub dropped: Dropped,
}

/// Batches held and their packed bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// How many.
    pub batches: u64,
    /// Packed bytes.
    pub bytes: u64,
}

/// Events dropped since the start, by the reason that the ledger gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped {
    /// The queue reached its bound.
    pub queue_full: u64,
    /// Held too long.
    pub too_old: u64,
    /// Consent was withdrawn.
    pub consent: u64,
    /// Could not be read back.
    pub corrupt: u64,
    /// The collector or the broker refused them.
    pub refused: u64,
}
