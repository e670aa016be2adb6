//! Runs `target::batch` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| returnpath_fuzz::target::batch::run(data));
