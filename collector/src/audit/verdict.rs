//! What the audit found: numbers by box, epoch and class, the ordinals behind
//! them, and whether all that amounts to a clean result. Only data; `summary.rs`
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

/// What became of the events of one box.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BoxVerdict {
    /// The box.
    pub device: String,
    /// Events answered `accepted`.
    pub ordinary: ClassVerdict,
    /// Events answered `durable`.
    pub proof: ClassVerdict,
    /// Events that no known answer names: the agent's own, those whose answer
    /// never reached the client, and all where no answers are given.
    pub unanswered: ClassVerdict,
    /// Events answered that do not belong to the stretch of time.
    pub outside: u64,
    /// The same by run of the agent, ascending.
    pub epochs: Vec<EpochVerdict>,
    /// Which events are missing; at most [`RANGES_LISTED_MAX`] ranges, as in
    /// the lists below.
    pub missing: Vec<Ordinals>,
    /// Which stand in refined topics more than once.
    pub duplicated: Vec<Ordinals>,
    /// Which stand behind later ones of their epoch, lane and topic.
    pub out_of_order: Vec<Ordinals>,
    /// Which did not come, with what is known of them: rejected, declared lost,
    /// or within the window of an unclean stop.
    pub excused: Vec<Ordinals>,
}

/// What became of the events of one run of an agent.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EpochVerdict {
    /// Run of the agent.
    pub epoch: String,
    /// Events answered `accepted`.
    pub ordinary: ClassVerdict,
    /// Events answered `durable`.
    pub proof: ClassVerdict,
    /// Events that no known answer names.
    pub unanswered: ClassVerdict,
    /// Events answered that do not belong to the stretch of time.
    pub outside: u64,
    /// The run ended without a clean stop: what is missing above this ordinal
    /// and was not answered `durable` died with it.
    pub unclean_stop_above: Option<u64>,
    /// The run began before anything that was read of it; what is missing at
    /// its beginning cannot be told.
    pub begins_unseen: bool,
}

/// What became of the events of one class. Those that are known of are the sum
/// of `arrived`, `rejected`, `declared`, `unclean_stop` and `missing`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassVerdict {
    /// Events that a client was answered, each counted once: all that are known
    /// of, and none where nobody was answered.
    pub answered: u64,
    /// Events in refined topics.
    pub arrived: u64,
    /// In `rp.rejected`, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Declared as lost by the box, by reason.
    pub declared: BTreeMap<&'static str, u64>,
    /// Died within the window of an unclean stop.
    pub unclean_stop: u64,
    /// None of the above.
    pub missing: u64,
    /// Events that stand in refined topics more than once, answered or not.
    pub duplicated: u64,
    /// Events that stand behind later ones of their epoch, lane and topic,
    /// answered or not: their batch had to be sent again, or came by a slower
    /// way.
    pub out_of_order: u64,
}

/// Consecutive events of which the same was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ordinals {
    /// Run of the agent.
    pub epoch: String,
    /// `ordinary`, `proof` or `unanswered`.
    pub class: &'static str,
    /// `missing`, `duplicated`, `out_of_order`, `rejected`, `declared` or
    /// `unclean_stop`.
    pub what: &'static str,
    /// Why, where there is a reason; else empty.
    pub reason: &'static str,
    /// The first of them.
    pub first_ordinal: u64,
    /// The last in a row.
    pub last_ordinal: u64,
}

/// Ranges of ordinals in each list of a box; the counts go on beyond it.
pub const RANGES_LISTED_MAX: usize = 100;

/// Stands for a class where no answer says it.
pub(super) const UNANSWERED: &str = "unanswered";

impl Verdict {
    /// Nothing missing, nothing twice, and everything was taken into account.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.unaccounted == 0 && self.boxes.iter().all(BoxVerdict::is_clean)
    }

    /// Both classes of every box, ordinary and proof.
    #[must_use]
    pub fn totals(&self) -> [ClassVerdict; 2] {
        let [ordinary, proof, _] = self.all_totals();
        [ordinary, proof]
    }

    /// What was answered to nobody, of every box.
    #[must_use]
    pub fn unanswered(&self) -> ClassVerdict {
        let [.., unanswered] = self.all_totals();
        unanswered
    }

    /// Ordinary, proof, and what was answered to nobody.
    pub(super) fn all_totals(&self) -> [ClassVerdict; 3] {
        let mut totals = <[ClassVerdict; 3]>::default();
        for of_box in &self.boxes {
            for (total, class) in totals.iter_mut().zip(of_box.classes()) {
                *total += class;
            }
        }
        totals
    }

    /// Answered events missing, of either class.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.totals().iter().map(|class| class.missing).sum()
    }

    /// Events that stand in refined topics more than once, of any class.
    #[must_use]
    pub fn duplicated(&self) -> u64 {
        self.all_totals().iter().map(|class| class.duplicated).sum()
    }

    /// Events that stand behind later ones, of any class.
    #[must_use]
    pub fn out_of_order(&self) -> u64 {
        let totals = self.all_totals();
        totals.iter().map(|class| class.out_of_order).sum()
    }
}

impl BoxVerdict {
    /// Nothing missing that was answered, and nothing twice.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        [&self.ordinary, &self.proof]
            .iter()
            .all(|class| class.missing == 0 && class.duplicated == 0)
    }

    /// Ordinary, proof, and what was answered to nobody.
    pub(super) fn classes(&self) -> [&ClassVerdict; 3] {
        [&self.ordinary, &self.proof, &self.unanswered]
    }

    pub(super) fn classes_mut(&mut self) -> [&mut ClassVerdict; 3] {
        [&mut self.ordinary, &mut self.proof, &mut self.unanswered]
    }
}

impl EpochVerdict {
    /// Ordinary, proof, and what was answered to nobody.
    pub(super) fn classes(&self) -> [&ClassVerdict; 3] {
        [&self.ordinary, &self.proof, &self.unanswered]
    }
}

impl ClassVerdict {
    /// Events in `rp.rejected`, whatever the reason.
    #[must_use]
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Events declared as lost, by a ledger or as within the window of an
    /// unclean stop.
    #[must_use]
    pub fn declared_total(&self) -> u64 {
        self.declared.values().sum::<u64>() + self.unclean_stop
    }
}

impl AddAssign<&Self> for ClassVerdict {
    fn add_assign(&mut self, other: &Self) {
        self.answered += other.answered;
        self.arrived += other.arrived;
        self.unclean_stop += other.unclean_stop;
        self.missing += other.missing;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
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
