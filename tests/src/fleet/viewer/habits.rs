//! What people do in front of a box, as numbers: when they are there, how long
//! they stay, how often they surf, pause and leave. The figures give viewing its
//! shape (evening peak, long-tailed dwell, surfing, breaks that people zap away
//! from); they are not fitted to a measurement.

use std::time::Duration;

use crate::fleet::{
    chance::Chance,
    moment::{HOUR_MS, MINUTE_MS, Moment, SECOND_MS},
};

/// Share of boxes that are on, by hour of the day.
const ON_SHARE: [f64; 24] = [
    0.14, 0.08, 0.05, 0.04, 0.04, 0.05, 0.10, 0.17, 0.21, 0.21, 0.21, 0.22, 0.25, 0.26, 0.25, 0.27,
    0.32, 0.40, 0.48, 0.55, 0.58, 0.55, 0.42, 0.26,
];

/// A sitting: median, and spread of its logarithm.
const SITTING_MEDIAN_MS: f64 = 70.0 * 60_000.0;
const SITTING_SIGMA: f64 = 0.8;

/// Staying on a channel that was chosen.
const DWELL_MEDIAN_MS: f64 = 12.0 * 60_000.0;
const DWELL_SIGMA: f64 = 1.1;

/// Looking at a channel while surfing.
const SURF_MEDIAN_MS: f64 = 4_000.0;
const SURF_SIGMA: f64 = 0.5;

/// Leaving a channel: how often by surfing, and over how many channels.
pub(super) const SURFS: f64 = 0.4;
const SURF_ZAPS_MAX: u64 = 12;

/// How often a viewer leaves because a break begins, and how far into it.
pub(super) const LEAVES_AT_BREAK: f64 = 0.2;
const LEAVES_WITHIN_MS: u64 = 90 * SECOND_MS;

/// How often a viewer pauses while on a channel, and for how long at most.
pub(super) const PAUSES: f64 = 0.08;
const PAUSE_MS_MAX: u64 = 4 * MINUTE_MS;

/// How often a sitting begins in the programme guide.
pub(super) const OPENS_GUIDE: f64 = 0.3;

/// How many allow measurement, and of those, personalised ads.
pub(super) const ALLOWS_MEASUREMENT: f64 = 0.85;
pub(super) const ALLOWS_PERSONALISED: f64 = 0.6;

/// Whether a box is on just then.
pub(super) fn is_on(chance: &mut Chance, at: Moment) -> bool {
    chance.happens(on_share(at))
}

/// How long a sitting lasts.
pub(super) fn sitting_ms(chance: &mut Chance) -> u64 {
    long_tailed_ms(chance, SITTING_MEDIAN_MS, SITTING_SIGMA)
}

/// How long a channel is kept that was chosen.
pub(super) fn dwell_ms(chance: &mut Chance) -> u64 {
    long_tailed_ms(chance, DWELL_MEDIAN_MS, DWELL_SIGMA)
}

/// How long a channel is looked at while surfing.
pub(super) fn surf_ms(chance: &mut Chance) -> u64 {
    long_tailed_ms(chance, SURF_MEDIAN_MS, SURF_SIGMA)
}

/// Over how many further channels somebody surfs.
pub(super) fn surf_zaps(chance: &mut Chance) -> u64 {
    chance.below(SURF_ZAPS_MAX)
}

/// How far into a break somebody leaves who leaves because of it.
pub(super) fn leaves_after_ms(chance: &mut Chance) -> u64 {
    chance.below(LEAVES_WITHIN_MS)
}

/// How long the picture stands.
pub(super) fn pause_ms(chance: &mut Chance) -> u64 {
    chance.below(PAUSE_MS_MAX)
}

/// Draws when a box in standby is switched on: the rate that keeps the share
/// of boxes that are on at what the hour says.
pub(super) fn next_switch_on(chance: &mut Chance, from: Moment) -> Moment {
    let sitting_h = SITTING_MEDIAN_MS * (SITTING_SIGMA * SITTING_SIGMA / 2.0).exp() / 3_600_000.0;
    let mut at = from;
    loop {
        let hour_ends = Moment((at.0 / HOUR_MS + 1) * HOUR_MS);
        let share = on_share(at);
        let rate_per_ms = share / (1.0 - share) / sitting_h / 3_600_000.0;
        let wait_ms = -(1.0 - chance.unit()).ln() / rate_per_ms;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of an hour")]
        let left_ms = (hour_ends.0 - at.0) as f64;
        if wait_ms < left_ms {
            let wait = Duration::from_secs_f64(wait_ms / 1_000.0);
            return at.plus_ms(u64::try_from(wait.as_millis()).unwrap_or(HOUR_MS));
        }
        // Without memory: the next hour is drawn anew.
        at = hour_ends;
    }
}

fn long_tailed_ms(chance: &mut Chance, median_ms: f64, sigma: f64) -> u64 {
    // At least a moment, at most a day: the tail has no end.
    let ms = chance.log_normal(median_ms, sigma);
    Duration::try_from_secs_f64(ms / 1_000.0)
        .map_or(24 * HOUR_MS, |long| long.as_secs() * 1_000)
        .clamp(SECOND_MS, 24 * HOUR_MS)
}

fn on_share(at: Moment) -> f64 {
    usize::try_from(at.hour_of_day())
        .ok()
        .and_then(|hour| ON_SHARE.get(hour).copied())
        .unwrap_or_default()
}
