//! What the pure cores of the collector need to live inside transactions of
//! Kafka: [`Versioned`], a value that a transaction may change and take back;
//! [`Staged`], one that the next may change while Kafka commits the last; and
//! [`Records`], what it produces, in one buffer that is reused.
//!
//! Knows no topic, no message and no Kafka: the cores say what goes where, the
//! shell begins, commits and aborts.
#![no_std]
extern crate alloc;

mod records;
mod staged;
mod versioned;

pub use records::{Record, Records};
pub use staged::Staged;
pub use versioned::Versioned;
