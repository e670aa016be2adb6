//! Runs `target::intake_line` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: returnpath_fuzz::write_seeds("intake_line"),
    |input: &[u8]| returnpath_fuzz::target::intake_line::run(input)
);
