//! Rows beside the batches ⇄ the core's types, and its operations as SQL.

use std::collections::BTreeSet;

use returnpath_delivery::{LedgerRow, Op, PoweredMark, ProofId, Settled, StartRow, Uptime};
use returnpath_shared::{BatchId, Epoch, Incarnation, Ordinal, ProofKey, Sequence, wire};
use rusqlite::{Connection, Row, params, types::ValueRef};

use super::{
    batches,
    epochs::Epochs,
    sealed::{self, column, damaged, epoch, number, small, stored},
};

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
    let delete = |sql: &str, key: u64| connection.execute(sql, [stored(key)]).map(drop);
    match op {
        Op::InsertBatch { batch, bytes } => batches::insert(connection, epochs, batch, bytes),
        Op::DeleteBatches { epoch, first, last } => {
            let key = |sequence: &Sequence| {
                epochs.key(BatchId {
                    epoch: *epoch,
                    sequence: *sequence,
                })
            };
            let Some((first, last)) = key(first).zip(key(last)) else {
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
        Op::LedgerDelete { number } => delete("DELETE FROM ledger WHERE number = ?", *number),
        Op::ProofIdPut(id) => put_proof(connection, id),
        Op::ProofIdsDeleteThrough { number } => {
            delete("DELETE FROM proof WHERE number <= ?", *number)
        }
        Op::AnchorPut(anchor) => {
            let columns = [
                column(anchor.boot_id),
                column(anchor.uptime_ms),
                ValueRef::Integer(anchor.unix_ms),
            ];
            sealed::put(connection, "anchor", &columns)
        }
        Op::AnchorDelete { boot_id } => delete("DELETE FROM anchor WHERE boot_id = ?", *boot_id),
        Op::StartPut(row) => put_start(connection, row),
        Op::StartDelete(epoch) => connection
            .execute(
                "DELETE FROM start WHERE incarnation = ? AND start = ?",
                params![stored(epoch.incarnation.get()), epoch.start],
            )
            .map(drop),
        Op::PoweredPut(mark) => {
            let columns = [0, mark.boot_id, mark.uptime.0, mark.powered_ms].map(column);
            sealed::put(connection, "powered", &columns)
        }
    }
}

fn put_ledger(connection: &Connection, row: &LedgerRow) -> Result<(), rusqlite::Error> {
    let columns = [
        row.number,
        row.reason as u64,
        row.refusal as u64,
        row.epoch.incarnation.get(),
        row.epoch.start.into(),
        row.first_sequence.0,
        row.last_sequence.0,
        row.first_ordinal.0,
        row.event_count,
        row.whole_epoch.into(),
    ];
    sealed::put(connection, "ledger", &columns.map(column))
}

fn put_proof(connection: &Connection, id: &ProofId) -> Result<(), rusqlite::Error> {
    let key = id.key.0.to_le_bytes();
    let columns = [
        column(id.number),
        ValueRef::Blob(&key),
        column(id.epoch.incarnation.get()),
        column(id.epoch.start.into()),
        column(id.ordinal.0),
    ];
    sealed::put(connection, "proof", &columns)
}

pub(super) fn put_start(connection: &Connection, row: &StartRow) -> Result<(), rusqlite::Error> {
    let columns = [
        row.epoch.incarnation.get(),
        row.epoch.start.into(),
        row.settled.ordinal,
        row.settled.sequence,
    ];
    sealed::put(connection, "start", &columns.map(column))
}

/// The row of the queue file itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct QueueRow {
    /// Its incarnation and its last start; 0 before the first.
    pub(super) epoch: Epoch,
    /// Latest trusted wall clock, seconds since 1970.
    pub(super) trusted_unix_s: u64,
}

impl QueueRow {
    /// Of a new file.
    pub(super) fn new(incarnation: Incarnation) -> Self {
        let epoch = Epoch {
            incarnation,
            start: 0,
        };
        Self {
            epoch,
            trusted_unix_s: 0,
        }
    }

    /// `None` in a file that was never started.
    pub(super) fn read(connection: &Connection) -> Result<Option<Self>, rusqlite::Error> {
        let mut found = None;
        sealed::each(connection, "queue", "", &mut |row| {
            found = Some(Self {
                epoch: epoch(row)?,
                trusted_unix_s: number(row, "trusted_unix_s")?,
            });
            Ok(())
        })?;
        Ok(found)
    }

    pub(super) fn put(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        let columns = [
            0,
            self.epoch.incarnation.get(),
            self.epoch.start.into(),
            // Of agents that trusted a file that was closed in order.
            0,
            self.trusted_unix_s,
        ];
        sealed::put(connection, "queue", &columns.map(column))
    }
}

/// Whether a file came to all of these starts, as far as they are its own. One
/// that did not has lost a part, and with it its own count.
pub(super) fn came_to(queue: Option<&QueueRow>, known: &BTreeSet<Epoch>) -> bool {
    known.iter().all(|epoch| {
        queue.is_some_and(|queue| {
            epoch.incarnation != queue.epoch.incarnation || epoch.start <= queue.epoch.start
        })
    })
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
        let outcomes = [
            sealed::each(connection, "ledger", " ORDER BY number", &mut |row| {
                facts.ledger.push(ledger(row)?);
                Ok(())
            }),
            sealed::each(connection, "proof", " ORDER BY number", &mut |row| {
                facts.proof_ids.push(proof(row)?);
                Ok(())
            }),
            sealed::each(connection, "anchor", "", &mut |row| {
                facts.anchors.push(anchor(row)?);
                Ok(())
            }),
            starts(connection, usize::MAX, &mut facts.starts),
            sealed::each(connection, "powered", "", &mut |row| {
                facts.powered = Some(powered_mark(row)?);
                Ok(())
            }),
        ];
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

/// Appends the starts that stand in the file, at most so many.
pub(super) fn starts(
    connection: &Connection,
    count_max: usize,
    into: &mut Vec<StartRow>,
) -> Result<(), rusqlite::Error> {
    let limit = [" LIMIT ", &count_max.min(i32::MAX as usize).to_string()].concat();
    sealed::each(connection, "start", &limit, &mut |row| {
        into.push(start(row)?);
        Ok(())
    })
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
