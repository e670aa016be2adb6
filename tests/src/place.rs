//! Where things are: built binaries, downloads, and a fresh folder and free
//! ports for each run.

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU16, AtomicU32, Ordering},
};

use anyhow::{Context as _, ensure};

/// Ports are taken from here: below Linux's ephemeral range (32768 and up), so
/// that no outgoing connection takes the port of a broker that is being
/// restarted, and above the well-known ones of other services.
const PORTS: std::ops::Range<u16> = 16_000..32_000;

/// The project's top folder.
#[must_use]
pub fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// A binary of this workspace, built beforehand (`cargo build` or `tests/run`)
/// in the profile of this one: Cargo gives tests the path of their own crate's
/// binaries only.
///
/// # Errors
/// When it has not been built.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let this = env::current_exe().context("path of this program")?;
    // Tests and benchmarks lie in target/{profile}/deps, binaries above.
    let directory = this
        .parent()
        .map(|parent| {
            if parent.ends_with("deps") {
                parent.parent().unwrap_or(parent)
            } else {
                parent
            }
        })
        .context("folder of this program")?;
    let path = directory.join(name);
    ensure!(
        path.exists(),
        "{} is missing: run `cargo build --workspace --bins` first, or `tests/run`",
        path.display()
    );
    Ok(path)
}

/// The agent under test: the one of this build, or the program that
/// `RETURNPATH_AGENT` names, which is how `cross/test` puts the one for ARM
/// into the same tests.
///
/// # Errors
/// When it has not been built.
pub fn agent() -> anyhow::Result<PathBuf> {
    match env::var_os("RETURNPATH_AGENT") {
        Some(path) => Ok(workspace().join(path)),
        None => binary("returnpath-agent"),
    }
}

/// What `tests/install` downloaded.
#[must_use]
pub fn cache() -> PathBuf {
    match env::var_os("RETURNPATH_CACHE") {
        Some(path) => workspace().join(path),
        None => workspace().join("target/cache"),
    }
}

/// Makes a fresh folder below `tests/.work`, called after `name`, this process
/// and a count. It stays after the test, for its logs; folders of processes
/// that are gone are removed.
///
/// # Errors
/// When it cannot be made.
pub fn fresh_directory(name: &str) -> anyhow::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);

    let work = workspace().join("tests/.work");
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    if count == 0 {
        remove_left_behind(&work);
    }
    let path = work
        .join(process::id().to_string())
        .join(format!("{name}-{count}"));
    fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    Ok(path)
}

fn remove_left_behind(work: &Path) {
    for entry in fs::read_dir(work).into_iter().flatten().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        if !Path::new("/proc").join(id.to_string()).exists() {
            // Best effort: another run may be removing it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Replaces one line of a configuration file.
///
/// # Errors
/// When the line is not there exactly once, or the file cannot be written.
pub fn change_line(path: &Path, line: &str, by: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let times = text.lines().filter(|found| *found == line).count();
    ensure!(
        times == 1,
        "{line:?} stands {times} times in {}, expected once",
        path.display()
    );
    let lines = text
        .lines()
        .map(|found| if found == line { by } else { found });
    let changed = lines.collect::<Vec<_>>().join("\n") + "\n";
    fs::write(path, changed).with_context(|| format!("write {}", path.display()))
}

/// A TCP port on the loopback address that nobody listens on. Different for
/// each call of a process, and most likely for other processes.
///
/// # Errors
/// When none is free.
pub fn free_port() -> anyhow::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);

    let span = PORTS.end - PORTS.start;
    // Processes started one after the other begin far from each other.
    let base = u16::try_from(process::id().wrapping_mul(997) % u32::from(span))?;
    (0..span)
        .map(|_| PORTS.start + base.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % span)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .with_context(|| format!("no free port in {PORTS:?}"))
}
