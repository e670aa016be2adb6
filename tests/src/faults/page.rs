//! The page of numbers: one section a kind of run, each replaced by the next
//! run of its kind. Pure but for reading and writing the file.

use std::{fs, io, path::Path};

use anyhow::Context as _;

const HEAD: &str = "\
# Faults on real parts

Made by `tests/faults`, which fails when anything is missing outside of what
boxes declared lost, or stands twice. Not edited by hand: each section is
replaced by the next run of its kind.

- `tests/faults [--minutes N] [--boxes N] [--seed S]`: everything killed at random
- `tests/faults outage`: Kafka hangs for longer than every timeout
- `tests/faults loss`: packets between boxes and broker are lost
- `tests/faults fleet`: a fleet loses its broker at once
";

/// Sections in the order in which they stand, and their headings.
const SECTIONS: [(&str, &str); 4] = [
    ("kills", "Everything killed at random"),
    ("outage", "Kafka hangs"),
    ("loss", "Packets are lost"),
    ("fleet", "A fleet loses its broker at once"),
];

/// Puts a section into the page at `path`, which need not exist.
///
/// # Errors
/// When the page cannot be read or written.
pub fn write(path: &Path, section: &str, text: &str) -> anyhow::Result<()> {
    let page = match fs::read_to_string(path) {
        Ok(page) => page,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    fs::write(path, with(&page, section, text)).with_context(|| format!("write {}", path.display()))
}

fn with(page: &str, section: &str, text: &str) -> String {
    let mut new = HEAD.to_owned();
    for (name, heading) in SECTIONS {
        let heading = format!("\n## {heading}\n\n");
        let body = if name == section {
            Some(text)
        } else {
            page.split_once(&heading)
                .map(|(_, rest)| rest.split("\n## ").next().unwrap_or(rest))
        };
        if let Some(body) = body {
            new += &heading;
            new += body.trim_end();
            new += "\n";
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_the_others_stay_in_their_order() {
        let page = with("", "loss", "thirty");
        let page = with(&page, "kills", "one\n\n| a |\n");
        assert!(page.starts_with(HEAD));
        assert!(page.find("one").unwrap() < page.find("thirty").unwrap());
        let page = with(&page, "kills", "two");
        assert!(!page.contains("one\n") && page.contains("two\n") && page.contains("thirty\n"));
        assert_eq!(with(&page, "kills", "two"), page);
    }
}
