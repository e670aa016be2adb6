//! Opportunities that the box may have to tell again.
//!
//! Nothing waits in a broker for a box that is away: a decision that was pushed
//! meanwhile is lost to it, and its players, who see the agent and not the link,
//! cannot know. So on each new connection the box asks again for what is ahead
//! and has no decision, and gets what the cloud recorded for those slots. After
//! a restart of the agent players ask again themselves: their connection ended.

use alloc::{boxed::Box, vec::Vec};

use returnpath_shared::wire::AdOpportunity;

use super::Slots;
use crate::{Output, Slot};

/// Opportunities remembered: twice as many as the breaks whose slots may be
/// bound. The oldest is forgotten first; it is not asked for again by the agent.
pub const OPPORTUNITIES_MAX: usize = 8;

/// The same break is asked for again this often at most, in ms, however often a
/// connection comes and goes.
pub const ASK_AGAIN_MS: u64 = 5_000;

/// What was asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct Asked {
    /// Uptime of the box when the opportunity arose, in ms.
    pub uptime_ms: u64,
    /// As the client told it.
    pub opportunity: AdOpportunity,
}

/// What the box has asked for.
#[derive(Debug, Default)]
pub(super) struct Opportunities {
    /// The one asked for last stands last.
    known: Vec<Known>,
    is_linked: bool,
}

#[derive(Debug)]
struct Known {
    asked: Asked,
    /// Since when it is in the queue.
    asked_ms: u64,
    /// It was in the queue while there was a connection.
    is_sent: bool,
    /// From when on it is to be asked for again.
    due_ms: Option<u64>,
}

impl Known {
    /// Its slots, and when each begins. A slot is lost to an ad from then on:
    /// whether a late one is still wanted is the cloud's setting.
    fn slots(&self, boot_id: u64) -> impl Iterator<Item = (Slot, u64)> {
        let Asked {
            uptime_ms,
            opportunity,
        } = &self.asked;
        let durations_ms = &opportunity.slot_durations_ms;
        let count = u32::try_from(durations_ms.len().max(1)).unwrap_or(u32::MAX);
        let mut start_ms = opportunity.start_uptime_ms.max(*uptime_ms);
        let lengths_ms = durations_ms.iter().copied().chain([0]);
        (0..count).zip(lengths_ms).map(move |(index, length_ms)| {
            let slot = Slot {
                boot_id,
                break_id: opportunity.break_id.clone(),
                index,
            };
            let begins_ms = start_ms;
            start_ms = start_ms.saturating_add(length_ms.into());
            (slot, begins_ms)
        })
    }
}

impl Slots {
    /// A client's opportunity was taken into the queue.
    pub fn asked(&mut self, asked: Asked, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        let asked_ms = self.now_ms;
        let Opportunities {
            known, is_linked, ..
        } = &mut self.opportunities;
        let break_id = &asked.opportunity.break_id;
        known.retain(|it| it.asked.opportunity.break_id != *break_id);
        if known.len() >= OPPORTUNITIES_MAX {
            known.remove(0);
        }
        known.push(Known {
            asked,
            asked_ms,
            is_sent: *is_linked,
            due_ms: None,
        });
        self.advance(now_ms);
    }

    /// The box is connected, and hears what is decided. An event that waited for
    /// less than `live_age_ms` goes out live now; an opportunity that is older
    /// is decided by nobody.
    pub fn linked(&mut self, live_age_ms: u64, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        let opportunities = &mut self.opportunities;
        opportunities.is_linked = true;
        for known in &mut opportunities.known {
            let age_ms = self.now_ms.saturating_sub(known.asked_ms);
            // Half of it: its batch is looked at a moment later than this.
            if known.is_sent || age_ms > live_age_ms / 2 {
                let again_ms = known.asked_ms.saturating_add(ASK_AGAIN_MS);
                known.due_ms = Some(again_ms.max(self.now_ms));
            }
            known.is_sent = true;
        }
        self.advance(now_ms);
    }

    /// The connection ended: nothing is asked for until there is another.
    pub fn unlinked(&mut self) {
        self.opportunities.is_linked = false;
        for known in &mut self.opportunities.known {
            known.due_ms = None;
        }
    }

    /// Asks again for what is due, and forgets what is over or decided.
    pub(super) fn ask_again(&mut self) {
        let (held, boot_id, now_ms) = (&self.held, self.boot_id, self.now_ms);
        let is_wanted = |known: &Known| {
            let mut slots = known.slots(boot_id);
            slots.any(|(slot, begins_ms)| {
                begins_ms > now_ms && !held.iter().any(|held| held.row.slot == slot)
            })
        };
        self.opportunities.known.retain(is_wanted);
        for known in &mut self.opportunities.known {
            if known.due_ms.take_if(|due_ms| *due_ms <= now_ms).is_some() {
                known.asked_ms = now_ms;
                self.totals.asked_again += 1;
                let asked = Box::new(known.asked.clone());
                self.outputs.push_back(Output::AskAgain(asked));
            }
        }
    }

    /// When something is to be asked for again.
    pub(super) fn ask_again_due(&self) -> impl Iterator<Item = u64> {
        self.opportunities.known.iter().filter_map(|it| it.due_ms)
    }
}
