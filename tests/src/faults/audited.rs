//! What `returnpath-collector audit --json` printed, as far as runs are judged
//! by it.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::collector::Collector;

/// A verdict over everything that was answered.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Audited {
    clean: bool,
    /// Events answered `accepted`.
    pub ordinary: Class,
    /// Events answered `durable`.
    pub proof: Class,
}

/// What became of the events of a class.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Class {
    /// Each counted once.
    pub answered: u64,
    /// In refined topics.
    pub arrived: u64,
    /// In `rp.rejected`, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Declared lost by the box, by reason.
    pub declared: BTreeMap<String, u64>,
    /// Died within the window of an unclean stop that the box declared.
    pub unclean_stop: u64,
    /// None of these.
    pub missing: u64,
    /// In refined topics more than once.
    pub duplicated: u64,
}

impl Audited {
    /// Nothing missing, nothing twice, nothing unread, no proof declared lost
    /// (what is answered `durable` may not be), and everything accounted for.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.clean
            && self.proof.declared_total() == 0
            && self.ordinary.adds_up()
            && self.proof.adds_up()
    }
}

impl Audited {
    /// A table of Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = "\
            | events | answered | arrived | rejected | declared lost | missing | duplicated |\n\
            |---|---|---|---|---|---|---|\n"
            .to_owned();
        for (name, class) in [("accepted", &self.ordinary), ("durable", &self.proof)] {
            let counts = |counts: &BTreeMap<String, u64>| {
                let counts = counts.iter().filter(|(_, count)| **count > 0);
                let counts = counts.map(|(why, count)| format!("{count} ({why})"));
                let counts = counts.collect::<Vec<_>>().join(", ");
                if counts.is_empty() {
                    "0".to_owned()
                } else {
                    counts
                }
            };
            let mut declared = class.declared.clone();
            declared.insert("unclean stop".to_owned(), class.unclean_stop);
            let _ = writeln!(
                text,
                "| answered `{name}` | {} | {} | {} | {} | **{}** | **{}** |",
                class.answered,
                class.arrived,
                counts(&class.rejected),
                counts(&declared),
                class.missing,
                class.duplicated
            );
        }
        text
    }
}

impl Class {
    /// Declared lost, whatever the reason.
    #[must_use]
    pub fn declared_total(&self) -> u64 {
        self.declared.values().sum::<u64>() + self.unclean_stop
    }

    fn adds_up(&self) -> bool {
        let ends = self.arrived + self.rejected_total() + self.declared_total() + self.missing;
        self.answered == ends
    }

    /// In `rp.rejected`, whatever the reason.
    #[must_use]
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }
}

impl fmt::Display for Audited {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, class) in [("ordinary", &self.ordinary), ("proof", &self.proof)] {
            write!(
                formatter,
                "{name}: answered {}, arrived {}, rejected {}, declared {}, missing {}, \
                 duplicated {}; ",
                class.answered,
                class.arrived,
                class.rejected_total(),
                class.declared_total(),
                class.missing,
                class.duplicated
            )?;
        }
        formatter.write_str(if self.clean { "clean" } else { "not clean" })
    }
}

/// Runs the audit of these files of answers.
pub(super) async fn audit(operator: &Collector, answers: &[PathBuf]) -> anyhow::Result<Audited> {
    let paths: Vec<_> = answers.iter().map(|path| path.to_string_lossy()).collect();
    let mut arguments = vec!["audit", "--json"];
    arguments.extend(paths.iter().map(AsRef::as_ref));
    let output = operator.command(&arguments).await?;
    // Its exit code says what the verdict says too, or that there is none.
    serde_json::from_slice(&output.stdout).with_context(|| {
        let error = String::from_utf8_lossy(&output.stderr);
        format!("the audit ended: {}\n{error}", output.status)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(answered: u64, arrived: u64, unclean_stop: u64) -> Class {
        Class {
            answered,
            arrived,
            rejected: BTreeMap::new(),
            declared: BTreeMap::new(),
            unclean_stop,
            missing: 0,
            duplicated: 0,
        }
    }

    #[test]
    fn proof_that_is_lost_and_counts_that_do_not_add_up_are_not_clean() {
        let audited = |ordinary, proof| Audited {
            clean: true,
            ordinary,
            proof,
        };
        assert!(audited(class(3, 1, 2), class(3, 3, 0)).is_clean());
        assert!(!audited(class(3, 3, 0), class(3, 1, 2)).is_clean());
        assert!(!audited(class(3, 1, 0), class(3, 3, 0)).is_clean());
        let mut unclean = audited(class(3, 1, 2), class(3, 3, 0));
        assert!(unclean.table().contains("2 (unclean stop)"));
        unclean.clean = false;
        assert!(!unclean.is_clean());
    }
}
