//! Rows that carry a checksum: SQLite has none, and a row that the flash changed
//! looks like any other. Every table has it but `batch`, whose rows are
//! `batches.rs`'s.
//!
//! That no row is gone altogether is told by the structure of the trees, which
//! each start checks.

use returnpath_shared::{Epoch, Incarnation};
use rusqlite::{
    Connection, Row,
    types::{ToSqlOutput, Value, ValueRef},
};

use super::checksum::Fnv;

/// The column behind those that it covers.
const CHECKSUM: &str = "checksum";

/// The tables, for [`seal`].
const TABLES: [&str; 9] = [
    "queue", "epoch", "ledger", "proof", "anchor", "start", "powered", "slot", "config",
];

/// What SQLite stores of a `u64`: the same 64 bits.
pub(super) fn stored(value: u64) -> i64 {
    value.cast_signed()
}

/// A column that holds a number.
pub(super) fn column(value: u64) -> ValueRef<'static> {
    ValueRef::Integer(stored(value))
}

pub(super) fn number(row: &Row<'_>, column: &str) -> Result<u64, rusqlite::Error> {
    row.get(column).map(i64::cast_unsigned)
}

/// A column whose value cannot be what this agent wrote.
pub(super) fn damaged() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
        Some("a row holds what no agent wrote".into()),
    )
}

pub(super) fn small<T: TryFrom<u64>>(row: &Row<'_>, column: &str) -> Result<T, rusqlite::Error> {
    T::try_from(number(row, column)?).map_err(|_too_large| damaged())
}

pub(super) fn epoch(row: &Row<'_>) -> Result<Epoch, rusqlite::Error> {
    Ok(Epoch {
        incarnation: Incarnation::new(number(row, "incarnation")?).ok_or_else(damaged)?,
        start: small(row, "start")?,
    })
}

/// Puts a row in place of the one with its key.
pub(super) fn put(
    connection: &Connection,
    table: &str,
    columns: &[ValueRef<'_>],
) -> Result<(), rusqlite::Error> {
    let mut sql = ["INSERT OR REPLACE INTO ", table, " VALUES ("].concat();
    for _ in columns {
        sql.push_str("?, ");
    }
    sql.push_str("?)");
    let mut statement = connection.prepare(&sql)?;
    let mut sum = begin(table);
    for (index, column) in (1..).zip(columns) {
        add(&mut sum, *column);
        statement.raw_bind_parameter(index, ToSqlOutput::Borrowed(*column))?;
    }
    statement.raw_bind_parameter(columns.len() + 1, sum.folded())?;
    statement.raw_execute().map(drop)
}

/// Gives the rows of a table, in an order, that are as they were written, and
/// afterwards the first error. Of a file whose rows have no checksums yet it
/// gives all, with an error: nothing vouches for them.
pub(super) fn each(
    connection: &Connection,
    table: &str,
    order: &str,
    take: &mut dyn FnMut(&Row<'_>) -> Result<(), rusqlite::Error>,
) -> Result<(), rusqlite::Error> {
    let mut statement = connection.prepare(&["SELECT * FROM ", table, order].concat())?;
    let mut rows = statement.query([])?;
    let mut outcome = Ok(());
    while let Some(row) = rows.next()? {
        let judged = match check(row, table) {
            Err(error @ rusqlite::Error::InvalidColumnName(_)) => take(row).and(Err(error)),
            Err(error) => Err(error),
            Ok(()) => take(row),
        };
        outcome = outcome.and(judged);
    }
    outcome
}

fn check(row: &Row<'_>, table: &str) -> Result<(), rusqlite::Error> {
    let end = row.as_ref().column_index(CHECKSUM)?;
    let mut sum = begin(table);
    for index in 0..end {
        add(&mut sum, row.get_ref(index)?);
    }
    let is_sound = matches!(row.get_ref(end)?, ValueRef::Integer(found) if found == sum.folded());
    is_sound.then_some(()).ok_or_else(damaged)
}

/// Gives the rows of a file of before their checksums.
pub(super) fn seal(connection: &Connection) -> Result<(), rusqlite::Error> {
    for table in TABLES {
        let mut statement = connection.prepare(&["SELECT * FROM ", table].concat())?;
        let end = statement.column_index(CHECKSUM)?;
        let mut rows = statement.query([])?;
        let mut found: Vec<Vec<Value>> = Vec::new();
        while let Some(row) = rows.next()? {
            let columns = (0..end).map(|index| row.get(index));
            found.push(columns.collect::<Result<_, _>>()?);
        }
        for row in &found {
            let columns: Vec<ValueRef<'_>> = row.iter().map(ValueRef::from).collect();
            put(connection, table, &columns)?;
        }
    }
    Ok(())
}

fn begin(table: &str) -> Fnv {
    let mut sum = Fnv::new();
    sum.add(table.as_bytes());
    sum
}

/// Each with its length, so that nothing can move from one to the next.
fn add(sum: &mut Fnv, column: ValueRef<'_>) {
    match column {
        ValueRef::Integer(number) => sum.add_number(number.cast_unsigned()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            sum.add_number(bytes.len() as u64);
            sum.add(bytes);
        }
        // No agent writes these.
        ValueRef::Null | ValueRef::Real(_) => sum.add(&[0]),
    }
}
