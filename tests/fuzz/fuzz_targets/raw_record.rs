//! Runs `target::raw_record` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: returnpath_fuzz::write_seeds("raw_record"),
    |input: &[u8]| returnpath_fuzz::target::raw_record::run(input)
);
