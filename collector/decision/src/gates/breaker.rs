//! Leaves an aggregator alone that fails, and finds out by single probes when
//! it works again. Times are microseconds of one monotonic clock.

use super::BreakerState;
use crate::settings::BreakerSettings;

/// Failures in a row that open the breaker whatever the share says: after a
/// good time the share falls slowly.
const STREAK_FAILURES: u32 = 10;

/// Where so few calls are made that no row comes together soon: a row of this
/// many ...
const SLOW_STREAK_FAILURES: u32 = 3;

/// ... that lasts this long opens it too.
const SLOW_STREAK_US: u64 = 1_500_000;

/// Parts of the window; the oldest leaves it as a whole.
const PARTS: usize = 10;

/// Whether a call showed that the aggregator works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Health {
    Worked,
    Failed,
}

#[derive(Clone, Debug)]
pub(super) struct Breaker {
    settings: BreakerSettings,
    window: [Part; PARTS],
    streak: Option<Streak>,
    /// `None` while it is closed.
    tripped: Option<Tripped>,
}

/// Calls that ended within one part of the window.
#[derive(Clone, Copy, Default, Debug)]
struct Part {
    /// Which part of all time: its begin in units of its length.
    number: u64,
    calls: u32,
    failures: u32,
}

/// Failures without a success between them.
#[derive(Clone, Copy, Debug)]
struct Streak {
    failures: u32,
    since_us: u64,
}

#[derive(Clone, Copy, Debug)]
struct Tripped {
    /// No probe is made before.
    next_probe_us: u64,
    /// The probe that is under way.
    probe: Option<u64>,
    /// Probes that worked, one after the other.
    worked: u32,
}

impl Breaker {
    pub(super) fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            window: [Part::default(); PARTS],
            streak: None,
            tripped: None,
        }
    }

    /// Whether a call may be made just now.
    pub(super) fn admits(&mut self, now_us: u64) -> bool {
        if self.tripped.is_none() && self.has_failed_slowly(now_us) {
            self.trip(now_us);
        }
        self.tripped
            .is_none_or(|tripped| tripped.probe.is_none() && now_us >= tripped.next_probe_us)
    }

    /// An admitted call begins.
    pub(super) fn begin(&mut self, call: u64, now_us: u64) {
        let open_us = self.open_us();
        if let Some(tripped) = &mut self.tripped {
            tripped.probe = Some(call);
            tripped.next_probe_us = now_us.saturating_add(open_us);
        }
    }

    /// A call ended; `None` when that says nothing about the aggregator.
    pub(super) fn end(&mut self, call: u64, health: Option<Health>, now_us: u64) {
        let open_us = self.open_us();
        let Some(tripped) = &mut self.tripped else {
            if let Some(health) = health {
                self.judge(health, now_us);
            }
            return;
        };
        // What was begun before it opened says nothing new.
        if tripped.probe != Some(call) {
            return;
        }
        tripped.probe = None;
        match health {
            None => {}
            Some(Health::Failed) => {
                tripped.worked = 0;
                tripped.next_probe_us = now_us.saturating_add(open_us);
            }
            Some(Health::Worked) => {
                tripped.worked += 1;
                if tripped.worked >= self.settings.probes_min {
                    *self = Self::new(self.settings);
                }
            }
        }
    }

    pub(super) fn state(&self, now_us: u64) -> BreakerState {
        match self.tripped {
            None => BreakerState::Closed,
            Some(tripped)
                if tripped.probe.is_none()
                    && tripped.worked == 0
                    && now_us < tripped.next_probe_us =>
            {
                BreakerState::Open
            }
            Some(_) => BreakerState::HalfOpen,
        }
    }

    fn judge(&mut self, health: Health, now_us: u64) {
        let part = self.part(now_us);
        part.calls += 1;
        match health {
            Health::Worked => self.streak = None,
            Health::Failed => {
                part.failures += 1;
                let streak = self.streak.get_or_insert(Streak {
                    failures: 0,
                    since_us: now_us,
                });
                streak.failures += 1;
                if streak.failures >= STREAK_FAILURES
                    || self.has_failed_slowly(now_us)
                    || self.has_failed_often(now_us)
                {
                    self.trip(now_us);
                }
            }
        }
    }

    fn trip(&mut self, now_us: u64) {
        self.tripped = Some(Tripped {
            next_probe_us: now_us.saturating_add(self.open_us()),
            probe: None,
            worked: 0,
        });
    }

    fn has_failed_slowly(&self, now_us: u64) -> bool {
        self.streak.is_some_and(|streak| {
            streak.failures >= SLOW_STREAK_FAILURES
                && now_us.saturating_sub(streak.since_us) >= SLOW_STREAK_US
        })
    }

    fn has_failed_often(&self, now_us: u64) -> bool {
        let oldest = self.number(now_us).saturating_sub(PARTS as u64 - 1);
        let (calls, failures) = self
            .window
            .iter()
            .filter(|part| part.number >= oldest)
            .fold((0_u64, 0_u64), |(calls, failures), part| {
                (
                    calls + u64::from(part.calls),
                    failures + u64::from(part.failures),
                )
            });
        calls >= u64::from(self.settings.calls_min)
            && failures * 100 >= calls * u64::from(self.settings.failures_percent)
    }

    /// The part of the window that `now_us` lies in, emptied when it held an
    /// older one.
    fn part(&mut self, now_us: u64) -> &mut Part {
        let number = self.number(now_us);
        let part = &mut self.window[(number % PARTS as u64) as usize];
        if part.number != number {
            *part = Part {
                number,
                ..Part::default()
            };
        }
        part
    }

    fn number(&self, now_us: u64) -> u64 {
        let part_us = u64::from(self.settings.window_ms) * 1_000 / PARTS as u64;
        now_us / part_us.max(1)
    }

    fn open_us(&self) -> u64 {
        u64::from(self.settings.open_ms) * 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const SETTINGS: BreakerSettings = BreakerSettings {
        window_ms: 10_000,
        calls_min: 20,
        failures_percent: 50,
        open_ms: 1_000,
        probes_min: 3,
    };

    /// Calls at an even pace from `from_us`; says how many were let through.
    fn run(
        breaker: &mut Breaker,
        from_us: u64,
        pace_us: u64,
        calls: u64,
        health: impl Fn(u64) -> Health,
    ) -> u64 {
        let mut admitted = 0;
        for call in 0..calls {
            let now_us = from_us + call * pace_us;
            if breaker.admits(now_us) {
                admitted += 1;
                breaker.begin(from_us + call, now_us);
                breaker.end(from_us + call, Some(health(call)), now_us);
            }
        }
        admitted
    }

    #[test]
    fn calls_to_what_only_fails_stop_within_20_failures_or_2_seconds() {
        for pace_us in [1_000, 50_000, 200_000, 400_000, 700_000] {
            for good_before in [0, 5_000] {
                let mut breaker = Breaker::new(SETTINGS);
                let begin = 100 * SECOND;
                run(&mut breaker, begin, 2_000, good_before, |_| Health::Worked);
                let begin = begin + good_before * 2_000;
                let in_2_s = 2 * SECOND / pace_us + 1;
                let admitted = run(&mut breaker, begin, pace_us, in_2_s, |_| Health::Failed);
                let state = breaker.state(begin + 2 * SECOND);
                assert!(admitted <= 20, "{pace_us}: {admitted}");
                let is_closed = state == BreakerState::Closed;
                assert!(
                    !is_closed || !breaker.admits(begin + 2 * SECOND),
                    "{pace_us}"
                );
            }
        }
    }

    #[test]
    fn calls_that_fail_late_and_overlap_stop_as_soon() {
        for pace_us in [2_000, 20_000, 100_000, 300_000, 600_000, 900_000] {
            for latency_us in [1_000, 50_000, 300_000, 1_000_000, 3_000_000] {
                for good_before in [0, 500] {
                    let mut breaker = Breaker::new(SETTINGS);
                    run(&mut breaker, SECOND, 10_000, good_before, |_| {
                        Health::Worked
                    });
                    let begin = 100 * SECOND;
                    let (mut failures, mut first_us, mut stopped_us) = (0, None, None);
                    // Calls under way, by when they end: the first to begin is
                    // the first to end.
                    let mut under_way = alloc::collections::VecDeque::new();
                    for call in 0..30 * SECOND / pace_us {
                        let now_us = begin + call * pace_us;
                        while under_way
                            .front()
                            .is_some_and(|(end_us, _)| *end_us <= now_us)
                        {
                            let (end_us, ended) = under_way.pop_front().unwrap();
                            breaker.end(ended, Some(Health::Failed), end_us);
                            first_us.get_or_insert(end_us);
                            failures += 1;
                        }
                        if !breaker.admits(now_us) {
                            stopped_us = Some(now_us);
                            break;
                        }
                        breaker.begin(call, now_us);
                        under_way.push_back((now_us + latency_us, call));
                    }
                    let case = (pace_us, latency_us, good_before);
                    let took_us = stopped_us.unwrap() - first_us.unwrap();
                    assert!(
                        failures <= 20 || took_us <= 2 * SECOND,
                        "{case:?}: {failures} in {took_us} µs"
                    );
                }
            }
        }
    }

    #[test]
    fn half_failing_opens_and_a_tenth_failing_does_not() {
        for (every, opens) in [(2, true), (10, false)] {
            let mut breaker = Breaker::new(SETTINGS);
            run(&mut breaker, SECOND, 10_000, 100, |call| {
                if call % every == 0 {
                    Health::Failed
                } else {
                    Health::Worked
                }
            });
            let is_open = breaker.state(2 * SECOND) != BreakerState::Closed;
            assert_eq!(is_open, opens, "every {every}th fails");
        }
    }

    #[test]
    fn failures_that_left_the_window_say_nothing() {
        let mut breaker = Breaker::new(SETTINGS);
        let fails_9_of_19 = |call: u64| {
            if call % 2 == 1 {
                Health::Failed
            } else {
                Health::Worked
            }
        };
        run(&mut breaker, SECOND, 10_000, 19, fails_9_of_19);
        run(&mut breaker, 20 * SECOND, 10_000, 19, fails_9_of_19);
        assert_eq!(breaker.state(21 * SECOND), BreakerState::Closed);
    }

    #[test]
    fn an_open_breaker_lets_one_probe_a_second_through_and_closes_by_itself() {
        let mut breaker = Breaker::new(SETTINGS);
        run(&mut breaker, 0, 1_000, 10, |_| Health::Failed);
        assert_eq!(breaker.state(10_000), BreakerState::Open);
        let probes = run(&mut breaker, 10_000, 10_000, 1_000, |_| Health::Failed);
        assert!((8..=10).contains(&probes), "{probes} in 10 s");
        let begin = 20 * SECOND;
        let probes = run(&mut breaker, begin, 10_000, 400, |_| Health::Worked);
        assert_eq!(breaker.state(begin + 4 * SECOND), BreakerState::Closed);
        assert!(probes > 3, "{probes}: it closed and let calls through");
    }

    #[test]
    fn one_probe_is_under_way_at_a_time_and_an_abandoned_one_makes_room() {
        let mut breaker = Breaker::new(SETTINGS);
        run(&mut breaker, 0, 1_000, 10, |_| Health::Failed);
        assert!(breaker.admits(2 * SECOND));
        breaker.begin(77, 2 * SECOND);
        assert_eq!(breaker.state(2 * SECOND), BreakerState::HalfOpen);
        assert!(!breaker.admits(9 * SECOND));
        breaker.end(76, Some(Health::Worked), 9 * SECOND);
        assert!(!breaker.admits(9 * SECOND), "a call of before it opened");
        breaker.end(77, None, 9 * SECOND);
        assert!(breaker.admits(9 * SECOND));
    }
}
