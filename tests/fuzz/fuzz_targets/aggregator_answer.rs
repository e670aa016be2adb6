//! Runs `target::aggregator_answer` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: returnpath_fuzz::write_seeds("aggregator_answer"),
    |input: &[u8]| returnpath_fuzz::target::aggregator_answer::run(input)
);
