//! What a simulated box is fed with: a household, or batches at a fixed rate.
//! Pure; translates the household's time into the uptime of the box.

use std::time::Duration;

use returnpath_delivery::Uptime;
use returnpath_shared::wire::{Decision, Event, Source, ViewingHeartbeat, event};

use super::{moment::Moment, viewer::Viewer};

/// Events handed in together at a fixed rate; they make one batch.
pub const EVENTS_PER_BATCH: usize = 3;

/// Where a box's events come from.
#[derive(Debug)]
pub(super) enum Feed {
    Household {
        viewer: Box<Viewer>,
        pace: ViewerPace,
    },
    /// [`EVENTS_PER_BATCH`] heartbeats at a time.
    Batches { next: Uptime, interval: Duration },
}

/// How a household's time runs against the uptime of its box.
#[derive(Clone, Copy, Debug)]
pub(super) struct ViewerPace {
    /// A moment of the household, and the uptime at which it was.
    pub(super) begun: Moment,
    pub(super) begun_at: Uptime,
    /// Times faster than real; at least 1.
    pub(super) speed: u32,
}

impl ViewerPace {
    fn moment(self, at: Uptime) -> Moment {
        let elapsed_ms = at.0.saturating_sub(self.begun_at.0);
        self.begun.plus_ms(elapsed_ms * u64::from(self.speed))
    }

    /// The first uptime at which `moment` has come.
    fn uptime(self, moment: Moment) -> Uptime {
        let ahead_ms = moment.0.saturating_sub(self.begun.0);
        let ahead_ms = ahead_ms.div_ceil(u64::from(self.speed));
        Uptime(self.begun_at.0.saturating_add(ahead_ms))
    }
}

impl Feed {
    /// When there is something to take.
    pub(super) fn next_at(&self) -> Uptime {
        match self {
            Self::Household { viewer, pace } => pace.uptime(viewer.next_at()),
            Self::Batches { next, .. } => *next,
        }
    }

    /// The box was given a decision.
    pub(super) fn decided(&mut self, decision: Decision) {
        match self {
            Self::Household { viewer, .. } => viewer.decided(decision),
            Self::Batches { .. } => {}
        }
    }

    /// What has happened up to `now`, as the middleware would hand it in.
    pub(super) fn take(&mut self, now: Uptime) -> Vec<Event> {
        match self {
            Self::Household { viewer, pace } => {
                let happened = viewer.advance(pace.moment(now));
                let mut events: Vec<_> = happened.into_iter().map(|it| it.event).collect();
                for event in &mut events {
                    event.uptime_ms = now.0;
                    if let Some(event::Kind::AdOpportunity(ad)) = &mut event.kind {
                        ad.start_uptime_ms = pace.uptime(Moment(ad.start_uptime_ms)).0;
                    }
                }
                events
            }
            Self::Batches { next, interval } => {
                if *next > now {
                    return Vec::new();
                }
                // A box that was held up does not catch up: it would send its
                // batches as one.
                *next = next.plus(*interval).max(now);
                vec![heartbeat(now); EVENTS_PER_BATCH]
            }
        }
    }
}

fn heartbeat(now: Uptime) -> Event {
    Event {
        uptime_ms: now.0,
        kind: Some(event::Kind::ViewingHeartbeat(ViewingHeartbeat {
            channel: Some(returnpath_shared::wire::Channel {
                network_id: 64_257,
                service_id: 4_164,
                ..Default::default()
            }),
            source: Source::Live as i32,
            position_ms: 0,
        })),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fleet::{lineup::Lineup, moment::HOUR_MS};

    #[test]
    fn a_fast_household_hands_in_events_stamped_with_the_uptime_of_its_box() {
        let begun = Moment(20 * HOUR_MS);
        let lineup = Arc::new(Lineup::london().unwrap());
        let mut feed = Feed::Household {
            viewer: Box::new(Viewer::new(lineup, 3, begun)),
            pace: ViewerPace {
                begun,
                begun_at: Uptime(5_000),
                speed: 60,
            },
        };
        let mut opportunities = 0;
        // Two hours of viewing in two minutes of uptime.
        while feed.next_at() < Uptime(125_000) {
            let now = feed.next_at();
            let events = feed.take(now);
            assert!(feed.next_at() > now);
            for event in events {
                assert_eq!(event.uptime_ms, now.0);
                if let Some(event::Kind::AdOpportunity(ad)) = event.kind {
                    opportunities += 1;
                    // Four seconds ahead, sixty times as fast.
                    assert!((66..=68).contains(&(ad.start_uptime_ms - now.0)));
                }
            }
        }
        assert!(opportunities > 0);
    }

    #[test]
    fn batches_come_at_their_rate_and_are_not_made_up_for() {
        let mut feed = Feed::Batches {
            next: Uptime(100),
            interval: Duration::from_millis(50),
        };
        assert!(feed.take(Uptime(99)).is_empty());
        assert_eq!(feed.take(Uptime(100)).len(), EVENTS_PER_BATCH);
        assert_eq!(feed.next_at(), Uptime(150));
        assert_eq!(feed.take(Uptime(900)).len(), EVENTS_PER_BATCH);
        assert_eq!(feed.next_at(), Uptime(900));
    }
}
