//! What is missing of one epoch, in ranges that have one cause each.

use returnpath_shared::wire;

use super::{
    Account, Outlook,
    declared::Declared,
    total::{Missing, Totals},
};
use crate::arrivals::{Hole, Told};

/// Consecutive batches that have not arrived, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Range {
    first: u64,
    last: u64,
    /// Ordinals at both ends; 0 where it is not known.
    first_ordinal: u64,
    last_ordinal: u64,
    missing: Missing,
    since_unix_ms: i64,
}

impl Account {
    /// Hands over what is missing, ascending.
    pub(super) fn each_missing(&self, told: &Told<'_>, put: &mut dyn FnMut(Range)) {
        let declared = self.declared.as_deref();
        for hole in told.holes() {
            split(&hole, told, declared, put);
        }
        if let Some(declared) = declared
            && declared.known_through() > told.highest_sequence()
        {
            let hole = Hole {
                first: told.highest_sequence() + 1,
                last: declared.known_through(),
                first_ordinal: told.next_ordinal(),
                last_ordinal: declared.known_through_ordinal(),
                since_unix_ms: declared.since_unix_ms,
            };
            split(&hole, told, Some(declared), put);
        }
    }

    /// Where the epoch stands.
    pub(super) fn outlook_by(&self, told: &Told<'_>) -> Outlook {
        let mut outlook = Outlook {
            has_held: false,
            has_unexplained: false,
            has_forgotten: false,
            is_ended: told.is_ended,
            is_released: told.is_released(),
        };
        self.each_missing(told, &mut |range| match range.missing {
            Missing::Held => outlook.has_held = true,
            Missing::Unexplained => outlook.has_unexplained = true,
            Missing::Forgotten => outlook.has_forgotten = true,
            Missing::Declared(_) | Missing::UncleanStop | Missing::Rejected => {}
        });
        outlook
    }

    /// Sums over what is missing.
    pub(crate) fn totals(&self, told: &Told<'_>) -> Totals {
        let mut totals = Totals::default();
        self.each_missing(told, &mut |range| {
            totals.add(range.missing, range.batches(), range.event_count());
        });
        totals
    }
}

/// Splits a hole by what was declared of it.
fn split(hole: &Hole, told: &Told<'_>, declared: Option<&Declared>, put: &mut dyn FnMut(Range)) {
    let mut rest = Range {
        first: hole.first,
        last: hole.last,
        first_ordinal: hole.first_ordinal,
        last_ordinal: hole.last_ordinal,
        missing: Missing::Unexplained,
        since_unix_ms: hole.since_unix_ms,
    };
    let ranges = declared.map_or(&[][..], Declared::ranges);
    let from = ranges.partition_point(|range| range.last < rest.first);
    for range in &ranges[from..] {
        if range.first > rest.last {
            break;
        }
        if range.first > rest.first {
            let below = Range {
                last: range.first - 1,
                last_ordinal: range.first_ordinal - 1,
                ..rest
            };
            split_undeclared(below, told, declared, put);
            rest.first = range.first;
            rest.first_ordinal = range.first_ordinal;
        }
        let (last, last_ordinal) = if range.last <= rest.last {
            (range.last, range.last_ordinal)
        } else {
            (rest.last, rest.last_ordinal)
        };
        put(Range {
            last,
            last_ordinal,
            missing: if range.rejection == 0 {
                Missing::Declared(range.reason)
            } else {
                Missing::Rejected
            },
            ..rest
        });
        if last == rest.last {
            return;
        }
        rest.first = last + 1;
        rest.first_ordinal = last_ordinal.saturating_add(1);
    }
    split_undeclared(rest, told, declared, put);
}

/// Splits what no range declares by what else is known of it.
fn split_undeclared(
    range: Range,
    told: &Told<'_>,
    declared: Option<&Declared>,
    put: &mut dyn FnMut(Range),
) {
    if told.is_forgotten {
        // It may have arrived.
        return;
    }
    let whole_epoch_reason = declared.map_or(0, |declared| declared.whole_epoch_reason);
    if whole_epoch_reason != 0 {
        put(Range {
            missing: Missing::Declared(whole_epoch_reason),
            ..range
        });
        return;
    }
    let durable_through = declared
        .and_then(|declared| declared.unclean)
        .map_or(u64::MAX, |unclean| unclean.last_known_sequence);
    let (lost, held) = range.cut_after(told.released_through());
    if let Some(lost) = lost {
        let (durable, died) = lost.cut_after(durable_through);
        if let Some(durable) = durable {
            split_unexplained(durable, declared, put);
        }
        put_all([(died, Missing::UncleanStop)], put);
    }
    put_all([(held, Missing::Held)], put);
}

/// Splits what nothing explains by whether something may have explained it that
/// is forgotten.
fn split_unexplained(range: Range, declared: Option<&Declared>, put: &mut dyn FnMut(Range)) {
    let Some(within) = declared.and_then(Declared::forgotten_within) else {
        put_all([(Some(range), Missing::Unexplained)], put);
        return;
    };
    let (below, rest) = range.cut_after(within.first - 1);
    let (forgotten, beyond) = rest.map_or((None, None), |rest| rest.cut_after(within.last));
    let parts = [
        (below, Missing::Unexplained),
        (forgotten, Missing::Forgotten),
        (beyond, Missing::Unexplained),
    ];
    put_all(parts, put);
}

fn put_all<const PARTS: usize>(
    parts: [(Option<Range>, Missing); PARTS],
    put: &mut dyn FnMut(Range),
) {
    for (part, missing) in parts {
        if let Some(part) = part {
            put(Range { missing, ..part });
        }
    }
}

impl Range {
    /// The parts up to a sequence and beyond it. Between them the ordinal is
    /// not known.
    fn cut_after(self, sequence: u64) -> (Option<Self>, Option<Self>) {
        if sequence < self.first {
            (None, Some(self))
        } else if sequence >= self.last {
            (Some(self), None)
        } else {
            let below = Self {
                last: sequence,
                last_ordinal: 0,
                ..self
            };
            let beyond = Self {
                first: sequence + 1,
                first_ordinal: 0,
                ..self
            };
            (Some(below), Some(beyond))
        }
    }

    fn batches(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    /// 0 where it cannot be told.
    fn event_count(&self) -> u64 {
        let is_known = self.first_ordinal > 0 && self.last_ordinal >= self.first_ordinal;
        if is_known {
            (self.last_ordinal - self.first_ordinal).saturating_add(1)
        } else {
            0
        }
    }

    pub(super) fn to_wire(self) -> wire::MissingRange {
        let (missing, reason) = self.missing.to_wire();
        wire::MissingRange {
            first_sequence: self.first,
            last_sequence: self.last,
            event_count: self.event_count(),
            missing: missing.into(),
            reason,
            since_unix_ms: self.since_unix_ms,
        }
    }
}
