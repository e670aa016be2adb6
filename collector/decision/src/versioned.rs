//! A value that a transaction may change and take back.

/// Holds a value as the open transaction sees it, and, once it has been
/// changed, as it was committed.
#[derive(Clone, Default, Debug)]
pub(crate) struct Versioned<T> {
    value: T,
    committed: Option<T>,
}

impl<T: Clone + PartialEq> Versioned<T> {
    pub(crate) fn get(&self) -> &T {
        &self.value
    }

    /// The value, to be changed.
    pub(crate) fn change(&mut self) -> &mut T {
        if self.committed.is_none() {
            self.committed = Some(self.value.clone());
        }
        &mut self.value
    }

    /// Puts a committed value in its place.
    pub(crate) fn load(&mut self, value: T) {
        self.value = value;
        self.committed = None;
    }

    /// Whether it differs from what was committed.
    pub(crate) fn is_changed(&self) -> bool {
        self.committed
            .as_ref()
            .is_some_and(|committed| *committed != self.value)
    }

    pub(crate) fn commit(&mut self) {
        self.committed = None;
    }

    pub(crate) fn abort(&mut self) {
        if let Some(committed) = self.committed.take() {
            self.value = committed;
        }
    }
}
