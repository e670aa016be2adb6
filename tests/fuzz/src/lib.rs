//! The fuzz targets: what strangers send, mutated, and what must hold whatever
//! it is.
//!
//! A [`Target`] is a plain function of bytes that panics when something does
//! not hold. It runs in two ways:
//!
//! - `tests/fuzz/run` under libFuzzer, which steers by the code that an input
//!   reaches. That needs no other compiler: the instrumentation is LLVM's and
//!   open to every Rust.
//! - `cargo test -p returnpath-fuzz`: over the kept corpus, the seeds, and a
//!   bounded number of fresh mutations of both. No instrumentation, and quick.
//!
//! Seeds are made by code ([`Target::seeds`]) from the messages themselves, so
//! that they stay valid as messages grow. `corpus/` keeps what libFuzzer found
//! beyond them: `tests/fuzz/run --keep` chooses the fewest files that reach the
//! most. An input that once failed is put there under a name that says why.
//!
//! What an aggregator's text, a box's bytes or a client's line becomes is
//! checked here; that what is made of them is *right* is for the tests of each
//! crate.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what does not hold fails loudly: this crate is tests"
)]

mod aggregator;
pub mod mutation;
mod script;
mod seed;
pub mod target;

use std::{env, fs, path::Path};

pub use target::{TARGETS, Target};

/// Names a folder for the seeds of the target that is run.
const SEEDS_VARIABLE: &str = "RETURNPATH_FUZZ_SEEDS";

/// Writes the seeds of a target where libFuzzer is about to look for inputs,
/// if it was told to.
///
/// # Panics
/// When it cannot.
pub fn write_seeds(target: &str) {
    let Some(folder) = env::var_os(SEEDS_VARIABLE) else {
        return;
    };
    let mut targets = TARGETS.iter();
    let target = targets.find(|known| known.name == target).unwrap();
    for (number, seed) in (target.seeds)().into_iter().enumerate() {
        fs::write(Path::new(&folder).join(format!("seed-{number}")), seed).unwrap();
    }
}
