//! The value of a field, and the forms in which it can be told. Knows no field.

use alloc::{
    format,
    string::{String, ToString as _},
};

use serde::Deserialize;

/// What a field holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Value {
    Text(String),
    Number(i64),
    Flag(bool),
}

/// How a value is told.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// As it is: in a body, numbers and flags are JSON's own.
    #[default]
    Plain,
    /// As text, also in a body.
    Text,
    /// Numbers in hexadecimal, lower case, without prefix.
    Hex,
    /// Flags as the numbers 1 and 0.
    Digit,
}

impl Value {
    /// The same value in the form `format`; values that a form does not
    /// concern stay as they are.
    pub(crate) fn formatted(self, format: Format) -> Self {
        match (format, self) {
            (Format::Text, value) => Self::Text(value.text()),
            (Format::Hex, Self::Number(number)) => Self::Text(format!("{number:x}")),
            (Format::Digit, Self::Flag(flag)) => Self::Number(flag.into()),
            (Format::Plain | Format::Hex | Format::Digit, value) => value,
        }
    }

    /// As text, for a query, a header, or behind a prefix.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}
