//! Names of the topics, all behind one prefix.

use returnpath_shared::{Lane, Stream};

/// Longest prefix: with the longest suffix well below Kafka's 249.
const PREFIX_BYTES_MAX: usize = 64;

/// What the topics are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicNames {
    /// Envelopes of the live lane, as the boxes sent them.
    pub raw: String,
    /// Envelopes of the backlog lane.
    pub raw_backlog: String,
    /// Refined viewing events.
    pub viewing: String,
    /// Refined ad events.
    pub ads: String,
    /// Refined health, consent and ledger events.
    pub health: String,
    /// Refined events of the operator's own.
    pub custom: String,
    /// What could not be refined, with its reason.
    pub rejected: String,
    /// The changelog of refine, compacted.
    pub refine_state: String,
    /// What is known of each box, compacted.
    pub devices: String,
    /// What of each run of a box arrived and what did not, compacted.
    pub completeness: String,
    /// Ad opportunities with what was known of their box.
    pub opportunities: String,
    /// What was decided, and what became of it.
    pub decisions: String,
    /// The changelog of decide, compacted.
    pub decide_state: String,
}

impl TopicNames {
    /// Names behind `prefix`; `None` where Kafka would not take it.
    #[must_use]
    pub fn new(prefix: &str) -> Option<Self> {
        let good = (1..=PREFIX_BYTES_MAX).contains(&prefix.len())
            && !prefix.starts_with('.')
            && prefix
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        good.then(|| Self {
            raw: format!("{prefix}.raw"),
            raw_backlog: format!("{prefix}.raw.backlog"),
            viewing: format!("{prefix}.viewing"),
            ads: format!("{prefix}.ads"),
            health: format!("{prefix}.health"),
            custom: format!("{prefix}.custom"),
            rejected: format!("{prefix}.rejected"),
            refine_state: format!("{prefix}.refine.state"),
            devices: format!("{prefix}.devices"),
            completeness: format!("{prefix}.completeness"),
            opportunities: format!("{prefix}.opportunities"),
            decisions: format!("{prefix}.decisions"),
            decide_state: format!("{prefix}.decide.state"),
        })
    }

    /// Where the bridge writes what came by a lane.
    #[must_use]
    pub fn raw(&self, lane: Lane) -> &str {
        match lane {
            Lane::Live => &self.raw,
            Lane::Backlog => &self.raw_backlog,
        }
    }

    /// Where refined events of a stream go.
    #[must_use]
    pub fn refined(&self, stream: Stream) -> &str {
        match stream {
            Stream::Viewing => &self.viewing,
            Stream::Ads => &self.ads,
            Stream::Health => &self.health,
            Stream::Custom => &self.custom,
        }
    }

    /// Every topic.
    #[must_use]
    pub fn all(&self) -> [&str; 13] {
        [
            &self.raw,
            &self.raw_backlog,
            &self.viewing,
            &self.ads,
            &self.health,
            &self.custom,
            &self.rejected,
            &self.refine_state,
            &self.devices,
            &self.completeness,
            &self.opportunities,
            &self.decisions,
            &self.decide_state,
        ]
    }
}
