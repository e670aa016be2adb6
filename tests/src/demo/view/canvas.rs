//! Draws text over the text before, below whatever the terminal showed: no
//! alternate screen, so nothing has to be put back. Pure: makes the escape
//! sequences (ECMA-48), and keeps to the size of the terminal, because a line
//! that wraps or scrolls cannot be drawn over.

const ESCAPE: char = '\x1b';

/// Of a terminal, in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// Remembers how many lines it has drawn.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    drawn: usize,
}

impl Canvas {
    /// What to write to show `text` in place of what was drawn before. Lines
    /// that have no room are left out.
    pub(super) fn draw(&mut self, text: &str, size: Size) -> String {
        let mut out = self.to_top();
        // The cursor stands below the last line.
        let room = size.rows.saturating_sub(1);
        self.drawn = 0;
        for line in text.lines().take(room) {
            out += &cut(line, size.columns);
            // To the end of the line, what stood there before.
            out += "\x1b[K\n";
            self.drawn += 1;
        }
        out + "\x1b[J"
    }

    /// What to write to leave nothing of it.
    pub(super) fn clear(&mut self) -> String {
        let top = self.to_top();
        self.drawn = 0;
        top + "\x1b[J"
    }

    fn to_top(&self) -> String {
        match self.drawn {
            0 => String::new(),
            lines => format!("\r\x1b[{lines}A"),
        }
    }
}

/// At most so many characters of a line; escape sequences take no room.
fn cut(line: &str, columns: usize) -> String {
    let mut out = String::new();
    let mut room = columns;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        if letter == ESCAPE {
            out.push(letter);
            for letter in letters.by_ref() {
                out.push(letter);
                // Ends a sequence; `[` begins it.
                if letter.is_ascii_alphabetic() {
                    break;
                }
            }
        } else if room > 0 {
            out.push(letter);
            room -= 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size {
        rows: 4,
        columns: 5,
    };

    #[test]
    fn a_text_is_drawn_over_the_one_before() {
        let mut canvas = Canvas::default();
        assert_eq!(canvas.draw("a\nb", SIZE), "a\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(canvas.draw("c", SIZE), "\r\x1b[2Ac\x1b[K\n\x1b[J");
        assert_eq!(canvas.clear(), "\r\x1b[1A\x1b[J");
        assert_eq!(canvas.clear(), "\x1b[J");
    }

    #[test]
    fn nothing_is_drawn_that_would_scroll_or_wrap() {
        let mut canvas = Canvas::default();
        let drawn = canvas.draw("123456789\nb\nc\nd\ne", SIZE);
        assert_eq!(drawn, "12345\x1b[K\nb\x1b[K\nc\x1b[K\n\x1b[J");
        assert_eq!(canvas.drawn, 3);
    }

    #[test]
    fn colours_take_no_room_and_end_where_the_line_is_cut() {
        assert_eq!(cut("\x1b[1mabcdefg\x1b[0mh", 5), "\x1b[1mabcde\x1b[0m");
        assert_eq!(cut("\x1b[1mab\x1b[0mc", 5), "\x1b[1mab\x1b[0mc");
    }
}
