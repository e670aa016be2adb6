//! Runs `target::state` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: returnpath_fuzz::write_seeds("state"),
    |input: &[u8]| returnpath_fuzz::target::state::run(input)
);
