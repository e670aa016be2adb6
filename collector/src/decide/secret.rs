//! Secrets of aggregators: where each stands, and its value once read.
//!
//! The configuration holds only places (a file or an environment variable), so
//! it can be printed and kept in version control. A value is read once, at
//! start; it is in no `Debug` or `Display`, cannot be serialised, and is wiped
//! when dropped. What is made of it for a request (a header, a query) is the
//! adapter's, and is never logged.

use std::{
    env, fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thiserror::Error;
use zeroize::Zeroizing;

/// Longest secret in bytes: a signed token (JWT) of a partner takes some 2 KiB,
/// and HTTP servers take headers of 8 KiB at most.
const SECRET_BYTES_MAX: usize = 4_096;

/// Where a secret stands: `{ file = "/path" }` or `{ env = "NAME" }`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretSource {
    /// A file that holds the secret and nothing else; one newline at its end is
    /// not part of it.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// A secret's value.
pub(super) struct Secret(Zeroizing<String>);

/// Why there is no secret. Says where it should stand, never what stood there.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The environment variable is not set, or holds what is not UTF-8.
    #[error("environment variable {name} must be set to UTF-8 text")]
    Absent {
        /// The variable.
        name: String,
    },
    /// It holds what no secret is.
    #[error("{place} must hold {expected}")]
    Form {
        /// The file or the variable.
        place: String,
        /// What is accepted.
        expected: &'static str,
    },
}

impl SecretSource {
    /// Reads the value.
    ///
    /// # Errors
    /// When there is none, or it is none that an HTTP request can carry.
    pub(super) fn read(&self) -> Result<Secret, SecretError> {
        match self {
            Self::File(path) => from_file(path),
            Self::Env(name) => match env::var(name) {
                Ok(value) => checked(Zeroizing::new(value), name),
                Err(_) => Err(SecretError::Absent { name: name.clone() }),
            },
        }
    }
}

impl Secret {
    /// The value, for making a request or a key of it.
    #[must_use]
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

fn from_file(path: &Path) -> Result<Secret, SecretError> {
    let place = path.display().to_string();
    let bytes = fs::read(path).map_err(|source| SecretError::Read {
        path: path.to_owned(),
        source,
    })?;
    // The bytes move into the text, or are wiped with the error.
    let text = String::from_utf8(bytes).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        wrong(&place, "UTF-8 text")
    })?;
    checked(Zeroizing::new(text), &place)
}

fn checked(mut value: Zeroizing<String>, place: &str) -> Result<Secret, SecretError> {
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    if value.is_empty() {
        return Err(wrong(place, "a secret, and is empty"));
    }
    if value.len() > SECRET_BYTES_MAX {
        return Err(wrong(place, "at most 4096 bytes"));
    }
    if value.chars().any(char::is_control) {
        return Err(wrong(place, "one line without control characters"));
    }
    Ok(Secret(value))
}

fn wrong(place: &str, expected: &'static str) -> SecretError {
    SecretError::Form {
        place: place.to_owned(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Secret, String> {
        checked(Zeroizing::new(text.to_owned()), "place").map_err(|error| error.to_string())
    }

    #[test]
    fn one_newline_at_the_end_is_not_part_of_a_secret() {
        for (text, value) in [("a b", "a b"), ("a\n", "a"), ("a\r\n", "a"), ("ä\n", "ä")] {
            assert_eq!(of(text).unwrap().expose(), value);
        }
    }

    #[test]
    fn what_no_request_can_carry_is_refused_without_repeating_it() {
        let long = "x".repeat(SECRET_BYTES_MAX + 1);
        for (text, expected) in [
            ("", "place must hold a secret, and is empty"),
            ("\n", "place must hold a secret, and is empty"),
            (
                "hunter2\n\n",
                "place must hold one line without control characters",
            ),
            (
                "hunter2\0",
                "place must hold one line without control characters",
            ),
            (&long, "place must hold at most 4096 bytes"),
        ] {
            assert_eq!(of(text).unwrap_err(), expected);
        }
        assert_eq!(of(&long[1..]).unwrap().expose().len(), SECRET_BYTES_MAX);
    }

    #[test]
    fn a_secret_prints_as_nothing() {
        assert_eq!(format!("{:?}", of("hunter2").unwrap()), "Secret(…)");
    }

    #[test]
    fn files_and_variables_that_are_missing_are_named() {
        let file = SecretSource::File("/nowhere/token".into());
        assert_eq!(
            file.read().unwrap_err().to_string(),
            "cannot read /nowhere/token"
        );
        let variable = SecretSource::Env("RETURNPATH_TEST_UNSET".into());
        assert_eq!(
            variable.read().unwrap_err().to_string(),
            "environment variable RETURNPATH_TEST_UNSET must be set to UTF-8 text"
        );
    }
}
