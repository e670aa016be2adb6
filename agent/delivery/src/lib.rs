//! Not built yet.
#![no_std]
extern crate alloc;
