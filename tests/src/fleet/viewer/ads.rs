//! The player's side of a break: which slots are filled, and the proof of what
//! was shown. There is no decision role to ask: the player makes up the ids of
//! the decisions that it would have been given.

use returnpath_shared::wire::{AdEvent, Channel, ad_event, event};

use crate::fleet::{
    breaks::AdBreak,
    chance::Chance,
    moment::{Moment, SECOND_MS},
};

/// How many slots are filled.
const FILLED: f64 = 0.8;

/// How many ads do not play, and why: IAB VAST 4.2, section 2.3.6.3, 402 is a
/// media file that did not come in time, 405 one that could not be shown.
const FAILS: f64 = 0.01;
const ERROR_CODES: [u32; 2] = [402, 405];

/// Creatives to choose from.
const CREATIVES: u64 = 40;

/// One ad of a break.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ad {
    decision_id: String,
    break_id: String,
    slot: u32,
    creative_id: String,
    start: Moment,
    duration_ms: u64,
}

/// A step of an ad, when it is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Step {
    ad: Ad,
    kind: ad_event::Kind,
    error_code: u32,
}

/// What the player shows.
#[derive(Debug)]
pub(super) struct Ads {
    /// Makes decision ids of one household differ from those of others.
    seed: u64,
    chance: Chance,
    playing: Option<Ad>,
}

impl Ads {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            chance: Chance::new(!seed),
            playing: None,
        }
    }

    /// Fills the slots of a break, and says what will be reached when.
    pub(super) fn fill(&mut self, break_id: &str, ad_break: &AdBreak) -> Vec<(Moment, Step)> {
        let mut steps = Vec::new();
        let mut start = ad_break.start;
        for (slot, seconds) in (0..).zip(ad_break.slots_s) {
            let duration_ms = u64::from(*seconds) * SECOND_MS;
            if self.chance.happens(FILLED) {
                let ad = Ad {
                    decision_id: format!("d{:016x}-{break_id}-{slot}", self.seed),
                    break_id: break_id.to_owned(),
                    slot,
                    creative_id: format!("creative-{}", self.chance.below(CREATIVES)),
                    start,
                    duration_ms,
                };
                self.play(ad, &mut steps);
            }
            start = start.plus_ms(duration_ms);
        }
        steps
    }

    fn play(&mut self, ad: Ad, steps: &mut Vec<(Moment, Step)>) {
        if self.chance.happens(FAILS) {
            let code = usize::try_from(self.chance.below(ERROR_CODES.len() as u64));
            let error_code = code.ok().and_then(|code| ERROR_CODES.get(code).copied());
            let step = Step {
                kind: ad_event::Kind::Error,
                error_code: error_code.unwrap_or_default(),
                ad,
            };
            steps.push((step.ad.start, step));
            return;
        }
        // A slot's last step comes just before the first of the next.
        let quarter_ms = ad.duration_ms / 4;
        for (kind, position_ms) in [
            (ad_event::Kind::Start, 0),
            (ad_event::Kind::FirstQuartile, quarter_ms),
            (ad_event::Kind::Midpoint, 2 * quarter_ms),
            (ad_event::Kind::ThirdQuartile, 3 * quarter_ms),
            (ad_event::Kind::Complete, ad.duration_ms - 1),
        ] {
            let step = Step {
                ad: ad.clone(),
                kind,
                error_code: 0,
            };
            steps.push((ad.start.plus_ms(position_ms), step));
        }
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
            break_id: self.break_id.clone(),
            slot: self.slot,
            creative_id: self.creative_id.clone(),
            position_ms: u32::try_from(at.0.saturating_sub(self.start.0)).unwrap_or(u32::MAX),
            error_code,
            channel: Some(channel.clone()),
            ..AdEvent::default()
        })
    }
}
