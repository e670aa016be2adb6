//! What is missing of the boxes, as gauges by model and firmware.
//!
//! Each partition tells its sums now and then; a scrape adds up those of the
//! partitions that this process owns. Boxes name their model and firmware
//! themselves, so the number of pairs that become labels is bounded.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};
use returnpath_refinery::{BoxCompleteness, Missing, Total};
use returnpath_shared::wire::DropReason;

/// Pairs of model and firmware with series of their own, those of the most
/// boxes: a fleet runs a few firmwares on a few models. The rest is `other`.
const PAIRS_SHOWN_MAX: usize = 32;

/// Pairs summed for one partition; further ones count as `other` at once, so
/// that boxes which invent names cost no memory.
const PAIRS_SUMMED_MAX: usize = 256;

/// Stands for pairs beyond the bounds.
const OTHER: &str = "other";

/// Stands for boxes that have not said what they are.
const UNKNOWN: &str = "unknown";

/// What all partitions of this process tell. Cheap to clone: all are one.
#[derive(Clone, Default, Debug)]
pub(super) struct Completeness(Arc<Mutex<BTreeMap<i32, Pairs>>>);

/// What one partition tells; nothing any more when it is dropped.
#[derive(Debug)]
pub(super) struct OfPartition {
    all: Completeness,
    number: i32,
}

/// Model and firmware.
type Pair = (Box<str>, Box<str>);

type Pairs = BTreeMap<Pair, Sums>;

/// Sums over the boxes of one model and firmware.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Sums {
    boxes: u64,
    boxes_complete: u64,
    epochs: u64,
    epochs_complete: u64,
    /// By label.
    missing: BTreeMap<&'static str, Total>,
}

impl Completeness {
    pub(super) fn of_partition(&self, number: i32) -> OfPartition {
        OfPartition {
            all: self.clone(),
            number,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, Pairs>> {
        // Whoever panicked left whole entries behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sums of all partitions, those of the most boxes by name.
    fn shown(&self) -> Pairs {
        let mut all = Pairs::new();
        for (pair, sums) in self.lock().values().flatten() {
            all.entry(pair.clone()).or_default().add(sums);
        }
        if all.len() <= PAIRS_SHOWN_MAX {
            return all;
        }
        let mut by_boxes: Vec<(Pair, Sums)> = all.into_iter().collect();
        // Stable: equal ones stay in the order of their names.
        by_boxes.sort_by_key(|(_, sums)| core::cmp::Reverse(sums.boxes));
        let rest = by_boxes.split_off(PAIRS_SHOWN_MAX);
        let mut shown: Pairs = by_boxes.into_iter().collect();
        for (_, sums) in rest {
            shown.entry(other()).or_default().add(&sums);
        }
        shown
    }
}

impl OfPartition {
    /// Tells anew what is known of all boxes of the partition.
    pub(super) fn tell<'a>(&self, boxes: impl Iterator<Item = BoxCompleteness<'a>>) {
        let mut pairs = Pairs::new();
        for of_box in boxes {
            let pair = (named(of_box.model), named(of_box.firmware));
            let has_room = pairs.len() < PAIRS_SUMMED_MAX || pairs.contains_key(&pair);
            let pair = if has_room { pair } else { other() };
            pairs.entry(pair).or_default().add_box(&of_box);
        }
        self.all.lock().insert(self.number, pairs);
    }
}

impl Drop for OfPartition {
    fn drop(&mut self) {
        self.all.lock().remove(&self.number);
    }
}

fn named(name: &str) -> Box<str> {
    if name.is_empty() { UNKNOWN } else { name }.into()
}

fn other() -> Pair {
    (OTHER.into(), OTHER.into())
}

impl Sums {
    fn add_box(&mut self, of_box: &BoxCompleteness<'_>) {
        self.boxes += 1;
        self.boxes_complete += u64::from(of_box.is_complete());
        self.epochs += of_box.epochs;
        self.epochs_complete += of_box.epochs_complete;
        for (missing, total) in of_box.missing() {
            self.missing.entry(cause(missing)).or_default().add(total);
        }
    }

    fn add(&mut self, other: &Self) {
        self.boxes += other.boxes;
        self.boxes_complete += other.boxes_complete;
        self.epochs += other.epochs;
        self.epochs_complete += other.epochs_complete;
        for (cause, total) in &other.missing {
            self.missing.entry(cause).or_default().add(*total);
        }
    }
}

/// The label of what is missing for this cause.
fn cause(missing: Missing) -> &'static str {
    match missing {
        Missing::Held => "held",
        Missing::Unexplained => "unexplained",
        Missing::Forgotten => "forgotten",
        Missing::UncleanStop => "unclean_stop",
        Missing::Rejected => "rejected",
        Missing::Declared(reason) => match DropReason::try_from(reason) {
            Ok(DropReason::QueueFull) => "queue_full",
            Ok(DropReason::TooOld) => "too_old",
            Ok(DropReason::Consent) => "consent",
            Ok(DropReason::Corrupt) => "corrupt",
            Ok(DropReason::Refused) => "refused",
            Ok(DropReason::Unspecified) | Err(_) => "other",
        },
    }
}

/// A gauge by model and firmware.
type OfPair = (&'static str, &'static str, fn(&Sums) -> u64);

const OF_PAIR: [OfPair; 4] = [
    ("boxes", "Boxes that are known", |sums| sums.boxes),
    (
        "boxes_complete",
        "Boxes of which nothing is missing that they have not declared lost",
        |sums| sums.boxes_complete,
    ),
    ("epochs", "Runs of agents that are remembered", |sums| {
        sums.epochs
    }),
    (
        "epochs_complete",
        "Runs of agents of which nothing is missing that was not declared lost",
        |sums| sums.epochs_complete,
    ),
];

/// A gauge by model, firmware and cause.
type OfCause = (&'static str, &'static str, fn(&Total) -> u64);

const OF_CAUSE: [OfCause; 4] = [
    (
        "missing_ranges",
        "Stretches of batches that have not arrived",
        |total| total.ranges,
    ),
    (
        "missing_batches",
        "Batches that have not arrived",
        |total| total.batches,
    ),
    (
        "missing_events",
        "Events that have not arrived, where they can be counted",
        |total| total.events,
    ),
    (
        "missing_ranges_uncounted",
        "Stretches of which the events cannot be counted",
        |total| total.ranges_uncounted,
    ),
];

impl Collector for Completeness {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let shown = self.shown();
        for (name, help, value) in OF_PAIR {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for ((model, firmware), sums) in &shown {
                let labels = [("model", &**model), ("firmware", &**firmware)];
                gauge(value(sums)).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, value) in OF_CAUSE {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for ((model, firmware), sums) in &shown {
                for (cause, total) in &sums.missing {
                    let labels = [
                        ("model", &**model),
                        ("firmware", &**firmware),
                        ("cause", *cause),
                    ];
                    gauge(value(total)).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};
    use returnpath_refinery::{Output, Partition, RawRecord};
    use returnpath_shared::{
        Lane,
        wire::{self, event},
    };

    use super::*;
    use prost::Message as _;

    /// A partition with one box of each firmware, of which batch 2 of 3 is
    /// missing and no longer held.
    fn partition(firmwares: &[String]) -> Partition {
        let mut partition = Partition::new();
        for (number, firmware) in firmwares.iter().enumerate() {
            for sequence in [1, 3] {
                refine(&mut partition, &format!("box-{number}"), firmware, sequence);
            }
        }
        partition.commit();
        partition
    }

    fn refine(partition: &mut Partition, device: &str, firmware: &str, sequence: u64) {
        let id = wire::BatchId {
            epoch: Some(wire::Epoch {
                incarnation: 1,
                start: 1,
            }),
            sequence,
        };
        let boot = wire::Boot {
            model: "m".into(),
            firmware: firmware.into(),
            ..wire::Boot::default()
        };
        let batch = wire::Batch {
            first_ordinal: sequence,
            events: vec![wire::Event {
                uptime_ms: 1,
                client_id: format!("boot/{sequence}"),
                kind: Some(event::Kind::Boot(boot)),
            }],
            ..wire::Batch::default()
        };
        let envelope = wire::Envelope {
            id: Some(id),
            codec: wire::Codec::Identity.into(),
            batch: batch.encode_to_vec().into(),
            sender: id.epoch,
            oldest_held: vec![id],
            ..wire::Envelope::default()
        };
        let record = RawRecord {
            key: device.as_bytes(),
            value: &envelope.encode_to_vec(),
            lane: Lane::Live,
            received_unix_ms: 1_800_000_000_000,
            offset: 0,
        };
        partition.refine(&record, 0, &mut Output::new());
    }

    fn scraped(completeness: &Completeness) -> String {
        let mut registry = Registry::with_prefix("rp");
        registry.register_collector(Box::new(completeness.clone()));
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn what_is_missing_is_shown_by_model_firmware_and_cause() {
        let completeness = Completeness::default();
        let of_partition = completeness.of_partition(7);
        of_partition.tell(partition(&["f1".into(), "f1".into(), String::new()]).completeness());
        let text = scraped(&completeness);
        for line in [
            r#"rp_boxes{model="m",firmware="f1"} 2"#,
            r#"rp_boxes_complete{model="m",firmware="f1"} 0"#,
            r#"rp_epochs{model="m",firmware="unknown"} 1"#,
            r#"rp_missing_batches{model="m",firmware="f1",cause="unexplained"} 2"#,
            r#"rp_missing_events{model="m",firmware="unknown",cause="unexplained"} 1"#,
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        drop(of_partition);
        assert!(!scraped(&completeness).contains("firmware"));
    }

    #[test]
    fn what_may_have_been_declared_is_a_cause_of_its_own() {
        assert_eq!(cause(Missing::Unexplained), "unexplained");
        assert_eq!(cause(Missing::Forgotten), "forgotten");
    }

    #[test]
    fn names_that_boxes_invent_make_no_more_than_so_many_series() {
        let completeness = Completeness::default();
        let firmwares: Vec<String> = (0..300).map(|number| format!("f{number}")).collect();
        let of_partition = completeness.of_partition(1);
        of_partition.tell(partition(&firmwares).completeness());
        let text = scraped(&completeness);
        let boxes: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("rp_boxes{"))
            .collect();
        assert!(boxes.len() <= PAIRS_SHOWN_MAX + 1, "{boxes:?}");
        let sum: u64 = boxes
            .iter()
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(sum, 300, "{boxes:?}");
    }
}
