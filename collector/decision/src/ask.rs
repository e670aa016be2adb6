//! What an aggregator is asked: one slot, with all that is known just then.

use returnpath_shared::wire::{Opportunity, Privacy};

/// One slot to be filled. Which of it an aggregator sees is decided where the
/// request is made: by its configuration, and by `privacy`.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The opportunity, with what is known of its box.
    pub opportunity: &'a Opportunity,
    /// The id that the decision will have, whatever is decided.
    pub decision_id: &'a str,
    /// Slot within the break, from 0.
    pub slot: u32,
    /// Length of the slot in ms.
    pub slot_duration_ms: u32,
    /// What may be seen.
    pub privacy: Privacy,
    /// The collector's clock, milliseconds since 1970-01-01T00:00:00Z.
    pub now_unix_ms: i64,
    /// What is left of the aggregator's time to answer, in ms.
    pub time_left_ms: u32,
    /// What the box is called towards this one aggregator: an HMAC of the
    /// device id with the aggregator's own key, so that two of them cannot
    /// join what they know. Absent without consent.
    pub pseudonym: Option<&'a str>,
}
