//! Runs `target::opportunity` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: returnpath_fuzz::write_seeds("opportunity"),
    |input: &[u8]| returnpath_fuzz::target::opportunity::run(input)
);
