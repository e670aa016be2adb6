//! When to dial which broker. Owns the backoff and nothing of the connection.
//!
//! Every attempt, the first one included, is delayed by full jitter; after the
//! broker closed an established link a box waits for its own slot, hashed from
//! its device id, because then the whole fleet is looking for a broker.

use core::{num::NonZeroU32, time::Duration};

use returnpath_shared::DeviceId;

use crate::{Uptime, jitter::Jitter, time::ms};

/// Settings of reconnecting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReconnectConfig {
    /// The first attempt comes within this time.
    pub base: Duration,
    /// Attempts are at most this far apart.
    pub cap: Duration,
    /// After the broker closed the link, the fleet comes back over this time.
    pub spread: Duration,
    /// A link that held for this long counts as good: backoff starts anew.
    pub stable_after: Duration,
}

/// Why an attempt or an established link ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// The broker closed or reset it: it does so to everyone at once.
    ByBroker,
    /// Anything else: no route, time-out, no progress, refused.
    Other,
}

/// The next attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dial {
    /// When.
    pub at: Uptime,
    /// Which of the configured addresses, from 0.
    pub address: u32,
}

/// The state between attempts.
#[derive(Debug)]
pub struct Reconnect {
    config: ReconnectConfig,
    addresses: NonZeroU32,
    device_hash: u64,
    jitter: Jitter,
    /// Attempts since the last good link; the exponent of the backoff.
    attempts: u32,
    address: u32,
    connected_at: Option<Uptime>,
}

impl Reconnect {
    /// Begins disconnected. The first address is hashed from the device id, so
    /// that the fleet spreads over the brokers.
    #[must_use]
    pub fn new(
        config: ReconnectConfig,
        device: &DeviceId,
        addresses: NonZeroU32,
        seed: u64,
    ) -> Self {
        let device_hash = hash(device.as_str().as_bytes());
        Self {
            config,
            addresses,
            device_hash,
            jitter: Jitter::new(seed),
            attempts: 0,
            // The upper bits: the lower ones choose the slot.
            address: remainder(device_hash >> 32, addresses),
            connected_at: None,
        }
    }

    /// When and where to dial first.
    pub fn first(&mut self, now: Uptime) -> Dial {
        self.backed_off(now)
    }

    /// The link is up.
    pub fn connected(&mut self, now: Uptime) {
        self.connected_at = Some(now);
    }

    /// An attempt failed or the link is gone: when and where to dial next.
    pub fn lost(&mut self, loss: Loss, now: Uptime) -> Dial {
        let held = self.connected_at.take().map(|since| now.since(since));
        if held.is_some_and(|held| held >= self.config.stable_after) {
            self.attempts = 0;
        }
        self.address = (self.address + 1) % self.addresses;
        let mut dial = self.backed_off(now);
        if held.is_some() && loss == Loss::ByBroker {
            // Not instead of the backoff: a broker that flaps meets both.
            dial.at = dial.at.max(Uptime(now.0.saturating_add(self.slot_ms())));
        }
        dial
    }

    /// The cloud sets the spread.
    pub fn set_spread(&mut self, spread: Duration) {
        self.config.spread = spread;
    }

    fn backed_off(&mut self, now: Uptime) -> Dial {
        let base_ms = ms(self.config.base).max(1);
        let bound_ms = base_ms
            .saturating_mul(1 << self.attempts.min(32))
            .min(ms(self.config.cap).max(base_ms));
        self.attempts = self.attempts.saturating_add(1);
        Dial {
            at: Uptime(now.0.saturating_add(self.jitter.below(bound_ms))),
            address: self.address,
        }
    }

    fn slot_ms(&self) -> u64 {
        self.device_hash % ms(self.config.spread).max(1)
    }
}

fn remainder(value: u64, modulus: NonZeroU32) -> u32 {
    // Less than a u32, so the conversion always succeeds.
    u32::try_from(value % u64::from(modulus.get())).unwrap_or(0)
}

/// FNV-1a, 64 bit, with a final mix: device ids differ in their last digits,
/// and slots must not.
fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    Jitter::new(hash).next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    const CONFIG: ReconnectConfig = ReconnectConfig {
        base: Duration::from_secs(5),
        cap: Duration::from_secs(300),
        spread: Duration::from_secs(300),
        stable_after: Duration::from_secs(300),
    };

    fn reconnect(device: &str, addresses: u32, seed: u64) -> Reconnect {
        let addresses = NonZeroU32::new(addresses).unwrap();
        Reconnect::new(CONFIG, &device.parse().unwrap(), addresses, seed)
    }

    #[test]
    fn the_first_attempt_is_jittered_within_the_base() {
        let delays = (0..200).map(|seed| reconnect("a", 1, seed).first(Uptime(0)).at.0);
        let (mut low, mut high) = (u64::MAX, 0);
        for delay in delays {
            low = low.min(delay);
            high = high.max(delay);
        }
        assert!(low < 500, "{low}");
        assert!((4_500..5_000).contains(&high), "{high}");
    }

    #[test]
    fn the_backoff_doubles_up_to_the_cap_and_jitters_over_all_of_it() {
        for attempt in 0..12_u32 {
            let mut highest = 0;
            for seed in 0..200 {
                let mut reconnect = reconnect("a", 1, seed);
                let mut dial = reconnect.first(Uptime(0));
                for _ in 0..attempt {
                    dial = reconnect.lost(Loss::Other, Uptime(0));
                }
                highest = highest.max(dial.at.0);
            }
            let bound = (5_000_u64 << attempt).min(300_000);
            assert!(highest < bound, "attempt {attempt}: {highest}");
            assert!(highest > bound / 10 * 9, "attempt {attempt}: {highest}");
        }
    }

    #[test]
    fn addresses_are_tried_in_turn_and_the_fleet_begins_at_all_of_them() {
        let mut one = reconnect("a", 3, 1);
        let first = one.first(Uptime(0)).address;
        let next = [(); 3].map(|()| one.lost(Loss::Other, Uptime(0)).address);
        assert_eq!(next, [(first + 1) % 3, (first + 2) % 3, first]);

        let mut firsts = [0_u32; 3];
        for device in 0..3_000 {
            let device = format!("box-{device:05}");
            firsts[reconnect(&device, 3, 1).first(Uptime(0)).address as usize] += 1;
        }
        assert!(firsts.iter().all(|count| (900..1_100).contains(count)));
    }

    #[test]
    fn after_the_broker_closed_a_link_boxes_come_back_in_slots_over_the_spread() {
        let mut tenths = [0_u32; 10];
        for device in 0..10_000 {
            let mut reconnect = reconnect(&format!("box-{device:05}"), 1, 7);
            reconnect.connected(Uptime(0));
            let at = reconnect.lost(Loss::ByBroker, Uptime(600_000)).at.0 - 600_000;
            tenths[usize::try_from(at / 30_000).unwrap()] += 1;
        }
        assert!(
            tenths.iter().all(|count| (900..1_100).contains(count)),
            "{tenths:?}"
        );
    }

    #[test]
    fn a_boxs_slot_is_its_own_whatever_the_seed() {
        let slot = |device: &str, seed| {
            let mut reconnect = reconnect(device, 1, seed);
            reconnect.connected(Uptime(0));
            reconnect.lost(Loss::ByBroker, Uptime(600_000)).at
        };
        assert_eq!(slot("box-7", 1), slot("box-7", 2));
        assert_ne!(slot("box-7", 1), slot("box-8", 1));
    }

    #[test]
    fn a_link_that_held_starts_the_backoff_anew_and_one_that_flaps_does_not() {
        let highest_delay = |held_ms: u64| {
            (0..200)
                .map(|seed| {
                    let mut reconnect = reconnect("a", 1, seed);
                    reconnect.first(Uptime(0));
                    for _ in 0..5 {
                        reconnect.lost(Loss::Other, Uptime(0));
                    }
                    reconnect.connected(Uptime(0));
                    reconnect.lost(Loss::Other, Uptime(held_ms)).at.0 - held_ms
                })
                .max()
                .unwrap()
        };
        assert!(highest_delay(300_000) < 5_000);
        assert!(highest_delay(1_000) > 100_000);
    }

    #[test]
    fn a_broker_that_flaps_meets_backoff_too() {
        let mut highest = 0;
        for seed in 0..200 {
            let mut reconnect = reconnect("a", 1, seed);
            reconnect.first(Uptime(0));
            for _ in 0..6 {
                reconnect.connected(Uptime(0));
                highest = highest.max(reconnect.lost(Loss::ByBroker, Uptime(10)).at.0);
            }
        }
        assert!(highest > 100_000, "{highest}");
    }
}
