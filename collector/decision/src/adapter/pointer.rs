//! JSON pointers as configured, parsed once.
//! Source: RFC 6901.

use alloc::{
    format,
    string::{String, ToString as _},
    vec::Vec,
};
use core::fmt;

use serde::{Deserialize, Deserializer, de};

/// How deep a pointer may lead: no API that is meant for people goes deeper,
/// and each step reads what it leads through.
const STEPS_MAX: usize = 16;

/// A place in a JSON document; empty for the whole of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pointer {
    text: String,
    steps: Vec<String>,
}

impl Pointer {
    /// Reads a pointer; the error says what was expected.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "a JSON pointer such as /ads/0/url";
        let mut steps = Vec::new();
        if !text.is_empty() {
            let rest = text.strip_prefix('/').ok_or(EXPECTED)?;
            for step in rest.split('/') {
                steps.push(unescape(step).ok_or(EXPECTED)?);
            }
        }
        if steps.len() > STEPS_MAX {
            return Err("a JSON pointer of at most 16 steps");
        }
        Ok(Self {
            text: text.to_string(),
            steps,
        })
    }

    /// The names and indices on the way.
    pub(crate) fn steps(&self) -> &[String] {
        &self.steps
    }

    /// Whether it leads to `other` or to what `other` lies in.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        other.steps.starts_with(&self.steps)
    }
}

/// A step that is the index of a list.
pub(super) fn index(step: &str) -> Option<usize> {
    let is_index = step == "0" || (!step.starts_with('0') && !step.starts_with('+'));
    is_index.then(|| step.parse().ok()).flatten()
}

fn unescape(step: &str) -> Option<String> {
    let mut parts = step.split('~');
    let mut plain = parts.next()?.to_string();
    for part in parts {
        let (escape, rest) = (part.get(..1)?, part.get(1..)?);
        plain.push(match escape {
            "0" => '~',
            "1" => '/',
            _ => return None,
        });
        plain.push_str(rest);
    }
    Some(plain)
}

impl fmt::Display for Pointer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for Pointer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, formatter)
    }
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .map_err(|expected| de::Error::custom(format!("{text:?}: expected {expected}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_read_as_the_rfc_says() {
        for (text, expected) in [
            ("", Some(&[] as &[&str])),
            ("/", Some(&[""])),
            ("/ads/0/url", Some(&["ads", "0", "url"])),
            ("/a~1b/m~0n/~01", Some(&["a/b", "m~n", "~1"])),
            ("/ä/b c", Some(&["ä", "b c"])),
            ("ads", None),
            ("/a~", None),
            ("/a~2", None),
            ("/~ä", None),
        ] {
            let pointer = Pointer::parse(text).ok();
            let steps = pointer.as_ref().map(|pointer| {
                let steps = pointer.steps.iter().map(String::as_str);
                steps.collect::<Vec<_>>()
            });
            assert_eq!(steps.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn indices_have_no_sign_and_no_leading_zero() {
        for (step, expected) in [
            ("0", Some(0)),
            ("10", Some(10)),
            ("01", None),
            ("-1", None),
            ("+1", None),
            ("", None),
            ("x", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(index(step), expected, "{step}");
        }
    }
}
