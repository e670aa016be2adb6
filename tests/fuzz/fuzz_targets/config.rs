//! Runs `target::config` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: returnpath_fuzz::write_seeds("config"),
    |input: &[u8]| returnpath_fuzz::target::config::run(input)
);
