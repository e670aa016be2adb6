//! What became of what came in, for metrics. Counted with the transaction, so
//! that an aborted one is not counted twice.

use alloc::{vec, vec::Vec};
use core::ops::AddAssign;

use returnpath_shared::wire::{AggregatorRecord, Choice, Exclusion, NoFill, Outcome, Stage};

/// Outcomes of one transaction. Add them up over transactions.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Opportunities of which at least one slot was decided or asked again.
    pub opportunities: u64,
    /// Records read twice after a restart, of which all was recorded before.
    pub reread: u64,
    /// Opportunities that cannot be read; they are skipped.
    pub undecodable_opportunities: u64,
    /// Records of `rp.ads` that cannot be read; they are skipped.
    pub undecodable_ads: u64,
    /// Slots filled.
    pub filled: u64,
    /// Slots not filled, by [`NoFill`] as index.
    pub no_fill: [u64; Self::NO_FILLS],
    /// Decisions pushed again because the box asked again.
    pub pushed_again: u64,
    /// Slots asked for again while they were being decided.
    pub joined: u64,
    /// Slots asked for again after their decision had expired.
    pub repeated_late: u64,
    /// Stages recorded, by [`Stage`] as index.
    pub progress: [u64; Self::STAGES],
    /// Ad events told again, of a stage that was recorded before.
    pub repeated_ad_events: u64,
    /// Ad events, and confirmations of pushes, of decisions that are not known
    /// of this box.
    pub unknown_ad_events: u64,
    /// By aggregator, in the order of the settings.
    pub aggregators: Vec<AggregatorCounts>,
}

/// What became of one aggregator in the decisions of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AggregatorCounts {
    /// Not asked, by [`Exclusion`] as index.
    pub excluded: [u64; Self::EXCLUSIONS],
    /// Asked, by [`Outcome`] as index.
    pub outcomes: [u64; Self::OUTCOMES],
    /// Its offer was picked.
    pub filled: u64,
}

impl Counts {
    /// Length of [`Self::no_fill`].
    pub const NO_FILLS: usize = NoFill::StateBound as usize + 1;
    /// Length of [`Self::progress`].
    pub const STAGES: usize = Stage::Expired as usize + 1;

    /// Nothing yet, of so many aggregators.
    pub(crate) fn of(aggregators: usize) -> Self {
        Self {
            aggregators: vec![AggregatorCounts::default(); aggregators],
            ..Self::default()
        }
    }

    /// A slot was decided.
    pub(crate) fn decided(&mut self, aggregators: &[AggregatorRecord], choice: &Choice) {
        for (counts, record) in self.aggregators.iter_mut().zip(aggregators) {
            let exclusion = record.exclusion();
            if exclusion == Exclusion::Unspecified {
                counts.outcomes[record.outcome() as usize] += 1;
            } else {
                counts.excluded[exclusion as usize] += 1;
            }
        }
        match choice.aggregator {
            Some(aggregator) => {
                self.filled += 1;
                if let Some(counts) = self.aggregators.get_mut(aggregator as usize) {
                    counts.filled += 1;
                }
            }
            None => self.no_fill[choice.no_fill() as usize] += 1,
        }
    }
}

impl AggregatorCounts {
    /// Length of [`Self::excluded`].
    pub const EXCLUSIONS: usize = Exclusion::FieldMissing as usize + 1;
    /// Length of [`Self::outcomes`].
    pub const OUTCOMES: usize = Outcome::TooLarge as usize + 1;
}

fn add<const N: usize>(sums: &mut [u64; N], adds: &[u64; N]) {
    for (sum, add) in sums.iter_mut().zip(adds) {
        *sum += add;
    }
}

impl AddAssign<&Self> for Counts {
    fn add_assign(&mut self, other: &Self) {
        self.opportunities += other.opportunities;
        self.reread += other.reread;
        self.undecodable_opportunities += other.undecodable_opportunities;
        self.undecodable_ads += other.undecodable_ads;
        self.filled += other.filled;
        add(&mut self.no_fill, &other.no_fill);
        self.pushed_again += other.pushed_again;
        self.joined += other.joined;
        self.repeated_late += other.repeated_late;
        add(&mut self.progress, &other.progress);
        self.repeated_ad_events += other.repeated_ad_events;
        self.unknown_ad_events += other.unknown_ad_events;
        if self.aggregators.len() < other.aggregators.len() {
            self.aggregators
                .resize(other.aggregators.len(), AggregatorCounts::default());
        }
        for (sum, other) in self.aggregators.iter_mut().zip(&other.aggregators) {
            add(&mut sum.excluded, &other.excluded);
            add(&mut sum.outcomes, &other.outcomes);
            sum.filled += other.filled;
        }
    }
}
