//! A secret in a request's making: comes from the shell, goes into requests,
//! and into nothing that is printed.

use alloc::string::String;
use core::fmt;

/// The value of a named secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}
