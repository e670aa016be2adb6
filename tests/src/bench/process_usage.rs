//! What the kernel counted for a process (proc(5)).

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::Context as _;

/// Ticks a second in /proc: fixed at 100 on Linux for user space
/// (`USER_HZ`, time(7)).
const TICKS_PER_S: u32 = 100;

/// User and system time of all threads of a process since its start.
///
/// # Errors
/// When the process is gone.
pub fn cpu_time(process: u32) -> anyhow::Result<Duration> {
    let (_, time) = stat(Path::new(&format!("/proc/{process}/stat")))?;
    Ok(time)
}

/// The same, by the names of the threads that still run.
///
/// # Errors
/// When the process is gone.
pub fn cpu_by_thread(process: u32) -> anyhow::Result<BTreeMap<String, Duration>> {
    let folder = format!("/proc/{process}/task");
    let mut times = BTreeMap::new();
    for thread in fs::read_dir(&folder).with_context(|| format!("read {folder}"))? {
        // A thread may end meanwhile.
        if let Ok((name, time)) = stat(&thread?.path().join("stat")) {
            *times.entry(name).or_default() += time;
        }
    }
    Ok(times)
}

/// Name and time of a process or thread.
fn stat(path: &Path) -> anyhow::Result<(String, Duration)> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let path = path.display();
    // The second field is the program's name in parentheses and may hold
    // spaces; utime and stime are the 14th and 15th.
    let (head, rest) = text
        .rsplit_once(')')
        .with_context(|| format!("parse {path}"))?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || -> anyhow::Result<u32> {
        Ok(fields
            .next()
            .with_context(|| format!("parse {path}"))?
            .parse()?)
    };
    let ticks = ticks()? + ticks()?;
    let (_, name) = head.split_once('(').unwrap_or_default();
    Ok((
        name.to_owned(),
        Duration::from_secs(1) * ticks / TICKS_PER_S,
    ))
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// `VmRSS`.
    pub resident_kib: u64,
    /// `RssAnon`.
    pub anonymous_kib: u64,
}

/// Resident memory of a process.
///
/// # Errors
/// When the process is gone.
pub fn memory(process: u32) -> anyhow::Result<Memory> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let field = |name: &str| -> anyhow::Result<u64> {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .with_context(|| format!("{path} has no {name}"))?;
        let number = line.trim_start_matches(':').split_whitespace().next();
        Ok(number
            .with_context(|| format!("parse {name} of {path}"))?
            .parse()?)
    };
    Ok(Memory {
        resident_kib: field("VmRSS")?,
        anonymous_kib: field("RssAnon")?,
    })
}

/// Processor, number of cores and kernel: what a figure must name.
#[must_use]
pub fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let own = std::process::id();
        let started = cpu_time(own).unwrap();
        let mut sum = 0_u64;
        while cpu_time(own).unwrap() == started {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        assert!(cpu_time(own).unwrap() > started, "{sum}");
        // The kernel counts in steps, of each thread alone: until one has had
        // its own.
        while cpu_by_thread(own).unwrap().values().all(Duration::is_zero) {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        let memory = memory(own).unwrap();
        assert!(memory.resident_kib >= memory.anonymous_kib);
        assert!(memory.anonymous_kib > 0);
    }
}
