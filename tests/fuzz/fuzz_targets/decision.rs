//! Runs `target::decision` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: returnpath_fuzz::write_seeds("decision"),
    |input: &[u8]| returnpath_fuzz::target::decision::run(input)
);
