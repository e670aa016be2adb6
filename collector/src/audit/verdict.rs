//! What the audit found: numbers by box and class, the ranges that are missing,
//! and whether all that amounts to a clean result. Only data; `summary.rs`
//! prints it for people, serde for programs.

use std::{collections::BTreeMap, ops::AddAssign};

use returnpath_shared::wire::{DropReason, RejectionReason};
use serde::Serialize;

/// What became of everything that was answered.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// By device id, ascending.
    pub boxes: Vec<BoxVerdict>,
    /// Records in `rp.rejected` that do not say which events they hold.
    pub unattributed_rejections: u64,
    /// Facts that found the tally full; anything but 0 makes the rest a guess.
    pub unaccounted: u64,
}

/// What became of what one box answered.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BoxVerdict {
    /// The box.
    pub device: String,
    /// Events answered `accepted`.
    pub ordinary: ClassVerdict,
    /// Events answered `durable`.
    pub proof: ClassVerdict,
    /// Events in refined topics that no known answer names: the agent's own,
    /// and those whose answer never reached the client. Not an error.
    pub unanswered: u64,
    /// Which events are missing, at most
    /// [`super::MISSING_RANGES_LISTED_MAX`] ranges.
    pub missing: Vec<Missing>,
}

/// What became of the events of one class. `answered` is the sum of `arrived`,
/// `rejected`, `declared` and `missing`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassVerdict {
    /// Events that a client was answered, each counted once.
    pub answered: u64,
    /// Of these, in refined topics.
    pub arrived: u64,
    /// In `rp.rejected`, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Declared as lost by the box, by reason.
    pub declared: BTreeMap<&'static str, u64>,
    /// None of the above.
    pub missing: u64,
    /// Events that stand in refined topics more than once, answered or not.
    pub duplicated: u64,
}

/// Consecutive events that are missing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Missing {
    /// Run of the agent.
    pub epoch: String,
    /// `ordinary` or `proof`.
    pub class: &'static str,
    /// The first that is missing.
    pub first_ordinal: u64,
    /// The last in a row.
    pub last_ordinal: u64,
}

impl Verdict {
    /// Nothing missing, nothing twice, and everything was taken into account.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.unaccounted == 0 && self.boxes.iter().all(BoxVerdict::is_clean)
    }

    /// Both classes of every box, ordinary and proof.
    #[must_use]
    pub fn totals(&self) -> [ClassVerdict; 2] {
        let mut totals = [ClassVerdict::default(), ClassVerdict::default()];
        for of_box in &self.boxes {
            totals[0] += &of_box.ordinary;
            totals[1] += &of_box.proof;
        }
        totals
    }

    /// Events missing, of either class.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.totals().iter().map(|class| class.missing).sum()
    }

    /// Events that stand in refined topics more than once, of either class.
    #[must_use]
    pub fn duplicated(&self) -> u64 {
        self.totals().iter().map(|class| class.duplicated).sum()
    }
}

impl BoxVerdict {
    /// Nothing missing and nothing twice.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        [&self.ordinary, &self.proof]
            .iter()
            .all(|class| class.missing == 0 && class.duplicated == 0)
    }
}

impl ClassVerdict {
    /// Events in `rp.rejected`, whatever the reason.
    #[must_use]
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Events declared as lost, whatever the reason.
    #[must_use]
    pub fn declared_total(&self) -> u64 {
        self.declared.values().sum()
    }
}

impl AddAssign<&Self> for ClassVerdict {
    fn add_assign(&mut self, other: &Self) {
        self.answered += other.answered;
        self.arrived += other.arrived;
        self.missing += other.missing;
        self.duplicated += other.duplicated;
        for (reason, count) in &other.rejected {
            *self.rejected.entry(reason).or_default() += count;
        }
        for (reason, count) in &other.declared {
            *self.declared.entry(reason).or_default() += count;
        }
    }
}

/// Name of a `DropReason` by its number.
pub(super) fn declared_name(reason: i32) -> &'static str {
    match DropReason::try_from(reason) {
        Ok(DropReason::QueueFull) => "queue_full",
        Ok(DropReason::TooOld) => "too_old",
        Ok(DropReason::Consent) => "consent",
        Ok(DropReason::Corrupt) => "corrupt",
        Ok(DropReason::Refused) => "refused",
        Ok(DropReason::Unspecified) | Err(_) => "unspecified",
    }
}

/// Name of a `RejectionReason` by its number.
pub(super) fn rejected_name(reason: i32) -> &'static str {
    match RejectionReason::try_from(reason) {
        Ok(RejectionReason::Key) => "key",
        Ok(RejectionReason::Envelope) => "envelope",
        Ok(RejectionReason::Codec) => "codec",
        Ok(RejectionReason::TooLarge) => "too_large",
        Ok(RejectionReason::Batch) => "batch",
        Ok(RejectionReason::Event) => "event",
        Ok(RejectionReason::UnknownKind) => "unknown_kind",
        Ok(RejectionReason::StateBound) => "state_bound",
        Ok(RejectionReason::Retired) => "retired",
        Ok(RejectionReason::Repeated) => "repeated",
        Ok(RejectionReason::Unspecified) | Err(_) => "unspecified",
    }
}
