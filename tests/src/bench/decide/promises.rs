//! What must never be, counted in what boxes were sent and what is recorded:
//! a decision without a record, a slot with two.

use std::collections::HashMap;

use returnpath_shared::wire;

use crate::bench::opportunities::Decided;

/// How often a promise was broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Broke {
    /// Decisions that a box was sent and that are not recorded.
    pub unrecorded: usize,
    /// Slots that were recorded as decided more than once, or for which a box
    /// was sent two different decisions.
    pub twice: usize,
}

impl Broke {
    /// Counts in `sent`, to whatever boxes, against what is recorded.
    #[must_use]
    pub fn count<'a>(sent: impl Iterator<Item = &'a wire::Decision>, recorded: &Decided) -> Self {
        let mut broke = Self {
            unrecorded: 0,
            twice: recorded.twice(),
        };
        let mut slots: HashMap<_, &wire::Decision> = HashMap::new();
        for decision in sent {
            if !recorded.slots.contains_key(&decision.decision_id) {
                broke.unrecorded += 1;
            }
            let slot = (
                &decision.device_id,
                decision.expiry_boot_id,
                &decision.break_id,
                decision.slot,
            );
            let first = slots.entry(slot).or_insert(decision);
            if *first != decision {
                broke.twice += 1;
            }
        }
        broke
    }

    /// Whether none was.
    #[must_use]
    pub fn none(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(break_id: &str, id: &str) -> wire::Decision {
        wire::Decision {
            decision_id: id.into(),
            device_id: "box-1".into(),
            break_id: break_id.into(),
            ..wire::Decision::default()
        }
    }

    #[test]
    fn broken_promises_are_counted() {
        let mut recorded = Decided::default();
        for (id, times) in [("a", 1), ("b", 2), ("c", 1)] {
            recorded.slots.insert(id.into(), times);
        }
        let sent = [
            decision("1", "a"),
            decision("1", "a"),
            decision("2", "b"),
            decision("3", "c"),
            decision("3", "d"),
        ];
        let expected = Broke {
            unrecorded: 1,
            twice: 2,
        };
        assert_eq!(Broke::count(sent.iter(), &recorded), expected);
        recorded.slots.insert("b".into(), 1);
        assert!(Broke::count(sent[..4].iter(), &recorded).none());
    }
}
