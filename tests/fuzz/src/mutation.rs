//! Changes inputs without knowing what they reach: what runs where libFuzzer
//! does not. The same seed gives the same changes.

/// Numbers at which readers go wrong.
const EDGES: [u8; 9] = [0x00, 0x01, 0x0a, 0x22, 0x7b, 0x7f, 0x80, 0xfe, 0xff];

/// Changes made to one input at most.
const CHANGES_MAX: usize = 8;

/// Longest input that comes out: longer ones reach the bounds of lengths, not
/// of what is read.
const LENGTH_MAX: usize = 8 * 1024;

/// Makes inputs from others.
#[derive(Clone, Debug)]
pub struct Mutator(u64);

impl Mutator {
    /// One of its own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One of `inputs`, changed in a few places, perhaps with parts of another.
    pub fn mutant(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.one_of(inputs);
        for _ in 0..=self.below(CHANGES_MAX) {
            self.change(&mut bytes, inputs);
        }
        bytes.truncate(LENGTH_MAX);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        match self.below(8) {
            0 => bytes.truncate(at),
            1 => {
                let edge = EDGES[self.below(EDGES.len())];
                bytes.insert(at, edge);
            }
            2 => {
                let end = at + self.below((bytes.len() - at).min(32) + 1);
                bytes.drain(at..end);
            }
            3 => {
                let end = at + self.below((bytes.len() - at).min(256) + 1);
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            4 => {
                let other = self.one_of(inputs);
                let from = self.below(other.len() + 1);
                let to = from + self.below(other.len() - from + 1);
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            kind => {
                let Some(byte) = bytes.get_mut(at) else {
                    return;
                };
                *byte = match kind {
                    5 => *byte ^ (1 << self.below(8)),
                    6 => EDGES[self.below(EDGES.len())],
                    _ => byte.wrapping_add(if self.below(2) == 0 { 1 } else { 0xff }),
                };
            }
        }
    }

    fn one_of(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        inputs
            .get(self.below(inputs.len()))
            .cloned()
            .unwrap_or_default()
    }

    /// A number below `end`; 0 where there is none.
    fn below(&mut self, end: usize) -> usize {
        // SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
        // generators", 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let end = u64::try_from(end.max(1)).unwrap_or(u64::MAX);
        usize::try_from(mixed % end).unwrap_or(0)
    }
}
