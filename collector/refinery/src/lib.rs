//! The pure core of `refine`: turns the raw records of one partition into
//! refined events, rejections and changes of state.
//!
//! [`Partition`] owns what is known of the boxes of one partition and decides
//! what each record leads to: unpacking within limits, structure, exact
//! removal of duplicates, event time, fan-out, the profile of each box. It
//! reads no clock, speaks to no broker and keeps nothing outside itself: the
//! shell hands it records and the time, produces what stands in [`Output`],
//! and says how the transaction ended.
//!
//! One transaction of the shell:
//!
//! ```text
//! refine(record, now, out)*   handle_timeout(now, out)*
//!   → changes(out) → produce out, send offsets
//!   → committed: commit()
//!   → aborted:   abort(), seek both lanes back to the committed offsets
//! ```
//!
//! What is promised of the order: records of one epoch are refined by rising
//! sequence where they arrive within [`WAIT_MS`] of each other; nothing is
//! promised between epochs, lanes or boxes.
//!
//! A profile says what is viewed and was viewed before, what was shown, what
//! the viewer allows; each part is moved by a later event of its box only, so
//! a batch that comes late moves nothing back. Profiles are state like any
//! other, but stand in `rp.devices` and nowhere else:
//! [`Partition::restore_profile`] takes them back. Each ad opportunity goes out
//! once more with the profile of its moment ([`Destination::Opportunity`]).
//!
//! What did not arrive is told too: an account of each run of each box, with
//! its holes and what the box declared lost, goes to `rp.completeness`, which
//! is likewise the only copy of what was declared
//! ([`Partition::restore_completeness`]).
#![no_std]
extern crate alloc;

mod arrivals;
mod batch;
mod clock;
mod completeness;
mod counts;
mod device;
mod encode;
mod envelope;
mod fields;
mod limit;
mod order;
mod output;
mod partition;
mod profile;
mod proofs;
mod record;
mod refining;
mod rejection;
mod state;
mod unpack;
mod unread;

pub use completeness::{BoxCompleteness, Missing, Total};
pub use counts::Counts;
pub use limit::*;
pub use order::Moment;
pub use output::{Destination, Output};
pub use partition::Partition;
pub use record::RawRecord;
pub use state::RestoreError;
