//! The pure core of `decide`: an opportunity with its context becomes requests
//! to aggregators, their answers become offers, and the offers of a slot become
//! one decision with a record that explains it.
//!
//! Time, answers and signatures are arguments; requests, records, changes of
//! state and pushes are values that the shell carries out. No clock is read, no
//! socket opened, no secret kept beyond the settings.
//!
//! [`Partition`] owns what is known of the boxes of one partition, [`Gates`]
//! what is known of the aggregators, for the whole process. One transaction of
//! the shell:
//!
//! ```text
//! opportunity(record, …, out)*  ad_event(record, …, out)*
//! answered(ended, …, out)*  handle_timeout(…, out)*  pushed(id, …, out)*
//!   after each: make out.take_calls(), at once; settings.read(answer) as it comes
//!   → note lowest_unfinished_offset(input) of both inputs
//!   → changes(out) → produce out, send offsets of both inputs, each up to there;
//!     what is taken from here on belongs to the next transaction
//!   → committed: commit(pushes), publish them
//!   → aborted:   abort(), clear out, seek both inputs back to the committed
//!                offsets; calls under way still end in answered()
//! ```
#![no_std]
extern crate alloc;

mod adapter;
mod answered;
mod ask;
mod call;
mod counts;
mod device;
mod encode;
mod exposures;
mod field;
mod gates;
mod input;
mod limit;
mod now;
mod offer;
mod opportunity;
mod output;
mod partition;
mod policy;
mod push;
mod rules;
mod settings;
mod settlement;
mod signer;
mod slot;
mod state;

pub use adapter::{ParametersAdapter, ParametersConfig, ParametersError};
pub use answered::Answered;
pub use ask::Ask;
pub use call::{Adapter, Answer, Method, Request, Response, Unaskable, Unreadable};
pub use counts::{AggregatorCounts, Counts};
pub use field::{Field, Format};
pub use gates::{BreakerState, CallId, Gates};
pub use input::{Input, InputRecord};
pub use limit::*;
pub use now::Now;
pub use offer::{Advertiser, HostRule, OFFERS_MAX};
pub use output::{Call, Destination, Output};
pub use partition::{Ended, Lent, Partition};
pub use policy::replay;
pub use push::{Push, Timing};
pub use rules::{IsCapped, Rules, RulesConfig};
pub use settings::{
    AGGREGATORS_MAX, Aggregator, BreakerSettings, Cap, DEADLINE_MS_MAX, Rate, SettingError,
    Settings, UnknownConsent, WithoutConsent,
};
pub use signer::{Pseudonyms, Signer};
pub use slot::decision_id;
pub use state::RestoreError;
