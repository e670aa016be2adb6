//! Virtual time: what happens next, and when.

use std::collections::BTreeMap;

use crate::transition::Transition;

#[derive(Default)]
pub(crate) struct Schedule {
    now_ms: u64,
    entered: u64,
    /// By time, then in the order of entering.
    coming: BTreeMap<(u64, u64), Transition>,
}

impl Schedule {
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(crate) fn at(&mut self, at_ms: u64, transition: Transition) {
        self.entered += 1;
        let key = (at_ms.max(self.now_ms), self.entered);
        self.coming.insert(key, transition);
    }

    pub(crate) fn after(&mut self, delay_ms: u64, transition: Transition) {
        self.at(self.now_ms + delay_ms, transition);
    }

    /// Takes what comes next, and moves to its time.
    pub(crate) fn next(&mut self) -> Option<Transition> {
        let ((at_ms, _), transition) = self.coming.pop_first()?;
        self.now_ms = at_ms;
        Some(transition)
    }
}
