//! Colours of a terminal, or none: what is printed elsewhere stays plain text.

use std::fmt;

/// Whether colours are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Paint {
    Terminal,
    Plain,
}

/// How a piece of text stands out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tone {
    /// What the eye should find first.
    Strong,
    /// What went well.
    Good,
    /// What an operator should look at.
    Bad,
    /// What is there for completeness.
    Faint,
}

impl Paint {
    /// `text` in `tone`; escape sequences on a terminal only.
    pub(super) fn tone(self, tone: Tone, text: impl fmt::Display) -> String {
        // ECMA-48 SGR.
        let code = match (self, tone) {
            (Self::Plain, _) => return text.to_string(),
            (Self::Terminal, Tone::Strong) => 1,
            (Self::Terminal, Tone::Good) => 32,
            (Self::Terminal, Tone::Bad) => 31,
            (Self::Terminal, Tone::Faint) => 2,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_only() {
        assert_eq!(Paint::Plain.tone(Tone::Bad, "no"), "no");
        assert_eq!(Paint::Terminal.tone(Tone::Bad, "no"), "\x1b[31mno\x1b[0m");
    }
}
