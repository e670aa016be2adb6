//! Every bound of what is kept per box and per partition, with its reason and
//! what happens there. Bounds of the wire are in `returnpath_shared`.

use returnpath_shared::LINE_BYTES_MAX;

/// The bounds on what is remembered of one box. [`Limits::DEFAULT`] is what a
/// collector runs with; tests choose small ones to come to them quickly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// See [`OPEN_DECISIONS_MAX`].
    pub open_decisions_max: usize,
    /// See [`OVER_DECISIONS_MAX`].
    pub over_decisions_max: usize,
    /// See [`EXPOSURES_MAX`].
    pub exposures_max: usize,
}

impl Limits {
    /// What a collector runs with.
    pub const DEFAULT: Self = Self {
        open_decisions_max: OPEN_DECISIONS_MAX,
        over_decisions_max: OVER_DECISIONS_MAX,
        exposures_max: EXPOSURES_MAX,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Decisions of one box that are remembered: sixteen of the longest breaks. A
/// slot beyond them is recorded unfilled (`STATE_BOUND`) and nothing is sent:
/// what cannot be remembered could be decided twice.
pub const OPEN_DECISIONS_MAX: usize = 256;

/// Of these, kept although they are over, for proofs that come late; half as
/// many of those that hold no ad, and of those that nothing was sent for, so
/// that what is asked for again is not decided again. The oldest are forgotten
/// first; proofs of theirs are then counted as unknown. Each costs a box's
/// record 100 bytes.
pub const OVER_DECISIONS_MAX: usize = 16;

/// Ads of one box that are counted for caps one by one: a day of twelve ads an
/// hour, and as much again. When it is reached, ads of one advertiser that were
/// shown are counted together, as of the latest; with more advertisers than
/// this, every offer is capped. Caps may cost revenue, and are never exceeded.
pub const EXPOSURES_MAX: usize = 512;

/// Opportunities of one partition that are being decided at a time: seconds of
/// what one is built for. [`Partition::has_room`](crate::Partition::has_room)
/// says when to stop reading; what is handed over all the same is decided
/// without asking.
pub const ASKINGS_MAX: usize = 1_024;

/// What is left of a slot for the commit and the way to the box, in ms: asking
/// ends this long before the slot expires.
pub const PUSH_MARGIN_MS: i64 = 100;

/// An aggregator is not asked when less than this part of its deadline is left:
/// its failure would be ours.
pub const DEADLINE_PART_MIN: u32 = 4;

/// A decision expires this long after its opportunity was sent at the latest,
/// in ms, however far ahead its break lies: prices and ads are not good for
/// longer, and a player that counts its time wrongly must not fill what is
/// remembered of its box for ever.
pub const AHEAD_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// How long after its expiry a decision may still be asked for by a box whose
/// clock reads a little earlier than we think, in ms.
pub const EXPIRY_MARGIN_MS: i64 = 10_000;

/// How long after its expiry a decision that was never acknowledged is recorded
/// as expired, by the collector's clock, in ms: many times the interval at
/// which a box tells what is not urgent.
pub const UNACKNOWLEDGED_MS: i64 = 60_000;

/// How long after its expiry an ad may be told to have begun, in ms: its player
/// took the decision in time and was slow to show it.
pub const PLAY_GRACE_MS: u64 = 5_000;

/// How long after the expiry of a decision another boot of its box must be
/// heard to be taken for a later one, in ms: more than what a former boot sent
/// can be held up.
pub const BOOT_ORDER_MS: i64 = 60_000;

/// How long a decision that was neither shown nor settled is remembered for the
/// proof of a box that is away, in ms, when its room is needed. Its cap counts
/// for all of the window.
pub const UNSETTLED_MS_MAX: i64 = 7 * 24 * 60 * 60 * 1_000;

/// Opportunities of one box of which only one of the two inputs has been read.
/// The oldest is forgotten first: what it settles, the next one settles too.
pub const UNMATCHED_MAX: usize = 8;

/// Largest record that is written, in bytes: what librdkafka takes unless told
/// otherwise (`message.max.bytes`). All other bounds together keep below it, as
/// tests show; a record beyond it could never be written, and no other behind
/// it.
pub const RECORD_BYTES_MAX: usize = 1_000_000;

/// Largest opportunity that is read, in bytes: four times what a box can put
/// into an event. A larger one is none that refine wrote.
pub const OPPORTUNITY_BYTES_MAX: usize = 4 * LINE_BYTES_MAX;

/// Longest detail in a record, in bytes; longer ones are cut.
pub const DETAIL_BYTES_MAX: usize = 256;
