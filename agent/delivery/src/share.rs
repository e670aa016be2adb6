//! The bounded share of the backlog lane: a token bucket in batches a second.

use crate::Uptime;

/// One batch, in the bucket's unit.
const BATCH: u64 = 1_000;

#[derive(Debug)]
pub(crate) struct Share {
    rate: u32,
    /// Thousandths of a batch.
    tokens: u64,
    filled_at: Uptime,
}

impl Share {
    pub(crate) fn new(rate: u32, now: Uptime) -> Self {
        Self {
            rate,
            tokens: BATCH,
            filled_at: now,
        }
    }

    pub(crate) fn set_rate(&mut self, rate: u32, now: Uptime) {
        self.fill(now);
        self.rate = rate;
    }

    /// When the next batch may go; `None` while the lane is stopped.
    pub(crate) fn open_from(&self) -> Option<Uptime> {
        let missing = BATCH.saturating_sub(self.tokens);
        let wait_ms = missing.div_ceil(u64::from(self.rate).max(1));
        (self.rate > 0).then_some(Uptime(self.filled_at.0.saturating_add(wait_ms)))
    }

    pub(crate) fn take(&mut self, now: Uptime) {
        self.fill(now);
        self.tokens = self.tokens.saturating_sub(BATCH);
    }

    /// A bucket holds a tenth of a second, so that a shell that wakes late
    /// loses no rate and an outage saves none up.
    fn fill(&mut self, now: Uptime) {
        let rate = u64::from(self.rate);
        let gained = now.0.saturating_sub(self.filled_at.0).saturating_mul(rate);
        self.tokens = self
            .tokens
            .saturating_add(gained)
            .min((rate * BATCH / 10).max(BATCH));
        self.filled_at = self.filled_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_within(rate: u32, wake_every_ms: usize, ms: u64) -> u64 {
        let mut share = Share::new(rate, Uptime(0));
        let mut taken = 0;
        for now in (0..ms).step_by(wake_every_ms) {
            while share.open_from().is_some_and(|at| at.0 <= now) {
                share.take(Uptime(now));
                taken += 1;
            }
        }
        taken
    }

    #[test]
    fn the_rate_is_kept_also_by_a_shell_that_wakes_late() {
        for (rate, wake_every_ms) in [(1, 1), (3, 7), (50, 1), (50, 90), (1_000, 1), (1_000, 60)] {
            let taken = taken_within(rate, wake_every_ms, 10_000);
            let expected = u64::from(rate) * 10;
            let slack = u64::from(rate) / 10 + 2;
            assert!(
                taken.abs_diff(expected) <= slack,
                "{rate}/s every {wake_every_ms} ms: {taken}"
            );
        }
    }

    #[test]
    fn a_rate_of_0_stops_the_lane() {
        assert_eq!(Share::new(0, Uptime(0)).open_from(), None);
        assert_eq!(taken_within(0, 1, 1_000), 0);
    }
}
