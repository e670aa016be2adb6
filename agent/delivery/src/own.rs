//! The agent's own events: boot, unclean stop, ledger. What is owed, and which
//! batch carries it; what a dropped batch carried is owed again.
//!
//! The rows behind unclean stops and the ledger stay in the queue file until a
//! batch of this run that carries them is receipted. A restart in between
//! makes the same events again, with the same ids; refine removes repeats.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use returnpath_shared::{
    CLIENT_ID_BYTES_MAX, Epoch, MOUNT_OPTIONS_BYTES_MAX,
    wire::{self, event},
};

use crate::{BootFacts, LedgerRow, StartRow, Uptime, held::Place};

/// One event of the agent's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Own {
    Boot,
    UncleanStop(StartRow),
    Ledger(LedgerRow),
}

#[derive(Debug)]
pub(crate) struct OwnEvents {
    pub(crate) boot_owed: bool,
    pub(crate) unclean_owed: Vec<StartRow>,
    /// Boot events made, to tell them apart.
    pub(crate) boots: u32,
    in_open: Vec<Own>,
    carried: BTreeMap<Place, Vec<Own>>,
}

impl OwnEvents {
    /// A run begins: it owes a boot event, and what earlier runs left.
    pub(crate) fn new(unclean: Vec<StartRow>) -> Self {
        Self {
            boot_owed: true,
            unclean_owed: unclean,
            boots: 0,
            in_open: Vec::new(),
            carried: BTreeMap::new(),
        }
    }

    /// The open batch carries it.
    pub(crate) fn put_in_open(&mut self, own: Own) {
        self.in_open.push(own);
    }

    /// The open batch was closed and stands here.
    pub(crate) fn close(&mut self, place: Place) {
        if !self.in_open.is_empty() {
            let carried = self.carried.entry(place).or_default();
            carried.append(&mut self.in_open);
        }
    }

    /// How many a closed batch carries.
    pub(crate) fn count(&self, place: Place) -> usize {
        self.carried.get(&place).map_or(0, Vec::len)
    }

    /// The closed batch carries only so many of them; the rest is in the open
    /// batch, before what else is.
    pub(crate) fn reopen_after(&mut self, place: Place, count: usize) {
        if let Some(carried) = self.carried.get_mut(&place)
            && count < carried.len()
        {
            let mut reopened = carried.split_off(count);
            reopened.append(&mut self.in_open);
            self.in_open = reopened;
        }
    }

    /// The batch has left.
    pub(crate) fn take(&mut self, place: Place) -> Vec<Own> {
        self.carried.remove(&place).unwrap_or_default()
    }
}

pub(crate) fn boot_event(
    facts: &BootFacts,
    anchors: Vec<wire::ClockAnchor>,
    epoch: Epoch,
    number: u32,
    now: Uptime,
) -> wire::Event {
    let boot = wire::Boot {
        model: cut(&facts.model, CLIENT_ID_BYTES_MAX),
        firmware: cut(&facts.firmware, CLIENT_ID_BYTES_MAX),
        agent_version: cut(&facts.agent_version, CLIENT_ID_BYTES_MAX),
        anchors,
        sqlite_version: cut(&facts.sqlite_version, CLIENT_ID_BYTES_MAX),
        mount_options: cut(&facts.mount_options, MOUNT_OPTIONS_BYTES_MAX),
    };
    wire::Event {
        uptime_ms: now.0,
        client_id: format!("boot/{epoch}/{number}"),
        kind: Some(event::Kind::Boot(boot)),
    }
}

pub(crate) fn unclean_stop_event(row: &StartRow, now: Uptime) -> wire::Event {
    let stop = wire::UncleanStop {
        epoch: Some(row.epoch.into()),
        last_known_ordinal: row.settled.ordinal,
        last_known_sequence: row.settled.sequence,
    };
    wire::Event {
        uptime_ms: now.0,
        client_id: format!("unclean/{}", row.epoch),
        kind: Some(event::Kind::UncleanStop(stop)),
    }
}

/// Its id names what it declares: the same declaration made again after a
/// restart is recognised, and one that says more is not taken for it. The
/// row's number would not do: when the last row has gone, a later start gives
/// it to another.
pub(crate) fn ledger_event(row: &LedgerRow, now: Uptime) -> wire::Event {
    wire::Event {
        uptime_ms: now.0,
        // Fixed widths, so that it is at most 64 bytes whatever they hold.
        client_id: format!(
            "ledger/{:016x}{:08x}{:016x}/{:x}",
            row.epoch.incarnation.get(),
            row.epoch.start,
            row.first_sequence.0,
            row.event_count
        ),
        kind: Some(event::Kind::Ledger(row.to_wire())),
    }
}

/// At most so many bytes of a text, cut between characters.
fn cut(text: &str, bytes_max: usize) -> String {
    text[..text.floor_char_boundary(bytes_max)].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settled;
    use alloc::vec;
    use returnpath_shared::{Incarnation, Ordinal, Sequence, check};

    fn epoch() -> Epoch {
        Epoch {
            incarnation: Incarnation::new(u64::MAX).unwrap(),
            start: u32::MAX,
        }
    }

    #[test]
    fn the_agents_own_events_pass_the_check_that_clients_events_pass() {
        let long = "é".repeat(600);
        let facts = BootFacts {
            model: long.clone(),
            firmware: long.clone(),
            agent_version: long.clone(),
            sqlite_version: long.clone(),
            mount_options: long,
        };
        let anchor = wire::ClockAnchor {
            boot_id: 1,
            uptime_ms: 2,
            unix_ms: 3,
        };
        let row = LedgerRow {
            number: u64::MAX,
            reason: wire::DropReason::Refused,
            refusal: wire::RefusalReason::TooLarge,
            epoch: epoch(),
            first_sequence: Sequence(u64::MAX - 1),
            last_sequence: Sequence(u64::MAX),
            first_ordinal: Ordinal(1),
            event_count: u64::MAX,
            whole_epoch: false,
        };
        let whole = LedgerRow {
            first_sequence: Sequence(0),
            last_sequence: Sequence(0),
            first_ordinal: Ordinal(0),
            event_count: 0,
            whole_epoch: true,
            ..row
        };
        let unclean = StartRow {
            epoch: epoch(),
            settled: Settled::default(),
        };
        for event in [
            boot_event(&facts, vec![anchor; 64], epoch(), u32::MAX, Uptime(1)),
            unclean_stop_event(&unclean, Uptime(1)),
            ledger_event(&row, Uptime(1)),
            ledger_event(&whole, Uptime(1)),
        ] {
            assert_eq!(check(&event), Ok(()), "{event:?}");
        }
    }

    #[test]
    fn declarations_of_different_drops_are_told_apart_though_rows_share_a_number() {
        let id = |start, first_sequence, event_count| {
            let row = LedgerRow {
                number: 1,
                reason: wire::DropReason::QueueFull,
                refusal: wire::RefusalReason::Unspecified,
                epoch: Epoch { start, ..epoch() },
                first_sequence: Sequence(first_sequence),
                last_sequence: Sequence(first_sequence),
                first_ordinal: Ordinal(first_sequence),
                event_count,
                whole_epoch: false,
            };
            ledger_event(&row, Uptime(1)).client_id
        };
        assert_eq!(id(1, 2, 3), id(1, 2, 3));
        for other in [id(4, 2, 3), id(1, 4, 3), id(1, 2, 4), id(1, 0x23, 3)] {
            assert_ne!(id(1, 2, 3), other);
        }
    }
}
