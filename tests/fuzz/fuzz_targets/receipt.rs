//! Runs `target::receipt` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: returnpath_fuzz::write_seeds("receipt"),
    |input: &[u8]| returnpath_fuzz::target::receipt::run(input)
);
