//! What boxes say of their slots, held against what was recorded: every slot
//! asked for is decided, none is filled twice, and nothing reaches a box that
//! has no record. Pure.
//!
//! The funnel counts what decide says of itself; this takes the boxes' word,
//! from the events that they sent and from what players were handed. Remembers
//! every slot of the run; a demo is short.

use std::collections::HashMap;

use returnpath_shared::wire::{
    AdEvent, AdOpportunity, Decided, Decision, DecisionRecord, Refined, ad_event, decision_record,
    event,
};
use serde::Serialize;

/// What must be 0 once everything has been read. In between, a record may
/// still be on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotFaults {
    /// Slots that were asked for and never decided.
    pub undecided: u64,
    /// Slots with two decisions, or with two creatives of one.
    pub filled_twice: u64,
    /// Slots that a box had a decision for, which was never recorded.
    pub without_record: u64,
}

/// Slots by their names.
#[derive(Debug, Default)]
pub(super) struct Slots(HashMap<Name, Slot>);

/// Device, boot, break and place in the break.
type Name = (String, u64, String, u32);

#[derive(Debug, Default)]
struct Slot {
    is_asked: bool,
    is_filled_twice: bool,
    /// The decision that was recorded.
    recorded: Option<String>,
    /// The decision that the box had, and its creative.
    had: Option<(String, String)>,
}

impl Slots {
    /// A decision was recorded; what becomes of it is not looked at.
    pub(super) fn record(&mut self, record: &DecisionRecord) {
        let Some(decision_record::What::Decided(decided)) = &record.what else {
            return;
        };
        let Some((refined, ad)) = opportunity(decided) else {
            return;
        };
        let slot = self.slot(
            &record.device_id,
            refined.boot_id,
            &ad.break_id,
            decided.slot,
        );
        match &slot.recorded {
            Some(before) if *before != record.decision_id => slot.is_filled_twice = true,
            Some(_) | None => slot.recorded = Some(record.decision_id.clone()),
        }
    }

    /// A box told something.
    pub(super) fn told(&mut self, refined: &Refined) {
        let Some(event) = &refined.event else {
            return;
        };
        let (device, boot_id) = (&refined.device_id, refined.boot_id);
        match &event.kind {
            Some(event::Kind::AdOpportunity(ad)) => {
                for slot in (0..).take(ad.slot_durations_ms.len().max(1)) {
                    self.slot(device, boot_id, &ad.break_id, slot).is_asked = true;
                }
            }
            // What it refused never took a slot.
            Some(event::Kind::AdEvent(ad)) if ad.kind() != ad_event::Kind::DecisionRefused => {
                let AdEvent {
                    decision_id,
                    break_id,
                    slot,
                    creative_id,
                    ..
                } = ad;
                self.had(
                    (device, boot_id, break_id, *slot),
                    decision_id,
                    creative_id.clone(),
                );
            }
            _ => {}
        }
    }

    /// A player was handed this.
    pub(super) fn handed_over(&mut self, decision: &Decision) {
        let creative = decision.creative.as_ref();
        let name = (
            decision.device_id.as_str(),
            decision.expiry_boot_id,
            decision.break_id.as_str(),
            decision.slot,
        );
        let creative_id = creative.map_or_else(String::new, |it| it.creative_id.clone());
        self.had(name, &decision.decision_id, creative_id);
    }

    /// As far as it was read.
    pub(super) fn faults(&self) -> SlotFaults {
        let mut faults = SlotFaults::default();
        for slot in self.0.values() {
            let is_recorded =
                |(decision_id, _): &(String, String)| slot.recorded.as_ref() == Some(decision_id);
            faults.undecided += u64::from(slot.is_asked && slot.recorded.is_none());
            faults.filled_twice += u64::from(slot.is_filled_twice);
            faults.without_record +=
                u64::from(slot.had.as_ref().is_some_and(|it| !is_recorded(it)));
        }
        faults
    }

    fn had(
        &mut self,
        (device, boot_id, break_id, slot): (&str, u64, &str, u32),
        decision_id: &str,
        creative_id: String,
    ) {
        let slot = self.slot(device, boot_id, break_id, slot);
        let now = (decision_id.to_owned(), creative_id);
        match &slot.had {
            Some(before) if *before != now => slot.is_filled_twice = true,
            Some(_) | None => slot.had = Some(now),
        }
    }

    fn slot(&mut self, device: &str, boot_id: u64, break_id: &str, slot: u32) -> &mut Slot {
        let name = (device.to_owned(), boot_id, break_id.to_owned(), slot);
        self.0.entry(name).or_default()
    }
}

/// The opportunity of a decision, and what the box said.
pub(super) fn opportunity(decided: &Decided) -> Option<(&Refined, &AdOpportunity)> {
    let refined = decided.opportunity.as_ref()?.refined.as_ref()?;
    let event::Kind::AdOpportunity(ad) = refined.event.as_ref()?.kind.as_ref()? else {
        return None;
    };
    Some((refined, ad))
}

#[cfg(test)]
mod tests {
    use returnpath_shared::wire::{Creative, Event, Opportunity};

    use super::*;

    const BOOT: u64 = 7;

    fn told(kind: event::Kind) -> Refined {
        Refined {
            device_id: "box-1".into(),
            boot_id: BOOT,
            event: Some(Event {
                kind: Some(kind),
                ..Event::default()
            }),
            ..Refined::default()
        }
    }

    fn asked() -> Refined {
        told(event::Kind::AdOpportunity(AdOpportunity {
            break_id: "b".into(),
            slot_durations_ms: vec![30_000; 2],
            ..AdOpportunity::default()
        }))
    }

    fn recorded(decision_id: &str, slot: u32) -> DecisionRecord {
        DecisionRecord {
            decision_id: decision_id.into(),
            device_id: "box-1".into(),
            what: Some(decision_record::What::Decided(Decided {
                opportunity: Some(Opportunity {
                    refined: Some(asked()),
                    ..Opportunity::default()
                }),
                slot,
                ..Decided::default()
            })),
            ..DecisionRecord::default()
        }
    }

    fn shown(decision_id: &str, slot: u32, creative_id: &str) -> Refined {
        told(event::Kind::AdEvent(AdEvent {
            kind: ad_event::Kind::Start as i32,
            decision_id: decision_id.into(),
            break_id: "b".into(),
            slot,
            creative_id: creative_id.into(),
            ..AdEvent::default()
        }))
    }

    #[test]
    fn slots_that_are_asked_for_decided_and_shown_once_are_no_fault() {
        let mut slots = Slots::default();
        slots.told(&asked());
        assert_eq!(slots.faults().undecided, 2);
        slots.record(&recorded("d0", 0));
        slots.record(&recorded("d1", 1));
        slots.told(&shown("d0", 0, "c"));
        slots.told(&shown("d0", 0, "c"));
        assert_eq!(slots.faults(), SlotFaults::default());
    }

    #[test]
    fn what_a_box_shows_without_a_record_is_found() {
        let mut slots = Slots::default();
        slots.record(&recorded("d0", 0));
        slots.told(&shown("another", 0, "c"));
        slots.told(&shown("d1", 1, "c"));
        assert_eq!(slots.faults().without_record, 2);
        slots.record(&recorded("d1", 1));
        assert_eq!(slots.faults().without_record, 1);
    }

    #[test]
    fn a_slot_with_two_decisions_or_two_creatives_is_filled_twice() {
        let decisions = [shown("d0", 0, "c"), shown("d9", 0, "c")];
        let creatives = [shown("d0", 0, "c"), shown("d0", 0, "another")];
        for boxes_word in [decisions, creatives] {
            let mut slots = Slots::default();
            boxes_word.iter().for_each(|it| slots.told(it));
            assert_eq!(slots.faults().filled_twice, 1);
        }
        let mut slots = Slots::default();
        slots.record(&recorded("d0", 0));
        slots.record(&recorded("d9", 0));
        assert_eq!(slots.faults().filled_twice, 1);
    }

    #[test]
    fn what_a_player_was_handed_counts_as_what_its_box_has() {
        let mut slots = Slots::default();
        let mut decision = Decision {
            decision_id: "d0".into(),
            device_id: "box-1".into(),
            break_id: "b".into(),
            expiry_boot_id: BOOT,
            creative: Some(Creative {
                creative_id: "c".into(),
                ..Creative::default()
            }),
            ..Decision::default()
        };
        slots.record(&recorded("d0", 0));
        slots.told(&shown("d0", 0, "c"));
        slots.handed_over(&decision);
        assert_eq!(slots.faults(), SlotFaults::default());
        decision.decision_id = "d9".into();
        slots.handed_over(&decision);
        assert_eq!(slots.faults().filled_twice, 1);
    }

    #[test]
    fn a_refusal_takes_no_slot() {
        let mut slots = Slots::default();
        let mut refused = shown("d9", 0, "c");
        if let Some(Event {
            kind: Some(event::Kind::AdEvent(ad)),
            ..
        }) = &mut refused.event
        {
            ad.kind = ad_event::Kind::DecisionRefused as i32;
        }
        slots.told(&refused);
        assert_eq!(slots.faults(), SlotFaults::default());
    }
}
