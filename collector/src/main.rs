//! Arguments, logs, configuration, one command, exit code.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Batches, answers and transactions are made on one thread and freed on
/// another, in bursts: glibc gives the memory back to the kernel after each and
/// takes it again before the next.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    returnpath_collector::cli::main()
}
