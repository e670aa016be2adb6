//! Every target, by name.

pub mod aggregator_answer;
pub mod batch;
pub mod config;
pub mod decision;
pub mod intake_line;
pub mod opportunity;
pub mod raw_record;
pub mod receipt;
pub mod state;
pub mod topic;

/// One function of bytes, and inputs to begin with.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As its binary and its folder in `corpus/` are called.
    pub name: &'static str,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
    /// Inputs that get far, made by the code that makes such messages.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 10] = [
    Target {
        name: "aggregator_answer",
        run: aggregator_answer::run,
        seeds: aggregator_answer::seeds,
    },
    Target {
        name: "batch",
        run: batch::run,
        seeds: batch::seeds,
    },
    Target {
        name: "config",
        run: config::run,
        seeds: config::seeds,
    },
    Target {
        name: "decision",
        run: decision::run,
        seeds: decision::seeds,
    },
    Target {
        name: "intake_line",
        run: intake_line::run,
        seeds: intake_line::seeds,
    },
    Target {
        name: "opportunity",
        run: opportunity::run,
        seeds: opportunity::seeds,
    },
    Target {
        name: "raw_record",
        run: raw_record::run,
        seeds: raw_record::seeds,
    },
    Target {
        name: "receipt",
        run: receipt::run,
        seeds: receipt::seeds,
    },
    Target {
        name: "state",
        run: state::run,
        seeds: state::seeds,
    },
    Target {
        name: "topic",
        run: topic::run,
        seeds: topic::seeds,
    },
];
