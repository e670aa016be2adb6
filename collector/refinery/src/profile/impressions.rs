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
pub(super) struct Impressions {
    /// Fields `recent_impressions` of a `DeviceProfile`, as encoded.
    encoded: Option<Arc<[u8]>>,
}

/// Of two impressions the one with the higher rank was shown later.
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

    /// Where an impression belongs, among those of other decisions; `None`
    /// when it is no news.
    pub(super) fn place_of(&self, impression: &Impression<'_>) -> Option<usize> {
        let rank = impression.rank();
        let decision_id = impression.decision_id.as_bytes();
        let mut place = 0;
        for kept in self.kept() {
            if kept.decision_id == decision_id {
                if kept.rank >= rank {
                    return None;
                }
            } else if kept.rank > rank {
                place += 1;
            }
        }
        (place < IMPRESSIONS_MAX).then_some(place)
    }

    pub(super) fn insert(&mut self, impression: &Impression<'_>) {
        let Some(place) = self.place_of(impression) else {
            return;
        };
        let decision_id = impression.decision_id.as_bytes();
        let mut encoded = Vec::with_capacity(self.encoded().len() + 128);
        let mut others = self.kept().filter(|kept| kept.decision_id != decision_id);
        for kept in others.by_ref().take(place) {
            encoded.extend_from_slice(kept.field);
        }
        put_impression(&mut encoded, impression);
        for kept in others.take(IMPRESSIONS_MAX - 1 - place) {
            encoded.extend_from_slice(kept.field);
        }
        self.encoded = Some(encoded.into());
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
