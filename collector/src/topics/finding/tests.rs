use std::collections::BTreeMap;

use super::*;
use crate::{
    kafka::TopicNames,
    topics::{Config, specs},
};

fn wanted() -> Vec<Spec> {
    let config: Config = toml::from_str(
        "partitions = 48\nreplication = 3\nmin_in_sync_replicas = 2\n\
         [retention_hours]\nraw = 72\nrefined = 168\nrejected = 720\nopportunities = 24\ndecisions = 720",
    )
    .unwrap();
    specs(&TopicNames::new("rp").unwrap(), &config)
}

fn broker() -> BTreeMap<String, String> {
    [
        ("offsets.topic.replication.factor", "3"),
        ("transaction.state.log.replication.factor", "3"),
        ("transaction.state.log.min.isr", "2"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// A Kafka whose topics are as wanted.
fn good() -> Facts {
    Facts {
        topics: wanted()
            .into_iter()
            .map(|spec| TopicFacts {
                name: spec.name,
                partitions: spec.partitions,
                replication: spec.replication,
                settings: Some(
                    spec.settings
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect(),
                ),
            })
            .collect(),
        broker: Some(broker()),
    }
}

#[test]
fn topics_as_they_are_created_are_found_good() {
    assert_eq!(findings(&good(), &wanted()), []);
}

#[test]
fn every_deviation_is_found_with_its_severity() {
    use Severity::{Broken, Differs, Unsafe};

    type Change = fn(&mut Facts);
    fn topic<'a>(facts: &'a mut Facts, name: &str) -> &'a mut TopicFacts {
        facts
            .topics
            .iter_mut()
            .find(|topic| topic.name == name)
            .unwrap()
    }
    fn set(facts: &mut Facts, name: &str, setting: &str, value: &str) {
        topic(facts, name)
            .settings
            .as_mut()
            .unwrap()
            .insert(setting.into(), value.into());
    }
    let table: [(Change, Severity, &str); 15] = [
        (
            |facts| facts.topics.retain(|topic| topic.name != "rp.ads"),
            Broken,
            "rp.ads: topic is missing",
        ),
        (
            |facts| topic(facts, "rp.ads").replication = 1,
            Unsafe,
            "rp.ads: replication is 1, expected at least 3",
        ),
        (
            |facts| set(facts, "rp.raw", "min.insync.replicas", "1"),
            Unsafe,
            "rp.raw: min.insync.replicas is 1, expected at least 2",
        ),
        (
            |facts| set(facts, "rp.raw", "min.insync.replicas", "3"),
            Unsafe,
            "rp.raw: min.insync.replicas is 3, expected less than the replication, 3",
        ),
        (
            |facts| set(facts, "rp.raw", "unclean.leader.election.enable", "true"),
            Unsafe,
            "rp.raw: unclean.leader.election.enable is true, expected false",
        ),
        (
            |facts| topic(facts, "rp.viewing").partitions = 12,
            Broken,
            "rp.viewing: partition count is 12, expected 48, as rp.raw has",
        ),
        (
            |facts| {
                for topic in &mut facts.topics {
                    topic.partitions = 12;
                }
            },
            Differs,
            "rp.raw: partition count is 12, expected 48; a partition count never changes",
        ),
        (
            |facts| set(facts, "rp.refine.state", "cleanup.policy", "compact,delete"),
            Broken,
            "rp.refine.state: cleanup.policy is compact,delete, expected compact",
        ),
        (
            |facts| set(facts, "rp.viewing", "cleanup.policy", "compact"),
            Broken,
            "rp.viewing: cleanup.policy is compact, expected delete",
        ),
        (
            |facts| set(facts, "rp.viewing", "max.message.bytes", "1000"),
            Broken,
            "rp.viewing: max.message.bytes is 1000, expected at least 1048576",
        ),
        (
            |facts| set(facts, "rp.raw", "max.message.bytes", "2097152"),
            Broken,
            "rp.rejected: max.message.bytes is 2097152, expected more than 2097152, as rp.raw has",
        ),
        (
            |facts| set(facts, "rp.viewing", "retention.ms", "1000"),
            Differs,
            "rp.viewing: retention.ms is 1000, expected 604800000",
        ),
        (
            |facts| topic(facts, "rp.custom").settings = None,
            Unsafe,
            "rp.custom: configuration is unreadable",
        ),
        (
            |facts| facts.broker = None,
            Differs,
            "broker: configuration is unreadable",
        ),
        (
            |facts| {
                facts
                    .broker
                    .as_mut()
                    .unwrap()
                    .insert("transaction.state.log.min.isr".into(), "1".into());
            },
            Unsafe,
            "broker: transaction.state.log.min.isr is 1, expected at least 2",
        ),
    ];
    for (change, severity, text) in table {
        let mut facts = good();
        change(&mut facts);
        let found = findings(&facts, &wanted());
        let first = found.first().unwrap_or_else(|| panic!("nothing: {text}"));
        assert_eq!(first.severity, severity, "{text}");
        assert!(first.to_string().starts_with(text), "{first}\n≠ {text}");
    }
}

#[test]
fn development_lifts_what_is_unsafe_and_never_what_is_broken() {
    let finding = |severity| Finding {
        severity,
        subject: "rp.raw".into(),
        setting: "replication",
        found: "1".into(),
        expected: "3".into(),
    };
    for (severity, otherwise, in_development) in [
        (Severity::Differs, false, false),
        (Severity::Unsafe, true, false),
        (Severity::Broken, true, true),
    ] {
        assert_eq!(finding(severity).refuses(false), otherwise);
        assert_eq!(finding(severity).refuses(true), in_development);
    }
}
