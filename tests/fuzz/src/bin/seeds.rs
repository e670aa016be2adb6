//! Writes the seeds of every target into folders for libFuzzer:
//! `returnpath-fuzz-seeds FOLDER`.

#![expect(
    clippy::print_stderr,
    reason = "a program for tests/fuzz/run, which shows what it says"
)]

use std::{env, fs, path::Path, process::ExitCode};

use returnpath_fuzz::TARGETS;

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1) else {
        eprintln!("usage: returnpath-fuzz-seeds FOLDER");
        return ExitCode::from(2);
    };
    let folder = Path::new(&folder);
    match write(folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("returnpath-fuzz-seeds: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path) -> std::io::Result<()> {
    for target in TARGETS {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder)?;
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
