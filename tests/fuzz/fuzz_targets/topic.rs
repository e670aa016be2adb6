//! Runs `target::topic` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: returnpath_fuzz::write_seeds("topic"),
    |input: &[u8]| returnpath_fuzz::target::topic::run(input)
);
