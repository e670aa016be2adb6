//! Colours of a terminal, or none: what is printed elsewhere stays plain text.

use std::{
    env, fmt,
    io::{self, IsTerminal as _},
};

/// Whether colours are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Paint {
    /// ECMA-48 escape sequences.
    Terminal,
    /// None.
    Plain,
}

/// How a piece of text stands out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tone {
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
    /// Colours where standard output is a terminal, unless its user wants none
    /// (`NO_COLOR`, <https://no-color.org>).
    #[must_use]
    pub fn of_stdout() -> Self {
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if io::stdout().is_terminal() && !unwanted {
            Self::Terminal
        } else {
            Self::Plain
        }
    }

    /// `text` in `tone`; escape sequences on a terminal only.
    #[must_use]
    pub fn tone(self, tone: Tone, text: impl fmt::Display) -> String {
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
