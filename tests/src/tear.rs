//! Damage to a file, as a flash does it that tears: drawn from a seed.
//! Knows nothing of what the file holds.

use std::{fmt, fs, path::Path};

use anyhow::Context as _;

use crate::fleet::chance::Chance;

/// How many bytes are overwritten: a bit, a row, a sector, a page of flash.
const LENGTHS: [usize; 4] = [1, 16, 512, 4_096];

/// What happens to a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It ends somewhere before its end.
    Cut,
    /// A part of it holds zeros.
    Zeros,
    /// A part of it holds 0xff, as erased flash does.
    Ones,
    /// A part of it holds anything.
    Noise,
    /// All of it holds anything.
    Replaced,
    /// Its name is there, and nothing behind it.
    Emptied,
    /// It is gone.
    Removed,
}

impl Kind {
    /// What happens at a place.
    pub const SOMEWHERE: [Self; 4] = [Self::Cut, Self::Zeros, Self::Ones, Self::Noise];

    /// What happens to all of a file.
    pub const WHOLE: [Self; 3] = [Self::Replaced, Self::Emptied, Self::Removed];
}

/// Damage to one file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tear {
    kind: Kind,
    at: usize,
    length: usize,
    noise: u64,
}

impl Tear {
    /// Damage of this kind that begins below `end`.
    #[must_use]
    pub fn draw(kind: Kind, end: usize, chance: &mut Chance) -> Self {
        let mut index = |bound| usize::try_from(chance.below(bound as u64)).unwrap_or(0);
        Self {
            kind,
            at: index(end),
            length: LENGTHS[index(LENGTHS.len())],
            noise: chance.bits(),
        }
    }

    /// What becomes of a file of these bytes; `None` when it is gone.
    #[must_use]
    pub fn of(&self, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        let end = bytes.len().min(self.at + self.length);
        let part = self.at.min(end)..end;
        let mut noise = Chance::new(self.noise);
        let mut any = |byte: &mut u8| *byte = noise.bits().to_le_bytes()[0];
        match self.kind {
            Kind::Cut => bytes.truncate(self.at),
            Kind::Zeros => bytes[part].fill(0),
            Kind::Ones => bytes[part].fill(0xff),
            Kind::Noise => bytes[part].iter_mut().for_each(any),
            Kind::Replaced => bytes.iter_mut().for_each(&mut any),
            Kind::Emptied => bytes.clear(),
            Kind::Removed => return None,
        }
        Some(bytes)
    }

    /// Does it to the file at `path`, and returns from which byte on the file is
    /// not what it was; `None` where it is what it was.
    ///
    /// # Errors
    /// When the file cannot be read, written or removed.
    pub fn inflict(&self, path: &Path) -> anyhow::Result<Option<usize>> {
        let told = || format!("damage {}", path.display());
        let before = fs::read(path).with_context(told)?;
        let after = self.of(before.clone());
        match &after {
            Some(bytes) => fs::write(path, bytes).with_context(told)?,
            None => fs::remove_file(path).with_context(told)?,
        }
        Ok(first_difference(&before, &after.unwrap_or_default()))
    }
}

impl fmt::Display for Tear {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind, at, length, ..
        } = self;
        match kind {
            Kind::Cut => write!(formatter, "cut off at {at}"),
            Kind::Zeros => write!(formatter, "{length} zeros at {at}"),
            Kind::Ones => write!(formatter, "{length} times 0xff at {at}"),
            Kind::Noise => write!(formatter, "{length} random bytes at {at}"),
            Kind::Replaced => formatter.write_str("replaced by random bytes"),
            Kind::Emptied => formatter.write_str("emptied"),
            Kind::Removed => formatter.write_str("removed"),
        }
    }
}

fn first_difference(before: &[u8], after: &[u8]) -> Option<usize> {
    let differs = before.iter().zip(after).position(|(old, new)| old != new);
    let shorter = before.len().min(after.len());
    differs.or((before.len() != after.len()).then_some(shorter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_stays_within_the_file_and_is_told_by_its_first_byte() {
        let mut chance = Chance::new(7);
        let before = vec![0x55_u8; 600];
        for kind in Kind::SOMEWHERE {
            for _ in 0..200 {
                let tear = Tear::draw(kind, before.len(), &mut chance);
                let after = tear.of(before.clone()).unwrap();
                assert!(after.len() <= before.len(), "{tear}");
                assert_eq!(after[..tear.at], before[..tear.at], "{tear}");
                // One random byte may be what was there.
                if kind != Kind::Noise {
                    assert_eq!(first_difference(&before, &after), Some(tear.at), "{tear}");
                }
            }
        }
        let all = |kind| Tear::draw(kind, before.len(), &mut Chance::new(1)).of(before.clone());
        assert_eq!(all(Kind::Removed), None);
        assert_eq!(all(Kind::Emptied), Some(Vec::new()));
        let replaced = all(Kind::Replaced).unwrap();
        assert_eq!(replaced.len(), before.len());
        assert!(first_difference(&before, &replaced).unwrap() < 4);
        assert_eq!(first_difference(&before, &before), None);
    }
}
