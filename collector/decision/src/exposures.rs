//! How often a box has seen each advertiser, or will have: what caps count.
//! An ad counts from when it is decided, and no longer once its box will not
//! show it.
//!
//! Room is bounded. What was shown of one advertiser is counted together where
//! room is short, all as of the latest of them: an advertiser may then stay
//! capped for longer than it must, and never for less.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use prost::encoding::{WireType, encode_key, encode_varint};
use returnpath_shared::wire;

use crate::settings::Cap;

/// All of one box.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct Exposures(Vec<Exposure>);

/// Ads of one advertiser.
#[derive(Clone, PartialEq, Debug)]
struct Exposure {
    advertiser: Arc<str>,
    /// When the latest of them was decided, by the collector's clock.
    decided_unix_ms: i64,
    /// How many; 1 while it is reserved.
    ads: u32,
    /// The decision that may yet be shown; `None` once it is known to be.
    reserved_by: Option<Arc<str>>,
}

impl Exposures {
    pub(crate) fn from_wire(all: &[wire::Exposure]) -> Self {
        let mut exposures = Self::default();
        for one in all {
            let advertiser = exposures.name(&one.advertiser);
            let reserved_by = &one.reserved_by_decision_id;
            exposures.0.push(Exposure {
                advertiser,
                decided_unix_ms: one.decided_unix_ms,
                ads: one.ads.max(1),
                reserved_by: (!reserved_by.is_empty()).then(|| reserved_by.as_str().into()),
            });
        }
        exposures
    }

    /// Appends them as `Exposure`s of the field `tag`.
    pub(crate) fn encode(&self, tag: u32, bytes: &mut Vec<u8>) {
        let mut one = Vec::new();
        for exposure in &self.0 {
            one.clear();
            exposure.encode(&mut one);
            encode_key(tag, WireType::LengthDelimited, bytes);
            encode_varint(one.len() as u64, bytes);
            bytes.extend_from_slice(&one);
        }
    }

    /// Forgets what no cap counts any more.
    pub(crate) fn tidy(&mut self, cap: Cap, now_unix_ms: i64) {
        self.0
            .retain(|exposure| exposure.is_counted(cap, now_unix_ms));
    }

    /// Whether the box may not be decided another ad of an advertiser. Where
    /// there is no room to count it, it may not.
    pub(crate) fn is_capped(
        &self,
        advertiser: &str,
        cap: Cap,
        exposures_max: usize,
        now_unix_ms: i64,
    ) -> bool {
        let counted = self.0.iter().filter(|exposure| {
            &*exposure.advertiser == advertiser && exposure.is_counted(cap, now_unix_ms)
        });
        self.0.len() >= exposures_max
            || counted.map(|one| one.ads).fold(0, u32::saturating_add) >= cap.impressions_max
    }

    /// Counts an ad of an advertiser as if it were shown, until it is known.
    pub(crate) fn reserve(
        &mut self,
        advertiser: &str,
        decision_id: &str,
        decided_unix_ms: i64,
        exposures_max: usize,
    ) {
        let advertiser = self.name(advertiser);
        self.0.push(Exposure {
            advertiser,
            decided_unix_ms,
            ads: 1,
            reserved_by: Some(decision_id.into()),
        });
        self.make_room(exposures_max);
    }

    /// What was reserved was shown; says whether it was reserved.
    pub(crate) fn confirm(&mut self, decision_id: &str, exposures_max: usize) -> bool {
        let mut all = self.0.iter_mut();
        let Some(exposure) = all.find(|one| one.is_reserved_by(decision_id)) else {
            return false;
        };
        exposure.reserved_by = None;
        self.make_room(exposures_max);
        true
    }

    /// An ad was shown for which nothing was reserved any more.
    pub(crate) fn add(&mut self, advertiser: &str, decided_unix_ms: i64, exposures_max: usize) {
        let advertiser = self.name(advertiser);
        self.0.push(Exposure {
            advertiser,
            decided_unix_ms,
            ads: 1,
            reserved_by: None,
        });
        self.make_room(exposures_max);
    }

    /// An ad will not be shown: it counts no longer.
    pub(crate) fn release(&mut self, decision_id: &str) {
        self.0
            .retain(|exposure| !exposure.is_reserved_by(decision_id));
    }

    /// Counts together what costs the least accuracy, until there is room for
    /// one more; or until nothing can be.
    fn make_room(&mut self, exposures_max: usize) {
        while self.0.len() >= exposures_max {
            let Some((earlier, later)) = self.closest() else {
                return;
            };
            let earlier = self.0.remove(earlier);
            // Behind the one that was removed.
            if let Some(together) = self.0.get_mut(later - 1) {
                together.ads = together.ads.saturating_add(earlier.ads);
                together.decided_unix_ms = together.decided_unix_ms.max(earlier.decided_unix_ms);
            }
        }
    }

    /// The two that were shown of one advertiser with the least time between.
    fn closest(&self) -> Option<(usize, usize)> {
        let mut latest: BTreeMap<&str, usize> = BTreeMap::new();
        let mut closest: Option<(u64, usize, usize)> = None;
        for (place, exposure) in self.0.iter().enumerate() {
            if exposure.reserved_by.is_some() {
                continue;
            }
            let Some(before) = latest.insert(&exposure.advertiser, place) else {
                continue;
            };
            let before_unix_ms = self.0[before].decided_unix_ms;
            let apart_ms = exposure.decided_unix_ms.abs_diff(before_unix_ms);
            if closest.is_none_or(|(least_ms, ..)| apart_ms < least_ms) {
                closest = Some((apart_ms, before, place));
            }
        }
        closest.map(|(_, earlier, later)| (earlier, later))
    }

    /// An advertiser's name, kept once.
    fn name(&self, advertiser: &str) -> Arc<str> {
        let mut all = self.0.iter();
        all.find(|exposure| &*exposure.advertiser == advertiser)
            .map_or_else(
                || advertiser.into(),
                |exposure| Arc::clone(&exposure.advertiser),
            )
    }
}

impl Exposure {
    fn is_counted(&self, cap: Cap, now_unix_ms: i64) -> bool {
        let window_ms = i64::try_from(cap.window_ms).unwrap_or(i64::MAX);
        now_unix_ms.saturating_sub(self.decided_unix_ms) < window_ms
    }

    fn is_reserved_by(&self, decision_id: &str) -> bool {
        self.reserved_by.as_deref() == Some(decision_id)
    }

    /// Appends it as an `Exposure`: as prost would, without a copy of its
    /// texts.
    fn encode(&self, bytes: &mut Vec<u8>) {
        put_text(1, &self.advertiser, bytes);
        put_number(2, self.decided_unix_ms.cast_unsigned(), bytes);
        if let Some(decision_id) = &self.reserved_by {
            put_text(3, decision_id, bytes);
        }
        if self.ads > 1 {
            put_number(4, self.ads.into(), bytes);
        }
    }
}

fn put_text(tag: u32, text: &str, bytes: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, bytes);
    encode_varint(text.len() as u64, bytes);
    bytes.extend_from_slice(text.as_bytes());
}

fn put_number(tag: u32, number: u64, bytes: &mut Vec<u8>) {
    encode_key(tag, WireType::Varint, bytes);
    encode_varint(number, bytes);
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec, vec::Vec};

    use prost::Message as _;

    use super::*;

    const CAP: Cap = Cap {
        impressions_max: 3,
        window_ms: 1_000,
    };

    fn wire_of(exposures: &Exposures) -> Vec<wire::Exposure> {
        let mut bytes = Vec::new();
        exposures.encode(2, &mut bytes);
        wire::DecideState::decode(&bytes[..]).unwrap().exposures
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let mut exposures = Exposures::default();
        exposures.reserve("x.example", "d-1", 5, 9);
        exposures.reserve("y.example", "d-2", 6, 9);
        exposures.confirm("d-2", 9);
        exposures.add("y.example", -7, 3);
        let all = wire_of(&exposures);
        assert_eq!(Exposures::from_wire(&all), exposures);
        let expected = [("x.example", 5, "d-1", 0), ("y.example", 6, "", 2)].map(
            |(advertiser, decided_unix_ms, id, ads)| wire::Exposure {
                advertiser: advertiser.into(),
                decided_unix_ms,
                reserved_by_decision_id: id.into(),
                ads,
            },
        );
        assert_eq!(all, expected);
    }

    #[test]
    fn the_last_that_a_cap_allows_is_counted_however_it_is_kept() {
        let mut exposures = Exposures::default();
        for (number, at) in (0..3).zip([0, 100, 900]) {
            assert!(!exposures.is_capped("x.example", CAP, 3, at), "{number}");
            let id = format!("d-{number}");
            exposures.reserve("x.example", &id, at, 3);
            exposures.confirm(&id, 3);
        }
        assert!(exposures.is_capped("x.example", CAP, 3, 950));
        assert!(!exposures.is_capped("y.example", CAP, 3, 950));
        // The first two count together, as of the second.
        assert!(exposures.is_capped("x.example", CAP, 3, 1_050));
        assert!(!exposures.is_capped("x.example", CAP, 3, 1_100));
    }

    #[test]
    fn what_lies_closest_is_counted_together_and_what_is_reserved_is_not() {
        let mut exposures = Exposures::default();
        for (advertiser, at) in [("x", 0), ("y", 10), ("x", 50), ("y", 20)] {
            exposures.add(advertiser, at, 9);
        }
        exposures.reserve("x", "d", 51, 5);
        let kept: Vec<_> = wire_of(&exposures)
            .into_iter()
            .map(|one| (one.advertiser, one.decided_unix_ms, one.ads))
            .collect();
        let expected = [("x", 0, 0), ("x", 50, 0), ("y", 20, 2), ("x", 51, 0)]
            .map(|(advertiser, at, ads)| (advertiser.into(), at, ads));
        assert_eq!(kept, expected);
    }

    #[test]
    fn where_nothing_can_be_counted_together_every_offer_is_capped() {
        let mut exposures = Exposures::default();
        for (number, advertiser) in ["x", "y"].into_iter().enumerate() {
            exposures.reserve(advertiser, &format!("d-{number}"), 0, 2);
        }
        assert!(exposures.is_capped("z", CAP, 2, 1));
        exposures.release("d-0");
        assert!(!exposures.is_capped("z", CAP, 2, 1));
        exposures.tidy(CAP, 1_000);
        assert_eq!(wire_of(&exposures), vec![]);
    }
}
