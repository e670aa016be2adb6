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

/// Unclean stops owed at once; each takes 32 bytes of RAM and a line in a batch.
/// The rows of more stay in the file until those before them have left it.
pub const UNCLEAN_MAX: usize = 256;

/// One event of the agent's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Own {
    Boot,
    UncleanStop(StartRow),
    Ledger(LedgerRow),
}

/// Starts beyond those that are owed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rest {
    Nothing,
    InFile,
    Asked,
}

#[derive(Debug)]
pub(crate) struct OwnEvents {
    pub(crate) boot_owed: bool,
    pub(crate) unclean_owed: Vec<StartRow>,
    rest: Rest,
    /// Boot events made, to tell them apart.
    pub(crate) boots: u32,
    in_open: Vec<Own>,
    carried: BTreeMap<Place, Vec<Own>>,
}

impl OwnEvents {
    /// A run begins: it owes a boot event, and what earlier runs left.
    pub(crate) fn new(unclean: Vec<StartRow>) -> Self {
        let mut own = Self {
            boot_owed: true,
            unclean_owed: Vec::new(),
            rest: Rest::Nothing,
            boots: 0,
            in_open: Vec::new(),
            carried: BTreeMap::new(),
        };
        own.owe(unclean);
        own
    }

    /// Of these as many as may be owed at once. None may be owed before.
    pub(crate) fn owe(&mut self, mut unclean: Vec<StartRow>) {
        self.rest = if unclean.len() > UNCLEAN_MAX {
            Rest::InFile
        } else {
            Rest::Nothing
        };
        unclean.truncate(UNCLEAN_MAX);
        self.unclean_owed = unclean;
    }

    /// Whether the file holds starts that are not owed yet, and the cloud has
    /// all that were.
    pub(crate) fn may_owe_more(&self) -> bool {
        let mut told = self.in_open.iter().chain(self.carried.values().flatten());
        self.rest == Rest::InFile
            && self.unclean_owed.is_empty()
            && !told.any(|own| matches!(own, Own::UncleanStop(_)))
    }

    pub(crate) fn asked_for_more(&mut self) {
        self.rest = Rest::Asked;
    }

    /// The file is another one: what was asked for and did not come is there.
    pub(crate) fn ask_again(&mut self) {
        if self.rest == Rest::Asked {
            self.rest = Rest::InFile;
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
