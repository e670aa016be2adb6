//! What a household is going to do: plans by their moment, those of the same
//! moment in the order in which they were made.

use std::collections::BTreeMap;

use crate::fleet::moment::Moment;

/// Plans of one kind.
#[derive(Debug)]
pub(super) struct Agenda<P> {
    /// The second number keeps plans for the same moment in order.
    plans: BTreeMap<(Moment, u64), P>,
    made: u64,
}

impl<P> Default for Agenda<P> {
    fn default() -> Self {
        Self {
            plans: BTreeMap::new(),
            made: 0,
        }
    }
}

impl<P> Agenda<P> {
    pub(super) fn plan(&mut self, at: Moment, plan: P) {
        self.made += 1;
        self.plans.insert((at, self.made), plan);
    }

    /// The moment of the next plan.
    pub(super) fn next_at(&self) -> Option<Moment> {
        let ((at, _), _) = self.plans.first_key_value()?;
        Some(*at)
    }

    /// The next plan that is due at `now`.
    pub(super) fn take_due(&mut self, now: Moment) -> Option<(Moment, P)> {
        let entry = self.plans.first_entry()?;
        if entry.key().0 > now {
            return None;
        }
        let ((at, _), plan) = entry.remove_entry();
        Some((at, plan))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_come_when_they_are_due_and_those_of_one_moment_in_order() {
        let mut agenda = Agenda::default();
        for (at, plan) in [(7, 'c'), (5, 'a'), (5, 'b'), (9, 'd')] {
            agenda.plan(Moment(at), plan);
        }
        assert_eq!(agenda.next_at(), Some(Moment(5)));
        assert_eq!(agenda.take_due(Moment(4)), None);
        let due: Vec<_> = std::iter::from_fn(|| agenda.take_due(Moment(7))).collect();
        assert_eq!(due, [(Moment(5), 'a'), (Moment(5), 'b'), (Moment(7), 'c')]);
        assert_eq!(agenda.next_at(), Some(Moment(9)));
    }
}
