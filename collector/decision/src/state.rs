//! Why a record of `rp.decide.state` cannot be loaded.

use thiserror::Error;

/// Why a record of `rp.decide.state` cannot be loaded. Our own data: the shell
/// must not go on with a hole in its memory.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RestoreError {
    /// Not a device id.
    #[error("key of {length} bytes is no device id")]
    Key {
        /// Length of the key in bytes.
        length: usize,
    },
    /// The value is no `DecideState`.
    #[error("value of the state record cannot be decoded")]
    Decode(#[source] prost::DecodeError),
}
