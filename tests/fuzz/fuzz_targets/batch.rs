//! Runs `target::batch` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: returnpath_fuzz::write_seeds("batch"),
    |input: &[u8]| returnpath_fuzz::target::batch::run(input)
);
