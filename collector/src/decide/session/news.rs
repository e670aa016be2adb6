//! What comes back to the session's thread from tasks: how calls ended, and
//! which pushes the broker has.
//!
//! Answers go first, and ring the bell of the loop: boxes wait for them. (While
//! a commit is under way it looks every few milliseconds instead.) Nobody waits
//! for the knowledge that a decision was pushed; it is heard with what comes
//! next, or when the loop looks around, 20 times a second.

use std::sync::Arc;

use returnpath_decision::{Ended, Settings};
use returnpath_shared::DeviceId;
use tokio::sync::mpsc;

use crate::exactly_once::Bell;

/// Confirmations that have not been heard, at most: more than the pushes that
/// can be on their way to the broker. One that finds no room is lost: the
/// decision's record then does not tell that it was pushed.
const CONFIRMATIONS_MAX: usize = 8_192;

/// Something for one partition.
#[derive(Debug)]
pub(in crate::decide) enum News {
    /// A call ended.
    Answered(Ended),
    /// The broker has a decision for somebody.
    Pushed {
        /// The box.
        device: DeviceId,
        /// The decision.
        decision_id: Arc<str>,
    },
}

/// The session's end: it takes news out, and hands the slot for answers to the
/// calls that it makes.
#[derive(Debug)]
pub(in crate::decide) struct Letterbox {
    answers: mpsc::Receiver<(i32, Ended)>,
    confirmations: mpsc::Receiver<(i32, News)>,
    slot: AnswerSlot,
}

/// Takes the ends of calls.
#[derive(Clone, Debug)]
pub(in crate::decide) struct AnswerSlot {
    answers: mpsc::Sender<(i32, Ended)>,
    bell: Bell,
}

/// Takes confirmations of pushes.
#[derive(Clone, Debug)]
pub(in crate::decide) struct ConfirmationSlot {
    confirmations: mpsc::Sender<(i32, News)>,
}

/// A letterbox, and the slot for confirmations.
pub(in crate::decide) fn post(settings: &Settings, bell: &Bell) -> (Letterbox, ConfirmationSlot) {
    // Each call that is under way posts once, and counts as under way until it
    // was heard: there is always room.
    let calls_max = settings.aggregators.iter().map(|one| one.calls_max);
    let calls_max = calls_max.fold(0, u32::saturating_add).max(1);
    let calls_max = usize::try_from(calls_max).unwrap_or(usize::MAX);
    let calls_max = calls_max.min(tokio::sync::Semaphore::MAX_PERMITS);
    let (answers, answered) = mpsc::channel(calls_max);
    let (confirmations, confirmed) = mpsc::channel(CONFIRMATIONS_MAX);
    let letterbox = Letterbox {
        answers: answered,
        confirmations: confirmed,
        slot: AnswerSlot {
            answers,
            bell: bell.clone(),
        },
    };
    (letterbox, ConfirmationSlot { confirmations })
}

impl Letterbox {
    /// The next news, and the partition it is for.
    pub(super) fn take(&mut self) -> Option<(i32, News)> {
        if let Ok((partition, ended)) = self.answers.try_recv() {
            return Some((partition, News::Answered(ended)));
        }
        self.confirmations.try_recv().ok()
    }

    pub(super) fn for_answers(&self) -> AnswerSlot {
        self.slot.clone()
    }
}

impl AnswerSlot {
    /// A call ended.
    pub(super) fn answered(&self, partition: i32, ended: Ended) {
        // There is room; and where the session is gone, nobody cares.
        let _ = self.answers.try_send((partition, ended));
        self.bell.ring();
    }
}

impl ConfirmationSlot {
    /// The broker has a decision. Says whether there was room for it.
    pub(in crate::decide) fn pushed(
        &self,
        partition: i32,
        device: DeviceId,
        decision_id: Arc<str>,
    ) -> bool {
        let news = News::Pushed {
            device,
            decision_id,
        };
        self.confirmations.try_send((partition, news)).is_ok()
    }
}
