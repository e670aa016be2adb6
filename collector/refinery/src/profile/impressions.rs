//! The ads last shown, kept as they are encoded: they are most of a profile,
//! change rarely, and are copied with each change of anything else.

use alloc::{sync::Arc, vec::Vec};

use super::{Channel, write::put_impression};
use crate::{fields::Fields, limit::IMPRESSIONS_MAX, order::Moment};

/// An ad that the box says it has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Impression<'a> {
    pub(crate) decision_id: &'a str,
    pub(crate) creative_id: &'a str,
    pub(crate) shown_unix_ms: i64,
    pub(crate) channel: Option<Channel>,
    pub(crate) moment: Moment,
}

/// At most [`IMPRESSIONS_MAX`], the latest shown first, no decision twice: of
/// an ad that was shown again the latest time counts. The same whatever order
/// they come in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Impressions {
    /// Fields `recent_impressions` of a `DeviceProfile`, as encoded.
    encoded: Option<Arc<[u8]>>,
}

/// About what one takes encoded.
const FIELD_BYTES: usize = 128;

/// Of two impressions the one with the higher rank was shown later. Equal ones
/// tell of a box that named two events alike; their decisions put them in order.
type Rank = (i64, u32, u64, u64);

/// What has to be known of one that is kept.
struct Kept<'a> {
    /// Its field, tag and length included.
    field: &'a [u8],
    decision_id: &'a [u8],
    rank: Rank,
}

impl Impressions {
    pub(super) const NONE: Self = Self { encoded: None };

    pub(super) fn encoded(&self) -> &[u8] {
        self.encoded.as_deref().unwrap_or_default()
    }

    /// Those that a profile was written with, in their order: taken as they
    /// stand, because a node that takes a partition over reads those of every
    /// box. In any other order they come one by one.
    pub(super) fn restored(impressions: &[Impression<'_>]) -> Self {
        if !are_in_order(impressions) {
            return impressions.iter().fold(Self::NONE, |kept, impression| {
                kept.with(impression).unwrap_or(kept)
            });
        }
        let mut encoded = Vec::with_capacity(impressions.len() * FIELD_BYTES);
        for impression in impressions {
            put_impression(&mut encoded, impression);
        }
        Self {
            encoded: (!encoded.is_empty()).then(|| encoded.into()),
        }
    }

    /// With one more; `None` when that is no news.
    pub(super) fn with(&self, impression: &Impression<'_>) -> Option<Self> {
        let rank = impression.rank();
        let decision_id = impression.decision_id.as_bytes();
        // What stands before it and behind it, as encoded; the tail is cut
        // where the room ends.
        let (mut before, mut count, mut end) = (0, 0, 0);
        let mut again = 0..0;
        for kept in self.kept() {
            let field = end..end + kept.field.len();
            end = field.end;
            if kept.decision_id == decision_id {
                if kept.rank >= rank {
                    return None;
                }
                again = field;
                continue;
            }
            count += 1;
            if (kept.rank, kept.decision_id) > (rank, decision_id) {
                if count >= IMPRESSIONS_MAX {
                    return None;
                }
                before = field.end;
            } else if count >= IMPRESSIONS_MAX {
                end = field.start;
                break;
            }
        }
        let all = self.encoded();
        let mut encoded = Vec::with_capacity(all.len() + FIELD_BYTES);
        encoded.extend_from_slice(all.get(..before)?);
        put_impression(&mut encoded, impression);
        // An earlier showing of the same decision ranks lower: it is behind.
        let again = if again.is_empty() { end..end } else { again };
        encoded.extend_from_slice(all.get(before..again.start)?);
        encoded.extend_from_slice(all.get(again.end..end)?);
        Some(Self {
            encoded: Some(encoded.into()),
        })
    }

    fn kept(&self) -> impl Iterator<Item = Kept<'_>> {
        let mut fields = Fields::of(self.encoded());
        core::iter::from_fn(move || {
            let before = fields.rest();
            let (_, value) = fields.next().ok().flatten()?;
            let field = before.get(..before.len() - fields.rest().len())?;
            Kept::read(field, value.bytes().ok()?)
        })
    }
}

/// Whether [`Impressions`] keeps them so.
fn are_in_order(impressions: &[Impression<'_>]) -> bool {
    let is_behind = |later: &Impression<'_>, earlier: &Impression<'_>| {
        (earlier.rank(), earlier.decision_id) < (later.rank(), later.decision_id)
    };
    let is_alone = |(place, one): (usize, &Impression<'_>)| {
        let mut earlier = impressions.iter().take(place);
        !earlier.any(|other| other.decision_id == one.decision_id)
    };
    impressions.len() <= IMPRESSIONS_MAX
        && impressions.is_sorted_by(is_behind)
        && impressions.iter().enumerate().all(is_alone)
}

impl<'a> Kept<'a> {
    /// Reads what [`put_impression`] wrote.
    fn read(field: &'a [u8], impression: &'a [u8]) -> Option<Self> {
        let mut decision_id = &b""[..];
        let (mut shown_unix_ms, mut start, mut ordinal, mut incarnation) = (0, 0, 0, 0);
        let mut fields = Fields::of(impression);
        while let Some((number, value)) = fields.next().ok()? {
            match number {
                1 => decision_id = value.bytes().ok()?,
                3 => shown_unix_ms = value.varint().ok()?.cast_signed(),
                5 => {
                    let mut moment = Fields::of(value.bytes().ok()?);
                    while let Some((number, value)) = moment.next().ok()? {
                        match number {
                            1 => {
                                let mut epoch = Fields::of(value.bytes().ok()?);
                                while let Some((number, value)) = epoch.next().ok()? {
                                    match number {
                                        1 => incarnation = value.fixed64().ok()?,
                                        2 => start = u32::try_from(value.varint().ok()?).ok()?,
                                        _ => {}
                                    }
                                }
                            }
                            2 => ordinal = value.varint().ok()?,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Some(Self {
            field,
            decision_id,
            rank: (shown_unix_ms, start, ordinal, incarnation),
        })
    }
}

impl Impression<'_> {
    fn rank(&self) -> Rank {
        let Moment { epoch, ordinal } = self.moment;
        let Self { shown_unix_ms, .. } = *self;
        (
            shown_unix_ms,
            epoch.start,
            ordinal.0,
            epoch.incarnation.get(),
        )
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::String, vec::Vec};

    use proptest::prelude::*;
    use prost::Message;
    use returnpath_shared::{Epoch, Incarnation, Ordinal, wire::DeviceProfile};

    use super::*;

    /// A decision, when it was shown, and the event that told it.
    type Told = (u8, i64, u64);

    fn impression((_, shown_unix_ms, ordinal): Told, decision_id: &str) -> Impression<'_> {
        Impression {
            decision_id,
            creative_id: decision_id,
            shown_unix_ms,
            channel: None,
            moment: Moment {
                epoch: Epoch {
                    incarnation: Incarnation::new(9).unwrap(),
                    start: 1,
                },
                ordinal: Ordinal(ordinal),
            },
        }
    }

    /// Of different lengths.
    fn decision_id(decision: u8) -> String {
        format!("decision-{decision}").repeat(usize::from(decision % 3) + 1)
    }

    fn kept(told: &[Told]) -> Impressions {
        let mut impressions = Impressions::NONE;
        for told in told {
            let next = impressions.with(&impression(*told, &decision_id(told.0)));
            impressions = next.unwrap_or(impressions);
        }
        impressions
    }

    fn after(told: &[Told]) -> Vec<(String, i64)> {
        let profile = DeviceProfile::decode(kept(told).encoded()).unwrap();
        let recent = profile.recent_impressions.into_iter();
        recent
            .map(|kept| (kept.decision_id, kept.shown_unix_ms))
            .collect()
    }

    /// The latest showing of each decision, the latest of these first.
    fn expected(told: &[Told]) -> Vec<(String, i64)> {
        let mut latest: Vec<Told> = Vec::new();
        for (decision, shown_unix_ms, ordinal) in told {
            let rank = (*shown_unix_ms, *ordinal);
            latest.retain(|kept| kept.0 != *decision || (kept.1, kept.2) > rank);
            if !latest.iter().any(|kept| kept.0 == *decision) {
                latest.push((*decision, *shown_unix_ms, *ordinal));
            }
        }
        latest.sort_by_key(|(_, shown_unix_ms, ordinal)| (-shown_unix_ms, u64::MAX - ordinal));
        latest.truncate(IMPRESSIONS_MAX);
        let named = latest.into_iter();
        named
            .map(|(decision, shown_unix_ms, _)| (decision_id(decision), shown_unix_ms))
            .collect()
    }

    proptest! {
        #[test]
        fn the_last_ads_shown_are_kept_whatever_order_they_come_in(
            (told, shuffled) in prop::collection::vec((0_u8..40, -3_i64..60), 0..80)
                .prop_map(|told| {
                    let numbered = (1..).zip(told);
                    numbered
                        .map(|(ordinal, (decision, shown))| (decision, shown, ordinal))
                        .collect::<Vec<Told>>()
                })
                .prop_flat_map(|told| (Just(told.clone()), Just(told).prop_shuffle())),
        ) {
            prop_assert_eq!(after(&told), expected(&told));
            prop_assert_eq!(after(&shuffled), expected(&told));
        }

        #[test]
        fn what_is_restored_is_what_comes_of_one_after_the_other(
            told in prop::collection::vec((0_u8..12, 0_i64..4, 1_u64..4), 0..20),
            in_order in any::<bool>(),
        ) {
            let mut told: Vec<Told> = told;
            if in_order {
                told.sort_by_key(|told| {
                    let rank = (told.1, told.2, decision_id(told.0).into_bytes());
                    core::cmp::Reverse(rank)
                });
                told.dedup();
            }
            let ids: Vec<String> = told.iter().map(|told| decision_id(told.0)).collect();
            let pairs = told.iter().zip(&ids);
            let impressions: Vec<_> = pairs.map(|(told, id)| impression(*told, id)).collect();
            prop_assert_eq!(Impressions::restored(&impressions), kept(&told));
        }
    }

    #[test]
    fn impressions_named_alike_stand_in_the_same_order_whichever_comes_first() {
        let told = [(1, 50, 7), (2, 50, 7), (3, 50, 7)];
        let mut reversed = told;
        reversed.reverse();
        assert_eq!(after(&told).len(), 3);
        assert_eq!(after(&told), after(&reversed));
    }
}
