//! Rows of the queue file ⇄ the core's types, and its operations as SQL.

use std::collections::BTreeMap;

use bytes::Bytes;
use returnpath_delivery::{
    LedgerRow, Op, Powered, PoweredMark, ProofId, Settled, StartRow, StoredBatch, Uptime,
};
use returnpath_shared::{BatchId, Class, Epoch, Incarnation, Ordinal, ProofKey, Sequence, wire};
use rusqlite::{Connection, Row, Statement, params};

use super::checksum::fnv1a;

/// Bits of a batch's key that hold its sequence: at one batch a second, 34,000
/// years in one run.
const SEQUENCE_BITS: u32 = 40;

const SEQUENCE_MAX: u64 = (1 << SEQUENCE_BITS) - 1;

/// What SQLite stores of a `u64`: the same 64 bits.
pub(super) fn stored(value: u64) -> i64 {
    value.cast_signed()
}

pub(super) fn number(row: &Row<'_>, column: &str) -> Result<u64, rusqlite::Error> {
    row.get(column).map(i64::cast_unsigned)
}

/// A column whose value cannot be what this agent wrote.
fn damaged() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
        Some("a row holds what no agent wrote".into()),
    )
}

pub(super) fn small<T: TryFrom<u64>>(row: &Row<'_>, column: &str) -> Result<T, rusqlite::Error> {
    T::try_from(number(row, column)?).map_err(|_too_large| damaged())
}

fn epoch(row: &Row<'_>) -> Result<Epoch, rusqlite::Error> {
    Ok(Epoch {
        incarnation: Incarnation::new(number(row, "incarnation")?).ok_or_else(damaged)?,
        start: small(row, "start")?,
    })
}

/// Which epoch has which `epoch.id`. As many entries as epochs with batches.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    ids: BTreeMap<Epoch, u32>,
    by_id: BTreeMap<u32, Epoch>,
}

impl Epochs {
    /// Forgets epochs without batches and reads the others.
    pub(super) fn load(connection: &Connection) -> Result<Self, rusqlite::Error> {
        connection.execute(
            "DELETE FROM epoch WHERE NOT EXISTS
               (SELECT 1 FROM batch WHERE key BETWEEN epoch.id << 40 AND (epoch.id + 1) << 40)",
            [],
        )?;
        Self::read(connection)
    }

    /// Reads the epochs without changing anything.
    pub(super) fn read(connection: &Connection) -> Result<Self, rusqlite::Error> {
        let mut epochs = Self::default();
        let mut statement = connection.prepare("SELECT id, incarnation, start FROM epoch")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            epochs.enter(small(row, "id")?, epoch(row)?);
        }
        Ok(epochs)
    }

    fn enter(&mut self, id: u32, epoch: Epoch) {
        self.ids.insert(epoch, id);
        self.by_id.insert(id, epoch);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Epoch> {
        self.ids.keys().copied()
    }

    /// The id of an epoch, made when it is new.
    fn ensure(&mut self, connection: &Connection, epoch: Epoch) -> Result<u32, rusqlite::Error> {
        if let Some(id) = self.ids.get(&epoch) {
            return Ok(*id);
        }
        let id = self.by_id.last_key_value().map_or(0, |(id, _)| id + 1);
        connection.execute(
            "INSERT INTO epoch (id, incarnation, start) VALUES (?, ?, ?)",
            params![id, stored(epoch.incarnation.get()), epoch.start],
        )?;
        self.enter(id, epoch);
        Ok(id)
    }

    fn key(&self, epoch: Epoch, sequence: Sequence) -> Option<i64> {
        let id = self.ids.get(&epoch)?;
        Some(key(*id, sequence))
    }

    fn of_key(&self, key: u64) -> Option<BatchId> {
        let id = u32::try_from(key >> SEQUENCE_BITS).ok()?;
        let epoch = *self.by_id.get(&id)?;
        let sequence = Sequence(key & SEQUENCE_MAX);
        Some(BatchId { epoch, sequence })
    }
}

fn key(epoch_id: u32, sequence: Sequence) -> i64 {
    stored(u64::from(epoch_id) << SEQUENCE_BITS | sequence.0.min(SEQUENCE_MAX))
}

/// Of a row, its columns and its bytes.
fn checksum(batch: &StoredBatch, bytes: &[u8]) -> u64 {
    let columns = [
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
    ];
    let columns = columns.into_iter().flat_map(u64::to_le_bytes);
    fnv1a(columns.chain(bytes.iter().copied()))
}

fn class_number(class: Class) -> u64 {
    match class {
        Class::Ordinary => 1,
        Class::Proof => 2,
    }
}

/// Columns of [`batch`].
const BATCH_COLUMNS: &str = "key, boot_id, class, codec, first_ordinal, events, viewing, opened_s,
     checksum, length(bytes) AS size_bytes";

fn batch(row: &Row<'_>, epochs: &Epochs) -> Result<StoredBatch, rusqlite::Error> {
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

/// In which order [`Batches`] come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    OldestFirst,
    NewestFirst,
}

/// All batches, without their bytes.
pub(super) struct Batches<'c> {
    statement: Statement<'c>,
    epochs: &'c Epochs,
}

impl<'c> Batches<'c> {
    pub(super) fn prepare(
        connection: &'c Connection,
        epochs: &'c Epochs,
        order: Order,
    ) -> Result<Self, rusqlite::Error> {
        let direction = match order {
            Order::OldestFirst => "ASC",
            Order::NewestFirst => "DESC",
        };
        let sql = format!("SELECT {BATCH_COLUMNS} FROM batch ORDER BY key {direction}");
        Ok(Self {
            statement: connection.prepare(&sql)?,
            epochs,
        })
    }

    /// Iterates; the first error ends it.
    pub(super) fn iter(
        &mut self,
    ) -> Result<impl Iterator<Item = Result<StoredBatch, rusqlite::Error>>, rusqlite::Error> {
        let epochs = self.epochs;
        self.statement.query_map([], |row| batch(row, epochs))
    }
}

/// A batch with its bytes; `None` where the row is gone. An error where it is
/// not as it was written.
pub(super) fn load(
    connection: &Connection,
    epochs: &Epochs,
    id: BatchId,
) -> Result<Option<(StoredBatch, Bytes)>, rusqlite::Error> {
    let Some(key) = epochs.key(id.epoch, id.sequence) else {
        return Ok(None);
    };
    let sql = format!("SELECT {BATCH_COLUMNS}, bytes FROM batch WHERE key = ?");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([key])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let batch = batch(row, epochs)?;
    let bytes: Vec<u8> = row.get("bytes")?;
    if number(row, "checksum")? != checksum(&batch, &bytes) {
        return Err(damaged());
    }
    Ok(Some((batch, bytes.into())))
}

/// Carries out operations, in order, inside the caller's transaction.
pub(super) fn apply(
    connection: &Connection,
    epochs: &mut Epochs,
    ops: &[Op],
) -> Result<(), rusqlite::Error> {
    for op in ops {
        apply_one(connection, epochs, op)?;
    }
    Ok(())
}

fn apply_one(connection: &Connection, epochs: &mut Epochs, op: &Op) -> Result<(), rusqlite::Error> {
    match op {
        Op::InsertBatch { batch, bytes } => insert_batch(connection, epochs, batch, bytes),
        Op::DeleteBatches { epoch, first, last } => {
            let bounds = epochs.key(*epoch, *first).zip(epochs.key(*epoch, *last));
            let Some((first, last)) = bounds else {
                return Ok(());
            };
            connection
                .execute(
                    "DELETE FROM batch WHERE key BETWEEN ? AND ?",
                    params![first, last],
                )
                .map(drop)
        }
        Op::LedgerPut(row) => put_ledger(connection, row),
        Op::LedgerDelete { number } => connection
            .execute("DELETE FROM ledger WHERE number = ?", [stored(*number)])
            .map(drop),
        Op::ProofIdPut(id) => connection
            .execute(
                "INSERT OR REPLACE INTO proof VALUES (?, ?, ?, ?, ?)",
                params![
                    stored(id.number),
                    id.key.0.to_le_bytes().as_slice(),
                    stored(id.epoch.incarnation.get()),
                    id.epoch.start,
                    stored(id.ordinal.0),
                ],
            )
            .map(drop),
        Op::ProofIdsDeleteThrough { number } => connection
            .execute("DELETE FROM proof WHERE number <= ?", [stored(*number)])
            .map(drop),
        Op::AnchorPut(anchor) => connection
            .execute(
                "INSERT OR REPLACE INTO anchor VALUES (?, ?, ?)",
                params![
                    stored(anchor.boot_id),
                    stored(anchor.uptime_ms),
                    anchor.unix_ms
                ],
            )
            .map(drop),
        Op::AnchorDelete { boot_id } => connection
            .execute("DELETE FROM anchor WHERE boot_id = ?", [stored(*boot_id)])
            .map(drop),
        Op::StartPut(row) => put_start(connection, row),
        Op::StartDelete(epoch) => connection
            .execute(
                "DELETE FROM start WHERE incarnation = ? AND start = ?",
                params![stored(epoch.incarnation.get()), epoch.start],
            )
            .map(drop),
        Op::PoweredPut(mark) => connection
            .execute(
                "INSERT OR REPLACE INTO powered VALUES (0, ?, ?, ?)",
                params![
                    stored(mark.boot_id),
                    stored(mark.uptime.0),
                    stored(mark.powered_ms)
                ],
            )
            .map(drop),
    }
}

/// Replaces, because the commit before may have been reported as failed and
/// stand nevertheless; the same id always names the same data.
pub(super) fn insert_batch(
    connection: &Connection,
    epochs: &mut Epochs,
    batch: &StoredBatch,
    bytes: &Bytes,
) -> Result<(), rusqlite::Error> {
    let epoch_id = epochs.ensure(connection, batch.id.epoch)?;
    connection
        .execute(
            "INSERT OR REPLACE INTO batch VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                key(epoch_id, batch.id.sequence),
                stored(batch.boot_id),
                stored(class_number(batch.class)),
                batch.codec as i32,
                stored(batch.first_ordinal.0),
                batch.events,
                batch.viewing,
                batch.opened.seconds,
                stored(checksum(batch, bytes)),
                bytes.as_ref(),
            ],
        )
        .map(drop)
}

fn put_ledger(connection: &Connection, row: &LedgerRow) -> Result<(), rusqlite::Error> {
    connection
        .execute(
            "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                stored(row.number),
                row.reason as i32,
                row.refusal as i32,
                stored(row.epoch.incarnation.get()),
                row.epoch.start,
                stored(row.first_sequence.0),
                stored(row.last_sequence.0),
                stored(row.first_ordinal.0),
                stored(row.event_count),
                row.whole_epoch,
            ],
        )
        .map(drop)
}

pub(super) fn put_start(connection: &Connection, row: &StartRow) -> Result<(), rusqlite::Error> {
    connection
        .execute(
            "INSERT OR REPLACE INTO start VALUES (?, ?, ?, ?)",
            params![
                stored(row.epoch.incarnation.get()),
                row.epoch.start,
                stored(row.settled.ordinal),
                stored(row.settled.sequence),
            ],
        )
        .map(drop)
}

/// Epoch of the file's last start, if it ever started, and its trusted time.
pub(super) fn last_start(connection: &Connection) -> Result<(Option<Epoch>, u64), rusqlite::Error> {
    connection.query_row(
        "SELECT incarnation, start, trusted_unix_s FROM queue",
        [],
        |row| {
            let epoch = epoch(row)?;
            let started = Some(epoch).filter(|epoch| epoch.start > 0);
            Ok((started, number(row, "trusted_unix_s")?))
        },
    )
}

/// Makes the row of a new file.
pub(super) fn put_queue(
    connection: &Connection,
    incarnation: Incarnation,
    trusted_unix_s: u64,
) -> Result<(), rusqlite::Error> {
    connection
        .execute(
            "INSERT INTO queue (id, incarnation, trusted_unix_s) VALUES (0, ?, ?)",
            params![stored(incarnation.get()), stored(trusted_unix_s)],
        )
        .map(drop)
}

/// Everything but the batches.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Facts {
    pub(super) ledger: Vec<LedgerRow>,
    pub(super) proof_ids: Vec<ProofId>,
    pub(super) anchors: Vec<wire::ClockAnchor>,
    pub(super) starts: Vec<StartRow>,
    pub(super) powered: Option<PoweredMark>,
}

impl Facts {
    /// As much as can be read, and the first error if that is not all.
    pub(super) fn read(connection: &Connection) -> (Self, Option<rusqlite::Error>) {
        let mut facts = Self::default();
        let mut powered = Vec::new();
        let outcomes = [
            collect(
                connection,
                "ledger ORDER BY number",
                &mut facts.ledger,
                ledger,
            ),
            collect(
                connection,
                "proof ORDER BY number",
                &mut facts.proof_ids,
                proof,
            ),
            collect(connection, "anchor", &mut facts.anchors, anchor),
            collect(connection, "start", &mut facts.starts, start),
            collect(connection, "powered", &mut powered, powered_mark),
        ];
        facts.powered = powered.pop();
        (facts, outcomes.into_iter().find_map(Result::err))
    }

    /// The same as operations.
    pub(super) fn into_ops(self) -> Vec<Op> {
        let mut ops = Vec::new();
        ops.extend(self.ledger.into_iter().map(Op::LedgerPut));
        ops.extend(self.proof_ids.into_iter().map(Op::ProofIdPut));
        ops.extend(self.anchors.into_iter().map(Op::AnchorPut));
        ops.extend(self.starts.into_iter().map(Op::StartPut));
        ops.extend(self.powered.map(Op::PoweredPut));
        ops
    }
}

/// Appends the rows of a table until the first that cannot be read.
fn collect<T>(
    connection: &Connection,
    table: &str,
    into: &mut Vec<T>,
    read: fn(&Row<'_>) -> Result<T, rusqlite::Error>,
) -> Result<(), rusqlite::Error> {
    let mut statement = connection.prepare(&format!("SELECT * FROM {table}"))?;
    for row in statement.query_map([], read)? {
        into.push(row?);
    }
    Ok(())
}

fn ledger(row: &Row<'_>) -> Result<LedgerRow, rusqlite::Error> {
    Ok(LedgerRow {
        number: number(row, "number")?,
        reason: wire::DropReason::try_from(small::<i32>(row, "reason")?)
            .map_err(|_unknown| damaged())?,
        refusal: wire::RefusalReason::try_from(small::<i32>(row, "refusal")?)
            .map_err(|_unknown| damaged())?,
        epoch: epoch(row)?,
        first_sequence: Sequence(number(row, "first_sequence")?),
        last_sequence: Sequence(number(row, "last_sequence")?),
        first_ordinal: Ordinal(number(row, "first_ordinal")?),
        event_count: number(row, "event_count")?,
        whole_epoch: number(row, "whole_epoch")? != 0,
    })
}

fn proof(row: &Row<'_>) -> Result<ProofId, rusqlite::Error> {
    let key: [u8; 16] = row.get("key")?;
    Ok(ProofId {
        number: number(row, "number")?,
        key: ProofKey(u128::from_le_bytes(key)),
        epoch: epoch(row)?,
        ordinal: Ordinal(number(row, "ordinal")?),
    })
}

fn anchor(row: &Row<'_>) -> Result<wire::ClockAnchor, rusqlite::Error> {
    Ok(wire::ClockAnchor {
        boot_id: number(row, "boot_id")?,
        uptime_ms: number(row, "uptime_ms")?,
        unix_ms: row.get("unix_ms")?,
    })
}

fn start(row: &Row<'_>) -> Result<StartRow, rusqlite::Error> {
    Ok(StartRow {
        epoch: epoch(row)?,
        settled: Settled {
            ordinal: number(row, "settled_ordinal")?,
            sequence: number(row, "settled_sequence")?,
        },
    })
}

fn powered_mark(row: &Row<'_>) -> Result<PoweredMark, rusqlite::Error> {
    Ok(PoweredMark {
        boot_id: number(row, "boot_id")?,
        uptime: Uptime(number(row, "uptime_ms")?),
        powered_ms: number(row, "powered_ms")?,
    })
}
