//! Randomness from a seed: SplitMix64 (Steele, Lea, Flood: "Fast splittable
//! pseudorandom number generators", 2014), and the few distributions that
//! viewers need. The same seed gives the same viewer, on every machine.

use std::f64::consts::TAU;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// A stream of its own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in `0..bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound.max(1)
    }

    /// Uniform in `[0, 1)`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what an f64 holds")]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with this probability.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Log-normal with this median; `sigma` is the standard deviation of the
    /// logarithm. Dwell and viewing times are long-tailed like this.
    pub fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        // Box and Muller; 1 - unit is never 0, whose logarithm is infinite.
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        median * (sigma * radius * (TAU * self.unit()).cos()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_others_do_not() {
        let first = |seed| [(); 4].map(|()| seed).map(|seed| Chance::new(seed).bits());
        assert_eq!(first(7), first(7));
        assert_ne!(first(7), first(8));
        // The first output of SplitMix64 for seed 0, as its authors give it.
        assert_eq!(Chance::new(0).bits(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn half_of_a_log_normal_lies_below_its_median() {
        let mut chance = Chance::new(1);
        let below = (0..10_000)
            .filter(|_| chance.log_normal(12.0, 1.1) < 12.0)
            .count();
        assert!((4_800..5_200).contains(&below), "{below}");
    }
}
