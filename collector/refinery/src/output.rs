//! What goes out: records ready for Kafka, in one buffer that is reused.

use returnpath_shared::Stream;

/// Where a record goes. Always to the partition number of the input.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Destination {
    /// A refined event: `rp.viewing`, `rp.ads`, `rp.health`, `rp.custom`.
    Refined(Stream),
    /// What failed, with its reason: `rp.rejected`.
    Rejected,
    /// A change of state: the compacted `rp.refine.state`.
    State,
    /// What is known of a box: the compacted `rp.devices`.
    Device,
    /// An ad opportunity with what is known of its box: `rp.opportunities`.
    Opportunity,
    /// What of an epoch arrived and what did not: the compacted
    /// `rp.completeness`.
    Completeness,
}

/// What goes out; urgent is what the live lane brought: what waited out an
/// outage can wait a little more.
pub type Output = returnpath_transaction::Records<Destination>;
