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
    /// None of these.
    pub missing: u64,
    /// In refined topics more than once.
    pub duplicated: u64,
}

impl Audited {
    /// Nothing missing, nothing twice, nothing unread, and no proof declared
    /// lost: what is answered `durable` may not be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.clean && self.proof.declared_total() == 0
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
                if counts.is_empty() {
                    return "0".to_owned();
                }
                let counts = counts.iter().map(|(why, count)| format!("{count} ({why})"));
                counts.collect::<Vec<_>>().join(", ")
            };
            let _ = writeln!(
                text,
                "| answered `{name}` | {} | {} | {} | {} | **{}** | **{}** |",
                class.answered,
                class.arrived,
                counts(&class.rejected),
                counts(&class.declared),
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
        self.declared.values().sum()
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
