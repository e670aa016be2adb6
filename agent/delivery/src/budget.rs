//! The daily budget of flash writes: when ordinary data may go down.
//!
//! A bucket that fills with a day's bytes a day and is charged with what each
//! commit costs the medium. Empty, it holds ordinary batches back in RAM. It
//! stops nothing that a promise hangs on: proof, a stop, a new file and what
//! consent no longer covers go down regardless, and are charged, so that they
//! are paid for by ordinary writes that wait longer.
//!
//! Nothing of it is kept over a restart. A run therefore begins with an hour's
//! share and not with a day's: an agent that is restarted all day writes at
//! most twice its budget, and over weeks every other box keeps it exactly.

use crate::{Uptime, time::ms};
use core::time::Duration;

/// What a commit costs on ext4 beside its batches: pages of trees and facts in
/// the log, the block that the log ends in, the journal, the inode. Measured by
/// the block device's counter: 10 to 12 KiB.
pub(crate) const COMMIT_BYTES: u64 = 11 * 1_024;

/// How often a batch's bytes reach the medium: in the log, and in the file
/// unless its deletion comes before the log is copied back.
const COPIES: u64 = 2;

const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// A run's first allowance, as a part of a day's.
const FIRST_PART: i64 = 24;

/// What a commit that inserts batches of this many packed bytes costs.
pub(crate) fn cost_of(batch_bytes: u64) -> u64 {
    COMMIT_BYTES.saturating_add(batch_bytes.saturating_mul(COPIES))
}

/// The bucket. In a unit of `1 / DAY_MS` bytes, so that every millisecond adds
/// exactly the day's bytes.
#[derive(Debug)]
pub(crate) struct Budget {
    /// `None`: there is no bound.
    bytes_per_day: Option<u64>,
    /// Below zero after writes that do not wait.
    left: i64,
    filled_at: Uptime,
    charged_bytes: u64,
}

impl Budget {
    pub(crate) fn new(bytes_per_day: Option<u64>, now: Uptime) -> Self {
        let mut budget = Self {
            bytes_per_day,
            left: 0,
            filled_at: now,
            charged_bytes: 0,
        };
        budget.left = budget.full() / FIRST_PART;
        budget
    }

    /// A day's bytes, in the bucket's unit.
    fn full(&self) -> i64 {
        let bytes = self.bytes_per_day.unwrap_or(0);
        i64::try_from(bytes.saturating_mul(DAY_MS)).unwrap_or(i64::MAX)
    }

    fn gained(&self, now: Uptime) -> i64 {
        let rate = self.bytes_per_day.unwrap_or(0);
        let gained = ms(now.since(self.filled_at)).saturating_mul(rate);
        i64::try_from(gained).unwrap_or(i64::MAX)
    }

    fn left_at(&self, now: Uptime) -> i64 {
        self.left.saturating_add(self.gained(now)).min(self.full())
    }

    /// Something was written. The debt is a day's bytes at most: after proof
    /// without end has stopped, ordinary data is back on flash within a day.
    pub(crate) fn charge(&mut self, bytes: u64, now: Uptime) {
        self.charged_bytes = self.charged_bytes.saturating_add(bytes);
        let cost = i64::try_from(bytes.saturating_mul(DAY_MS)).unwrap_or(i64::MAX);
        self.left = self.left_at(now).saturating_sub(cost).max(-self.full());
        self.filled_at = self.filled_at.max(now);
    }

    /// From when on ordinary data may be written.
    pub(crate) fn open_from(&self) -> Uptime {
        let Some(rate) = self.bytes_per_day.filter(|_| self.left <= 0) else {
            return Uptime(0);
        };
        // One unit above zero.
        let missing = self.left.unsigned_abs().saturating_add(1);
        let wait = Duration::from_millis(missing.div_ceil(rate.max(1)));
        self.filled_at.plus(wait)
    }

    pub(crate) fn is_spent(&self, now: Uptime) -> bool {
        self.open_from() > now
    }

    /// Bytes left now; `None` where there is no bound.
    pub(crate) fn bytes_left(&self, now: Uptime) -> Option<u64> {
        self.bytes_per_day?;
        let left = u64::try_from(self.left_at(now)).unwrap_or(0);
        Some(left / DAY_MS)
    }

    /// Everything charged so far.
    pub(crate) fn charged_bytes(&self) -> u64 {
        self.charged_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    /// Writes ordinary data of `bytes` whenever it may, looking every minute.
    fn written(budget: &mut Budget, bytes: u64, from: u64, until: u64) -> u64 {
        let mut written = 0;
        for now in (from..until).step_by(60_000).map(Uptime) {
            if budget.open_from() <= now {
                budget.charge(bytes, now);
                written += bytes;
            }
        }
        written
    }

    #[test]
    fn a_day_costs_the_budget_and_the_first_one_an_hours_share_more() {
        for per_day in [1 << 20, 64 << 20] {
            let mut budget = Budget::new(Some(per_day), Uptime(0));
            // A write begins while anything is left, and may end in debt.
            let once = per_day / 100;
            let first = written(&mut budget, once, 0, DAY);
            assert!(first <= per_day + per_day / 24 + once, "{first}");
            assert!(first >= per_day - once, "{first}");
            let week = written(&mut budget, once, DAY, 8 * DAY);
            assert!(week.abs_diff(7 * per_day) <= 2 * once, "{week}");
        }
    }

    #[test]
    fn idle_days_save_up_one_day_and_no_more() {
        let mut budget = Budget::new(Some(1 << 20), Uptime(0));
        let burst = written(&mut budget, 1 << 14, 30 * DAY, 30 * DAY + 3_600_000);
        assert!(burst <= (1 << 20) + (1 << 20) / 24 + (1 << 15), "{burst}");
    }

    #[test]
    fn what_does_not_wait_is_paid_for_by_what_does_and_within_a_day() {
        let mut budget = Budget::new(Some(1 << 20), Uptime(0));
        for _ in 0..1_000 {
            budget.charge(1 << 20, Uptime(5));
        }
        assert!(budget.is_spent(Uptime(5)));
        assert_eq!(budget.bytes_left(Uptime(5)), Some(0));
        assert_eq!(budget.charged_bytes(), 1_000 << 20);
        assert_eq!(budget.open_from(), Uptime(5 + DAY + 1));
        assert!(!budget.is_spent(Uptime(5 + DAY + 1)));
    }

    #[test]
    fn without_a_bound_nothing_waits_and_all_is_counted() {
        let mut budget = Budget::new(None, Uptime(0));
        budget.charge(u64::MAX, Uptime(1));
        assert!(!budget.is_spent(Uptime(1)));
        assert_eq!(budget.bytes_left(Uptime(1)), None);
        assert_eq!(budget.charged_bytes(), u64::MAX);
    }

    #[test]
    fn the_smallest_budget_opens_when_it_says() {
        let mut budget = Budget::new(Some(1), Uptime(0));
        budget.charge(1, Uptime(0));
        let open_from = budget.open_from();
        assert!(budget.is_spent(Uptime(open_from.0 - 1)));
        assert!(!budget.is_spent(open_from));
        budget.charge(0, open_from);
        assert!(!budget.is_spent(open_from));
    }
}
