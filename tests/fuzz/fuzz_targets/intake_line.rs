//! Runs `target::intake_line` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| returnpath_fuzz::target::intake_line::run(data));
