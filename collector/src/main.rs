//! Arguments, logs, configuration, one command, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    returnpath_collector::cli::main()
}
