//! Sums of what is missing, by cause and reason.

use returnpath_shared::wire::{self, DropReason};

/// Why something is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// The box may still hold it.
    Held,
    /// Released, not arrived, and nothing declares it.
    Unexplained,
    /// Likewise, but something was declared there, or of the whole run, that is
    /// forgotten: perhaps this.
    Forgotten,
    /// Declared as dropped, for the [`DropReason`] of this number.
    Declared(i32),
    /// Was only accepted when the agent ended without a clean stop.
    UncleanStop,
    /// Came when there was no room to remember it; stands in `rp.rejected`.
    Rejected,
}

/// Some of what is missing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Total {
    /// Consecutive batches count as one.
    pub ranges: u64,
    /// Batches.
    pub batches: u64,
    /// Events, as far as they can be told from the batches around.
    pub events: u64,
    /// In how many of the ranges they cannot be told.
    pub ranges_uncounted: u64,
}

impl Total {
    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.ranges = self.ranges.saturating_add(other.ranges);
        self.batches = self.batches.saturating_add(other.batches);
        self.events = self.events.saturating_add(other.events);
        self.ranges_uncounted = self.ranges_uncounted.saturating_add(other.ranges_uncounted);
    }
}

/// What stands in `rp.completeness` of one box, summed up over its epochs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BoxCompleteness<'a> {
    /// As the box said last; empty where it has not.
    pub model: &'a str,
    /// Likewise.
    pub firmware: &'a str,
    /// Epochs that are remembered.
    pub epochs: u64,
    /// Of these, complete so far: nothing is missing that is not declared, and
    /// nothing has been forgotten.
    pub epochs_complete: u64,
    pub(crate) totals: Totals,
}

impl BoxCompleteness<'_> {
    /// Whether all its epochs are complete so far.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.epochs_complete == self.epochs
    }

    /// What is missing, by cause and reason; none that is empty.
    pub fn missing(&self) -> impl Iterator<Item = (Missing, Total)> {
        self.totals.iter()
    }
}

/// Reasons known to this version, and "not said" for those of a later one.
const REASONS: usize = DropReason::Refused as usize + 1;

/// Sums of what is missing, by cause and reason.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Totals {
    held: Total,
    unexplained: Total,
    forgotten: Total,
    unclean_stop: Total,
    rejected: Total,
    /// By number of the reason.
    declared: [Total; REASONS],
}

impl Totals {
    /// `events` is 0 where they cannot be told.
    pub(super) fn add(&mut self, missing: Missing, batches: u64, events: u64) {
        self.of(missing).add(Total {
            ranges: 1,
            batches,
            events,
            ranges_uncounted: u64::from(events == 0),
        });
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        for (missing, total) in other.iter() {
            self.of(missing).add(total);
        }
    }

    /// Nothing is missing that is not declared.
    pub(crate) fn is_complete(&self) -> bool {
        [self.held, self.unexplained, self.forgotten] == [Total::default(); 3]
    }

    /// None that is empty.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Missing, Total)> {
        let declared = (0..).map(Missing::Declared).zip(self.declared);
        [
            (Missing::Held, self.held),
            (Missing::Unexplained, self.unexplained),
            (Missing::Forgotten, self.forgotten),
            (Missing::UncleanStop, self.unclean_stop),
            (Missing::Rejected, self.rejected),
        ]
        .into_iter()
        .chain(declared)
        .filter(|(_, total)| *total != Total::default())
    }

    fn of(&mut self, missing: Missing) -> &mut Total {
        match missing {
            Missing::Held => &mut self.held,
            Missing::Unexplained => &mut self.unexplained,
            Missing::Forgotten => &mut self.forgotten,
            Missing::UncleanStop => &mut self.unclean_stop,
            Missing::Rejected => &mut self.rejected,
            Missing::Declared(reason) => {
                let at = usize::try_from(reason).ok().filter(|at| *at < REASONS);
                &mut self.declared[at.unwrap_or(0)]
            }
        }
    }
}

impl Missing {
    /// With the number of the reason.
    pub(super) fn to_wire(self) -> (wire::Missing, i32) {
        match self {
            Self::Held => (wire::Missing::Held, 0),
            Self::Unexplained => (wire::Missing::Unexplained, 0),
            Self::Forgotten => (wire::Missing::Forgotten, 0),
            Self::UncleanStop => (wire::Missing::UncleanStop, 0),
            Self::Rejected => (wire::Missing::Rejected, 0),
            Self::Declared(reason) => (wire::Missing::Declared, reason),
        }
    }
}
