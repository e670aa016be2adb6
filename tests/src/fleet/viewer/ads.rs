//! The player's side of a break: what each slot shows, and the proof of it.
//!
//! Ads come from decisions that the box was given, or, where nobody decides,
//! the player makes them up with ids of its own. A slot without an ad shows the
//! broadcaster's default, of which nothing is told.

use std::collections::VecDeque;

use returnpath_shared::wire::{self, AdEvent, Channel, ad_event, event};

use crate::fleet::{
    breaks::AdBreak,
    chance::Chance,
    moment::{Moment, SECOND_MS},
};

/// How many slots are filled where ads are made up.
const FILLED: f64 = 0.8;

/// How many ads do not play, and why: IAB VAST 4.2, section 2.3.6.3, 402 is a
/// media file that did not come in time, 405 one that could not be shown.
const FAILS: f64 = 0.01;
const ERROR_CODES: [u32; 2] = [402, 405];

/// Creatives to choose from where ads are made up.
const CREATIVES: u64 = 40;

/// Decisions kept for slots that are still to come: as many as an agent holds.
/// The oldest go first; most are of breaks that the viewer zapped away from.
const DECISIONS_MAX: usize = returnpath_slots::HELD_MAX;

/// A slot of a break that the player will reach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    break_id: String,
    index: u32,
    duration_ms: u64,
}

/// One ad of a break.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ad {
    decision_id: String,
    creative_id: String,
    slot: Slot,
    start: Moment,
}

/// A step of an ad, when it is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Step {
    ad: Ad,
    kind: ad_event::Kind,
    error_code: u32,
}

/// Where ads come from.
#[derive(Debug)]
enum Source {
    /// Nobody decides. The seed makes decision ids of one household differ from
    /// those of others.
    MadeUp { seed: u64 },
    /// The latest decisions with a creative, oldest first.
    Decided(VecDeque<wire::Decision>),
}

/// What the player shows.
#[derive(Debug)]
pub(super) struct Ads {
    source: Source,
    chance: Chance,
    playing: Option<Ad>,
}

impl Ads {
    /// Ads of the player's own.
    pub(super) fn made_up(seed: u64) -> Self {
        Self {
            source: Source::MadeUp { seed },
            chance: Chance::new(!seed),
            playing: None,
        }
    }

    /// From now on, only what was decided is shown.
    pub(super) fn follow_decisions(&mut self) {
        self.source = Source::Decided(VecDeque::new());
    }

    /// The box was given a decision.
    pub(super) fn decided(&mut self, decision: wire::Decision) {
        let Source::Decided(decisions) = &mut self.source else {
            return;
        };
        if decisions.len() == DECISIONS_MAX {
            decisions.pop_front();
        }
        decisions.push_back(decision);
    }

    /// The slots of a break, and when each is reached.
    pub(super) fn slots(break_id: &str, ad_break: &AdBreak) -> Vec<(Moment, Slot)> {
        let mut slots = Vec::new();
        let mut start = ad_break.start;
        for (index, seconds) in (0..).zip(ad_break.slots_s) {
            let duration_ms = u64::from(*seconds) * SECOND_MS;
            let slot = Slot {
                break_id: break_id.to_owned(),
                index,
                duration_ms,
            };
            slots.push((start, slot));
            start = start.plus_ms(duration_ms);
        }
        slots
    }

    /// A slot is reached: what will be reached of its ad, and when. A decision
    /// that comes later is too late: the default is on the screen.
    pub(super) fn begin(&mut self, slot: Slot, start: Moment) -> Vec<(Moment, Step)> {
        let Some((decision_id, creative_id)) = self.ad_for(&slot) else {
            return Vec::new();
        };
        self.play(Ad {
            decision_id,
            creative_id,
            slot,
            start,
        })
    }

    /// Decision and creative for a slot.
    fn ad_for(&mut self, slot: &Slot) -> Option<(String, String)> {
        match &mut self.source {
            Source::MadeUp { seed } => {
                let Slot {
                    break_id, index, ..
                } = slot;
                self.chance.happens(FILLED).then(|| {
                    let creative = self.chance.below(CREATIVES);
                    (
                        format!("d{seed:016x}-{break_id}-{index}"),
                        format!("creative-{creative}"),
                    )
                })
            }
            Source::Decided(decisions) => {
                let place = decisions
                    .iter()
                    .position(|it| it.break_id == slot.break_id && it.slot == slot.index)?;
                let decision = decisions.remove(place)?;
                Some((decision.decision_id, decision.creative?.creative_id))
            }
        }
    }

    fn play(&mut self, ad: Ad) -> Vec<(Moment, Step)> {
        if self.chance.happens(FAILS) {
            let code = usize::try_from(self.chance.below(ERROR_CODES.len() as u64));
            let error_code = code.ok().and_then(|code| ERROR_CODES.get(code).copied());
            let step = Step {
                kind: ad_event::Kind::Error,
                error_code: error_code.unwrap_or_default(),
                ad,
            };
            return vec![(step.ad.start, step)];
        }
        // A slot's last step comes just before the first of the next.
        let quarter_ms = ad.slot.duration_ms / 4;
        [
            (ad_event::Kind::Start, 0),
            (ad_event::Kind::FirstQuartile, quarter_ms),
            (ad_event::Kind::Midpoint, 2 * quarter_ms),
            (ad_event::Kind::ThirdQuartile, 3 * quarter_ms),
            (ad_event::Kind::Complete, ad.slot.duration_ms - 1),
        ]
        .into_iter()
        .map(|(kind, position_ms)| {
            let step = Step {
                ad: ad.clone(),
                kind,
                error_code: 0,
            };
            (ad.start.plus_ms(position_ms), step)
        })
        .collect()
    }

    /// A step is reached: the proof of it. `None` for an ad that was cut off.
    pub(super) fn take(
        &mut self,
        step: Step,
        channel: &Channel,
        at: Moment,
    ) -> Option<event::Kind> {
        if step.kind == ad_event::Kind::Start {
            self.playing = Some(step.ad.clone());
        } else if step.kind != ad_event::Kind::Error && self.playing.as_ref() != Some(&step.ad) {
            return None;
        }
        if step.kind == ad_event::Kind::Complete {
            self.playing = None;
        }
        Some(step.ad.proof(step.kind, step.error_code, channel, at))
    }

    /// The viewer leaves the channel: the proof of it, when an ad was playing.
    pub(super) fn skip(&mut self, channel: &Channel, at: Moment) -> Option<event::Kind> {
        let ad = self.playing.take()?;
        Some(ad.proof(ad_event::Kind::Skip, 0, channel, at))
    }

    /// The picture is gone without anybody skipping: no more proof comes.
    pub(super) fn cut_off(&mut self) {
        self.playing = None;
    }
}

impl Ad {
    fn proof(
        &self,
        kind: ad_event::Kind,
        error_code: u32,
        channel: &Channel,
        at: Moment,
    ) -> event::Kind {
        event::Kind::AdEvent(AdEvent {
            kind: kind as i32,
            decision_id: self.decision_id.clone(),
            break_id: self.slot.break_id.clone(),
            slot: self.slot.index,
            creative_id: self.creative_id.clone(),
            position_ms: u32::try_from(at.0.saturating_sub(self.start.0)).unwrap_or(u32::MAX),
            error_code,
            channel: Some(channel.clone()),
            ..AdEvent::default()
        })
    }
}
