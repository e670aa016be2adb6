//! The rules of ARCHITECTURE.md that the compiler does not check: which crate
//! may depend on what, which files may know a library, and what never stands
//! in the repository.

#![expect(
    clippy::unwrap_used,
    reason = "what cannot be read fails the test, in its shared functions too"
)]

mod crates;
mod files;
mod modules;
