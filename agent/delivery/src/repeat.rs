//! Recognises what a client sends again because it got no answer.
//!
//! The window is stated in events, not time: the last so many that carried an
//! id, counted apart for proof and ordinary, so that chatter cannot push out
//! proof. Proof ids are also kept in the queue file, written along with
//! whatever commit comes next after their event is durable; one whose receipt
//! came first and that never touched flash is recognised by refine instead.

use alloc::{collections::VecDeque, vec::Vec};

use returnpath_shared::{Epoch, Ordinal, ProofKey};

use crate::{Op, ProofId};

/// What became of the first event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum First {
    /// Ordinary, or proof whose clients were told that storage failed.
    Accepted,
    /// Proof that is not durable yet.
    Pending,
    /// Proof that is.
    Durable,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    id: ProofId,
    first: First,
    /// Whether the queue file has it, or the commit under way puts it there.
    in_file: bool,
}

/// A ring of the last ids.
#[derive(Debug)]
pub(crate) struct Repeats {
    known: VecDeque<Known>,
    known_max: usize,
    next_number: u64,
    /// Numbers up to here have left the window and may still be in the file.
    left: Option<u64>,
}

impl Repeats {
    /// Begins with the ids of the queue file, ascending by number.
    pub(crate) fn new(recovered: Vec<ProofId>, known_max: usize) -> Self {
        let mut repeats = Self {
            next_number: recovered.iter().map(|id| id.number).max().unwrap_or(0) + 1,
            known: recovered
                .into_iter()
                .map(|id| Known {
                    id,
                    first: First::Durable,
                    in_file: true,
                })
                .collect(),
            known_max,
            left: None,
        };
        repeats.shrink();
        repeats
    }

    pub(crate) fn find(&self, key: ProofKey) -> Option<(Epoch, Ordinal, First)> {
        self.known
            .iter()
            .rev()
            .find(|known| known.id.key == key)
            .map(|known| (known.id.epoch, known.id.ordinal, known.first))
    }

    pub(crate) fn remember(&mut self, key: ProofKey, epoch: Epoch, ordinal: Ordinal, first: First) {
        let id = ProofId {
            number: self.next_number,
            key,
            epoch,
            ordinal,
        };
        self.next_number += 1;
        self.known.push_back(Known {
            id,
            first,
            in_file: false,
        });
        self.shrink();
    }

    /// The pending proof events `first..=last` came to this.
    pub(crate) fn settle(&mut self, epoch: Epoch, first: Ordinal, last: Ordinal, to: First) {
        for known in self.known.iter_mut().rev() {
            if known.id.epoch == epoch
                && (first..=last).contains(&known.id.ordinal)
                && known.first != First::Durable
            {
                known.first = to;
            }
        }
    }

    /// What the next commit writes along: ids of events that are durable, or
    /// are made so by this commit (`becomes_durable`).
    pub(crate) fn take_ops(
        &mut self,
        becomes_durable: impl Fn(Epoch, Ordinal) -> bool,
        ops: &mut Vec<Op>,
    ) {
        if let Some(number) = self.left.take() {
            ops.push(Op::ProofIdsDeleteThrough { number });
        }
        for known in &mut self.known {
            if !known.in_file
                && (known.first == First::Durable
                    || becomes_durable(known.id.epoch, known.id.ordinal))
            {
                known.in_file = true;
                ops.push(Op::ProofIdPut(known.id));
            }
        }
    }

    /// A commit did not happen, or the file is another: write all again.
    pub(crate) fn rewrite(&mut self) {
        for known in &mut self.known {
            known.in_file = false;
        }
        if let Some(number) = self.known.front().map(|known| known.id.number) {
            self.left = number.checked_sub(1).filter(|number| *number > 0);
        }
    }

    fn shrink(&mut self) {
        while self.known.len() > self.known_max {
            // Also of one that is not known to be there: the file may have it
            // from before a rebuild.
            self.left = self.known.pop_front().map(|known| known.id.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use returnpath_shared::Incarnation;

    fn epoch() -> Epoch {
        Epoch {
            incarnation: Incarnation::new(1).unwrap(),
            start: 1,
        }
    }

    fn puts(repeats: &mut Repeats) -> Vec<Op> {
        let mut ops = Vec::new();
        repeats.take_ops(|_, ordinal| ordinal == Ordinal(2), &mut ops);
        ops
    }

    #[test]
    fn the_window_holds_so_many_and_the_file_follows_it() {
        let mut repeats = Repeats::new(vec![], 2);
        for ordinal in 1..=2 {
            let key = ProofKey(u128::from(ordinal));
            repeats.remember(key, epoch(), Ordinal(ordinal), First::Durable);
        }
        assert_eq!(puts(&mut repeats).len(), 2);
        assert_eq!(puts(&mut repeats), []);
        repeats.remember(ProofKey(3), epoch(), Ordinal(3), First::Durable);
        assert_eq!(repeats.find(ProofKey(1)), None);
        assert!(matches!(
            puts(&mut repeats)[..],
            [Op::ProofIdsDeleteThrough { number: 1 }, Op::ProofIdPut(_)]
        ));
    }

    #[test]
    fn an_id_is_written_only_when_its_event_is_durable_or_becomes_so_with_it() {
        let mut repeats = Repeats::new(vec![], 8);
        for ordinal in 1..=2 {
            let key = ProofKey(u128::from(ordinal));
            repeats.remember(key, epoch(), Ordinal(ordinal), First::Pending);
        }
        assert!(matches!(
            puts(&mut repeats)[..],
            [Op::ProofIdPut(ProofId {
                ordinal: Ordinal(2),
                ..
            })]
        ));
        repeats.settle(epoch(), Ordinal(1), Ordinal(1), First::Durable);
        assert_eq!(puts(&mut repeats).len(), 1);
    }

    #[test]
    fn recovered_ids_are_answered_as_durable_and_numbers_go_on() {
        let id = ProofId {
            number: 41,
            key: ProofKey(5),
            epoch: epoch(),
            ordinal: Ordinal(9),
        };
        let mut repeats = Repeats::new(vec![id], 8);
        assert_eq!(
            repeats.find(ProofKey(5)),
            Some((epoch(), Ordinal(9), First::Durable))
        );
        repeats.remember(ProofKey(6), epoch(), Ordinal(2), First::Durable);
        assert!(matches!(
            puts(&mut repeats)[..],
            [Op::ProofIdPut(ProofId { number: 42, .. })]
        ));
    }
}
