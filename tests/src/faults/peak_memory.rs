//! The most memory that processes ever had, by the kernel's own high-water
//! mark (`VmHWM` of proc(5)): no peak falls between two looks, only what a
//! process takes after the last one.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use serde::Serialize;

/// Peaks by the name of the process, of all its lives.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct PeakMemory {
    kib: BTreeMap<String, u64>,
}

impl PeakMemory {
    /// Looks at a process; one that is gone has nothing to add.
    pub fn look(&mut self, name: &str, process: anyhow::Result<u32>) {
        let peak = process.ok().and_then(peak_kib);
        if let Some(kib) = peak {
            let highest = self.kib.entry(name.to_owned()).or_default();
            *highest = kib.max(*highest);
        }
    }

    /// A table of Markdown.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    pub fn table(&self) -> String {
        let mut text = "| process | peak resident memory |\n|---|---|\n".to_owned();
        for (name, kib) in &self.kib {
            let _ = writeln!(text, "| {name} | {:.1} MiB |", *kib as f64 / 1_024.0);
        }
        text
    }

    /// The highest peak of each name, in KiB.
    #[must_use]
    pub fn kib(&self) -> &BTreeMap<String, u64> {
        &self.kib
    }
}

fn peak_kib(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_peak_that_stays_and_no_process_has_none() {
        let mut peaks = PeakMemory::default();
        peaks.look("nobody", Err(anyhow::anyhow!("not running")));
        assert!(peaks.kib().is_empty());
        peaks.look("this", Ok(std::process::id()));
        let first = peaks.kib()["this"];
        assert!(first > 0);
        peaks.look("this", Err(anyhow::anyhow!("not running")));
        assert_eq!(peaks.kib()["this"], first);
    }
}
