//! Compares what Kafka is like with what it must be like. Pure.

use std::fmt;

use serde::Serialize;

use crate::topics::{
    facts::{Facts, TopicFacts},
    spec::{Purpose, Spec},
};

/// Least copies of a partition: one may be away for maintenance and another
/// fail, and confirmed records still exist.
pub(super) const REPLICATION_MIN: u32 = 3;

/// Least copies that must have a record before it is confirmed.
pub(super) const IN_SYNC_MIN: u32 = 2;

/// How much a finding matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Other than configured; roles start all the same.
    Differs,
    /// Confirmed data could be lost. Roles refuse to start, except in
    /// development.
    Unsafe,
    /// Roles could not work rightly: they refuse to start, always.
    Broken,
}

/// Something about Kafka is not as it must be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The topic, or `broker`.
    pub subject: String,
    /// The setting, as Kafka names it.
    pub setting: &'static str,
    /// What was found.
    pub found: String,
    /// What must be.
    pub expected: String,
}

impl Finding {
    /// Whether roles refuse to start because of it.
    #[must_use]
    pub fn refuses(&self, development: bool) -> bool {
        match self.severity {
            Severity::Differs => false,
            Severity::Unsafe => !development,
            Severity::Broken => true,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subject,
            setting,
            found,
            expected,
            ..
        } = self;
        write!(
            formatter,
            "{subject}: {setting} is {found}, expected {expected}"
        )
    }
}

/// All that is not as `specs` say, worst first.
///
/// With specs of another partition count or retention than the topics have,
/// the preconditions are judged all the same; what merely differs is told.
#[must_use]
pub fn findings(facts: &Facts, specs: &[Spec]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for spec in specs {
        match facts.topic(&spec.name) {
            Some(topic) => check_topic(topic, spec, &mut findings),
            None => findings.push(Finding {
                severity: Severity::Broken,
                subject: spec.name.clone(),
                setting: "topic",
                found: "missing".into(),
                expected: "to exist; `returnpath-collector topics` creates it".into(),
            }),
        }
    }
    check_equal_partitions(facts, &mut findings);
    check_size_order(facts, specs, &mut findings);
    check_broker(facts, &mut findings);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

fn check_topic(topic: &TopicFacts, spec: &Spec, findings: &mut Vec<Finding>) {
    let mut find = |severity, setting, found: &dyn fmt::Display, expected: String| {
        findings.push(Finding {
            severity,
            subject: topic.name.clone(),
            setting,
            found: found.to_string(),
            expected,
        });
    };
    if topic.partitions != spec.partitions {
        let expected = format!(
            "{}; a partition count never changes: set topics.partitions to what is there",
            spec.partitions
        );
        find(
            Severity::Differs,
            "partition count",
            &topic.partitions,
            expected,
        );
    }
    if topic.replication < REPLICATION_MIN {
        let expected = format!("at least {REPLICATION_MIN}");
        find(
            Severity::Unsafe,
            "replication",
            &topic.replication,
            expected,
        );
    }
    let Some(settings) = &topic.settings else {
        find(
            Severity::Unsafe,
            "configuration",
            &"unreadable",
            "to be readable: Kafka's ACLs must allow DescribeConfigs".into(),
        );
        return;
    };
    for (name, wanted) in &spec.settings {
        let Some(found) = settings.get(*name) else {
            continue;
        };
        let number = found.parse::<u64>().unwrap_or_default();
        match *name {
            "min.insync.replicas" if number < u64::from(IN_SYNC_MIN) => {
                find(
                    Severity::Unsafe,
                    name,
                    found,
                    format!("at least {IN_SYNC_MIN}"),
                );
            }
            // All copies needed: one broker away and nothing can be written.
            "min.insync.replicas"
                if topic.replication > 1 && number >= u64::from(topic.replication) =>
            {
                find(
                    Severity::Unsafe,
                    name,
                    found,
                    format!("less than the replication, {}", topic.replication),
                );
            }
            "unclean.leader.election.enable" if found != wanted => {
                find(Severity::Unsafe, name, found, wanted.clone());
            }
            "max.message.bytes" if number < spec.purpose.batch_bytes_min() => find(
                Severity::Broken,
                name,
                found,
                format!("at least {}", spec.purpose.batch_bytes_min()),
            ),
            // Retention on the changelog forgets what was counted; compaction
            // of events deletes all but the last of each box.
            "cleanup.policy" if found != wanted => {
                find(Severity::Broken, name, found, wanted.clone());
            }
            "min.insync.replicas" | "max.message.bytes" => {}
            _ if found != wanted => find(Severity::Differs, name, found, wanted.clone()),
            _ => {}
        }
    }
}

/// A box has one partition number in every topic; that needs equal counts.
fn check_equal_partitions(facts: &Facts, findings: &mut Vec<Finding>) {
    let Some(first) = facts.topics.first() else {
        return;
    };
    for topic in &facts.topics {
        if topic.partitions != first.partitions {
            findings.push(Finding {
                severity: Severity::Broken,
                subject: topic.name.clone(),
                setting: "partition count",
                found: topic.partitions.to_string(),
                expected: format!("{}, as {} has", first.partitions, first.name),
            });
        }
    }
}

/// What a raw topic takes, `rp.rejected` must be able to carry.
fn check_size_order(facts: &Facts, specs: &[Spec], findings: &mut Vec<Finding>) {
    let sizes = |purpose| {
        specs
            .iter()
            .filter(move |spec| spec.purpose == purpose)
            .filter_map(|spec| facts.topic(&spec.name))
            .filter_map(|topic| Some((topic, topic.number("max.message.bytes")?)))
    };
    let Some((rejected, rejected_bytes)) = sizes(Purpose::Rejected).next() else {
        return;
    };
    for (raw, raw_bytes) in sizes(Purpose::Raw) {
        if rejected_bytes <= raw_bytes {
            findings.push(Finding {
                severity: Severity::Broken,
                subject: rejected.name.clone(),
                setting: "max.message.bytes",
                found: rejected_bytes.to_string(),
                expected: format!("more than {raw_bytes}, as {} has", raw.name),
            });
        }
    }
}

/// Kafka's own topics: without copies of them, positions and transactions are
/// lost with one broker.
fn check_broker(facts: &Facts, findings: &mut Vec<Finding>) {
    let Some(settings) = &facts.broker else {
        findings.push(Finding {
            severity: Severity::Differs,
            subject: "broker".into(),
            setting: "configuration",
            found: "unreadable".into(),
            expected: "to be readable, so that the copies of Kafka's own topics can be checked"
                .into(),
        });
        return;
    };
    for (setting, least) in [
        ("offsets.topic.replication.factor", REPLICATION_MIN),
        ("transaction.state.log.replication.factor", REPLICATION_MIN),
        ("transaction.state.log.min.isr", IN_SYNC_MIN),
    ] {
        let found = settings.get(setting);
        let number = found.and_then(|value| value.parse::<u32>().ok());
        if number.is_none_or(|number| number < least) {
            findings.push(Finding {
                severity: Severity::Unsafe,
                subject: "broker".into(),
                setting,
                found: found.cloned().unwrap_or_else(|| "not told".into()),
                expected: format!("at least {least}"),
            });
        }
    }
}

#[cfg(test)]
mod tests;
