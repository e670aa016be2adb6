//! A value that a transaction may change and take back.

/// Holds a value as the open transaction sees it, and, once it has been
/// changed, as it was committed.
#[derive(Clone, Default, Debug)]
pub struct Versioned<T> {
    value: T,
    committed: Option<T>,
}

impl<T: Clone + PartialEq> Versioned<T> {
    /// The value, as the open transaction has it.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// The value, to be changed.
    pub fn change(&mut self) -> &mut T {
        if self.committed.is_none() {
            self.committed = Some(self.value.clone());
        }
        &mut self.value
    }

    /// Puts a committed value in its place.
    pub fn load(&mut self, value: T) {
        self.value = value;
        self.committed = None;
    }

    /// Whether it differs from what was committed.
    pub fn is_changed(&self) -> bool {
        self.committed
            .as_ref()
            .is_some_and(|committed| *committed != self.value)
    }

    /// The value as it was committed, where it has been changed since.
    pub fn committed(&self) -> Option<&T> {
        self.committed.as_ref()
    }

    /// What was changed stays.
    pub fn commit(&mut self) {
        self.committed = None;
    }

    /// What was changed is undone.
    pub fn abort(&mut self) {
        if let Some(committed) = self.committed.take() {
            self.value = committed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abort_takes_back_what_was_changed_since_the_commit() {
        let mut value = Versioned::default();
        value.load(1);
        *value.change() = 2;
        *value.change() = 3;
        assert!(value.is_changed());
        assert_eq!(value.committed(), Some(&1));
        value.abort();
        assert_eq!((*value.get(), value.is_changed()), (1, false));
        assert_eq!(value.committed(), None);
        *value.change() = 4;
        value.commit();
        value.abort();
        assert_eq!(*value.get(), 4);
    }

    #[test]
    fn what_was_changed_and_changed_back_is_not_changed() {
        let mut value = Versioned::default();
        value.load(1);
        *value.change() = 2;
        *value.change() = 1;
        assert!(!value.is_changed());
    }
}
