//! What is known of one box: what it was decided, and what it has seen. Holds
//! the rules of forgetting; records nothing.

use alloc::{string::String, sync::Arc, vec::Vec};

use prost::{Message as _, encoding};
use returnpath_shared::wire::{DecideState, OpenDecision, Stage};
use returnpath_transaction::Staged;

use crate::{
    exposures::Exposures,
    limit::{EXPIRY_MARGIN_MS, Limits, UNSETTLED_MS_MAX},
    settings::Cap,
    settlement::Settlement,
    state::RestoreError,
};

/// One box.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) key: Arc<str>,
    pub(crate) known: Staged<Known>,
    /// Whether the open transaction lists it already.
    pub(crate) is_listed: bool,
    /// Its opportunities that are being decided.
    pub(crate) askings: Vec<Asked>,
    /// The offset behind its last opportunity that was read.
    pub(crate) read_to: u64,
    pub(crate) settlement: Settlement,
}

/// An opportunity that is being decided.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Its offset.
    pub(crate) number: u64,
    pub(crate) decision_ids: Vec<String>,
    /// How many of them will have to be remembered.
    pub(crate) room: usize,
}

/// What a transaction may change. Its parts are shared between its versions.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct Known {
    /// Oldest first.
    pub(crate) open: Vec<Arc<OpenDecision>>,
    exposures: Exposures,
    finished_number: u64,
    finished_received_unix_ms: i64,
}

impl Device {
    pub(crate) fn new(key: &str) -> Self {
        Self {
            key: key.into(),
            known: Staged::default(),
            is_listed: false,
            askings: Vec::new(),
            read_to: 0,
            settlement: Settlement::default(),
        }
    }

    /// Whether a slot is being decided.
    pub(crate) fn is_asking(&self, decision_id: &str) -> bool {
        let mut ids = self.askings.iter().flat_map(|asked| &asked.decision_ids);
        ids.any(|id| id == decision_id)
    }

    /// Room that what is being decided will take.
    pub(crate) fn room_taken(&self) -> usize {
        self.askings.iter().map(|asked| asked.room).sum()
    }

    /// The oldest opportunity that is being decided.
    pub(crate) fn oldest_asking(&self) -> Option<u64> {
        self.askings.iter().map(|asked| asked.number).min()
    }

    /// The offset before which all its opportunities are finished.
    pub(crate) fn finished_to(&self) -> u64 {
        self.oldest_asking().unwrap_or(self.read_to)
    }

    /// What is changed from here on belongs to the next transaction.
    pub(crate) fn seal(&mut self) {
        self.known.seal();
        self.is_listed = false;
    }

    /// What was sealed stays.
    pub(crate) fn commit(&mut self) {
        self.known.commit();
    }

    /// Back to what is committed; what was read of the inputs since is read
    /// again.
    pub(crate) fn abort(&mut self) {
        self.known.abort();
        self.is_listed = false;
        self.askings.clear();
        self.settlement = Settlement::default();
    }
}

impl Known {
    pub(crate) fn from_wire(value: &[u8]) -> Result<Self, RestoreError> {
        let state = DecideState::decode(value).map_err(RestoreError::Decode)?;
        Ok(Self {
            open: state.open.into_iter().map(Arc::new).collect(),
            exposures: Exposures::from_wire(&state.exposures),
            finished_number: state.finished_number,
            finished_received_unix_ms: state.finished_received_unix_ms,
        })
    }

    /// Whether whoever restored the one would do what the other does: they
    /// differ at most in what was pushed.
    pub(crate) fn leads_to_the_same(&self, other: &Self) -> bool {
        let Self {
            open,
            exposures,
            finished_number,
            finished_received_unix_ms,
        } = self;
        let mut pairs = open.iter().zip(&other.open);
        *finished_number == other.finished_number
            && *finished_received_unix_ms == other.finished_received_unix_ms
            && open.len() == other.open.len()
            && pairs.all(|(one, other)| Arc::ptr_eq(one, other) || unpushed(one) == unpushed(other))
            && *exposures == other.exposures
    }

    /// Appends it as a `DecideState`.
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        for open in &self.open {
            encoding::message::encode(1, &**open, bytes);
        }
        self.exposures.encode(2, bytes);
        if self.finished_number != 0 {
            encoding::uint64::encode(3, &self.finished_number, bytes);
        }
        if self.finished_received_unix_ms != 0 {
            encoding::int64::encode(4, &self.finished_received_unix_ms, bytes);
        }
    }

    pub(crate) fn find(&self, decision_id: &str) -> Option<&Arc<OpenDecision>> {
        // Most are asked for soon after they were decided.
        let mut latest = self.open.iter().rev();
        latest.find(|open| open.decision_id == decision_id)
    }

    pub(crate) fn find_mut(&mut self, decision_id: &str) -> Option<&mut OpenDecision> {
        let mut latest = self.open.iter_mut().rev();
        latest
            .find(|open| open.decision_id == decision_id)
            .map(Arc::make_mut)
    }

    /// Whether an opportunity was finished before and is only read again.
    pub(crate) fn is_finished(&self, number: u64, received_unix_ms: i64) -> bool {
        number < self.finished_number && received_unix_ms <= self.finished_received_unix_ms
    }

    /// Opportunities before `number`, received up to then, are finished.
    pub(crate) fn finish(&mut self, number: u64, received_unix_ms: i64) {
        self.finished_number = number;
        self.finished_received_unix_ms = self.finished_received_unix_ms.max(received_unix_ms);
    }

    /// Decisions that there is room for beside those that must be remembered.
    pub(crate) fn room(&self, limits: &Limits, now_unix_ms: i64) -> usize {
        let needed = self.open.iter().filter(|open| !is_over(open, now_unix_ms));
        limits.open_decisions_max.saturating_sub(needed.count())
    }

    /// Forgets what need not be remembered: signatures that nobody asks for
    /// any more, of what is over all but the latest, and ads that no cap counts
    /// any more.
    pub(crate) fn tidy(&mut self, limits: &Limits, cap: Option<Cap>, now_unix_ms: i64) {
        for open in &mut self.open {
            if open.signed.is_some() && is_past(open.expiry_unix_ms, now_unix_ms) {
                Arc::make_mut(open).signed = None;
            }
        }
        let (mut ads, mut unfilled, mut unsent) = (0, 0, 0);
        let mut is_kept: Vec<bool> = self
            .open
            .iter()
            .rev()
            .map(|open| {
                let (count, max) = if has_ad(open) {
                    (&mut ads, limits.over_decisions_max)
                } else if is_unsent(open) {
                    // Apart: what a box has waited out all comes at once.
                    (&mut unsent, limits.over_decisions_max / 2)
                } else {
                    (&mut unfilled, limits.over_decisions_max / 2)
                };
                let is_over = is_over(open, now_unix_ms);
                *count += usize::from(is_over);
                !is_over || *count <= max
            })
            .collect();
        self.open.retain(|_| is_kept.pop().unwrap_or(true));
        if let Some(cap) = cap {
            self.exposures.tidy(cap, now_unix_ms);
        }
    }

    /// Remembers a decision, in place of the oldest that are over where there
    /// is no room; says whether there was any.
    pub(crate) fn remember(
        &mut self,
        decision: OpenDecision,
        limits: &Limits,
        now_unix_ms: i64,
    ) -> bool {
        while self.open.len() >= limits.open_decisions_max {
            let Some(oldest) = self.open.iter().position(|open| is_over(open, now_unix_ms)) else {
                return false;
            };
            self.open.remove(oldest);
        }
        self.open.push(Arc::new(decision));
        true
    }

    /// Whether the box may not be decided another ad of an advertiser.
    pub(crate) fn is_capped(
        &self,
        advertiser: &str,
        cap: Cap,
        limits: &Limits,
        now_unix_ms: i64,
    ) -> bool {
        self.exposures
            .is_capped(advertiser, cap, limits.exposures_max, now_unix_ms)
    }

    /// Counts an ad of an advertiser as if it were shown, until it is known.
    pub(crate) fn reserve(
        &mut self,
        advertiser: &str,
        decision_id: &str,
        limits: &Limits,
        decided_unix_ms: i64,
    ) {
        self.exposures.reserve(
            advertiser,
            decision_id,
            decided_unix_ms,
            limits.exposures_max,
        );
    }

    /// An ad was shown: it counts, also where its reservation had ended.
    pub(crate) fn confirm(&mut self, decision_id: &str, cap: Option<Cap>, limits: &Limits) {
        if self.exposures.confirm(decision_id, limits.exposures_max) {
            return;
        }
        let Some(open) = self.find(decision_id) else {
            return;
        };
        if cap.is_none() || open.advertiser.is_empty() {
            return;
        }
        let (advertiser, decided_unix_ms) = (open.advertiser.clone(), open.decided_unix_ms);
        self.exposures
            .add(&advertiser, decided_unix_ms, limits.exposures_max);
    }

    /// An ad will not be shown: it counts no longer.
    pub(crate) fn release(&mut self, decision_id: &str) {
        self.exposures.release(decision_id);
    }
}

/// Whether a stage of a decision was recorded.
pub(crate) fn has_stage(open: &OpenDecision, stage: Stage) -> bool {
    open.stages & bit(stage) != 0
}

/// A decision without the knowledge that it was pushed.
fn unpushed(open: &OpenDecision) -> OpenDecision {
    OpenDecision {
        stages: open.stages & !bit(Stage::Pushed),
        ..open.clone()
    }
}

/// The bit of a stage in `OpenDecision.stages`.
pub(crate) fn bit(stage: Stage) -> u32 {
    1 << stage as u32
}

/// Whether a decision put an ad into its slot.
pub(crate) fn has_ad(open: &OpenDecision) -> bool {
    !open.aggregator.is_empty()
}

/// Whether nothing was sent for a slot, so that nothing becomes of it. Such a
/// decision is settled from its beginning, and no other without an ad is ever.
pub(crate) fn is_unsent(open: &OpenDecision) -> bool {
    open.is_settled && !has_ad(open)
}

/// Whether nothing depends on a decision being remembered: nobody can ask for
/// its slot in time, and whether it was shown is known, or known to no one.
fn is_over(open: &OpenDecision, now_unix_ms: i64) -> bool {
    let is_known = !has_ad(open)
        || open.is_settled
        || has_stage(open, Stage::Shown)
        || now_unix_ms.saturating_sub(open.decided_unix_ms) > UNSETTLED_MS_MAX;
    is_known && is_past(open.expiry_unix_ms, now_unix_ms)
}

/// Whether a decision has expired for any box, however its clock runs.
fn is_past(expiry_unix_ms: i64, now_unix_ms: i64) -> bool {
    now_unix_ms > expiry_unix_ms.saturating_add(EXPIRY_MARGIN_MS)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use returnpath_shared::{
        CLIENT_ID_BYTES_MAX, SIGNED_DECISION_BYTES_MAX,
        wire::{Exposure, SignedDecision},
    };

    use super::*;
    use crate::limit::{EXPOSURES_MAX, OPEN_DECISIONS_MAX, RECORD_BYTES_MAX};

    /// Two labels: the longest that can be registered below a suffix of one.
    const ADVERTISER_BYTES_MAX: usize = 2 * 63 + 1;

    /// Signed for the longest URL, media type and ids.
    const SIGNED_BYTES_MAX: usize = 2_600;

    const _A_BOX_TAKES_IT: () = assert!(SIGNED_BYTES_MAX < SIGNED_DECISION_BYTES_MAX);

    #[test]
    fn all_that_may_be_remembered_of_a_box_fits_one_record() {
        let text = |length: usize| "x".repeat(length);
        let open = Arc::new(OpenDecision {
            decision_id: text(32),
            boot_id: u64::MAX,
            break_id: text(CLIENT_ID_BYTES_MAX),
            slot: u32::MAX,
            expiry_uptime_ms: u64::MAX,
            expiry_unix_ms: i64::MAX,
            decided_unix_ms: i64::MAX,
            signed: Some(SignedDecision {
                decision: vec![0; SIGNED_BYTES_MAX - 96].into(),
                key_id: text(16),
                signature: vec![0; 64].into(),
            }),
            stages: u32::MAX,
            aggregator: text(64),
            advertiser: text(ADVERTISER_BYTES_MAX),
            is_settled: true,
        });
        let exposure = Exposure {
            advertiser: text(ADVERTISER_BYTES_MAX),
            decided_unix_ms: i64::MAX,
            reserved_by_decision_id: text(32),
            ads: u32::MAX,
        };
        // Each of the open ones may yet be told to have been shown.
        let exposures = vec![exposure; EXPOSURES_MAX + OPEN_DECISIONS_MAX];
        let known = Known {
            open: vec![open; OPEN_DECISIONS_MAX],
            exposures: Exposures::from_wire(&exposures),
            finished_number: u64::MAX,
            finished_received_unix_ms: i64::MAX,
        };
        let mut bytes = Vec::new();
        known.encode(&mut bytes);
        assert!(bytes.len() <= RECORD_BYTES_MAX, "{}", bytes.len());
    }
}
