//! Reads several messages and steps out of one input, and writes such inputs.

/// What is left of an input. Past its end there are zeros and nothing.
#[derive(Debug)]
pub(crate) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(crate) fn of(input: &'a [u8]) -> Self {
        Self(input)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// A message: its length in two bytes, then itself, as far as it goes.
    pub(crate) fn message(&mut self) -> &'a [u8] {
        let length = u16::from_le_bytes([self.byte(), self.byte()]);
        let (message, rest) = self.0.split_at(usize::from(length).min(self.0.len()));
        self.0 = rest;
        message
    }

    /// All that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// An input in the making.
#[derive(Clone, Default, Debug)]
pub(crate) struct ScriptWriter(Vec<u8>);

impl ScriptWriter {
    pub(crate) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub(crate) fn message(mut self, message: &[u8]) -> Self {
        let length = u16::try_from(message.len()).expect("a seed is short");
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(message);
        self
    }

    pub(crate) fn rest(mut self, rest: &[u8]) -> Vec<u8> {
        self.0.extend_from_slice(rest);
        self.0
    }
}
