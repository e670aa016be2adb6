//! What becomes of decisions: the broker has them, the box acknowledges,
//! refuses, shows or fails to show them, or tells everything without having
//! shown them. Each stage is recorded once.

use alloc::{string::String, sync::Arc, vec::Vec};

use prost::Message as _;
use returnpath_shared::wire::{AdEvent, OpenDecision, Progress, Refined, Stage, ad_event, event};

use super::{DeviceIndex, Partition};
use crate::{
    device::{bit, has_ad, has_stage, is_unsent},
    encode::put_progress,
    input::InputRecord,
    limit::UNACKNOWLEDGED_MS,
    now::Now,
    opportunity::{Slot, device},
    output::Output,
    settlement::Settled,
};

/// A decision to look at when it should have been acknowledged.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Closing {
    pub(super) due_unix_ms: i64,
    pub(super) device: DeviceIndex,
    decision_id: Arc<str>,
}

impl Closing {
    pub(super) fn of(device: DeviceIndex, slot: &Slot) -> Self {
        Self {
            due_unix_ms: slot.expiry_unix_ms.saturating_add(UNACKNOWLEDGED_MS),
            device,
            decision_id: slot.decision_id.as_str().into(),
        }
    }

    pub(super) fn of_open(device: DeviceIndex, open: &OpenDecision) -> Self {
        Self {
            due_unix_ms: open.expiry_unix_ms.saturating_add(UNACKNOWLEDGED_MS),
            device,
            decision_id: open.decision_id.as_str().into(),
        }
    }

    /// Whether the box has said something of a decision, or its end was
    /// recorded.
    pub(super) fn is_recorded(open: &OpenDecision) -> bool {
        let said = [
            Stage::Acknowledged,
            Stage::Refused,
            Stage::Shown,
            Stage::Expired,
        ];
        said.into_iter().any(|stage| has_stage(open, stage))
    }
}

impl Partition {
    /// Takes one record of `rp.ads`.
    pub(super) fn close(&mut self, record: &InputRecord<'_>, now: Now, out: &mut Output) {
        let key = device(record.key);
        let refined = Refined::decode(record.value).ok();
        let (Some(key), Some(refined)) = (key, refined) else {
            self.open.counts.undecodable_ads += 1;
            return;
        };
        let kind = refined.event.as_ref().and_then(|event| event.kind.as_ref());
        match kind {
            Some(event::Kind::AdOpportunity(_)) => {
                let index = self.device(key);
                if let Some(settled) = self.devices[index].settlement.tell(&refined) {
                    self.settle(index, settled, now, out);
                }
            }
            Some(event::Kind::AdEvent(told)) => self.tell(key, told, &refined, now, out),
            Some(_) | None => self.open.counts.undecodable_ads += 1,
        }
    }

    /// The broker has a decision.
    pub(super) fn confirm_push(&mut self, key: &str, id: &str, now: Now, out: &mut Output) {
        let progress = Progress {
            stage: Stage::Pushed.into(),
            ..Progress::default()
        };
        self.record(key, id, progress, now, out);
    }

    /// Records what was told everything up to the expiry and not shown, and
    /// takes back what was reserved for it.
    pub(super) fn settle(
        &mut self,
        index: DeviceIndex,
        settled: Settled,
        now: Now,
        out: &mut Output,
    ) {
        let device = &self.devices[index];
        let open = device.known.get().open.iter();
        let ids: Vec<String> = open
            .filter(|open| has_ad(open) && !open.is_settled && settled.covers(open))
            .map(|open| open.decision_id.clone())
            .collect();
        if ids.is_empty() {
            return;
        }
        self.touch(index);
        for id in ids {
            let known = self.devices[index].known.change();
            let Some(open) = known.find_mut(&id) else {
                continue;
            };
            open.is_settled = true;
            if has_stage(open, Stage::Shown) {
                continue;
            }
            known.release(&id);
            self.expire(index, &id, now, out);
        }
    }

    /// Records the end of what expired without a word of its box.
    pub(super) fn close_unacknowledged(&mut self, now: Now, out: &mut Output) {
        while self
            .closings
            .first()
            .is_some_and(|closing| closing.due_unix_ms <= now.unix_ms)
        {
            let Some(closing) = self.closings.pop_first() else {
                return;
            };
            let known = self
                .devices
                .get(closing.device)
                .map(|device| device.known.get());
            let open = known.and_then(|known| known.find(&closing.decision_id));
            if open.is_some_and(|open| !Closing::is_recorded(open)) {
                self.expire(closing.device, &closing.decision_id, now, out);
            }
        }
    }

    /// Records that a decision has expired, unless that was recorded. What is
    /// reserved for it stays: only the box can say that it was not shown.
    fn expire(&mut self, index: DeviceIndex, id: &str, now: Now, out: &mut Output) {
        let known = self.devices[index].known.get();
        if known
            .find(id)
            .is_none_or(|open| has_stage(open, Stage::Expired))
        {
            return;
        }
        let progress = Progress {
            stage: Stage::Expired.into(),
            ..Progress::default()
        };
        let key = Arc::clone(&self.devices[index].key);
        self.record(&key, id, progress, now, out);
    }

    /// A box told something of an ad.
    fn tell(&mut self, key: &str, told: &AdEvent, refined: &Refined, now: Now, out: &mut Output) {
        let Some(stage) = stage(told) else {
            self.open.counts.undecodable_ads += 1;
            return;
        };
        let progress = Progress {
            stage: stage.into(),
            event_unix_ms: refined.event_unix_ms,
            error_code: told.error_code,
            refusal: told.refusal.clone(),
            batch: refined.batch,
            ordinal: refined.ordinal,
            instance: told.instance,
        };
        let id = &told.decision_id;
        let Some(index) = self.record(key, id, progress, now, out) else {
            return;
        };
        let cap = self.settings.cap;
        let known = self.devices[index].known.change();
        match stage {
            Stage::Shown => known.confirm(id, cap, &self.limits),
            // Refused for its age, and never acknowledged: it was not bound, so
            // nobody can show it. A decision refused for another reason may be
            // on the screen, and one that failed may be tried again; their
            // reservations end when the box is settled.
            Stage::Refused if told.refusal == REFUSED_EXPIRED => {
                let is_unbound = known.find(id).is_some_and(|open| {
                    !has_stage(open, Stage::Acknowledged) && !has_stage(open, Stage::Shown)
                });
                if is_unbound {
                    known.release(id);
                }
            }
            Stage::Unspecified
            | Stage::Pushed
            | Stage::Acknowledged
            | Stage::Refused
            | Stage::FirstQuartile
            | Stage::Midpoint
            | Stage::ThirdQuartile
            | Stage::Completed
            | Stage::Skipped
            | Stage::Clicked
            | Stage::Failed
            | Stage::Expired => {}
        }
    }

    /// Records a stage once, of a decision of this box; says whose it is.
    fn record(
        &mut self,
        key: &str,
        id: &str,
        progress: Progress,
        now: Now,
        out: &mut Output,
    ) -> Option<DeviceIndex> {
        let index = self.index.get(key).copied();
        let known =
            index.and_then(|index| Some((index, self.devices[index].known.get().find(id)?)));
        let Some((index, open)) = known.filter(|(_, open)| !is_unsent(open)) else {
            self.open.counts.unknown_ad_events += 1;
            return None;
        };
        let stage = progress.stage();
        if has_stage(open, stage) {
            // What is pushed again is counted there.
            self.open.counts.repeated_ad_events += u64::from(stage != Stage::Pushed);
            return None;
        }
        self.touch(index);
        let device = &mut self.devices[index];
        if let Some(open) = device.known.change().find_mut(id) {
            open.stages |= bit(stage);
        }
        put_progress(out, id, &device.key, now, progress);
        self.open.counts.progress[stage as usize] += 1;
        Some(index)
    }
}

/// The refusal of a decision that came too late.
const REFUSED_EXPIRED: &str = "expired";

/// The stage that an ad event tells; `None` where it tells none.
fn stage(told: &AdEvent) -> Option<Stage> {
    Some(match told.kind() {
        ad_event::Kind::Unspecified => return None,
        ad_event::Kind::Start => Stage::Shown,
        ad_event::Kind::FirstQuartile => Stage::FirstQuartile,
        ad_event::Kind::Midpoint => Stage::Midpoint,
        ad_event::Kind::ThirdQuartile => Stage::ThirdQuartile,
        ad_event::Kind::Complete => Stage::Completed,
        ad_event::Kind::Skip => Stage::Skipped,
        ad_event::Kind::Click => Stage::Clicked,
        ad_event::Kind::Error => Stage::Failed,
        ad_event::Kind::DecisionAcknowledged => Stage::Acknowledged,
        ad_event::Kind::DecisionRefused => Stage::Refused,
    })
}
