//! How long to wait before the next attempt.

use std::time::Duration;

/// Pause after the first failure; doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// Longest pause: boxes wait meanwhile.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Full jitter: anything up to a ceiling that doubles with each failure.
pub(crate) fn pause(failures: u32) -> Duration {
    let ceiling = PAUSE_MIN
        .saturating_mul(1 << failures.min(16))
        .min(PAUSE_MAX);
    let ceiling_ms = usize::try_from(ceiling.as_millis()).unwrap_or(usize::MAX);
    Duration::from_millis(random(ceiling_ms) as u64)
}

/// Below `bound`, and not worth an error: without randomness it is 0.
pub(crate) fn random(bound: usize) -> usize {
    let random = getrandom::u64().unwrap_or_default();
    usize::try_from(random).unwrap_or_default() % bound.max(1)
}
