//! Ids as types that hold only good values: device, epoch, batch, ordinal.
//! Conversions from the wire name the field that is wrong.

use std::{fmt, num::NonZeroU64, str::FromStr, sync::Arc};

use thiserror::Error;

use crate::wire;

/// Why something is not an id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// Not `[A-Za-z0-9_-]{1,64}`.
    #[error("device id must be 1 to 64 of [A-Za-z0-9_-], got {length} bytes")]
    Device {
        /// Length of what was given, in bytes; the text itself is untrusted.
        length: usize,
    },
    /// Not what [`Epoch`] prints.
    #[error("epoch must be 16 hexadecimal digits, a dot and a start from 1")]
    Epoch,
    /// A field is absent or zero.
    #[error("{field} must be present and greater than 0")]
    Missing {
        /// Path of the field in the message.
        field: &'static str,
    },
}

/// The common name of a box's client certificate, `[A-Za-z0-9_-]{1,64}`.
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(Arc<str>);

impl DeviceId {
    /// Longest device id in bytes (the upper bound of a common name, RFC 5280,
    /// appendix A.1, `ub-common-name`).
    pub const BYTES_MAX: usize = 64;

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `bytes` is a device id.
    #[must_use]
    pub fn is_valid(bytes: &[u8]) -> bool {
        (1..=Self::BYTES_MAX).contains(&bytes.len())
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    }
}

impl FromStr for DeviceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if Self::is_valid(text.as_bytes()) {
            Ok(Self(text.into()))
        } else {
            Err(IdError::Device { length: text.len() })
        }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DeviceId({})", self.0)
    }
}

/// Names a queue file: random, made with it, never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(NonZeroU64);

impl Incarnation {
    /// `None` for 0.
    #[must_use]
    pub fn new(value: u64) -> Option<Self> {
        NonZeroU64::new(value).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// One run of an agent. Within an incarnation a higher start is later; between
/// incarnations the order is that of arrival, so the derived `Ord` is for
/// keeping epochs in maps and says nothing about time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// The queue file.
    pub incarnation: Incarnation,
    /// Starts on it, from 1.
    pub start: u32,
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}.{}", self.incarnation.get(), self.start)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Epoch {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits_only = |text: &str, radix| text.chars().all(|digit| digit.is_digit(radix));
        let (incarnation, start) = text.split_once('.').ok_or(IdError::Epoch)?;
        if incarnation.len() != 16 || !digits_only(incarnation, 16) || !digits_only(start, 10) {
            return Err(IdError::Epoch);
        }
        let incarnation = u64::from_str_radix(incarnation, 16)
            .ok()
            .and_then(Incarnation::new)
            .ok_or(IdError::Epoch)?;
        match start.parse() {
            Ok(start) if start > 0 => Ok(Self { incarnation, start }),
            Ok(_) | Err(_) => Err(IdError::Epoch),
        }
    }
}

impl From<Epoch> for wire::Epoch {
    fn from(epoch: Epoch) -> Self {
        Self {
            incarnation: epoch.incarnation.get(),
            start: epoch.start,
        }
    }
}

impl TryFrom<wire::Epoch> for Epoch {
    type Error = IdError;

    fn try_from(epoch: wire::Epoch) -> Result<Self, IdError> {
        let incarnation = Incarnation::new(epoch.incarnation).ok_or(IdError::Missing {
            field: "epoch.incarnation",
        })?;
        if epoch.start == 0 {
            return Err(IdError::Missing {
                field: "epoch.start",
            });
        }
        Ok(Self {
            incarnation,
            start: epoch.start,
        })
    }
}

/// Counts the batches of an epoch, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Sequence(pub u64);

/// Counts the accepted events of an epoch, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ordinal(pub u64);

impl Sequence {
    /// The first of an epoch.
    pub const FIRST: Self = Self(1);

    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Ordinal {
    /// The first of an epoch.
    pub const FIRST: Self = Self(1);

    /// The one `count` after this.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

/// Names one immutable batch of a device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId {
    /// The run of the agent that built it.
    pub epoch: Epoch,
    /// Its place in that run.
    pub sequence: Sequence,
}

impl fmt::Display for BatchId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.epoch, self.sequence.0)
    }
}

impl fmt::Debug for BatchId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl From<BatchId> for wire::BatchId {
    fn from(id: BatchId) -> Self {
        Self {
            epoch: Some(id.epoch.into()),
            sequence: id.sequence.0,
        }
    }
}

impl TryFrom<wire::BatchId> for BatchId {
    type Error = IdError;

    fn try_from(id: wire::BatchId) -> Result<Self, IdError> {
        let epoch = id
            .epoch
            .ok_or(IdError::Missing { field: "epoch" })?
            .try_into()?;
        if id.sequence == 0 {
            return Err(IdError::Missing { field: "sequence" });
        }
        Ok(Self {
            epoch,
            sequence: Sequence(id.sequence),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_ids_are_1_to_64_safe_characters() {
        for good in ["a", "box-00_1", &"x".repeat(64)] {
            assert_eq!(good.parse::<DeviceId>().unwrap().as_str(), good);
        }
        for bad in ["", "a/b", "a b", "é", "+", "#", "$share", &"x".repeat(65)] {
            assert!(bad.parse::<DeviceId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_epoch_is_read_as_it_is_printed() {
        let epoch = Epoch {
            incarnation: Incarnation::new(0xab).unwrap(),
            start: 12,
        };
        assert_eq!(epoch.to_string().parse(), Ok(epoch));
        for bad in [
            "",
            "00000000000000ab",
            "00000000000000ab.",
            "00000000000000ab.0",
            "00000000000000ab.+1",
            "+0000000000000ab.1",
            "ab.1",
            "0000000000000000.1",
            "00000000000000ab.1.2",
            "00000000000000ab.4294967296",
        ] {
            assert_eq!(bad.parse::<Epoch>(), Err(IdError::Epoch), "{bad:?}");
        }
    }

    #[test]
    fn ids_from_the_wire_name_the_field_that_is_missing() {
        let missing = |id: wire::BatchId| BatchId::try_from(id).unwrap_err().to_string();
        assert_eq!(
            missing(wire::BatchId {
                epoch: None,
                sequence: 1
            }),
            "epoch must be present and greater than 0"
        );
        let epoch = |incarnation, start| Some(wire::Epoch { incarnation, start });
        assert!(
            missing(wire::BatchId {
                epoch: epoch(0, 1),
                sequence: 1
            })
            .contains("incarnation")
        );
        assert!(
            missing(wire::BatchId {
                epoch: epoch(7, 0),
                sequence: 1
            })
            .contains("start")
        );
        assert!(
            missing(wire::BatchId {
                epoch: epoch(7, 1),
                sequence: 0
            })
            .contains("sequence")
        );
    }

    #[test]
    fn a_batch_id_survives_the_wire() {
        let id = BatchId {
            epoch: Epoch {
                incarnation: Incarnation::new(9).unwrap(),
                start: 2,
            },
            sequence: Sequence(3),
        };
        assert_eq!(BatchId::try_from(wire::BatchId::from(id)).unwrap(), id);
        assert_eq!(id.to_string(), "0000000000000009.2:3");
    }
}
