//! What must hold after every step, by name. Those about what Kafka holds are
//! beside it, in `reference.rs`.

use prost::Message as _;
use returnpath_delivery::{Config, Uptime};
use returnpath_shared::wire::{self, Missing, MissingRange};

use crate::{
    kafka::{Log, Topic},
    reference::EventName,
    set_top_box::Agent,
    transition::BoxIndex,
    world::World,
};

/// The agent's own events are never turned away. In RAM there may be, at once, a
/// boot of 3 KiB, 256 unclean stops and 128 rows of the ledger, of up to 96
/// bytes each, and what frames them.
const OWN_EVENTS_BYTES_MAX: u64 = 40 * 1_024;

impl World {
    /// An event that was answered `durable` is in Kafka, on the medium of its
    /// box, or declared in one of them.
    pub(crate) fn invariant_what_is_durable_stands_somewhere(&self, of: BoxIndex) {
        for name in self.reference.durable_not_in_kafka(of) {
            self.invariant_it_stands_somewhere(name);
        }
    }

    /// The same for what a commit took from the medium: the rest stands there
    /// as it stood before.
    pub(crate) fn invariant_what_left_the_file_stands_somewhere(&mut self, of: BoxIndex) {
        for stretch in self.boxes[of].file.taken() {
            for name in self.reference.durable_within(of, stretch) {
                self.invariant_it_stands_somewhere(name);
            }
        }
    }

    /// The same for one event.
    pub(crate) fn invariant_it_stands_somewhere(&self, name: EventName) {
        let (of, epoch, ordinal) = name;
        let stb = &self.boxes[of];
        assert!(
            self.reference.is_in_kafka(name) || stb.file.synced.accounts_for(epoch, ordinal),
            "{epoch}:{ordinal} of box {of} was answered durable and stands nowhere"
        );
    }

    /// Nothing missing outside declarations, and nothing twice.
    pub(crate) fn invariant_everything_arrived_once(&self) {
        let verdict = self.reference.tally.verdict();
        assert!(
            verdict.is_clean() && verdict.unanswered().missing == 0,
            "missing {}, duplicated {}: {:#?}",
            verdict.missing(),
            verdict.duplicated(),
            verdict
                .boxes
                .iter()
                .filter(|of_box| !of_box.is_clean())
                .collect::<Vec<_>>()
        );
    }
}

impl Log {
    /// rp.completeness knows of nothing that is missing without a reason, in any
    /// account. What the box may still hold, by its last envelope, it may name as
    /// such; and what lies where it says that declarations are forgotten, of
    /// which it counts the ranges.
    pub(crate) fn invariant_nothing_is_missing_without_a_reason(&mut self) -> u64 {
        self.refine.compact();
        let mut forgotten = 0;
        for (key, value) in self.refine.topic(Topic::Completeness) {
            let Some(value) = value else { continue };
            let run = wire::Completeness::decode(value.clone()).unwrap();
            let key = String::from_utf8_lossy(key);
            let of = |missing| {
                let mut totals = run.missing_totals.iter();
                totals.find(move |total| total.missing() == missing)
            };
            assert_eq!(of(Missing::Unexplained), None, "{key}: {run:?}");
            let is_said_where = |range: &MissingRange| {
                range.missing() != Missing::Forgotten
                    || run.declared_forgotten_first_sequence > 0
                        && run.declared_forgotten_first_sequence <= range.first_sequence
                        && run.declared_forgotten_last_sequence >= range.last_sequence
            };
            assert!(run.missing.iter().all(is_said_where), "{key}: {run:?}");
            forgotten += of(Missing::Forgotten).map_or(0, |total| total.ranges);
        }
        forgotten
    }
}

impl Agent {
    pub(crate) fn invariant_it_stays_within_its_bounds(&self, config: &Config) {
        let status = self.delivery.status(Uptime(0));
        let held = status.ordinary.batches + status.proof.batches;
        let bytes = status.ordinary.bytes + status.proof.bytes;
        // The window may shrink below what is in flight, never the reverse.
        assert!(
            status.in_flight <= config.pace.window_batches_max,
            "{} batches in flight, at most {}",
            status.in_flight,
            config.pace.window_batches_max
        );
        assert!(
            status.window <= config.pace.window_batches_max,
            "window {} beyond {}",
            status.window,
            config.pace.window_batches_max
        );
        assert!(
            held <= config.queue_batches_max as u64,
            "{held} batches held, at most {}",
            config.queue_batches_max
        );
        assert!(
            bytes <= config.queue_bytes_max,
            "{bytes} bytes held, at most {}",
            config.queue_bytes_max
        );
        assert!(
            status.unflushed_bytes <= config.ram_bytes_max as u64 + OWN_EVENTS_BYTES_MAX,
            "{} bytes in RAM, at most {} and the agent's own",
            status.unflushed_bytes,
            config.ram_bytes_max
        );
    }
}
