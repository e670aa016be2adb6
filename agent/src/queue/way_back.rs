//! Rows of the way back: bound slots, and the configuration that the cloud set.

use bytes::Bytes;
use returnpath_slots::{Row as SlotRow, Slot};
use rusqlite::{Connection, Row, params, types::ValueRef};

use super::sealed::{self, column, number, small, stored};
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
        let slots = sealed::each(connection, "slot", "", &mut |row| {
            way_back.slots.push(slot(row)?);
            Ok(())
        });
        let config = read_config(connection, &mut way_back.config);
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

fn read_config(
    connection: &Connection,
    into: &mut Option<StoredConfig>,
) -> Result<(), rusqlite::Error> {
    sealed::each(connection, "config", "", &mut |row| {
        let signed: Vec<u8> = row.get("signed")?;
        *into = Some(StoredConfig {
            version: number(row, "version")?,
            signed: Bytes::from(signed),
        });
        Ok(())
    })
}

/// Replaces: the core asks for a slot that is free as far as it knows, or for
/// one that it has bound already.
pub(super) fn put_slot(connection: &Connection, row: &SlotRow) -> Result<(), rusqlite::Error> {
    let columns = [
        column(row.slot.boot_id),
        ValueRef::from(row.slot.break_id.as_str()),
        column(row.slot.index.into()),
        ValueRef::from(row.decision_id.as_str()),
        column(row.expiry_uptime_ms),
        ValueRef::Blob(&row.signed),
    ];
    sealed::put(connection, "slot", &columns)
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
    let mut newer = None;
    // What cannot be read is no reason to keep it.
    let _unreadable = read_config(connection, &mut newer);
    if newer.is_some_and(|newer: StoredConfig| newer.version > config.version) {
        return Ok(());
    }
    let columns = [
        column(0),
        column(config.version),
        ValueRef::Blob(&config.signed),
    ];
    sealed::put(connection, "config", &columns)
}
