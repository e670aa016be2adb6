//! The one place where everything that was read comes together: the audit of
//! events, the funnel, what boxes say of their slots, and one ad's story. Owns
//! none of the rules; says what was seen so far, and what it came to.

use std::{
    collections::BTreeMap,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use prost::Message as _;
use returnpath_agent::clock;
use returnpath_collector::audit::{Answer, Tally, Verdict};
use returnpath_shared::{
    Kind, Urgency,
    wire::{DecisionRecord, Refined, Rejected},
};
use tokio::sync::watch;

use super::TICK;
use crate::{
    demo::{
        funnel::{Counting, Funnel},
        slots::{SlotFaults, Slots},
        story::{Handed, Stories, Story},
    },
    fleet::latency::{Latency, Percentiles},
};

/// How often what was seen is published.
const PUBLISH_EVERY: Duration = Duration::from_millis(250);

/// What was read so far.
#[derive(Clone, Debug, Default)]
pub(in crate::demo) struct Seen {
    /// Records by topic.
    pub(in crate::demo) records: BTreeMap<String, u64>,
    /// The next offset of each partition.
    pub(in crate::demo) positions: BTreeMap<(String, i32), i64>,
    /// Records that could not be decoded.
    pub(in crate::demo) unreadable: u64,
    /// Events that clients were answered.
    pub(in crate::demo) answered: u64,
    /// Of these, not read yet.
    pub(in crate::demo) outstanding: u64,
    /// Events that were read more than once.
    pub(in crate::demo) duplicated: u64,
    /// From the uptime of an opportunity or impression to its record being read
    /// here.
    pub(in crate::demo) urgent_ads: Percentiles,
    /// What became of the slots that were decided.
    pub(in crate::demo) funnel: Funnel,
    /// What boxes say of their slots, held against it.
    pub(in crate::demo) slot_faults: SlotFaults,
    /// One ad's story.
    pub(in crate::demo) story: Option<Story>,
}

/// What came of it.
pub(in crate::demo) struct Heard {
    pub(in crate::demo) verdict: Verdict,
    pub(in crate::demo) seen: Seen,
}

/// Something that was read.
pub(super) enum Fact {
    /// A client was answered.
    Answer(Answer),
    /// A player was handed a decision.
    Handed(Handed),
    /// A topic was given a record.
    Record {
        topic: String,
        partition: i32,
        offset: i64,
        what: Record,
    },
}

/// A record.
pub(super) enum Record {
    Refined(Box<Refined>),
    Rejected(Box<Rejected>),
    Decision(Box<DecisionRecord>),
    Unreadable(String),
}

/// What the records of a topic are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holds {
    Refined,
    Rejected,
    Decisions,
}

impl Holds {
    /// A record of such a topic.
    pub(super) fn decode(self, payload: &[u8]) -> Record {
        let decoded = match self {
            Self::Refined => Refined::decode(payload).map(|it| Record::Refined(Box::new(it))),
            Self::Rejected => Rejected::decode(payload).map(|it| Record::Rejected(Box::new(it))),
            Self::Decisions => DecisionRecord::decode(payload).map(|it| {
                if it.what.is_some() {
                    Record::Decision(Box::new(it))
                } else {
                    Record::Unreadable("it neither decides nor tells of anything".into())
                }
            }),
        };
        decoded.unwrap_or_else(|error| Record::Unreadable(error.to_string()))
    }
}

/// Takes facts in.
pub(super) struct Audit {
    tally: Tally,
    decisions: Counting,
    slots: Slots,
    stories: Stories,
    urgent_ads: Latency,
    seen: Seen,
}

impl Audit {
    /// Of what stands in these topics.
    pub(super) fn new(topics: &[String], stories: Stories) -> Self {
        Self {
            tally: Tally::default(),
            decisions: Counting::default(),
            slots: Slots::default(),
            stories,
            urgent_ads: Latency::default(),
            seen: Seen {
                records: topics.iter().map(|topic| (topic.clone(), 0)).collect(),
                ..Seen::default()
            },
        }
    }

    /// Takes in facts until nobody has more.
    pub(super) fn listen(
        mut self,
        incoming: &Receiver<Fact>,
        published: &watch::Sender<Seen>,
    ) -> Heard {
        let mut last = Instant::now();
        loop {
            match incoming.recv_timeout(TICK) {
                Ok(fact) => self.take(fact),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if last.elapsed() >= PUBLISH_EVERY {
                self.judge();
                published.send_replace(self.seen.clone());
                last = Instant::now();
            }
        }
        Heard {
            verdict: self.judge(),
            seen: self.seen,
        }
    }

    fn take(&mut self, fact: Fact) {
        match fact {
            Fact::Answer(answer) => self.tally.answered(&answer),
            Fact::Handed(handed) => {
                self.slots.handed_over(&handed.decision);
                self.stories.handed_over(&handed);
            }
            Fact::Record {
                topic,
                partition,
                offset,
                what,
            } => {
                self.record(&topic, what);
                self.seen.positions.insert((topic, partition), offset + 1);
            }
        }
    }

    fn record(&mut self, topic: &str, what: Record) {
        *self.seen.records.entry(topic.to_owned()).or_default() += 1;
        match what {
            Record::Refined(refined) => {
                if let Err(error) = self.tally.refined(&refined) {
                    self.unreadable(topic, &error.to_string());
                }
                self.slots.told(&refined);
                self.measure(&refined);
            }
            Record::Rejected(rejected) => self.tally.rejected(&rejected),
            Record::Decision(record) => {
                self.decisions.record(&record);
                self.slots.record(&record);
                self.stories.record(&record);
            }
            Record::Unreadable(error) => self.unreadable(topic, &error),
        }
    }

    fn unreadable(&mut self, topic: &str, error: &str) {
        tracing::warn!(topic, "record cannot be read: {error}");
        self.seen.unreadable += 1;
    }

    fn measure(&self, refined: &Refined) {
        let Some(event) = &refined.event else {
            return;
        };
        // Consent is urgent too, but comes before the box has ever connected.
        if Urgency::of(event) == Urgency::Urgent && Kind::of(event) != Some(Kind::Consent) {
            // Boxes, collector and this process share one clock.
            let ms = clock::unix_ms() - refined.event_unix_ms;
            self.urgent_ads.record(u64::try_from(ms).unwrap_or(0));
        }
    }

    fn judge(&mut self) -> Verdict {
        let verdict = self.tally.verdict();
        let [ordinary, proof] = verdict.totals();
        self.seen.answered = ordinary.answered + proof.answered;
        self.seen.outstanding = verdict.missing();
        self.seen.duplicated = verdict.duplicated();
        self.seen.urgent_ads = self.urgent_ads.percentiles();
        self.seen.funnel = self.decisions.funnel();
        self.seen.slot_faults = self.slots.faults();
        self.seen.story = self.stories.told().cloned();
        verdict
    }
}
