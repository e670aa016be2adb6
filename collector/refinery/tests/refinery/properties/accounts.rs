//! What `rp.completeness` says, against what the model knows.

use std::collections::{BTreeMap, BTreeSet};

use returnpath_shared::{
    BatchId, Epoch, Lane, Sequence,
    wire::{self, Missing, RejectionReason, event},
};

use super::{Action, BOXES, ModelBox, Told, World, name};
use crate::running;

/// What became known of one epoch.
#[derive(Default)]
struct Truth {
    taken: BTreeSet<u64>,
    declared: BTreeSet<u64>,
    /// Last known sequence of an unclean stop.
    durable_through: Option<u64>,
}

impl Truth {
    /// The highest sequence that must have been built.
    fn known_through(&self) -> u64 {
        let last = |set: &BTreeSet<u64>| set.last().copied();
        let known = [
            last(&self.taken),
            last(&self.declared),
            self.durable_through,
        ];
        known.into_iter().flatten().max().unwrap_or(0)
    }

    fn add(&mut self, kind: &event::Kind) {
        if let event::Kind::Ledger(ledger) = kind {
            let first = ledger.first_batch.unwrap().sequence;
            self.declared.extend(first..=ledger.last_sequence);
        } else if let event::Kind::UncleanStop(stop) = kind {
            self.durable_through = Some(stop.last_known_sequence);
        }
    }
}

impl World {
    /// After each commit: the accounts say what the model knows, and the topic
    /// says what the accounts say, but for what merely grew.
    pub(super) fn assert_accounts(&self) {
        for which in 0..BOXES {
            let device = name(which);
            let known = running::accounts(&self.committed_state, &device);
            let told = running::accounts(&self.running.changelog, &device);
            let epochs = |accounts: &BTreeMap<Epoch, _>| -> Vec<Epoch> {
                accounts.keys().copied().collect()
            };
            assert_eq!(epochs(&told), epochs(&known), "{device}");
            for (epoch, known) in &known {
                assert_told(&told[epoch], known);
            }
            let truths = self.truths(&device);
            for (epoch, known) in &known {
                assert_accuses_nobody_wrongly(known, truths.get(epoch));
            }
            if self.forgot_nothing() {
                let model = &self.boxes[which];
                assert_eq!(
                    truths.keys().copied().collect::<Vec<_>>(),
                    epochs(&known),
                    "{device}"
                );
                for (epoch, truth) in &truths {
                    assert_true(&known[epoch], *epoch, truth, model);
                }
            }
        }
    }

    /// Whether no bound of the state has been reached.
    fn forgot_nothing(&self) -> bool {
        let counts = &self.counts;
        let bounds = [
            counts.holes_forgotten,
            counts.epochs_forgotten,
            counts.declared_epochs_forgotten,
            counts.declared_ranges_forgotten,
            counts.rejected(RejectionReason::StateBound),
        ];
        bounds == [0; 5]
    }

    fn truths(&self, device: &str) -> BTreeMap<Epoch, Truth> {
        let mut truths: BTreeMap<Epoch, Truth> = BTreeMap::new();
        let mut take = |(_, id, _): &Told| {
            let truth = truths.entry(id.epoch).or_default();
            truth.taken.insert(id.sequence.0);
        };
        let of_box = |told: &&Told| told.0 == device;
        self.refined.iter().filter(of_box).for_each(&mut take);
        self.repeats.iter().filter(of_box).for_each(&mut take);
        let committed = self.committed.iter();
        for refined in committed.filter(|refined| refined.device_id == device) {
            let kind = refined.event.as_ref().unwrap().kind.as_ref().unwrap();
            let of_epoch = if let event::Kind::Ledger(ledger) = kind {
                ledger.first_batch.unwrap().epoch
            } else if let event::Kind::UncleanStop(stop) = kind {
                stop.epoch
            } else {
                None
            };
            if let Some(epoch) = of_epoch {
                let epoch = Epoch::try_from(epoch).unwrap();
                truths.entry(epoch).or_default().add(kind);
            }
        }
        truths
    }

    /// Everything is sent, and the box then holds one batch alone: what its
    /// queue file made and has not come by now is declared or unexplained.
    pub(super) fn settle(&mut self) {
        for which in 0..BOXES {
            self.act(&Action::Build(which, vec![0]));
            let held: Vec<BatchId> = self.boxes[which].held.keys().copied().collect();
            for id in held {
                self.send_batch(which, id, Lane::Live);
            }
            self.boxes[which].held.clear();
            self.act(&Action::Build(which, vec![0]));
            let last = *self.boxes[which].held.keys().next().unwrap();
            self.send_batch(which, last, Lane::Live);
        }
        self.drain();
        for (which, model) in self.boxes.iter().enumerate() {
            // There may have been no room for the last of its queue files.
            if model.incarnations > self.incarnations_max {
                continue;
            }
            for (epoch, account) in running::accounts(&self.committed_state, &name(which)) {
                // The last of it may have been rejected at a bound: which ones
                // were is forgotten within such bounds.
                let is_held = |range: &wire::MissingRange| {
                    range.missing() == Missing::Held && !may_be_forgotten(&account, range)
                };
                if epoch.incarnation == model.now.incarnation {
                    assert!(!account.missing.iter().any(is_held), "{account:?}");
                    assert_eq!(account.released, epoch != model.now, "{account:?}");
                    // Queue files are ordered by their first batches.
                    if !model.mixes_files {
                        assert_eq!(account.ended, epoch != model.now, "{account:?}");
                    }
                }
            }
        }
    }
}

/// What stands in the topic is what is known, but for what merely grew.
fn assert_told(told: &wire::Completeness, known: &wire::Completeness) {
    let causes = |account: &wire::Completeness| -> BTreeSet<Missing> {
        let open = [Missing::Held, Missing::Unexplained];
        let totals = account.missing_totals.iter().map(|total| total.missing());
        totals.filter(|missing| open.contains(missing)).collect()
    };
    assert_eq!(causes(told), causes(known), "{told:?} {known:?}");
    assert_eq!(stretches(told), stretches(known), "{told:?} {known:?}");
    for range in &known.missing {
        if range.missing() == Missing::Unexplained {
            assert!(
                has_unexplained_around(told, range.first_sequence),
                "{told:?} {known:?}"
            );
        }
    }
    assert!(told.highest_sequence <= known.highest_sequence);
    let grows = wire::Completeness {
        highest_sequence: known.highest_sequence,
        highest_ordinal: known.highest_ordinal,
        missing: known.missing.clone(),
        missing_totals: known.missing_totals.clone(),
        model: known.model.clone(),
        firmware: known.firmware.clone(),
        ..told.clone()
    };
    assert_eq!(grows, *known);
}

/// Whatever was forgotten: what a box declared is never unexplained, and it is
/// said where that may have been.
fn assert_accuses_nobody_wrongly(account: &wire::Completeness, truth: Option<&Truth>) {
    for range in &account.missing {
        let sequences = range.first_sequence..=range.last_sequence;
        match range.missing() {
            Missing::Unexplained => {
                let is_explained = truth.is_some_and(|truth| {
                    truth.declared.range(sequences.clone()).next().is_some()
                        || truth
                            .durable_through
                            .is_some_and(|through| through < *sequences.end())
                });
                assert!(!is_explained, "{account:?}");
            }
            Missing::Forgotten => assert!(may_be_forgotten(account, range), "{account:?}"),
            Missing::Held
            | Missing::Declared
            | Missing::UncleanStop
            | Missing::Rejected
            | Missing::Unspecified => {}
        }
    }
}

/// Whether all of a range lies where declarations were forgotten.
fn may_be_forgotten(account: &wire::Completeness, range: &wire::MissingRange) -> bool {
    account.declared_forgotten_first_sequence > 0
        && account.declared_forgotten_first_sequence <= range.first_sequence
        && account.declared_forgotten_last_sequence >= range.last_sequence
}

/// How many holes there are, whatever their causes, below what was the highest
/// sequence when the account was written.
fn stretches(account: &wire::Completeness) -> usize {
    let missing = account.missing.iter();
    let starts = missing.filter(|range| {
        let before = range.first_sequence - 1;
        let continues = account
            .missing
            .iter()
            .any(|other| other.last_sequence == before);
        !continues && range.first_sequence < account.highest_sequence
    });
    starts.count()
}

/// Whether something is unexplained in the hole around a sequence.
fn has_unexplained_around(account: &wire::Completeness, sequence: u64) -> bool {
    let mut hole: Vec<&wire::MissingRange> = Vec::new();
    for range in &account.missing {
        if hole
            .last()
            .is_some_and(|last| last.last_sequence + 1 != range.first_sequence)
        {
            if hole.iter().any(|range| range.last_sequence >= sequence) {
                break;
            }
            hole.clear();
        }
        hole.push(range);
    }
    hole.iter()
        .any(|range| range.missing() == Missing::Unexplained)
}

/// What is known is true.
fn assert_true(account: &wire::Completeness, epoch: Epoch, truth: &Truth, model: &ModelBox) {
    let id = |sequence| BatchId {
        epoch,
        sequence: Sequence(sequence),
    };
    assert_eq!(
        account.highest_sequence,
        truth.taken.last().copied().unwrap_or(0)
    );
    if let Some(highest) = truth.taken.last() {
        let (first, events) = model.built[&id(*highest)];
        assert_eq!(account.highest_ordinal, first + events - 1);
    }
    assert_eq!(account.forgotten_through_sequence, 0);
    assert_eq!(account.missing_ranges_beyond, 0);
    let mut listed = BTreeMap::new();
    for range in &account.missing {
        let sequences = range.first_sequence..=range.last_sequence;
        for sequence in sequences.clone() {
            let twice = listed.insert(sequence, range.missing());
            assert_eq!(twice, None, "{account:?}");
        }
        let events: u64 = sequences.map(|sequence| model.built[&id(sequence)].1).sum();
        let bounds = [range.first_sequence - 1, range.last_sequence + 1];
        let is_whole = bounds
            .iter()
            .all(|beside| *beside == 0 || truth.taken.contains(beside));
        if range.event_count > 0 || is_whole {
            assert_eq!(range.event_count, events, "{account:?}");
        }
    }
    let is_only_declared = truth.taken.is_empty();
    for sequence in 1..=truth.known_through() {
        let missing = listed.remove(&sequence);
        if truth.taken.contains(&sequence) {
            assert_eq!(missing, None, "{account:?}");
        } else if truth.declared.contains(&sequence) {
            assert_eq!(missing, Some(Missing::Declared), "{account:?}");
        } else if let Some(missing) = missing {
            let is_held = model.held.contains_key(&id(sequence));
            let is_durable = truth
                .durable_through
                .is_none_or(|through| sequence <= through);
            let lost = if is_durable {
                Missing::Unexplained
            } else {
                Missing::UncleanStop
            };
            let may_be = [Some(Missing::Held), (!is_held).then_some(lost)];
            assert!(may_be.contains(&Some(missing)), "{sequence}: {account:?}");
        } else {
            // Its queue file may never have been heard of.
            assert!(is_only_declared, "{sequence}: {account:?}");
        }
    }
    assert_eq!(listed, BTreeMap::new(), "{account:?}");
}
