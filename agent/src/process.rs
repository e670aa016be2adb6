//! What the kernel says about this process, for health events and the status.
//! Zero where it says nothing.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// Figures of this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Resident set.
    pub resident_bytes: u64,
    /// Of it, what belongs to no file.
    pub anonymous_bytes: u64,
    /// CPU time since the start.
    pub cpu_ms: u64,
    /// Bytes sent to storage since the start: the page cache's writes included,
    /// as far as the kernel accounts them to us.
    pub written_bytes: u64,
}

/// Reads them.
#[must_use]
pub fn usage() -> Usage {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    Usage {
        resident_bytes: number(&status, "VmRSS:") * 1_024,
        anonymous_bytes: number(&status, "RssAnon:") * 1_024,
        cpu_ms: u64::try_from(cpu.tv_sec).unwrap_or(0) * 1_000
            + u64::try_from(cpu.tv_nsec).unwrap_or(0) / 1_000_000,
        written_bytes: number(&io, "write_bytes:"),
    }
}

/// The number behind a label at the beginning of a line.
fn number(text: &str, label: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(label))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_used_cpu() {
        let usage = usage();
        assert!(usage.resident_bytes > usage.anonymous_bytes);
        assert!(usage.anonymous_bytes > 0);
    }

    #[test]
    fn numbers_stand_behind_labels_at_the_beginning_of_a_line() {
        let text = "cancelled_write_bytes: 7\nwrite_bytes: 12\nVmRSS:\t  34 kB\nbroken: x\n";
        assert_eq!(number(text, "write_bytes:"), 12);
        assert_eq!(number(text, "VmRSS:"), 34);
        assert_eq!(number(text, "broken:"), 0);
        assert_eq!(number(text, "missing:"), 0);
    }
}
