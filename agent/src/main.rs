//! Arguments in, exit code out; everything else is the library's.

use std::process::ExitCode;

fn main() -> ExitCode {
    let exit = returnpath_agent::cli::main(std::env::args_os().skip(1));
    ExitCode::from(exit as u8)
}
