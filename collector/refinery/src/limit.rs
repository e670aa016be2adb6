//! Every bound of what is kept per box and per partition, with its reason and
//! what happens there. Bounds of the wire are in `returnpath_shared`.

use returnpath_shared::INCARNATIONS_MAX;

/// The bounds on what is remembered of one box. [`Limits::DEFAULT`] is what a
/// collector runs with; tests choose small ones to come to them quickly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// See [`INCARNATIONS_MAX`].
    pub incarnations_max: usize,
    /// See [`FORGOTTEN_INCARNATIONS_MAX`].
    pub forgotten_incarnations_max: usize,
    /// See [`EPOCHS_MAX`].
    pub epochs_max: usize,
    /// See [`RELEASED_EPOCHS_MAX`].
    pub released_epochs_max: usize,
    /// See [`HOLES_MAX`].
    pub holes_max: usize,
    /// See [`RELEASED_HOLES_MAX`].
    pub released_holes_max: usize,
    /// See [`DECLARED_EPOCHS_MAX`].
    pub declared_epochs_max: usize,
    /// See [`DECLARED_RANGES_MAX`].
    pub declared_ranges_max: usize,
}

impl Limits {
    /// What a collector runs with.
    pub const DEFAULT: Self = Self {
        incarnations_max: INCARNATIONS_MAX,
        forgotten_incarnations_max: FORGOTTEN_INCARNATIONS_MAX,
        epochs_max: EPOCHS_MAX,
        released_epochs_max: RELEASED_EPOCHS_MAX,
        holes_max: HOLES_MAX,
        released_holes_max: RELEASED_HOLES_MAX,
        declared_epochs_max: DECLARED_EPOCHS_MAX,
        declared_ranges_max: DECLARED_RANGES_MAX,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How long a record waits for the one before it, in ms. Bridges hand over
/// within single milliseconds of each other; a person does not see 50.
/// Then refining goes on without the missing one.
pub const WAIT_MS: u64 = 50;

/// Records of one partition that wait at a time. When it is reached, records
/// are refined without waiting, which costs order within an epoch, not data.
pub const WAITING_RECORDS_MAX: usize = 1_024;

/// Bytes of waiting records of one partition; then as for their number.
pub const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Records of one box that wait at a time, so that no box fills the room of
/// the others; then as for their number.
pub const WAITING_RECORDS_PER_DEVICE_MAX: usize = 64;

/// Queue files of one box of which nothing is remembered any more but their
/// number, so that a batch of theirs that was long under way is rejected
/// (`RETIRED`) and not refined again: more than a box can lose while a message
/// is on its way; 2 KiB, and only of boxes that lost more than
/// [`INCARNATIONS_MAX`]. The oldest is forgotten first; what comes of it after
/// that is taken as new. Also the queue files of which it is remembered that
/// declarations were forgotten, for the same reason; 42 KiB.
pub const FORGOTTEN_INCARNATIONS_MAX: usize = 240;

/// Epochs of one box of which it may still hold batches. A box that was
/// offline sends up to 64 batches before the first receipt, each perhaps of
/// another start. A batch of one more epoch is rejected (`STATE_BOUND`).
pub const EPOCHS_MAX: usize = 128;

/// Epochs kept of those that the box has released, so that duplicates under
/// way are still known. The oldest is forgotten first; what comes of it later
/// is rejected (`RETIRED`).
pub const RELEASED_EPOCHS_MAX: usize = 8;

/// How much earlier an incarnation must have reached the collector to count as
/// older than another, in ms: more than bridges' clocks differ and batches
/// overtake each other, less than it takes to lose a queue file twice. Below
/// it neither speaks for the other.
pub const INCARNATION_ORDER_MS: i64 = 60_000;

/// Missing stretches of sequences per box that it may still fill: four times
/// the 64 batches that it sends without receipt. A batch that would open one
/// more is rejected (`STATE_BOUND`).
pub const HOLES_MAX: usize = 256;

/// Missing stretches kept per epoch of those that the box has released: a
/// batch may still be on its way through the other lane. The oldest is
/// forgotten first; what comes for it later is rejected (`RETIRED`).
pub const RELEASED_HOLES_MAX: usize = 32;

/// Epochs of a box of which nothing has arrived, and which are remembered
/// because they were declared: as many unclean stops as an agent tells of after
/// one start. It tells of an epoch piece by piece, and may still send batches of
/// it. Those that the box has released are forgotten first, then the oldest;
/// what they declared stands in `rp.health`. Up to which start that was is
/// remembered of each queue file, of [`FORGOTTEN_INCARNATIONS_MAX`] at most:
/// nothing missing of a run up to it is called unexplained.
pub const DECLARED_EPOCHS_MAX: usize = 256;

/// Ranges of batches remembered per box as declared lost: a ledger as full as
/// an agent lets it become, whatever order its rows come in; 48 KiB. Those of
/// which nothing is missing are forgotten first, then those of epochs whose
/// arrivals are forgotten, then of the oldest epoch the lowest: where something
/// is missing there, it is no longer said why, but that this was forgotten.
pub const DECLARED_RANGES_MAX: usize = returnpath_shared::LEDGER_ROWS_MAX;

/// Missing ranges listed in one record of `rp.completeness`: more than a person
/// reads, and some 2 KiB. The sums beside them go on.
pub const MISSING_RANGES_MAX: usize = 64;

/// The account of an epoch is written anew after this much time, in ms, where
/// nothing turns: a record per box and ten minutes, where a batch comes every
/// five seconds.
pub const COMPLETENESS_REFRESH_MS: i64 = 10 * 60 * 1_000;

/// Proofs of clients remembered per box to recognise repeats: the last twenty
/// ads with all that happens to them, while a client repeats within minutes. All
/// are written with each batch of proofs, so the record stays within 1.25 KiB.
/// The oldest is forgotten first.
pub const PROOF_KEYS_MAX: usize = 128;

/// What the agent itself told, remembered per box beside the proofs of clients:
/// it tells an unclean stop and a loss again after each restart until one is
/// receipted. A box that is offline meanwhile may hold any number of proofs
/// between two such tellings, but hardly as many restarts. The oldest is
/// forgotten first.
pub const OWN_KEYS_MAX: usize = 32;

/// Boots of one box whose clock is remembered, as many as a boot event may
/// name. The oldest is forgotten first; events of it are then only bounded.
pub const CLOCKS_MAX: usize = returnpath_shared::ANCHORS_MAX;

/// How far a synchronised clock of a box may be ahead of the collector's when
/// its envelope arrives, in ms. Beyond it the box is not believed.
pub const CLOCK_AHEAD_MAX_MS: i64 = 5 * 60 * 1_000;

/// How far it may be behind, the way up included, in ms. Brokers keep nothing
/// for long; a clock further behind than this is wrong.
pub const CLOCK_BEHIND_MAX_MS: i64 = 60 * 60 * 1_000;

/// No box was booted before 2020-01-01T00:00:00Z: a clock that says so counts
/// from its own beginning.
pub const CLOCK_MIN_UNIX_MS: i64 = 1_577_836_800_000;

/// A clock that differs from the remembered one by more has been set, in ms:
/// more than a crystal drifts between two refreshes.
pub const CLOCK_STEP_MS: u64 = 1_000;

/// A clock is remembered anew after this much uptime, in ms: bounds drift, and
/// spares a state record with every batch.
pub const CLOCK_REFRESH_MS: u64 = 10 * 60 * 1_000;

/// How long a channel must have been viewed to count as viewed before, in ms:
/// longer than anyone looks at a channel on the way to another, shorter than
/// an ad.
pub const DWELL_FLOOR_MS: u64 = 10_000;

/// Channels kept as viewed before: the one that may be viewed again, and the
/// one before it, which is the last channel then.
pub const VIEWED_BEFORE_MAX: usize = 2;

/// Impressions kept per box: more than the ads of one break. They are written
/// with each change of the profile. The one shown earliest is forgotten first.
pub const IMPRESSIONS_MAX: usize = 16;

/// The last use of the remote control is written anew after this much time, in
/// ms: someone who zaps would change the profile with every batch.
pub const ACTIVITY_REFRESH_MS: u64 = 5 * 60 * 1_000;

/// When a box was last seen is written anew after this much time, in ms, where
/// nothing else changes: a record per box and ten minutes.
pub const SEEN_REFRESH_MS: i64 = 10 * 60 * 1_000;

/// How far ahead of its acceptance the agent lets an event lie, in ms of
/// uptime. What was accepted before an event was accepted before the event's
/// uptime less this.
pub const UPTIME_AHEAD_MAX_MS: u64 = 1_000;
