//! Batches as rows. Each has two checksums: one over all of it, and one over
//! what names and describes it, so that a start need not read what it holds, and
//! that of a batch whose bytes are bad it is known what is lost.

use bytes::Bytes;
use returnpath_delivery::{Powered, StoredBatch};
use returnpath_shared::{BatchId, Class, Ordinal, wire};
use rusqlite::{Connection, Row, Statement, params, types::ValueRef};

use super::{
    checksum::Fnv,
    epochs::Epochs,
    sealed::{damaged, number, small, stored},
};

/// What [`read`] and [`is_named`] need.
const HEADER: &str = "key, boot_id, class, codec, first_ordinal, events, viewing, opened_s,
     checksum, header, length(bytes) AS size_bytes";

/// And [`bytes()`]. Of a file of version 2, too, which has no header.
const WHOLE: &str = "*, length(bytes) AS size_bytes";

/// Over what was written together with the bytes.
fn sum(batch: &StoredBatch) -> Fnv {
    let mut sum = Fnv::new();
    for column in [
        batch.id.epoch.incarnation.get(),
        u64::from(batch.id.epoch.start),
        batch.id.sequence.0,
        batch.boot_id,
        class_number(batch.class),
        batch.codec as u64,
        batch.first_ordinal.0,
        u64::from(batch.events),
        u64::from(batch.viewing),
        u64::from(batch.opened.seconds),
    ] {
        sum.add_number(column);
    }
    sum
}

/// Of all that the row holds.
fn checksum(batch: &StoredBatch, bytes: &[u8]) -> u64 {
    let mut sum = sum(batch);
    sum.add(bytes);
    sum.get()
}

/// Of the row without its bytes.
fn header(batch: &StoredBatch, checksum: u64) -> i64 {
    let mut sum = sum(batch);
    sum.add_number(checksum);
    sum.add_number(batch.size_bytes.into());
    sum.folded()
}

fn class_number(class: Class) -> u64 {
    match class {
        Class::Ordinary => 1,
        Class::Proof => 2,
    }
}

/// What a row says, before anything vouches for it.
pub(super) fn read(row: &Row<'_>, epochs: &Epochs) -> Result<StoredBatch, rusqlite::Error> {
    Ok(StoredBatch {
        id: epochs.of_key(number(row, "key")?).ok_or_else(damaged)?,
        boot_id: number(row, "boot_id")?,
        class: match number(row, "class")? {
            1 => Class::Ordinary,
            2 => Class::Proof,
            _ => return Err(damaged()),
        },
        codec: wire::Codec::try_from(small::<i32>(row, "codec")?).map_err(|_unknown| damaged())?,
        size_bytes: small(row, "size_bytes")?,
        first_ordinal: Ordinal(number(row, "first_ordinal")?),
        events: small(row, "events")?,
        viewing: number(row, "viewing")? != 0,
        opened: Powered {
            seconds: small(row, "opened_s")?,
        },
    })
}

/// Whether a row's batch is the one that it says, whatever its bytes are. False
/// of rows of version 2.
pub(super) fn is_named(row: &Row<'_>, batch: &StoredBatch) -> Result<bool, rusqlite::Error> {
    let expected = header(batch, number(row, "checksum")?);
    let found = row.get_ref("header");
    Ok(matches!(found, Ok(ValueRef::Integer(found)) if found == expected))
}

/// The bytes of a row that is as it was written.
pub(super) fn bytes(row: &Row<'_>, batch: &StoredBatch) -> Result<Bytes, rusqlite::Error> {
    let bytes: Vec<u8> = row.get("bytes")?;
    if number(row, "checksum")? != checksum(batch, &bytes) {
        return Err(damaged());
    }
    Ok(bytes.into())
}

/// In which order batches come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    OldestFirst,
    NewestFirst,
}

fn select<'c>(
    connection: &'c Connection,
    columns: &str,
    which: &str,
) -> Result<Statement<'c>, rusqlite::Error> {
    connection.prepare(&["SELECT ", columns, " FROM batch ", which].concat())
}

/// All rows without their bytes, oldest first, for [`read`].
pub(super) fn headers(connection: &Connection) -> Result<Statement<'_>, rusqlite::Error> {
    select(connection, HEADER, "ORDER BY key")
}

/// All rows, for [`read`] and [`bytes()`].
pub(super) fn whole(
    connection: &Connection,
    order: Order,
) -> Result<Statement<'_>, rusqlite::Error> {
    let order = match order {
        Order::OldestFirst => "ORDER BY key",
        Order::NewestFirst => "ORDER BY key DESC",
    };
    select(connection, WHOLE, order)
}

/// An error where a row is not what was written under its name. Reads the bytes
/// of those alone that have no header.
pub(super) fn check(connection: &Connection, epochs: &Epochs) -> Result<(), rusqlite::Error> {
    let mut statement = headers(connection)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let batch = read(row, epochs)?;
        if !is_named(row, &batch)? {
            load(connection, epochs, batch.id)?;
        }
    }
    Ok(())
}

/// The bytes of a batch; `None` where the row is gone. An error where it is not
/// as it was written.
pub(super) fn load(
    connection: &Connection,
    epochs: &Epochs,
    id: BatchId,
) -> Result<Option<Bytes>, rusqlite::Error> {
    let Some(key) = epochs.key(id) else {
        return Ok(None);
    };
    let mut statement = select(connection, WHOLE, "WHERE key = ?")?;
    let mut rows = statement.query([key])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    bytes(row, &read(row, epochs)?).map(Some)
}

/// Replaces, because the commit before may have been reported as failed and
/// stand nevertheless; the same id always names the same data.
pub(super) fn insert(
    connection: &Connection,
    epochs: &mut Epochs,
    batch: &StoredBatch,
    bytes: &Bytes,
) -> Result<(), rusqlite::Error> {
    let key = epochs.ensure(connection, batch.id)?;
    let checksum = checksum(batch, bytes);
    connection
        .execute(
            "INSERT OR REPLACE INTO batch VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                key,
                stored(batch.boot_id),
                stored(class_number(batch.class)),
                batch.codec as i32,
                stored(batch.first_ordinal.0),
                batch.events,
                batch.viewing,
                batch.opened.seconds,
                stored(checksum),
                bytes.as_ref(),
                header(batch, checksum),
            ],
        )
        .map(drop)
}
