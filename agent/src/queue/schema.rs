//! Brings a queue file to the version that this agent knows.

use rusqlite::{Connection, TransactionBehavior};

use super::sealed::seal;

/// Statements that lead from version `index` to `index + 1`.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("migrations/1.sql"),
    include_str!("migrations/2.sql"),
    include_str!("migrations/3.sql"),
];

/// The version in which rows got checksums.
const SEALED: usize = 3;

/// Applies what is missing, each step in a transaction of its own with the
/// version it leads to. A file of a later version is left as it is: later
/// versions only add.
///
/// Returns the version that the file had.
pub(super) fn migrate(
    connection: &mut Connection,
    migrations: &[&str],
) -> Result<usize, rusqlite::Error> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let found = usize::try_from(found).unwrap_or(usize::MAX);
    for (version, statements) in migrations.iter().enumerate().skip(found) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(statements)?;
        let version = version + 1;
        if version == SEALED {
            seal(&transaction)?;
        }
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXT: &str = "ALTER TABLE queue ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'";

    fn version(connection: &Connection) -> u32 {
        connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap()
    }

    #[test]
    fn each_missing_step_is_applied_once_and_rows_stay() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert_eq!(migrate(&mut connection, MIGRATIONS).unwrap(), 0);
        connection
            .execute("INSERT INTO queue (id, incarnation) VALUES (0, 7)", [])
            .unwrap();
        let longer: Vec<&str> = MIGRATIONS.iter().copied().chain([NEXT]).collect();
        for found in [MIGRATIONS.len(), longer.len()] {
            assert_eq!(migrate(&mut connection, &longer).unwrap(), found);
        }
        let row: (i64, String) = connection
            .query_row("SELECT incarnation, colour FROM queue", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        assert_eq!(row, (7, "blue".into()));
        assert_eq!(version(&connection) as usize, longer.len());
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        let broken = [
            MIGRATIONS[0],
            "CREATE TABLE new (a); CREATE TABLE queue (a)",
        ];
        assert!(migrate(&mut connection, &broken).is_err());
        assert_eq!(version(&connection), 1);
        assert!(connection.prepare("SELECT * FROM new").is_err());
    }

    #[test]
    fn a_file_of_a_later_version_is_left_as_it_is() {
        let mut connection = Connection::open_in_memory().unwrap();
        let longer: Vec<&str> = MIGRATIONS.iter().copied().chain([NEXT]).collect();
        migrate(&mut connection, &longer).unwrap();
        assert_eq!(migrate(&mut connection, MIGRATIONS).unwrap(), longer.len());
        assert_eq!(version(&connection) as usize, longer.len());
    }
}
