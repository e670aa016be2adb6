//! Events of a simulated household at the pace that a box is promised to hold
//! for a week: four in 5 s. Pure; whoever has a box hands them in.

use std::sync::Arc;

use returnpath_delivery::Uptime;
use returnpath_shared::wire::{Event, event::Kind};

use crate::fleet::{
    lineup::Lineup,
    moment::{HOUR_MS, Moment},
    viewer::Viewer,
};

/// Between two events: four in 5 s.
pub const EVENT_EVERY_MS: u64 = 1_250;

/// Events of so many hours at that pace.
#[must_use]
pub fn events_in(hours: usize) -> usize {
    // Four in 5 s.
    hours * 3_600 * 4 / 5
}

/// What the household does, event after event, without the nights between:
/// kinds, channels and ads come in the order and proportion of the simulated
/// fleet, at a pace of ours.
#[derive(Debug)]
pub struct Events {
    viewer: Viewer,
    waiting: std::vec::IntoIter<Event>,
    at: Uptime,
}

impl Events {
    /// A household that begins in the evening; its first event is at `from`.
    ///
    /// # Errors
    /// Never with the line-up as it is.
    pub fn new(seed: u64, from: Uptime) -> anyhow::Result<Self> {
        let lineup = Arc::new(Lineup::london()?);
        Ok(Self {
            viewer: Viewer::new(lineup, seed, Moment(20 * HOUR_MS)),
            waiting: Vec::new().into_iter(),
            at: from,
        })
    }
}

impl Iterator for Events {
    type Item = (Uptime, Event);

    fn next(&mut self) -> Option<Self::Item> {
        let mut event = loop {
            if let Some(event) = self.waiting.next() {
                break event;
            }
            let happened = self.viewer.advance(self.viewer.next_at());
            let events: Vec<_> = happened.into_iter().map(|it| it.event).collect();
            self.waiting = events.into_iter();
        };
        let at = self.at;
        self.at = Uptime(at.0 + EVENT_EVERY_MS);
        event.uptime_ms = at.0;
        match &mut event.kind {
            // SCTE 67, section 4.3: told four seconds ahead.
            Some(Kind::AdOpportunity(ad)) => ad.start_uptime_ms = at.0 + 4_000,
            // As the cloud names decisions: 32 digits of a hash, not the
            // short names that a simulated player makes up.
            Some(Kind::AdEvent(ad)) => ad.decision_id = hashed(&ad.decision_id),
            _ => {}
        }
        Some((at, event))
    }
}

/// FNV-1a of the name, once forwards and once backwards, in 32 digits.
fn hashed(name: &str) -> String {
    let hash = |bytes: &mut dyn Iterator<Item = u8>| {
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    };
    let (forwards, backwards) = (hash(&mut name.bytes()), hash(&mut name.bytes().rev()));
    format!("{forwards:016x}{backwards:016x}")
}
