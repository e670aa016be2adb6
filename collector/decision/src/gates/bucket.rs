//! How often an aggregator may be asked: tokens that come back evenly.

use crate::settings::Rate;

/// Tokens are counted in millionths, so that none is lost to rounding.
const TOKEN: u64 = 1_000_000;

#[derive(Clone, Debug)]
pub(super) struct Bucket {
    rate: Rate,
    /// In millionths.
    held: u64,
    filled_us: u64,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            rate,
            held: u64::from(rate.burst) * TOKEN,
            filled_us: 0,
        }
    }

    /// Whether there is a token.
    pub(super) fn has_token(&mut self, now_us: u64) -> bool {
        let elapsed_us = now_us.saturating_sub(self.filled_us);
        self.filled_us = self.filled_us.max(now_us);
        let back = elapsed_us.saturating_mul(u64::from(self.rate.per_second));
        self.held = self
            .held
            .saturating_add(back)
            .min(u64::from(self.rate.burst) * TOKEN);
        self.held >= TOKEN
    }

    /// Takes one.
    pub(super) fn take(&mut self) {
        self.held = self.held.saturating_sub(TOKEN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let rate = Rate {
            per_second: 10,
            burst: 5,
        };
        let mut bucket = Bucket::new(rate);
        let mut passed = 0;
        for now_us in (1_000_000..=3_000_000).step_by(1_000) {
            if bucket.has_token(now_us) {
                bucket.take();
                passed += 1;
            }
        }
        assert_eq!(passed, 5 + 20);
    }

    #[test]
    fn a_clock_that_runs_backwards_gives_nothing() {
        let rate = Rate {
            per_second: 1,
            burst: 1,
        };
        let mut bucket = Bucket::new(rate);
        assert!(bucket.has_token(9_000_000));
        bucket.take();
        assert!(!bucket.has_token(1_000_000));
        assert!(!bucket.has_token(9_500_000));
        assert!(bucket.has_token(10_000_000));
    }
}
