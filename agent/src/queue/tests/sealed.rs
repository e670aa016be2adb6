//! What the flash changed in a row is found, whichever row and column it is.

use super::*;

/// Holds a row of every table; two starts were made of it.
fn full(directory: &Directory) -> Epoch {
    let mut open = directory.open(1);
    let epoch = open.found().epoch;
    let settled = Settled::default();
    let mut ops = vec![
        insert(epoch, 1, 300),
        insert(earlier(7), 2, 300),
        Op::LedgerPut(LedgerRow {
            whole_epoch: false,
            event_count: 4,
            ..LedgerRow::corrupt_epoch(1, earlier(6))
        }),
        Op::ProofIdPut(ProofId {
            number: 1,
            key: ProofKey(3),
            epoch,
            ordinal: Ordinal(2),
        }),
        Op::AnchorPut(wire::ClockAnchor {
            boot_id: 1,
            uptime_ms: 3,
            unix_ms: -4,
        }),
        Op::PoweredPut(PoweredMark {
            boot_id: 1,
            uptime: Uptime(5),
            powered_ms: 6,
        }),
        Op::StartDelete(epoch),
    ];
    ops.push(Op::StartPut(StartRow {
        epoch: earlier(5),
        settled,
    }));
    assert_eq!(commit(&mut open, ops), CommitOutcome::Done);
    let file = open.file.as_mut().unwrap();
    let slot = SlotRow {
        slot: Slot {
            boot_id: 4,
            break_id: "break".into(),
            index: 1,
        },
        decision_id: "decision".into(),
        expiry_uptime_ms: 9,
        signed: vec![7; 90].into(),
    };
    assert_eq!(file.bind(1, &slot), CommitOutcome::Done);
    let config = StoredConfig {
        version: 3,
        signed: vec![9; 90].into(),
    };
    assert_eq!(file.store_config(&config), CommitOutcome::Done);
    close(open);
    // A start names beside the file what it finds in it.
    let mut open = directory.open(1);
    let ops = vec![Op::StartDelete(open.found().epoch)];
    assert_eq!(commit(&mut open, ops), CommitOutcome::Done);
    close(open);
    epoch
}

fn declared(open: &OpenQueue) -> Vec<Epoch> {
    let rows = open.found().ledger.iter();
    let rows = rows.filter(|row| row.whole_epoch);
    rows.map(|row| row.epoch).collect()
}

/// The columns of all tables, with their types.
fn columns(directory: &Directory) -> Vec<(String, String, String)> {
    let connection = Connection::open(directory.file()).unwrap();
    let sql = "SELECT m.name, c.name, c.type FROM sqlite_schema m, pragma_table_info(m.name) c
               WHERE m.type = 'table'";
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    columns.unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_column_that_is_not_what_it_was_is_found_in_every_table() {
    let pattern = Directory::new("columns-pattern");
    full(&pattern);
    let columns = columns(&pattern);
    assert_eq!(columns.len(), 63, "{columns:?}");
    for (table, column, kind) in columns {
        let directory = Directory::new("columns-each");
        let epoch = full(&directory);
        let connection = Connection::open(directory.file()).unwrap();
        let changed = match kind.as_str() {
            "INTEGER" => format!("{column} + 1"),
            "TEXT" => format!("{column} || 'x'"),
            _ => format!("zeroblob(length({column}))"),
        };
        // The first row is enough.
        let sql = format!(
            "PRAGMA ignore_check_constraints = ON;
             UPDATE {table} SET {column} = {changed}
             WHERE {column} = (SELECT max({column}) FROM {table})"
        );
        connection.execute_batch(&sql).unwrap();
        drop(connection);

        let told = format!("{table}.{column}");
        let mut open = directory.open(2);
        let found = open.found().clone();
        match (table.as_str(), column.as_str()) {
            // All that it vouches for is sound, by the other checksum.
            ("batch", "header") => {
                assert_eq!(found.epoch, Epoch { start: 3, ..epoch }, "{told}");
                assert_eq!(sequences(&mut open), [1, 2], "{told}");
            }
            // Known when it is asked for, with all that it held.
            ("batch", "bytes") => {
                assert_eq!(found.epoch, Epoch { start: 3, ..epoch }, "{told}");
                let rows = rows(&mut open);
                let file = open.file.as_mut().unwrap();
                let lost = rows.iter().filter(|row| file.load(row.id).is_none());
                assert_eq!(lost.count(), 1, "{told}");
            }
            _ => {
                assert_eq!(found.epoch.incarnation, incarnation(2), "{told}");
                // What is bound is of no epoch, and may cost none.
                for epoch in [epoch, earlier(7)] {
                    let is_declared = declared(&open).contains(&epoch);
                    let is_bound = ["slot", "config"].contains(&table.as_str());
                    assert!(is_declared || is_bound, "{told}: {epoch}");
                }
            }
        }
        close(open);
    }
}

#[test]
fn an_epoch_that_cannot_be_named_costs_its_batches_and_no_others() {
    let directory = Directory::new("epoch-row");
    let epoch = full(&directory);
    let connection = Connection::open(directory.file()).unwrap();
    let sql = "UPDATE epoch SET start = start + 20 WHERE start = 7";
    assert_eq!(connection.execute(sql, []).unwrap(), 1);
    drop(connection);
    let mut open = directory.open(2);
    assert_eq!(sequences(&mut open), [1]);
    let declared = declared(&open);
    assert!(declared.contains(&epoch), "{declared:?}");
    close(open);
}

/// Makes it what an agent of version 2 left.
fn make_older(directory: &Directory) {
    let connection = Connection::open(directory.file()).unwrap();
    let mut sql = String::new();
    for (table, column, _) in columns(directory) {
        if column == "header" || column == "checksum" && table != "batch" {
            sql.push_str(&format!("ALTER TABLE {table} DROP COLUMN {column};"));
        }
    }
    sql.push_str("PRAGMA user_version = 2; UPDATE queue SET clean = 1");
    connection.execute_batch(&sql).unwrap();
}

#[test]
fn a_file_of_the_second_version_goes_on_and_its_rows_are_sealed() {
    let (older, same) = (Directory::new("older"), Directory::new("same"));
    for directory in [&older, &same] {
        full(directory);
    }
    make_older(&older);
    let (mut open, mut expected) = (older.open(2), same.open(2));
    assert_eq!(*open.found(), *expected.found());
    assert_eq!(rows(&mut open), rows(&mut expected));
    let (id, bytes) = batch(earlier(7), 2, 300);
    assert_eq!(open.file.as_mut().unwrap().load(id.id), Some(bytes));
    close(open);
    close(expected);
    assert!(!older.bad().exists());

    let connection = Connection::open(older.file()).unwrap();
    let sql = "UPDATE ledger SET event_count = event_count + 1";
    assert_eq!(connection.execute(sql, []).unwrap(), 1);
    drop(connection);
    let open = older.open(3);
    assert_eq!(open.found().epoch.incarnation, incarnation(3));
    assert!(declared(&open).contains(&earlier(7)));
    close(open);
}

#[test]
fn of_a_damaged_file_of_the_second_version_all_that_reads_is_kept_and_all_is_declared() {
    let directory = Directory::new("older-damaged");
    let epoch = full(&directory);
    make_older(&directory);
    // Sequence 1 is filled with byte 1.
    assert_eq!(ruin(&directory.file(), &[1; 300]), 1);
    let open = directory.open(2);
    assert_eq!(open.found().epoch.incarnation, incarnation(2));
    assert_eq!(open.found().proof_ids.len(), 1);
    assert_eq!(open.found().slots.len(), 1);
    assert_eq!(open.found().ledger[0].event_count, 4);
    for epoch in [epoch, earlier(5), earlier(7)] {
        assert!(declared(&open).contains(&epoch), "{epoch}");
    }
    close(open);
}

#[test]
fn a_file_that_went_back_to_an_earlier_start_is_damaged() {
    let directory = Directory::new("backwards");
    let first = full(&directory);
    let before = fs::read(directory.file()).unwrap();
    let mut open = directory.open(2);
    let second = open.found().epoch;
    let ops = vec![insert(second, 1, 300), Op::StartDelete(second)];
    assert_eq!(commit(&mut open, ops), CommitOutcome::Done);
    close(open);
    fs::write(directory.file(), before).unwrap();

    let mut open = directory.open(3);
    assert_eq!(open.found().epoch.incarnation, incarnation(3));
    assert!(
        open.found()
            .ledger
            .iter()
            .all(|row| row.epoch != open.found().epoch)
    );
    assert!(declared(&open).contains(&second));
    let held = rows(&mut open);
    assert!(
        held.iter().any(|row| row.id.epoch == first),
        "what it has is sent"
    );
    close(open);
}

#[test]
fn a_row_that_is_gone_without_a_trace_in_any_other_is_declared() {
    let directory = Directory::new("vanished");
    let mut open = directory.open(1);
    let epoch = open.found().epoch;
    let ops = (1..=20).map(|sequence| insert(epoch, sequence, 300));
    assert_eq!(commit(&mut open, ops.collect()), CommitOutcome::Done);
    close(open);
    let mut bytes = fs::read(directory.file()).unwrap();
    // A leaf of a table begins so, and says then how many rows it has.
    let is_leaf = |page: &[u8]| page[0] == 0x0d && page.windows(300).any(|part| part == [8; 300]);
    let leaf = bytes.chunks_exact_mut(1_024).find(|page| is_leaf(page));
    let leaf = leaf.unwrap();
    assert!(leaf[4] > 1);
    leaf[4] -= 1;
    fs::write(directory.file(), bytes).unwrap();
    let mut open = directory.open(2);
    assert_eq!(sequences(&mut open).len(), 19);
    assert_eq!(declared(&open), [epoch]);
    close(open);
}

#[test]
fn a_file_that_cannot_be_written_any_more_because_it_says_so_is_copied() {
    let directory = Directory::new("write-version");
    let epoch = full(&directory);
    let mut bytes = fs::read(directory.file()).unwrap();
    // File format write version: 2 is the highest that SQLite writes.
    assert_eq!(bytes[18], 2);
    bytes[18] = 200;
    fs::write(directory.file(), bytes).unwrap();
    let mut open = directory.open(2);
    assert_eq!(open.found().epoch.incarnation, incarnation(2));
    assert_eq!(sequences(&mut open), [1, 2]);
    assert!(rows(&mut open).iter().any(|row| row.id.epoch == epoch));
    close(open);
}
