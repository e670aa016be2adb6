//! The stretch of time that is judged, and which ordinals of an epoch belong to
//! it. Owns the rule for the seams: stretches that follow each other judge each
//! ordinal once.

/// Which events are judged: those that the bridge took in it, and those that
/// are missing between them. Open at an end that is `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stretch {
    /// The first moment that belongs to it, in ms since 1970.
    pub from_unix_ms: Option<i64>,
    /// The first moment that does not belong to it any more.
    pub to_unix_ms: Option<i64>,
}

/// Where a moment lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Before,
    Inside,
    After,
}

impl Stretch {
    pub(super) fn place(self, unix_ms: i64) -> Place {
        if self.from_unix_ms.is_some_and(|from| unix_ms < from) {
            Place::Before
        } else if self.to_unix_ms.is_some_and(|to| unix_ms >= to) {
            Place::After
        } else {
            Place::Inside
        }
    }
}

/// What of one epoch stands in the topics before the stretch and inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Seen {
    /// Highest ordinal that came before; 0 when none.
    before_last: u64,
    /// Lowest and highest ordinal that came inside.
    inside: Option<(u64, u64)>,
}

impl Seen {
    pub(super) fn see(&mut self, place: Place, first: u64, last: u64) {
        match place {
            Place::Before => self.before_last = self.before_last.max(last),
            Place::Inside => {
                let (low, high) = self.inside.unwrap_or((first, last));
                self.inside = Some((low.min(first), high.max(last)));
            }
            Place::After => {}
        }
    }

    /// The ordinals that are judged, both ends included; `None` when none.
    ///
    /// What is missing belongs to the stretch in which the next event behind it
    /// came: so each stretch begins where the one before it ended.
    pub(super) fn judged(&self, stretch: Stretch) -> Option<(u64, u64)> {
        let first = match (stretch.from_unix_ms, self.before_last, self.inside) {
            (None, ..) | (_, 0, None) => 1,
            (Some(_), 0, Some((low, _))) => low,
            (Some(_), last, inside) => {
                let next = last.saturating_add(1);
                inside.map_or(next, |(low, _)| low.min(next))
            }
        };
        let last = match stretch.to_unix_ms {
            None => u64::MAX,
            Some(_) => self.inside?.1,
        };
        (first <= last).then_some((first, last))
    }

    /// Whether the epoch began before anything that was read of it: what is
    /// missing at its beginning cannot be told.
    pub(super) fn begins_unseen(&self, stretch: Stretch) -> bool {
        stretch.from_unix_ms.is_some()
            && self.before_last == 0
            && self.inside.is_some_and(|(low, _)| low > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: Stretch = Stretch {
        from_unix_ms: None,
        to_unix_ms: None,
    };
    const HOUR: Stretch = Stretch {
        from_unix_ms: Some(1_000),
        to_unix_ms: Some(2_000),
    };

    fn seen(places: &[(i64, u64)], stretch: Stretch) -> Seen {
        let mut seen = Seen::default();
        for (unix_ms, ordinal) in places {
            seen.see(stretch.place(*unix_ms), *ordinal, *ordinal);
        }
        seen
    }

    #[test]
    fn what_is_judged_begins_behind_what_came_before() {
        let since = Stretch {
            to_unix_ms: None,
            ..HOUR
        };
        // (stretch, when each ordinal came, judged, begins unseen)
        for (stretch, places, judged, unseen) in [
            (ALWAYS, &[(5, 7)][..], Some((1, u64::MAX)), false),
            (HOUR, &[], None, false),
            (HOUR, &[(999, 4), (2_000, 9)], None, false),
            (HOUR, &[(1_000, 4), (1_999, 9)], Some((4, 9)), true),
            (HOUR, &[(1_000, 1), (1_999, 9)], Some((1, 9)), false),
            (HOUR, &[(999, 3), (1_500, 9)], Some((4, 9)), false),
            // The backlog of what had come live.
            (
                HOUR,
                &[(999, 30), (1_500, 9), (1_600, 40)],
                Some((9, 40)),
                false,
            ),
            (since, &[(999, 3)], Some((4, u64::MAX)), false),
            (since, &[], Some((1, u64::MAX)), false),
            (since, &[(1_500, 9)], Some((9, u64::MAX)), true),
        ] {
            let seen = seen(places, stretch);
            assert_eq!(seen.judged(stretch), judged, "{stretch:?} {places:?}");
            assert_eq!(seen.begins_unseen(stretch), unseen, "{places:?}");
        }
    }

    #[test]
    fn stretches_that_follow_each_other_leave_no_seam() {
        let came = [(500, 1), (900, 3), (1_100, 6), (1_900, 9), (2_100, 14)];
        let mut judged = Vec::new();
        for (from, to) in [(0, 1_000), (1_000, 2_000), (2_000, 3_000)] {
            let stretch = Stretch {
                from_unix_ms: Some(from),
                to_unix_ms: Some(to),
            };
            judged.extend(seen(&came, stretch).judged(stretch));
        }
        assert_eq!(judged, [(1, 3), (4, 9), (10, 14)]);
    }
}
