//! What each topic is made like, and the bounds that its settings must keep.

use returnpath_shared::{RAW_RECORD_BYTES_MAX, REJECTED_RECORD_BYTES_MAX};

use crate::{kafka::TopicNames, topics::Config};

/// `max.message.bytes` of topics that hold raw and refined records. Kafka
/// counts a whole compressed batch of records by it, so it lies well above one
/// record, and above librdkafka's batches (`batch.size`, 1,000,000).
pub(super) const BATCH_BYTES_MAX: u64 = 1024 * 1024;

/// The same for `rp.rejected`: whatever a raw topic took can be carried there,
/// with what was wrong with it around.
pub(super) const REJECTED_BATCH_BYTES_MAX: u64 = 2 * BATCH_BYTES_MAX;

const _SIZES_ARE_ORDERED: () = assert!(
    (RAW_RECORD_BYTES_MAX as u64) < BATCH_BYTES_MAX
        && RAW_RECORD_BYTES_MAX < REJECTED_RECORD_BYTES_MAX
        && (REJECTED_RECORD_BYTES_MAX as u64) < REJECTED_BATCH_BYTES_MAX
);

/// A segment of the changelog. Compaction leaves the newest segment alone, so
/// this is also what a restart reads in vain at worst, per partition.
const CHANGELOG_SEGMENT_BYTES: u64 = 32 * 1024 * 1024;

/// What a topic is for; decides which settings matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Envelopes from the bridge.
    Raw,
    /// Refined events.
    Refined,
    /// What could not be refined.
    Rejected,
    /// Opportunities, for decide.
    Opportunities,
    /// What was decided, and what became of it.
    Decisions,
    /// What a role knows, the last record of a key: changelogs, profiles,
    /// completeness.
    Changelog,
}

/// What one topic is made like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub purpose: Purpose,
    /// Its partitions.
    pub partitions: u32,
    /// Its copies.
    pub replication: u32,
    /// Its settings, as Kafka names them.
    pub settings: Vec<(&'static str, String)>,
}

/// What every topic is made like.
#[must_use]
pub fn specs(names: &TopicNames, config: &Config) -> Vec<Spec> {
    all(names)
        .into_iter()
        .map(|(name, purpose)| Spec {
            name: name.to_owned(),
            purpose,
            partitions: config.partitions,
            replication: config.replication,
            settings: settings(purpose, config),
        })
        .collect()
}

/// Every topic and what it is for.
pub(super) fn all(names: &TopicNames) -> [(&str, Purpose); 13] {
    [
        (&names.raw, Purpose::Raw),
        (&names.raw_backlog, Purpose::Raw),
        (&names.viewing, Purpose::Refined),
        (&names.ads, Purpose::Refined),
        (&names.health, Purpose::Refined),
        (&names.custom, Purpose::Refined),
        (&names.rejected, Purpose::Rejected),
        (&names.refine_state, Purpose::Changelog),
        (&names.devices, Purpose::Changelog),
        (&names.completeness, Purpose::Changelog),
        (&names.opportunities, Purpose::Opportunities),
        (&names.decisions, Purpose::Decisions),
        (&names.decide_state, Purpose::Changelog),
    ]
}

impl Purpose {
    /// Least `max.message.bytes` that carries this topic's records.
    pub(super) fn batch_bytes_min(self) -> u64 {
        match self {
            Self::Raw | Self::Refined | Self::Opportunities | Self::Decisions | Self::Changelog => {
                BATCH_BYTES_MAX
            }
            Self::Rejected => REJECTED_BATCH_BYTES_MAX,
        }
    }

    /// `cleanup.policy`.
    pub(super) fn cleanup_policy(self) -> &'static str {
        match self {
            Self::Raw | Self::Refined | Self::Rejected | Self::Opportunities | Self::Decisions => {
                "delete"
            }
            Self::Changelog => "compact",
        }
    }
}

fn settings(purpose: Purpose, config: &Config) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("cleanup.policy", purpose.cleanup_policy().to_owned()),
        (
            "min.insync.replicas",
            config.min_in_sync_replicas.to_string(),
        ),
        ("unclean.leader.election.enable", "false".to_owned()),
        ("max.message.bytes", purpose.batch_bytes_min().to_string()),
        // The collector's clock, not the broker's: retention and lag then
        // speak of the same time as the records.
        ("message.timestamp.type", "CreateTime".to_owned()),
        // Whatever the producers chose is kept: brokers do not compress again.
        ("compression.type", "producer".to_owned()),
    ];
    let retention_hours = match purpose {
        Purpose::Raw => Some(config.retention_hours.raw),
        Purpose::Refined => Some(config.retention_hours.refined),
        Purpose::Rejected => Some(config.retention_hours.rejected),
        Purpose::Opportunities => Some(config.retention_hours.opportunities),
        Purpose::Decisions => Some(config.retention_hours.decisions),
        Purpose::Changelog => None,
    };
    if let Some(hours) = retention_hours {
        let milliseconds = u64::from(hours.get()) * 3_600_000;
        settings.push(("retention.ms", milliseconds.to_string()));
    }
    if purpose == Purpose::Changelog {
        settings.extend([
            ("segment.bytes", CHANGELOG_SEGMENT_BYTES.to_string()),
            // What a restart reads is the live keys and at most a quarter more
            // (and the newest segment).
            ("min.cleanable.dirty.ratio", "0.2".to_owned()),
        ]);
    }
    settings
}
