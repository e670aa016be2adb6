//! Every bound of what is kept per box and per partition, with its reason and
//! what happens there. Bounds of the wire are in `returnpath_shared`.

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

/// Epochs of one box of which it may still hold batches. A box that was
/// offline sends up to 64 batches before the first receipt, each perhaps of
/// another start. A batch of one more epoch is rejected (`STATE_BOUND`).
pub const EPOCHS_MAX: usize = 128;

/// Epochs kept of those that the box has released, so that duplicates under
/// way are still known. The oldest is forgotten first; what comes of it later
/// is rejected (`RETIRED`).
pub const RELEASED_EPOCHS_MAX: usize = 8;

/// Missing stretches of sequences per box that it may still fill: four times
/// the 64 batches that it sends without receipt. A batch that would open one
/// more is rejected (`STATE_BOUND`).
pub const HOLES_MAX: usize = 256;

/// Missing stretches kept per epoch of those that the box has released: a
/// batch may still be on its way through the other lane. The oldest is
/// forgotten first; what comes for it later is rejected (`RETIRED`).
pub const RELEASED_HOLES_MAX: usize = 32;

/// Proofs remembered per box to recognise repeats: hours of ad breaks, and the
/// record stays within 2 KiB. The oldest is forgotten first.
pub const PROOF_KEYS_MAX: usize = 256;

/// Boots of one box whose clock is remembered, as many as a boot event may
/// name. The oldest is forgotten first; events of it are then only bounded.
pub const CLOCKS_MAX: usize = returnpath_shared::ANCHORS_MAX;
