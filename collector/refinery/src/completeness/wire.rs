//! Accounts as `completeness.proto` has them, and their keys.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::{fmt::Write as _, str};

use returnpath_shared::{DeviceId, Epoch, wire};

use super::{
    Account, Completeness, Outlook,
    declared::{Declared, Dropped, Range, Stretch, Unclean},
};
use crate::{
    arrivals::{Arrivals, Told},
    limit::MISSING_RANGES_MAX,
    state::RestoreError,
};

/// Between device and epoch in a key; in no device id.
const SEPARATOR: u8 = b'#';

/// Appends what follows the device id in the key of an epoch's record.
pub(crate) fn put_key(key: &mut String, epoch: Epoch) {
    key.push(char::from(SEPARATOR));
    // A `String` grows: writing to it cannot fail.
    let _ = write!(key, "{epoch}");
}

/// Device and epoch of a key.
pub(crate) fn key_epoch(key: &[u8]) -> Result<(&[u8], Epoch), RestoreError> {
    let wrong = RestoreError::Key { length: key.len() };
    let at = key.iter().position(|byte| *byte == SEPARATOR);
    let Some((device, [_, epoch @ ..])) = at.and_then(|at| key.split_at_checked(at)) else {
        return Err(wrong);
    };
    let epoch = str::from_utf8(epoch)
        .ok()
        .and_then(|epoch| epoch.parse().ok());
    match epoch {
        Some(epoch) if DeviceId::is_valid(device) => Ok((device, epoch)),
        Some(_) | None => Err(wrong),
    }
}

impl Completeness {
    /// Takes what [`Account::to_wire`] made; `None` forgets it.
    pub(crate) fn restore(
        &mut self,
        epoch: Epoch,
        record: Option<&wire::Completeness>,
    ) -> Result<(), RestoreError> {
        let account = record
            .map(|record| Account::from_wire(epoch, record))
            .transpose()?;
        match (self.position(epoch), account) {
            (Ok(at), Some(account)) => self.accounts[at] = account,
            (Ok(at), None) => {
                self.accounts.remove(at);
            }
            (Err(at), Some(account)) => self.accounts.insert(at, account),
            (Err(_), None) => {}
        }
        Ok(())
    }
}

impl Account {
    /// The record of an account, with what arrivals tell of its epoch.
    pub(crate) fn to_wire(&self, arrivals: &Arrivals) -> wire::Completeness {
        let told = arrivals.tell(self.epoch);
        let mut missing = Vec::new();
        let mut missing_ranges_beyond: u32 = 0;
        self.each_missing(&told, &mut |range| {
            if missing.len() < MISSING_RANGES_MAX {
                missing.push(range.to_wire());
            } else {
                missing_ranges_beyond = missing_ranges_beyond.saturating_add(1);
            }
        });
        let record = wire::Completeness {
            epoch: Some(self.epoch.into()),
            as_of_unix_ms: self.as_of_unix_ms,
            revision: self.revision,
            first_received_unix_ms: self.first_received_unix_ms,
            highest_sequence: told.highest_sequence(),
            highest_ordinal: told.highest_ordinal(),
            forgotten_through_sequence: told.forgotten_through(),
            ended: told.is_ended,
            released: told.is_released(),
            missing,
            missing_ranges_beyond,
            missing_totals: self.wire_totals(&told),
            ..wire::Completeness::default()
        };
        match &self.declared {
            Some(declared) => declared.to_wire(record),
            None => record,
        }
    }

    fn wire_totals(&self, told: &Told<'_>) -> Vec<wire::MissingTotal> {
        let totals = self.totals(told);
        let totals = totals.iter().map(|(missing, total)| {
            let (missing, reason) = missing.to_wire();
            wire::MissingTotal {
                missing: missing.into(),
                reason,
                ranges: total.ranges,
                batches: total.batches,
                events: total.events,
                ranges_uncounted: total.ranges_uncounted,
            }
        });
        totals.collect()
    }

    fn from_wire(epoch: Epoch, record: &wire::Completeness) -> Result<Self, RestoreError> {
        if record.epoch != Some(epoch.into()) {
            return Err(RestoreError::Rule { field: "epoch" });
        }
        let is_missing = |missing: wire::Missing| {
            let mut totals = record.missing_totals.iter();
            totals.any(|total| total.missing() == missing)
        };
        Ok(Self {
            epoch,
            as_of_unix_ms: record.as_of_unix_ms,
            first_received_unix_ms: record.first_received_unix_ms,
            revision: record.revision,
            has_arrived: record.highest_sequence > 0,
            outlook: Outlook {
                has_held: is_missing(wire::Missing::Held),
                has_unexplained: is_missing(wire::Missing::Unexplained),
                has_forgotten: is_missing(wire::Missing::Forgotten),
                is_ended: record.ended,
                is_released: record.released,
            },
            declared: Declared::from_wire(record)?.map(Box::new),
        })
    }
}

impl Declared {
    fn to_wire(&self, record: wire::Completeness) -> wire::Completeness {
        let record = match &self.dropped {
            Some(dropped) => dropped.to_wire(record),
            None => record,
        };
        wire::Completeness {
            whole_epoch_reason: self.whole_epoch_reason,
            unclean_stop: self.unclean.is_some(),
            last_known_ordinal: self.unclean.map_or(0, |unclean| unclean.last_known_ordinal),
            last_known_sequence: self
                .unclean
                .map_or(0, |unclean| unclean.last_known_sequence),
            first_declared_unix_ms: self.since_unix_ms,
            ..record
        }
    }

    fn from_wire(record: &wire::Completeness) -> Result<Option<Self>, RestoreError> {
        let dropped = Dropped::from_wire(record)?;
        let unclean = record.unclean_stop.then_some(Unclean {
            last_known_ordinal: record.last_known_ordinal,
            last_known_sequence: record.last_known_sequence,
        });
        let declared = Self {
            dropped: (dropped != Dropped::default()).then(|| Box::new(dropped)),
            whole_epoch_reason: record.whole_epoch_reason,
            unclean,
            since_unix_ms: record.first_declared_unix_ms,
        };
        let is_empty = declared.says_nothing() && declared.dropped.is_none();
        Ok((!is_empty).then_some(declared))
    }
}

impl Dropped {
    fn to_wire(&self, record: wire::Completeness) -> wire::Completeness {
        let within = self.forgotten_within;
        wire::Completeness {
            declared: self.ranges.iter().copied().map(Range::to_wire).collect(),
            declared_ranges_forgotten: self.ranges_forgotten,
            declared_forgotten_first_sequence: within.map_or(0, |within| within.first),
            declared_forgotten_last_sequence: within.map_or(0, |within| within.last),
            declared_runs_forgotten: self.runs_forgotten,
            ..record
        }
    }

    fn from_wire(record: &wire::Completeness) -> Result<Self, RestoreError> {
        let mut ranges: Vec<Range> = Vec::with_capacity(record.declared.len());
        for range in &record.declared {
            let range = Range::from_wire(range)?;
            if ranges
                .last()
                .is_some_and(|before| before.last >= range.first)
            {
                return Err(RestoreError::Rule { field: "declared" });
            }
            ranges.push(range);
        }
        let within = Stretch {
            first: record.declared_forgotten_first_sequence,
            last: record.declared_forgotten_last_sequence,
        };
        let is_none = (within.first, within.last) == (0, 0);
        if !is_none && (within.first == 0 || within.last < within.first) {
            return Err(RestoreError::Rule {
                field: "declared_forgotten_first_sequence",
            });
        }
        Ok(Self {
            ranges,
            ranges_forgotten: record.declared_ranges_forgotten,
            forgotten_within: (!is_none).then_some(within),
            runs_forgotten: record.declared_runs_forgotten,
        })
    }
}

impl Range {
    fn to_wire(self) -> wire::DeclaredRange {
        wire::DeclaredRange {
            first_sequence: self.first,
            last_sequence: self.last,
            first_ordinal: self.first_ordinal,
            event_count: self.event_count(),
            reason: self.reason,
            refusal: self.refusal,
            rejection: self.rejection,
        }
    }

    fn from_wire(range: &wire::DeclaredRange) -> Result<Self, RestoreError> {
        let rule = RestoreError::Rule { field: "declared" };
        let last_ordinal = range
            .event_count
            .checked_sub(1)
            .and_then(|beyond| range.first_ordinal.checked_add(beyond));
        let Some(last_ordinal) = last_ordinal else {
            return Err(rule);
        };
        if range.first_sequence == 0
            || range.last_sequence < range.first_sequence
            || range.first_ordinal == 0
        {
            return Err(rule);
        }
        Ok(Self {
            first: range.first_sequence,
            last: range.last_sequence,
            first_ordinal: range.first_ordinal,
            last_ordinal,
            reason: range.reason,
            refusal: range.refusal,
            rejection: range.rejection,
        })
    }
}

#[cfg(test)]
mod tests {
    use returnpath_shared::Incarnation;

    use super::*;

    #[test]
    fn keys_name_a_box_and_an_epoch() {
        let epoch = Epoch {
            incarnation: Incarnation::new(255).unwrap(),
            start: 7,
        };
        let mut key = String::from("box-1");
        put_key(&mut key, epoch);
        assert_eq!(key, "box-1#00000000000000ff.7");
        assert_eq!(key_epoch(key.as_bytes()), Ok((&b"box-1"[..], epoch)));
        for key in [
            &b""[..],
            b"box-1",
            b"#00000000000000ff.7",
            b"box-1#",
            b"box-1#ff.7",
            b"box 1#00000000000000ff.7",
            b"box-1#00000000000000ff.7#",
        ] {
            let length = key.len();
            assert_eq!(key_epoch(key), Err(RestoreError::Key { length }));
        }
    }
}
