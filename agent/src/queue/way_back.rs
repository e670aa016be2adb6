//! Rows of the way back: bound slots, and the configuration that the cloud set.

use bytes::Bytes;
use returnpath_slots::{Row as SlotRow, Slot};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::rows::{number, small, stored};
use crate::steering::StoredConfig;

/// What the file holds for the way back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct WayBack {
    pub(super) slots: Vec<SlotRow>,
    pub(super) config: Option<StoredConfig>,
}

impl WayBack {
    /// As much as can be read, and the first error if that is not all.
    pub(super) fn read(connection: &Connection) -> (Self, Option<rusqlite::Error>) {
        let mut way_back = Self::default();
        let slots = read_slots(connection, &mut way_back.slots);
        let config = match read_config(connection) {
            Ok(config) => {
                way_back.config = config;
                Ok(())
            }
            Err(error) => Err(error),
        };
        (way_back, slots.and(config).err())
    }

    /// Puts all of it into another file, inside the caller's transaction.
    pub(super) fn write(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        for row in &self.slots {
            put_slot(connection, row)?;
        }
        match &self.config {
            Some(config) => put_config(connection, config),
            None => Ok(()),
        }
    }
}

fn read_slots(connection: &Connection, into: &mut Vec<SlotRow>) -> Result<(), rusqlite::Error> {
    let mut statement = connection.prepare("SELECT * FROM slot")?;
    for row in statement.query_map([], slot)? {
        into.push(row?);
    }
    Ok(())
}

fn slot(row: &Row<'_>) -> Result<SlotRow, rusqlite::Error> {
    let signed: Vec<u8> = row.get("signed")?;
    Ok(SlotRow {
        slot: Slot {
            boot_id: number(row, "boot_id")?,
            break_id: row.get("break_id")?,
            index: small(row, "slot")?,
        },
        decision_id: row.get("decision_id")?,
        expiry_uptime_ms: number(row, "expiry_uptime_ms")?,
        signed: signed.into(),
    })
}

fn read_config(connection: &Connection) -> Result<Option<StoredConfig>, rusqlite::Error> {
    connection
        .query_row("SELECT version, signed FROM config", [], |row| {
            let signed: Vec<u8> = row.get("signed")?;
            Ok(StoredConfig {
                version: number(row, "version")?,
                signed: Bytes::from(signed),
            })
        })
        .optional()
}

/// Replaces: the core asks for a slot that is free as far as it knows, or for
/// one that it has bound already.
pub(super) fn put_slot(connection: &Connection, row: &SlotRow) -> Result<(), rusqlite::Error> {
    connection
        .execute(
            "INSERT OR REPLACE INTO slot VALUES (?, ?, ?, ?, ?, ?)",
            params![
                stored(row.slot.boot_id),
                row.slot.break_id,
                row.slot.index,
                row.decision_id,
                stored(row.expiry_uptime_ms),
                row.signed.as_ref(),
            ],
        )
        .map(drop)
}

pub(super) fn delete_slot(connection: &Connection, slot: &Slot) -> Result<(), rusqlite::Error> {
    connection
        .execute(
            "DELETE FROM slot WHERE boot_id = ? AND break_id = ? AND slot = ?",
            params![stored(slot.boot_id), slot.break_id, slot.index],
        )
        .map(drop)
}

/// Versions only rise, in whatever order they come: one that is put again into
/// a new file may meet a newer one there.
pub(super) fn put_config(
    connection: &Connection,
    config: &StoredConfig,
) -> Result<(), rusqlite::Error> {
    // What cannot be read is no reason to keep it.
    let newer = read_config(connection).ok().flatten();
    if newer.is_some_and(|newer| newer.version > config.version) {
        return Ok(());
    }
    connection
        .execute(
            "INSERT OR REPLACE INTO config VALUES (0, ?, ?)",
            params![stored(config.version), config.signed.as_ref()],
        )
        .map(drop)
}
