//! The messages of `proto/returnpath/v1`, generated at build time, with their
//! proto3 JSON mapping. Not validated: `id.rs`, `codec.rs` and the pure crates
//! turn them into types that hold only good values.

#![expect(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/, where the comments are"
)]

include!(concat!(env!("OUT_DIR"), "/returnpath.v1.rs"));
include!(concat!(env!("OUT_DIR"), "/returnpath.v1.serde.rs"));
