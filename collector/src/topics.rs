//! The topics: what they must be like, whether they are, and making them.
//!
//! `spec` says what is wanted, `facts` asks Kafka what is there, `finding`
//! compares the two without touching Kafka. Roles call [`preconditions`] at
//! start and do not run on a Kafka that would lose data; the command `topics`
//! creates what is missing. Existing topics are never changed: their settings
//! are the operators', and their partition counts must never change at all.

mod facts;
mod finding;
mod precondition;
mod spec;

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    num::NonZeroU32,
    process::ExitCode,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::kafka;

pub use facts::{Facts, FactsError, TopicFacts};
pub use finding::{Finding, Severity, findings};
pub use precondition::{PreconditionError, preconditions};
pub use spec::{Spec, specs};

/// Arguments of `topics`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only checks; creates nothing.
    #[arg(long)]
    pub check: bool,
    /// Prints one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

/// What new topics are made like: the section `[topics]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Partitions of every topic, at most [`PARTITIONS_MAX`]. Chosen once.
    #[serde(deserialize_with = "partitions")]
    pub partitions: u32,
    /// Copies of every partition.
    #[serde(deserialize_with = "replicas")]
    pub replication: u32,
    /// Copies that must have a record before it counts as written.
    #[serde(deserialize_with = "replicas")]
    pub min_in_sync_replicas: u32,
    /// How long records are kept.
    pub retention_hours: RetentionHours,
}

/// How long records are kept, in hours.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionHours {
    /// `rp.raw` and `rp.raw.backlog`: how long refine may be down.
    pub raw: NonZeroU32,
    /// `rp.viewing`, `rp.ads`, `rp.health`, `rp.custom`: how long readers may
    /// be down.
    pub refined: NonZeroU32,
    /// `rp.rejected`: how long people have to look at what went wrong.
    pub rejected: NonZeroU32,
    /// `rp.opportunities`: how long decide may be down.
    pub opportunities: NonZeroU32,
    /// `rp.decisions`: how long people and models have to look.
    pub decisions: NonZeroU32,
}

/// Most partitions a topic may be given: beyond it, brokers suffer before
/// refine gains.
pub const PARTITIONS_MAX: u32 = 1_000;

/// Most copies that make sense to anyone.
const REPLICAS_MAX: u32 = 9;

fn partitions<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, PARTITIONS_MAX)
}

fn replicas<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, REPLICAS_MAX)
}

fn within<'de, D: serde::Deserializer<'de>>(deserializer: D, max: u32) -> Result<u32, D::Error> {
    let value = u32::deserialize(deserializer)?;
    if (1..=max).contains(&value) {
        Ok(value)
    } else {
        Err(serde::de::Error::custom(format!(
            "expected 1 to {max}, got {value}"
        )))
    }
}

/// What the command prints.
#[derive(Debug, Serialize)]
struct Report {
    created: Vec<String>,
    findings: Vec<Finding>,
    /// Whether roles would start on this Kafka.
    usable: bool,
    /// Whether the preconditions are lifted.
    development: bool,
}

/// Creates or checks the topics, and prints what it found. Fails unless roles
/// would start.
///
/// # Errors
/// When Kafka cannot be asked.
pub async fn run(args: Args, kafka: kafka::Config, topics: Config) -> anyhow::Result<ExitCode> {
    let specs = specs(&kafka.topics, &topics);
    let admin = facts::Admin::new(&kafka, "topics").context("cannot make a Kafka client")?;
    let mut facts = admin.facts(&kafka.topics).await?;
    let mut created = Vec::new();
    if !args.check {
        created = admin.create_missing(&specs, &facts).await?;
        if !created.is_empty() {
            facts = admin.facts_with(&kafka.topics, &created).await?;
        }
    }
    let findings = findings(&facts, &specs);
    let report = Report {
        usable: !findings
            .iter()
            .any(|finding| finding.refuses(kafka.development)),
        created,
        findings,
        development: kafka.development,
    };
    let text = if args.json {
        serde_json::to_string(&report).context("cannot print the report")? + "\n"
    } else {
        report.text(&facts)
    };
    io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")?;
    Ok(if report.usable {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Report {
    fn text(&self, facts: &Facts) -> String {
        let mut text = String::new();
        for name in &self.created {
            let _ = writeln!(text, "created   {name}");
        }
        for topic in &facts.topics {
            let _ = writeln!(
                text,
                "found     {}: {} partitions, replication {}",
                topic.name, topic.partitions, topic.replication
            );
        }
        for finding in &self.findings {
            let verdict = match (finding.severity, finding.refuses(self.development)) {
                (_, true) => "refused  ",
                (Severity::Unsafe, false) => "UNSAFE   ",
                (Severity::Broken | Severity::Differs, false) => "differs  ",
            };
            let _ = writeln!(text, "{verdict} {finding}");
        }
        let _ = match (self.usable, self.development) {
            (true, false) => writeln!(text, "good: roles start on this Kafka"),
            (true, true) => writeln!(
                text,
                "usable for development only: kafka.development lifts the preconditions"
            ),
            (false, _) => writeln!(text, "not usable: roles refuse to start on this Kafka"),
        };
        text
    }
}
