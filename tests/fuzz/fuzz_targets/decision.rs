//! Runs `target::decision` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| returnpath_fuzz::target::decision::run(data));
