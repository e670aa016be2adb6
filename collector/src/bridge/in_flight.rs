//! What is on its way into Kafka: bounded in number and bytes, found again by
//! the key that travels with each record.

use std::num::NonZeroU32;

use super::config;

/// Names one entry. Carried through the Kafka client as a pointer-sized
/// number, so that no allocation per record is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    index: u32,
    /// Tells apart the entries that use a slot one after the other.
    generation: u32,
}

const _: () = assert!(usize::BITS == 64, "keys are carried in 64 bits");

impl From<Key> for usize {
    fn from(key: Key) -> Self {
        ((key.generation as usize) << 32) | key.index as usize
    }
}

impl From<usize> for Key {
    #[expect(clippy::cast_possible_truncation, reason = "takes the halves apart")]
    fn from(number: usize) -> Self {
        Self {
            index: number as u32,
            generation: (number >> 32) as u32,
        }
    }
}

/// A bound is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Full;

/// Entries under way.
#[derive(Debug)]
pub(super) struct InFlight<T> {
    entries_max: NonZeroU32,
    bytes_max: u64,
    bytes: u64,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    entry: Option<(T, u32)>,
}

impl<T> InFlight<T> {
    /// Nothing under way.
    pub(super) fn new(bounds: config::InFlight) -> Self {
        Self {
            entries_max: bounds.batches,
            bytes_max: bounds.bytes.get().into(),
            bytes: 0,
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Takes an entry of `bytes`, unless a bound is reached.
    pub(super) fn admit(&mut self, entry: T, bytes: usize) -> Result<Key, Full> {
        let bytes = u32::try_from(bytes).map_err(|_| Full)?;
        if self.bytes + u64::from(bytes) > self.bytes_max {
            return Err(Full);
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.slots.len()).map_err(|_| Full)?;
                if index >= self.entries_max.get() {
                    return Err(Full);
                }
                self.slots.push(Slot {
                    generation: 0,
                    entry: None,
                });
                index
            }
        };
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.entry = Some((entry, bytes));
        self.bytes += u64::from(bytes);
        Ok(Key {
            index,
            generation: slot.generation,
        })
    }

    /// Gives an entry back; `None` if it was given back before.
    pub(super) fn release(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let (entry, bytes) = slot.entry.take()?;
        self.bytes -= u64::from(bytes);
        self.free.push(key.index);
        Some(entry)
    }

    /// Gives every entry back.
    pub(super) fn drain(&mut self) -> Vec<T> {
        let keys: Vec<Key> = (0_u32..)
            .zip(&self.slots)
            .map(|(index, slot)| Key {
                index,
                generation: slot.generation,
            })
            .collect();
        keys.into_iter()
            .filter_map(|key| self.release(key))
            .collect()
    }

    /// Entries under way.
    pub(super) fn entries(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Bytes under way.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_flight(batches: u32, bytes: u32) -> InFlight<&'static str> {
        InFlight::new(config::InFlight {
            batches: NonZeroU32::new(batches).unwrap(),
            bytes: NonZeroU32::new(bytes).unwrap(),
        })
    }

    #[test]
    fn both_bounds_hold_and_what_comes_back_makes_room() {
        let mut under_way = in_flight(2, 100);
        let first = under_way.admit("first", 60).unwrap();
        assert_eq!(under_way.admit("too large", 41), Err(Full));
        under_way.admit("second", 40).unwrap();
        assert_eq!(under_way.admit("third", 0), Err(Full));
        assert_eq!((under_way.entries(), under_way.bytes()), (2, 100));
        assert_eq!(under_way.release(first), Some("first"));
        assert_eq!((under_way.entries(), under_way.bytes()), (1, 40));
        under_way.admit("third", 60).unwrap();
    }

    #[test]
    fn a_key_works_once_even_when_its_slot_is_used_again() {
        let mut under_way = in_flight(1, 100);
        let old = under_way.admit("old", 1).unwrap();
        assert_eq!(under_way.release(old), Some("old"));
        let new = under_way.admit("new", 1).unwrap();
        assert_eq!(under_way.release(old), None);
        assert_eq!(under_way.release(new), Some("new"));
        assert_eq!(under_way.release(new), None);
    }

    #[test]
    fn draining_gives_everything_back_once() {
        let mut under_way = in_flight(3, 100);
        let key = under_way.admit("a", 1).unwrap();
        under_way.admit("b", 2).unwrap();
        assert_eq!(under_way.drain(), ["a", "b"]);
        assert_eq!((under_way.entries(), under_way.bytes()), (0, 0));
        assert_eq!(under_way.release(key), None);
    }

    #[test]
    fn a_key_survives_the_kafka_client() {
        for key in [
            Key {
                index: 0,
                generation: 1,
            },
            Key {
                index: u32::MAX,
                generation: u32::MAX,
            },
        ] {
            assert_eq!(Key::from(usize::from(key)), key);
        }
    }
}
