//! Reads what clients were answered: one JSON object a line, as a client that
//! keeps its answers writes them:
//!
//! ```json
//! {"device":"box-1","epoch":"00000000000000ab.3","ordinal":"12","status":"durable","class":"proof"}
//! ```
//!
//! `ordinal` may be a string or a number. `class` may be left out, because the
//! status is what was promised: a proof that was only `accepted`, for want of a
//! queue that works, is judged as an ordinary event. Other fields are ignored,
//! so the lines may be whole answers. A wrong line is reported with its place
//! and does not stop the rest.

use std::io::{self, BufRead, Read as _};

use returnpath_shared::{Class, Epoch, IdError, Ordinal};
use serde::Deserialize;
use thiserror::Error;

use super::tally::Answer;

/// Longest line in bytes: several times what the fields can take.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// Why a line is not an answer.
#[derive(Debug, Error)]
pub enum AnswerError {
    /// Longer than any answer is.
    #[error("line is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// Not a JSON object with the fields of the right types.
    #[error("{0}")]
    Json(serde_json::Error),
    /// `device` is wrong.
    #[error("device: {0}")]
    Device(IdError),
    /// `epoch` is wrong.
    #[error("epoch: {0}")]
    Epoch(IdError),
    /// `ordinal` is wrong.
    #[error("ordinal must be a whole number from 1, or a string of one")]
    Ordinal,
    /// `status` is neither `accepted` nor `durable`.
    #[error("status must be \"accepted\" or \"durable\"")]
    Status,
    /// `class` is neither `ordinary` nor `proof`.
    #[error("class must be \"ordinary\" or \"proof\"")]
    Class,
}

#[derive(Deserialize)]
struct Line {
    device: String,
    epoch: String,
    ordinal: Number,
    status: String,
    class: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(u64),
    Text(String),
}

impl Answer {
    /// Reads one line, without its newline.
    ///
    /// # Errors
    /// Names the field that is wrong, and what it must be.
    pub fn parse(line: &[u8]) -> Result<Self, AnswerError> {
        let line: Line = serde_json::from_slice(line).map_err(AnswerError::Json)?;
        let ordinal = match line.ordinal {
            Number::Number(ordinal) => Some(ordinal),
            Number::Text(text) => text.parse().ok(),
        };
        let class = match line.status.as_str() {
            "accepted" => Class::Ordinary,
            "durable" => Class::Proof,
            _ => return Err(AnswerError::Status),
        };
        let is_known = |named: &String| matches!(named.as_str(), "ordinary" | "proof");
        if !line.class.as_ref().is_none_or(is_known) {
            return Err(AnswerError::Class);
        }
        Ok(Self {
            device: line.device.parse().map_err(AnswerError::Device)?,
            epoch: line.epoch.parse::<Epoch>().map_err(AnswerError::Epoch)?,
            ordinal: ordinal
                .filter(|ordinal| *ordinal > 0)
                .map(Ordinal)
                .ok_or(AnswerError::Ordinal)?,
            class,
        })
    }
}

/// A file of answers, read line by line; goes on where it stopped when the
/// file has grown.
pub(super) struct Answers<R> {
    /// As given on the command line, for messages.
    pub(super) name: String,
    reader: R,
    /// The line begun, without its newline.
    line: Vec<u8>,
    /// Whether the line begun is too long and its rest is to be skipped.
    too_long: bool,
    lines: u64,
}

/// A line read, with its number from 1.
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) answer: Result<Answer, AnswerError>,
}

impl<R: BufRead> Answers<R> {
    pub(super) fn new(name: String, reader: R) -> Self {
        Self {
            name,
            reader,
            line: Vec::new(),
            too_long: false,
            lines: 0,
        }
    }

    /// The next complete line that is not blank; `None` at the end, where a
    /// line begun waits for its rest.
    pub(super) fn next(&mut self) -> io::Result<Option<Numbered>> {
        loop {
            if !self.fill()? {
                return Ok(None);
            }
            if let Some(numbered) = self.take() {
                return Ok(Some(numbered));
            }
        }
    }

    /// What stands behind the last newline, when no more will come.
    pub(super) fn rest(&mut self) -> Option<Numbered> {
        if self.line.is_empty() && !self.too_long {
            return None;
        }
        self.take()
    }

    /// Reads up to the next newline; whether there was one.
    fn fill(&mut self) -> io::Result<bool> {
        loop {
            let room = (LINE_BYTES_MAX + 1).saturating_sub(self.line.len());
            let read = (&mut self.reader)
                .take(room as u64)
                .read_until(b'\n', &mut self.line)?;
            if self.line.last() == Some(&b'\n') {
                self.line.pop();
                return Ok(true);
            }
            if read == 0 {
                return Ok(false);
            }
            if self.line.len() > LINE_BYTES_MAX {
                self.too_long = true;
                self.line.clear();
            }
        }
    }

    fn take(&mut self) -> Option<Numbered> {
        self.lines += 1;
        let too_long = std::mem::take(&mut self.too_long);
        let line = std::mem::take(&mut self.line);
        if too_long {
            return Some(Numbered {
                number: self.lines,
                answer: Err(AnswerError::TooLong),
            });
        }
        if line.trim_ascii().is_empty() {
            return None;
        }
        Some(Numbered {
            number: self.lines,
            answer: Answer::parse(&line),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"device":"box-1","epoch":"00000000000000ab.3","ordinal":"12","status":"durable","class":"proof"}"#;

    #[test]
    fn an_answer_is_read_with_its_ordinal_as_text_or_number() {
        let answer = Answer::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(answer.device.as_str(), "box-1");
        assert_eq!(answer.epoch.to_string(), "00000000000000ab.3");
        assert_eq!(answer.ordinal, Ordinal(12));
        assert_eq!(answer.class, Class::Proof);
        let number = GOOD.replace("\"12\"", "12");
        assert_eq!(Answer::parse(number.as_bytes()).unwrap(), answer);
        let promised_less = GOOD.replace("durable", "accepted");
        let less = Answer::parse(promised_less.as_bytes()).unwrap();
        assert_eq!(less.class, Class::Ordinary);
        let shorter = GOOD.replace(",\"class\":\"proof\"", ",\"id\":\"x\"");
        assert_eq!(Answer::parse(shorter.as_bytes()).unwrap(), answer);
    }

    #[test]
    fn wrong_lines_name_the_field() {
        for (from, to, expected) in [
            ("{", "", "expected struct"),
            ("\"ordinal\":\"12\",", "", "missing field `ordinal`"),
            ("box-1", "box/1", "device: device id must be"),
            ("ab.3", "ab", "epoch: epoch must be"),
            ("\"12\"", "\"0\"", "ordinal must be"),
            ("\"12\"", "\"-1\"", "ordinal must be"),
            ("durable", "busy", "status must be"),
            ("\"proof\"", "\"vital\"", "class must be"),
        ] {
            let line = GOOD.replacen(from, to, 1);
            let error = Answer::parse(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}\n→ {error}");
        }
    }

    #[test]
    fn wrong_lines_are_numbered_and_the_rest_is_read() {
        let long = "x".repeat(3 * LINE_BYTES_MAX);
        let text = format!("{GOOD}\n\nnonsense\n{long}\n{GOOD}\n{GOOD}");
        let mut answers = Answers::new("a".into(), text.as_bytes());
        let mut seen = Vec::new();
        while let Some(line) = answers.next().unwrap() {
            seen.push((line.number, line.answer.is_ok()));
        }
        assert_eq!(seen, [(1, true), (3, false), (4, false), (5, true)]);
        let last = answers.rest().unwrap();
        assert_eq!((last.number, last.answer.is_ok()), (6, true));
        assert!(answers.rest().is_none());
    }

    #[test]
    fn a_line_that_is_still_being_written_waits_for_its_rest() {
        let (begin, end) = GOOD.split_at(40);
        let mut answers = Answers::new("a".into(), io::Cursor::new(begin.as_bytes().to_vec()));
        assert!(answers.next().unwrap().is_none());
        answers.reader.get_mut().extend(end.as_bytes());
        assert!(answers.next().unwrap().is_none());
        answers.reader.get_mut().push(b'\n');
        let line = answers.next().unwrap().unwrap();
        assert_eq!((line.number, line.answer.is_ok()), (1, true));
    }
}
