//! Keys of `rp.refine.state`, and why a record of it cannot be loaded.

use returnpath_shared::DeviceId;
use thiserror::Error;

/// Why a record of `rp.refine.state` cannot be loaded. Our own data: the shell
/// must not go on with a hole in its memory.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RestoreError {
    /// Not a device id, alone or followed by `#proof` or `#clock`, nor
    /// `#unread`; in `rp.completeness` not a device id followed by `#` and an
    /// epoch.
    #[error("key of {length} bytes is no state key")]
    Key {
        /// Length of the key in bytes.
        length: usize,
    },
    /// The value is no state message.
    #[error("value of the state record cannot be decoded")]
    Decode(#[source] prost::DecodeError),
    /// The value breaks a rule of `state.proto`.
    #[error("{field} of the state record breaks its rule")]
    Rule {
        /// Path of the field.
        field: &'static str,
    },
}

/// What a record of state is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StateKey<'a> {
    Arrivals(&'a [u8]),
    Clocks(&'a [u8]),
    Proofs(&'a [u8]),
    Unread,
}

pub(crate) const CLOCK_SUFFIX: &[u8] = b"#clock";
pub(crate) const PROOF_SUFFIX: &[u8] = b"#proof";
pub(crate) const UNREAD_KEY: &[u8] = b"#unread";

impl<'a> StateKey<'a> {
    pub(crate) fn read(key: &'a [u8]) -> Result<Self, RestoreError> {
        if key == UNREAD_KEY {
            return Ok(Self::Unread);
        }
        let (device, of): (_, fn(&'a [u8]) -> Self) =
            if let Some(device) = key.strip_suffix(CLOCK_SUFFIX) {
                (device, Self::Clocks)
            } else if let Some(device) = key.strip_suffix(PROOF_SUFFIX) {
                (device, Self::Proofs)
            } else {
                (key, Self::Arrivals)
            };
        if DeviceId::is_valid(device) {
            Ok(of(device))
        } else {
            Err(RestoreError::Key { length: key.len() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_say_what_they_are_about() {
        for (key, expected) in [
            (&b"box-1"[..], StateKey::Arrivals(b"box-1")),
            (b"box-1#clock", StateKey::Clocks(b"box-1")),
            (b"box-1#proof", StateKey::Proofs(b"box-1")),
            (b"#unread", StateKey::Unread),
        ] {
            assert_eq!(StateKey::read(key), Ok(expected));
        }
        for key in [
            &b""[..],
            b"#clock",
            b"a b",
            b"box#other",
            b"box#proof#clock",
        ] {
            let length = key.len();
            assert_eq!(StateKey::read(key), Err(RestoreError::Key { length }));
        }
    }
}
