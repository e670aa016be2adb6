//! A value that one transaction has changed, which Kafka is about to commit,
//! and that the next one may change already.

use alloc::boxed::Box;

/// Holds a value as the open transaction sees it, and whatever it must go back
/// to. A transaction is *open*, then *sealed* ([`seal`](Self::seal)) while
/// Kafka commits it and the next one is open; what becomes of it is told before
/// the next is sealed.
#[derive(Clone, Default, Debug)]
pub struct Staged<T> {
    value: T,
    past: Past<T>,
}

/// What a value was before. Boxed: few of those that are kept are being
/// changed.
#[derive(Clone, Default, Debug)]
enum Past<T> {
    /// As it is.
    #[default]
    Same,
    /// The open transaction has changed it, the sealed one has not.
    Open { committed: Box<T> },
    /// The sealed transaction has changed it, the open one has not.
    Sealed { committed: Box<T> },
    /// Both have.
    Both { committed: Box<T>, sealed: Box<T> },
}

impl<T: Clone + PartialEq> Staged<T> {
    /// The value, as the open transaction has it.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// The value, to be changed by the open transaction.
    pub fn change(&mut self) -> &mut T {
        self.past = match core::mem::take(&mut self.past) {
            Past::Same => Past::Open {
                committed: Box::new(self.value.clone()),
            },
            Past::Sealed { committed } => Past::Both {
                committed,
                sealed: Box::new(self.value.clone()),
            },
            changed @ (Past::Open { .. } | Past::Both { .. }) => changed,
        };
        &mut self.value
    }

    /// Puts a committed value in its place.
    pub fn load(&mut self, value: T) {
        self.value = value;
        self.past = Past::Same;
    }

    /// The value as it was before the open transaction, where that has changed
    /// it.
    pub fn before(&self) -> Option<&T> {
        match &self.past {
            Past::Same | Past::Sealed { .. } => None,
            Past::Open { committed } => Some(committed),
            Past::Both { sealed, .. } => Some(sealed),
        }
    }

    /// The open transaction is complete: what is changed from here on belongs
    /// to the next.
    pub fn seal(&mut self) {
        self.past = match core::mem::take(&mut self.past) {
            Past::Open { committed } | Past::Both { committed, .. } => Past::Sealed { committed },
            past @ (Past::Same | Past::Sealed { .. }) => past,
        };
    }

    /// What the sealed transaction changed stays.
    pub fn commit(&mut self) {
        self.past = match core::mem::take(&mut self.past) {
            Past::Both { sealed, .. } => Past::Open { committed: sealed },
            Past::Sealed { .. } => Past::Same,
            past @ (Past::Same | Past::Open { .. }) => past,
        };
    }

    /// What either transaction changed is undone.
    pub fn abort(&mut self) {
        match core::mem::take(&mut self.past) {
            Past::Same => {}
            Past::Open { committed }
            | Past::Sealed { committed }
            | Past::Both { committed, .. } => self.value = *committed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(value: u32) -> Staged<u32> {
        let mut staged = Staged::default();
        staged.load(value);
        staged
    }

    #[test]
    fn an_abort_takes_back_what_both_transactions_changed() {
        let mut value = loaded(1);
        *value.change() = 2;
        *value.change() = 3;
        assert_eq!(value.before(), Some(&1));
        value.abort();
        assert_eq!((*value.get(), value.before()), (1, None));
        *value.change() = 4;
        value.seal();
        assert_eq!((*value.get(), value.before()), (4, None));
        *value.change() = 5;
        assert_eq!(value.before(), Some(&4));
        value.abort();
        assert_eq!((*value.get(), value.before()), (1, None));
        *value.change() = 6;
        value.seal();
        value.abort();
        assert_eq!((*value.get(), value.before()), (1, None));
    }

    #[test]
    fn a_commit_keeps_what_was_sealed_and_nothing_else() {
        let mut value = loaded(1);
        *value.change() = 2;
        value.seal();
        *value.change() = 3;
        value.commit();
        assert_eq!((*value.get(), value.before()), (3, Some(&2)));
        value.abort();
        assert_eq!(*value.get(), 2);
        *value.change() = 4;
        value.seal();
        value.commit();
        value.abort();
        assert_eq!(*value.get(), 4);
    }

    #[test]
    fn what_another_values_transaction_does_changes_nothing_here() {
        let mut value = loaded(1);
        value.seal();
        *value.change() = 2;
        // The sealed transaction had nothing to do with it.
        value.commit();
        assert_eq!((*value.get(), value.before()), (2, Some(&1)));
        value.abort();
        assert_eq!(*value.get(), 1);
    }
}
