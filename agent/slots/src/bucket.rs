//! How often something may be done at a stranger's bidding.

/// A bucket: so often at once, and once more after each interval. What nobody vouches for
/// costs the box no more than this, however much of it comes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bucket {
    at_once_max: u32,
    interval_ms: u64,
    left: u32,
    /// Up to when intervals have been counted.
    counted_ms: u64,
}

impl Bucket {
    /// A full one. Uptime in ms; an interval is at least 1.
    #[must_use]
    pub const fn new(at_once_max: u32, interval_ms: u64) -> Self {
        Self {
            at_once_max,
            interval_ms,
            left: at_once_max,
            counted_ms: 0,
        }
    }

    /// Whether it may be done once more, now; if so, that is counted.
    pub fn take(&mut self, now_ms: u64) -> bool {
        let intervals = now_ms.saturating_sub(self.counted_ms) / self.interval_ms.max(1);
        self.counted_ms += intervals * self.interval_ms.max(1);
        let more = u32::try_from(intervals).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(more).min(self.at_once_max);
        let Some(left) = self.left.checked_sub(1) else {
            return false;
        };
        self.left = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &mut Bucket, now_ms: u64) -> usize {
        (0..100).filter(|_| bucket.take(now_ms)).count()
    }

    #[test]
    fn it_is_used_up_at_once_and_comes_back_one_by_one() {
        let mut bucket = Bucket::new(3, 10);
        assert_eq!(taken(&mut bucket, 1_000), 3);
        assert_eq!(taken(&mut bucket, 1_009), 0);
        assert_eq!(taken(&mut bucket, 1_010), 1);
        assert_eq!(taken(&mut bucket, 1_035), 2);
        // The half interval before was not lost, nor counted twice.
        assert_eq!(taken(&mut bucket, 1_040), 1);
    }

    #[test]
    fn what_is_not_used_does_not_pile_up_and_time_may_be_anything() {
        let mut bucket = Bucket::new(2, 10);
        assert_eq!(taken(&mut bucket, 0), 2);
        assert_eq!(taken(&mut bucket, u64::MAX), 2);
        assert_eq!(taken(&mut bucket, 5), 0, "an earlier time gives nothing");
        assert_eq!(taken(&mut Bucket::new(1, 0), u64::MAX), 1);
    }
}
