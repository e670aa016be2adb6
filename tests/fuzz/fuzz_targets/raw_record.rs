//! Runs `target::raw_record` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| returnpath_fuzz::target::raw_record::run(data));
