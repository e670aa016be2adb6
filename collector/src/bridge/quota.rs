//! How much one box may send: two token buckets a box, batches and bytes, of
//! which a part is kept for what is live. A box that sends a week's backlog sends
//! as fast as the rate lets it; what it has to say just then must not wait for
//! that.
//!
//! Pure: the time is an argument. Held as the time at which a bucket will be
//! full again (the generic cell rate algorithm), so a box costs 16 bytes and
//! its key, and nothing has to be refilled.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use returnpath_shared::{DeviceId, Lane};

use super::config;

/// Boxes whose buckets are kept: the largest planned fleet of 300,000 with
/// room, some 60 MB. Full buckets are dropped when it is reached.
const DEVICES_MAX: usize = 524_288;

/// Dropping full buckets walks over all of them: not more often than this.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// The part of each bucket that backlog does not touch, one of so many: of the
/// 500 batches of the example, 100, more than ten urgent ones a second for ten
/// seconds on top of the rate.
const LIVE_PART: u64 = 5;

/// What becomes of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    /// Within the quota; it was charged.
    Admitted,
    /// Too many batches; nothing was charged.
    TooManyBatches,
    /// Too many bytes; nothing was charged.
    TooManyBytes,
    /// More boxes than are kept, all of them busy.
    TooManyDevices,
}

/// The buckets of all boxes.
#[derive(Debug)]
pub(super) struct Quotas {
    origin: Instant,
    batches: Rate,
    bytes: Rate,
    devices_max: usize,
    devices: HashMap<DeviceId, Buckets>,
    swept_ns: Option<u64>,
}

/// When each bucket will be full again, in nanoseconds after the origin.
#[derive(Clone, Copy, Debug)]
struct Buckets {
    batches_full_ns: u64,
    bytes_full_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    per_second: u64,
    burst: u64,
}

impl Quotas {
    /// All buckets full. `now` is the origin of time here.
    pub(super) fn new(quota: config::Quota, now: Instant) -> Self {
        Self {
            origin: now,
            batches: Rate::new(quota.batches_per_second, quota.batches_burst),
            bytes: Rate::new(quota.bytes_per_second, quota.bytes_burst),
            devices_max: DEVICES_MAX,
            devices: HashMap::new(),
            swept_ns: None,
        }
    }

    /// Charges one batch of `bytes` to a box, or says why not.
    pub(super) fn admit(
        &mut self,
        device: &DeviceId,
        lane: Lane,
        bytes: usize,
        now: Instant,
    ) -> Admission {
        let now_ns = nanos(now.saturating_duration_since(self.origin));
        let buckets = match self.devices.get_mut(device) {
            Some(buckets) => buckets,
            None => {
                if self.devices.len() >= self.devices_max && !self.make_room(now_ns) {
                    return Admission::TooManyDevices;
                }
                let full = Buckets {
                    batches_full_ns: now_ns,
                    bytes_full_ns: now_ns,
                };
                self.devices.entry(device.clone()).or_insert(full)
            }
        };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let batches = self
            .batches
            .charge(buckets.batches_full_ns, lane, 1, now_ns);
        let Some(batches_full_ns) = batches else {
            return Admission::TooManyBatches;
        };
        let bytes = self
            .bytes
            .charge(buckets.bytes_full_ns, lane, bytes, now_ns);
        let Some(bytes_full_ns) = bytes else {
            return Admission::TooManyBytes;
        };
        *buckets = Buckets {
            batches_full_ns,
            bytes_full_ns,
        };
        Admission::Admitted
    }

    /// Forgets boxes whose buckets are full: they are as good as new ones.
    fn make_room(&mut self, now_ns: u64) -> bool {
        if let Some(swept_ns) = self.swept_ns
            && now_ns.saturating_sub(swept_ns) < nanos(SWEEP_INTERVAL)
        {
            return false;
        }
        self.swept_ns = Some(now_ns);
        self.devices.retain(|_, buckets| {
            buckets.batches_full_ns > now_ns || buckets.bytes_full_ns > now_ns
        });
        self.devices.len() < self.devices_max
    }
}

impl Rate {
    fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self {
            per_second: per_second.get().into(),
            burst: burst.get().into(),
        }
    }

    /// When the bucket will be full again after `tokens` are taken; `None`
    /// where it does not hold that many, or what is left would be less than is
    /// kept for live. A full one gives all that it has: a bucket may be so small
    /// that nothing else ever fits.
    fn charge(self, full_ns: u64, lane: Lane, tokens: u64, now_ns: u64) -> Option<u64> {
        let after_ns = full_ns.max(now_ns).checked_add(self.time_to_fill(tokens))?;
        let is_full = full_ns <= now_ns;
        let held = match lane {
            Lane::Backlog if !is_full => self.burst - self.burst / LIVE_PART,
            Lane::Live | Lane::Backlog => self.burst,
        };
        (after_ns - now_ns <= self.time_to_fill(held)).then_some(after_ns)
    }

    fn time_to_fill(self, tokens: u64) -> u64 {
        tokens.saturating_mul(1_000_000_000) / self.per_second
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quotas(batches: (u32, u32), bytes: (u32, u32), now: Instant) -> Quotas {
        let number = |number| NonZeroU32::new(number).unwrap();
        Quotas::new(
            config::Quota {
                batches_per_second: number(batches.0),
                batches_burst: number(batches.1),
                bytes_per_second: number(bytes.0),
                bytes_burst: number(bytes.1),
            },
            now,
        )
    }

    fn device(number: u32) -> DeviceId {
        format!("box-{number}").parse().unwrap()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut quotas = quotas((10, 3), (1_000_000, 1_000_000), start);
        let mut admit =
            |ms| quotas.admit(&device(1), Lane::Live, 1, start + Duration::from_millis(ms));
        for (ms, expected) in [
            (0, Admission::Admitted),
            (0, Admission::Admitted),
            (0, Admission::Admitted),
            (0, Admission::TooManyBatches),
            (99, Admission::TooManyBatches),
            (100, Admission::Admitted),
            (100, Admission::TooManyBatches),
            (10_000, Admission::Admitted),
            (10_000, Admission::Admitted),
            (10_000, Admission::Admitted),
            (10_000, Admission::TooManyBatches),
        ] {
            assert_eq!(admit(ms), expected, "after {ms} ms");
        }
    }

    #[test]
    fn bytes_are_counted_apart_and_a_refused_batch_costs_nothing() {
        let start = Instant::now();
        let mut quotas = quotas((1_000, 2), (1_000, 1_000), start);
        let mut admit = |bytes| quotas.admit(&device(1), Lane::Live, bytes, start);
        assert_eq!(admit(1_001), Admission::TooManyBytes);
        assert_eq!(admit(600), Admission::Admitted);
        assert_eq!(admit(600), Admission::TooManyBytes);
        assert_eq!(admit(400), Admission::Admitted);
        assert_eq!(admit(0), Admission::TooManyBatches);
        assert_eq!(admit(usize::MAX), Admission::TooManyBatches);
    }

    #[test]
    fn backlog_that_never_ends_leaves_room_for_what_is_live() {
        let start = Instant::now();
        let mut quotas = quotas((50, 500), (262_144, 4_194_304), start);
        let (mut backlog, mut live) = (0, 0);
        for ms in 0..60_000 {
            let now = start + Duration::from_millis(ms);
            let mut admit = |lane| quotas.admit(&device(1), lane, 700, now);
            // As much as the network takes, and ten live ones a second.
            backlog += u64::from(admit(Lane::Backlog) == Admission::Admitted);
            if ms % 100 == 0 {
                assert_eq!(admit(Lane::Live), Admission::Admitted, "after {ms} ms");
                live += 1;
            }
        }
        assert_eq!(live, 600);
        // Backlog's part of the bucket, then what live leaves of the rate.
        assert!((2_790..=2_810).contains(&backlog), "{backlog}");
    }

    #[test]
    fn a_bucket_too_small_to_be_shared_still_takes_backlog() {
        let start = Instant::now();
        let mut quotas = quotas((1, 1), (1_000, 1_000), start);
        let mut admit = |ms| {
            let now = start + Duration::from_millis(ms);
            quotas.admit(&device(1), Lane::Backlog, 1_000, now)
        };
        assert_eq!(admit(0), Admission::Admitted);
        assert_eq!(admit(999), Admission::TooManyBatches);
        assert_eq!(admit(1_000), Admission::Admitted);
    }

    #[test]
    fn one_box_does_not_pay_for_another_and_idle_ones_make_room() {
        let start = Instant::now();
        let mut quotas = quotas((1, 1), (1_000, 1_000), start);
        quotas.devices_max = 2;
        let later = start + SWEEP_INTERVAL;
        for (number, now, expected) in [
            (1, start, Admission::Admitted),
            (2, start, Admission::Admitted),
            (1, start, Admission::TooManyBatches),
            (3, start, Admission::TooManyDevices),
            (3, later, Admission::Admitted),
            (1, later, Admission::Admitted),
            (2, later, Admission::TooManyDevices),
        ] {
            assert_eq!(
                quotas.admit(&device(number), Lane::Live, 1, now),
                expected,
                "box {number}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_burst_and_rate(
            rate in 1..50_u32,
            burst in 1..50_u32,
            pauses_ms in prop::collection::vec(0..200_u64, 1..300),
        ) {
            let start = Instant::now();
            let mut quotas = quotas((rate, burst), (u32::MAX, u32::MAX), start);
            let mut now_ms = 0;
            let mut admitted_ms: Vec<u64> = Vec::new();
            for pause_ms in pauses_ms {
                now_ms += pause_ms;
                let now = start + Duration::from_millis(now_ms);
                if quotas.admit(&device(1), Lane::Live, 1, now) == Admission::Admitted {
                    admitted_ms.push(now_ms);
                }
            }
            for (position, from) in admitted_ms.iter().enumerate() {
                for (count, until) in (1_u64..).zip(&admitted_ms[position..]) {
                    // One more for the rounding of the division.
                    let most = u64::from(burst) + (until - from) * u64::from(rate) / 1_000 + 1;
                    prop_assert!(count <= most);
                }
            }
        }
    }
}
