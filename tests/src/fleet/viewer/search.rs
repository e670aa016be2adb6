//! Finding a household that shows what somebody wants to see.

use std::sync::Arc;

use returnpath_shared::wire::{Creative, Decision, ad_event, event};

use super::Viewer;
use crate::fleet::{lineup::Lineup, moment::Moment};

/// Households looked at. Of those that watch in the evening, one in a few sees
/// a break through within ten minutes, and one in some dozens several in hours.
const TRIES: u64 = 1_000;

/// What a household is to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sight {
    /// At least so many ads shown to their end,
    pub ads: usize,
    /// before then.
    pub by: Moment,
}

impl Viewer {
    /// The first seed from `seed` on whose household, living at this speed and
    /// given an ad for every slot, has these sights, the earliest first. Where
    /// nobody does, `seed`.
    #[must_use]
    pub fn seed_that_sees(
        sights: &[Sight],
        lineup: &Arc<Lineup>,
        seed: u64,
        from: Moment,
        speed: u32,
    ) -> u64 {
        let sees = |seed: &u64| {
            let viewer = Self::new(Arc::clone(lineup), *seed, from);
            let mut viewer = viewer.following_decisions(speed);
            let mut seen = 0;
            sights.iter().all(|sight| {
                seen += ads_seen(&mut viewer, sight.by);
                seen >= sight.ads
            })
        };
        let mut seeds = (0..TRIES).map(|more| seed.wrapping_add(more));
        seeds.find(sees).unwrap_or(seed)
    }
}

/// Ads shown to their end from where the viewer stands to `by`, if every slot
/// is given one at once.
fn ads_seen(viewer: &mut Viewer, by: Moment) -> usize {
    let mut seen = 0;
    while viewer.next_at() <= by {
        for happening in viewer.advance(viewer.next_at()) {
            match happening.event.kind {
                Some(event::Kind::AdOpportunity(ad)) => {
                    for slot in (0..).take(ad.slot_durations_ms.len()) {
                        viewer.decided(Decision {
                            break_id: ad.break_id.clone(),
                            slot,
                            creative: Some(Creative::default()),
                            ..Decision::default()
                        });
                    }
                }
                Some(event::Kind::AdEvent(ad)) if ad.kind() == ad_event::Kind::Complete => {
                    seen += 1;
                }
                _ => {}
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::moment::{HOUR_MS, MINUTE_MS};

    #[test]
    fn a_household_that_sees_a_break_through_is_found_from_any_seed() {
        let lineup = Arc::new(Lineup::london().unwrap());
        let from = Moment(20 * HOUR_MS + 5 * MINUTE_MS);
        let sights = [(4, 10), (12, 60), (24, 150)].map(|(ads, minutes)| Sight {
            ads,
            by: from.plus_ms(minutes * MINUTE_MS),
        });
        for seed in 0..20 {
            let found = Viewer::seed_that_sees(&sights, &lineup, seed, from, 30);
            for Sight { ads, by } in sights {
                let viewer = Viewer::new(Arc::clone(&lineup), found, from);
                let seen = ads_seen(&mut viewer.following_decisions(30), by);
                assert!(seen >= ads, "seed {seed} led to {found}: {seen} by {by:?}");
            }
        }
    }

    #[test]
    fn where_nobody_sees_an_ad_the_seed_is_kept() {
        let lineup = Arc::new(Lineup::london().unwrap());
        let from = Moment(20 * HOUR_MS);
        let at_once = Sight {
            ads: 1,
            by: from.plus_ms(1),
        };
        let found = Viewer::seed_that_sees(&[at_once], &lineup, 7, from, 30);
        assert_eq!(found, 7);
    }
}
