//! Runs `target::aggregator_answer` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| returnpath_fuzz::target::aggregator_answer::run(data));
