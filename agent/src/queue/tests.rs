use std::{
    io::{Seek as _, SeekFrom, Write as _},
    path::PathBuf,
};

use returnpath_delivery::{
    Durability, LedgerRow, Op, Powered, PoweredMark, ProofId, Settled, StartRow, StoredBatch,
    UNCLEAN_MAX, Uptime,
};
use returnpath_shared::{Class, Ordinal, ProofKey, Sequence, wire};
use rusqlite::Connection;

use super::{
    file::QueueFile,
    worker::{Whose, Worker},
    *,
};

pub(super) mod disk;
mod power_cut;
mod sealed;
mod way_back;

const BYTES_MAX: u64 = 1 << 20;

fn incarnation(number: u64) -> Incarnation {
    Incarnation::new(number).unwrap()
}

/// A directory of a test's own, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!(
            "returnpath-queue-{name}-{}-{:x}",
            std::process::id(),
            crate::clock::random_u64()
        ));
        Self(path)
    }

    fn open(&self, new_incarnation: u64) -> OpenQueue {
        OpenQueue::open(&self.0, BYTES_MAX, incarnation(new_incarnation)).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.0.join("queue.db")
    }

    fn bad(&self) -> PathBuf {
        self.0.join("queue.bad")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn batch(epoch: Epoch, sequence: u64, length: usize) -> (StoredBatch, Bytes) {
    let row = StoredBatch {
        id: BatchId {
            epoch,
            sequence: Sequence(sequence),
        },
        boot_id: u64::MAX - sequence,
        class: if sequence.is_multiple_of(2) {
            Class::Proof
        } else {
            Class::Ordinary
        },
        codec: wire::Codec::Deflate,
        size_bytes: u32::try_from(length).unwrap(),
        first_ordinal: Ordinal(sequence * 3),
        events: 3,
        viewing: sequence.is_multiple_of(3),
        opened: Powered {
            seconds: u32::try_from(sequence).unwrap(),
        },
    };
    let fill = u8::try_from(sequence % 251).unwrap();
    (row, vec![fill; length].into())
}

fn insert(epoch: Epoch, sequence: u64, length: usize) -> Op {
    let (batch, bytes) = batch(epoch, sequence, length);
    Op::InsertBatch { batch, bytes }
}

fn commit(open: &mut OpenQueue, ops: Vec<Op>) -> CommitOutcome {
    commit_as(open, Durability::Synced, ops)
}

fn commit_as(open: &mut OpenQueue, durability: Durability, ops: Vec<Op>) -> CommitOutcome {
    open.file.as_mut().unwrap().commit(&Commit {
        number: 1,
        durability,
        ops,
    })
}

fn rows(open: &mut OpenQueue) -> Vec<StoredBatch> {
    open.each_batch(|batches| batches.collect())
}

fn sequences(open: &mut OpenQueue) -> Vec<u64> {
    let rows = rows(open);
    rows.iter().map(|row| row.id.sequence.0).collect()
}

fn close(open: OpenQueue) {
    open.file.unwrap().close().unwrap();
}

/// Leaves the file as a killed process does.
fn kill(open: OpenQueue) {
    // Closing would copy the log back; the operating system keeps what was
    // written either way.
    std::mem::forget(open);
}

/// A copy of the directory as it lies there, since a forgotten connection
/// keeps its lock on the original.
fn reopen_after_kill(
    directory: &Directory,
    open: OpenQueue,
    new_incarnation: u64,
) -> (Directory, OpenQueue) {
    kill(open);
    let copy = Directory::new("copy");
    fs::create_dir(&copy.0).unwrap();
    for entry in fs::read_dir(&directory.0).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.0.join(entry.file_name())).unwrap();
    }
    let open = copy.open(new_incarnation);
    (copy, open)
}

#[test]
fn every_start_of_a_file_gets_a_later_epoch() {
    let directory = Directory::new("epochs");
    for start in 1..4 {
        let open = directory.open(100 + u64::from(start));
        let epoch = open.found().epoch;
        assert_eq!((epoch.incarnation.get(), epoch.start), (101, start));
        close(open);
    }
}

#[test]
fn batches_come_back_as_they_were_oldest_first() {
    let directory = Directory::new("batches");
    let mut first = directory.open(1);
    let epoch = first.found().epoch;
    let ops = [3, 1, 2]
        .map(|sequence| insert(epoch, sequence, 5_000))
        .to_vec();
    assert_eq!(commit(&mut first, ops), CommitOutcome::Done);
    close(first);

    let mut second = directory.open(2);
    let later = second.found().epoch;
    let ops = vec![insert(later, 1, 10)];
    assert_eq!(commit(&mut second, ops), CommitOutcome::Done);
    let expected: Vec<_> = [
        (epoch, 1, 5_000),
        (epoch, 2, 5_000),
        (epoch, 3, 5_000),
        (later, 1, 10),
    ]
    .map(|(epoch, sequence, length)| batch(epoch, sequence, length))
    .to_vec();
    let found = rows(&mut second);
    assert_eq!(
        found,
        expected.iter().map(|(row, _)| *row).collect::<Vec<_>>()
    );
    for (row, bytes) in expected {
        assert_eq!(second.file.as_mut().unwrap().load(row.id), Some(bytes));
    }
}

#[test]
fn a_range_of_one_epoch_is_deleted_and_nothing_else() {
    let directory = Directory::new("delete");
    let mut open = directory.open(1);
    let epoch = open.found().epoch;
    let other = Epoch { start: 9, ..epoch };
    let mut ops: Vec<_> = (1..=5).map(|sequence| insert(epoch, sequence, 9)).collect();
    ops.push(insert(other, 3, 9));
    ops.push(Op::DeleteBatches {
        epoch,
        first: Sequence(2),
        last: Sequence(4),
    });
    ops.push(Op::DeleteBatches {
        epoch: Epoch { start: 77, ..epoch },
        first: Sequence(1),
        last: Sequence(9),
    });
    assert_eq!(commit(&mut open, ops), CommitOutcome::Done);
    assert_eq!(sequences(&mut open), [1, 5, 3]);
    let gone = BatchId {
        epoch,
        sequence: Sequence(3),
    };
    assert_eq!(open.file.as_mut().unwrap().load(gone), None);
}

#[test]
fn facts_beside_batches_survive_and_leave_by_their_keys() {
    let directory = Directory::new("facts");
    let mut open = directory.open(1);
    let epoch = open.found().epoch;
    let ledger = |number| LedgerRow {
        number,
        reason: wire::DropReason::Refused,
        refusal: wire::RefusalReason::TooLarge,
        epoch,
        first_sequence: Sequence(u64::MAX),
        last_sequence: Sequence(u64::MAX),
        first_ordinal: Ordinal(4),
        event_count: 5,
        whole_epoch: true,
    };
    let proof = |number| ProofId {
        number,
        key: ProofKey(u128::MAX - 7),
        epoch,
        ordinal: Ordinal(2),
    };
    let anchor = |boot_id| wire::ClockAnchor {
        boot_id,
        uptime_ms: 3,
        unix_ms: -4,
    };
    let powered = PoweredMark {
        boot_id: 1 << 63,
        uptime: Uptime(5),
        powered_ms: 6,
    };
    let settled = Settled {
        ordinal: 8,
        sequence: 9,
    };
    let ops = vec![
        Op::LedgerPut(ledger(1)),
        Op::LedgerPut(ledger(2)),
        Op::LedgerDelete { number: 1 },
        Op::ProofIdPut(proof(1)),
        Op::ProofIdPut(proof(2)),
        Op::ProofIdPut(proof(3)),
        Op::ProofIdsDeleteThrough { number: 2 },
        Op::AnchorPut(anchor(1)),
        Op::AnchorPut(anchor(u64::MAX)),
        Op::AnchorDelete { boot_id: 1 },
        Op::StartPut(StartRow { epoch, settled }),
        Op::PoweredPut(powered),
    ];
    assert_eq!(commit(&mut open, ops), CommitOutcome::Done);
    close(open);

    let open = directory.open(2);
    let found = open.found();
    assert_eq!(found.ledger, [ledger(2)]);
    assert_eq!(found.proof_ids, [proof(3)]);
    assert_eq!(found.anchors, [anchor(u64::MAX)]);
    assert_eq!(found.unclean, [StartRow { epoch, settled }]);
    assert_eq!(found.powered, Some(powered));
    close(open);
}

#[test]
fn what_was_committed_survives_a_kill_and_the_start_is_known_to_be_unclean() {
    let directory = Directory::new("kill");
    let mut open = directory.open(1);
    let epoch = open.found().epoch;
    let ops = vec![insert(epoch, 1, 100)];
    assert_eq!(commit(&mut open, ops), CommitOutcome::Done);
    let (_copy, mut after) = reopen_after_kill(&directory, open, 2);
    assert_eq!(after.found().epoch, Epoch { start: 2, ..epoch });
    let unclean: Vec<_> = after.found().unclean.iter().map(|row| row.epoch).collect();
    assert_eq!(unclean, [epoch]);
    assert_eq!(sequences(&mut after), [1]);
}

#[test]
fn of_many_starts_so_many_are_read_as_are_declared_at_once_and_two() {
    let directory = Directory::new("starts");
    let mut open = directory.open(1);
    let epoch = open.found().epoch;
    let starts = 2..=2 * u32::try_from(UNCLEAN_MAX).unwrap();
    let row = |start| StartRow {
        epoch: Epoch { start, ..epoch },
        settled: Settled {
            ordinal: start.into(),
            sequence: 2,
        },
    };
    let ops = starts.clone().map(|start| Op::StartPut(row(start)));
    assert_eq!(commit(&mut open, ops.collect()), CommitOutcome::Done);
    let mut worker = Worker::new(open.paths.clone(), BYTES_MAX, open.file);
    let mut read = || match worker.carry_out(Request::ReadStarts) {
        Some(Outcome::Starts(rows)) => rows,
        other => panic!("{other:?}"),
    };
    let rows = read().unwrap();
    assert_eq!(rows.len(), UNCLEAN_MAX + 2);
    assert!(
        rows[1..].iter().eq(starts
            .map(row)
            .take(UNCLEAN_MAX + 1)
            .collect::<Vec<_>>()
            .iter())
    );

    let connection = worker.file.as_ref().unwrap().connection();
    let rot = "UPDATE start SET settled_ordinal = 9999 WHERE start = 7";
    assert_eq!(connection.execute(rot, []).unwrap(), 1);
    let mut read = || worker.carry_out(Request::ReadStarts);
    for _ in 0..2 {
        assert!(matches!(read(), Some(Outcome::Starts(None))));
    }
    assert!(worker.file.as_ref().unwrap().is_damaged());
}

#[test]
fn a_clean_stop_leaves_nothing_to_declare() {
    let directory = Directory::new("clean");
    let mut open = directory.open(1);
    let epoch = open.found().epoch;
    assert_eq!(
        commit(&mut open, vec![Op::StartDelete(epoch)]),
        CommitOutcome::Done
    );
    close(open);
    let open = directory.open(2);
    assert_eq!(open.found().unclean, []);
    close(open);
}

#[test]
fn a_queue_that_is_open_cannot_be_opened_again() {
    let directory = Directory::new("twice");
    let open = directory.open(1);
    let error = OpenQueue::open(&directory.0, BYTES_MAX, incarnation(2)).unwrap_err();
    assert!(error.is_in_use(), "{error:?}");
    close(open);
}

#[test]
fn no_start_makes_a_file_of_shared_memory() {
    let directory = Directory::new("shared-memory");
    for start in 1..3 {
        let mut open = directory.open(start);
        let epoch = open.found().epoch;
        let ops = vec![insert(epoch, 1, 100)];
        assert_eq!(commit(&mut open, ops), CommitOutcome::Done);
        let files: Vec<_> = disk::medium::read(&directory.0).into_keys().collect();
        assert_eq!(
            files,
            ["queue.db", "queue.db-wal", "queue.epochs"],
            "start {start}"
        );
        close(open);
    }
}

#[test]
fn a_full_file_refuses_and_goes_on_once_there_is_room() {
    let directory = Directory::new("full");
    let mut open = directory.open(1);
    let epoch = open.found().epoch;
    let mut sequence = 0;
    let refusal = loop {
        sequence += 1;
        assert!(sequence < 100, "no bound");
        let outcome = commit(&mut open, vec![insert(epoch, sequence, 40_000)]);
        if outcome != CommitOutcome::Done {
            break outcome;
        }
    };
    assert_eq!(refusal, CommitOutcome::RolledBack);
    assert_eq!(sequences(&mut open).len() as u64, sequence - 1);
    let room = Op::DeleteBatches {
        epoch,
        first: Sequence(1),
        last: Sequence(2),
    };
    assert_eq!(commit(&mut open, vec![room]), CommitOutcome::Done);
    let ops = vec![insert(epoch, sequence, 40_000)];
    assert_eq!(commit(&mut open, ops), CommitOutcome::Done);
    assert!(fs::metadata(directory.file()).unwrap().len() <= BYTES_MAX);
}

#[test]
fn a_rolled_back_commit_leaves_no_trace_of_its_epoch() {
    let directory = Directory::new("rollback");
    let mut open = directory.open(1);
    let epoch = open.found().epoch;
    let later = Epoch { start: 5, ..epoch };
    let too_much = (1..60)
        .map(|sequence| insert(later, sequence, 40_000))
        .collect();
    assert_eq!(commit(&mut open, too_much), CommitOutcome::RolledBack);
    assert_eq!(
        commit(&mut open, vec![insert(later, 1, 10)]),
        CommitOutcome::Done
    );
    close(open);
    assert_eq!(sequences(&mut directory.open(2)), [1]);
}

#[test]
fn a_file_that_is_no_database_is_set_aside_and_a_new_one_begun() {
    let directory = Directory::new("garbage");
    fs::create_dir(&directory.0).unwrap();
    fs::write(directory.file(), vec![b'x'; 9_000]).unwrap();
    let open = directory.open(7);
    assert_eq!(open.found().epoch.incarnation.get(), 7);
    assert_eq!(fs::read(directory.bad()).unwrap(), vec![b'x'; 9_000]);
    close(open);
}

/// Overwrites every page that holds `marker`.
fn ruin(path: &Path, marker: &[u8]) -> usize {
    let bytes = fs::read(path).unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let mut ruined = 0;
    for (number, page) in bytes.chunks(1_024).enumerate() {
        if page.windows(marker.len()).any(|window| window == marker) {
            file.seek(SeekFrom::Start(number as u64 * 1_024)).unwrap();
            file.write_all(&[0xa5; 1_024]).unwrap();
            ruined += 1;
        }
    }
    ruined
}

#[test]
fn a_bad_page_costs_what_was_on_it_and_the_rest_moves_to_a_new_file() {
    let directory = Directory::new("salvage");
    let mut open = directory.open(1);
    let epoch = open.found().epoch;
    let ops = (1..=200)
        .map(|sequence| insert(epoch, sequence, 300))
        .collect();
    assert_eq!(commit(&mut open, ops), CommitOutcome::Done);
    close(open);
    // Sequence 100 is filled with byte 100; its page also holds neighbours.
    assert_eq!(ruin(&directory.file(), &[100; 300]), 1);

    let mut open = directory.open(2);
    let found = open.found().clone();
    assert_eq!(found.epoch.incarnation.get(), 2, "a fresh incarnation");
    assert_eq!(
        found.ledger,
        [LedgerRow::corrupt_epoch(1, epoch)],
        "the loss is known"
    );
    let left = sequences(&mut open);
    assert!(!left.contains(&100));
    assert!(
        left.len() >= 195 && left.contains(&1) && left.contains(&200),
        "{left:?}"
    );
    assert!(directory.bad().exists());
    let kept = batch(epoch, 200, 300);
    assert_eq!(open.file.as_mut().unwrap().load(kept.0.id), Some(kept.1));
    close(open);
    // And the new file is an ordinary one.
    let open = directory.open(3);
    assert_eq!(
        (
            open.found().epoch.incarnation.get(),
            open.found().epoch.start
        ),
        (2, 2)
    );
    assert_eq!(open.found().ledger, found.ledger, "until the cloud has it");
    close(open);
}

#[test]
fn bytes_that_rotted_are_not_given_out_and_no_more_is_entrusted_to_the_file() {
    let directory = Directory::new("rot");
    let mut open = directory.open(1);
    let epoch = open.found().epoch;
    let ops = vec![insert(epoch, 1, 300), insert(epoch, 2, 300)];
    assert_eq!(commit(&mut open, ops), CommitOutcome::Done);
    close(open);
    let connection = Connection::open(directory.file()).unwrap();
    let changed = connection.execute(
        "UPDATE batch SET bytes = zeroblob(300) WHERE key & 1 = 1",
        [],
    );
    assert_eq!(changed.unwrap(), 1);
    drop(connection);

    let open = directory.open(2);
    let mut worker = Worker::new(open.paths.clone(), BYTES_MAX, open.file);
    let load = |worker: &mut Worker, sequence| {
        let id = batch(epoch, sequence, 300).0.id;
        match worker.carry_out(Request::Load(id)) {
            Some(Outcome::Loaded { bytes, .. }) => bytes,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(load(&mut worker, 2), Some(batch(epoch, 2, 300).1));
    assert_eq!(load(&mut worker, 1), None);
    let commit = Commit {
        number: 4,
        durability: Durability::Behind,
        ops: Vec::new(),
    };
    let outcome = worker.carry_out(Request::Commit(commit));
    assert!(matches!(
        outcome,
        Some(Outcome::Committed {
            number: 4,
            outcome: CommitOutcome::Failed
        })
    ));
    match worker.carry_out(rebuild(9, &[epoch])) {
        Some(Outcome::Rebuilt {
            epoch: new,
            copied,
            declared,
        }) => {
            assert_eq!((new.incarnation.get(), new.start), (9, 1));
            assert_eq!(copied, [batch(epoch, 2, 300).0.id]);
            assert_eq!(declared, [1]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(load(&mut worker, 2), Some(batch(epoch, 2, 300).1));
    assert!(matches!(
        worker.carry_out(Request::Close),
        Some(Outcome::Closed)
    ));
}

fn rebuild(new_incarnation: u64, epochs: &[Epoch]) -> Request {
    Request::Rebuild {
        incarnation: incarnation(new_incarnation),
        epochs: epochs.to_vec(),
    }
}

/// A file whose batches are these, the first of each epoch rotten.
fn rotten(directory: &Directory, batches: &[(Epoch, u64)]) {
    let mut open = directory.open(1);
    let ops = batches
        .iter()
        .map(|(epoch, sequence)| insert(*epoch, *sequence, 300));
    assert_eq!(commit(&mut open, ops.collect()), CommitOutcome::Done);
    close(open);
    let connection = Connection::open(directory.file()).unwrap();
    let rot = "UPDATE batch SET bytes = zeroblob(300) WHERE key & 0xffff = 1";
    assert!(connection.execute(rot, []).unwrap() > 0);
}

/// Of a file that this one is a copy of.
fn earlier(start: u32) -> Epoch {
    Epoch {
        incarnation: incarnation(90),
        start,
    }
}

#[test]
fn a_new_file_declares_what_it_lacks_even_if_the_power_goes_right_after() {
    let directory = Directory::new("declared");
    rotten(
        &directory,
        &[(earlier(7), 1), (earlier(7), 2), (earlier(8), 2)],
    );
    let mut open = directory.open(2);
    let told = LedgerRow {
        reason: wire::DropReason::QueueFull,
        whole_epoch: false,
        ..LedgerRow::corrupt_epoch(40, earlier(6))
    };
    assert_eq!(
        commit(&mut open, vec![Op::LedgerPut(told)]),
        CommitOutcome::Done
    );
    let paths = open.paths.clone();
    let old = open.file.take();
    let held = [earlier(7), earlier(8)];
    let new = salvage::replace(&paths, old, &held, BYTES_MAX, incarnation(3)).unwrap();
    assert_eq!(new.declared, [41], "above those that were copied");
    open.file = Some(new.file);
    // Nothing was committed on the new file.
    let (_copy, mut after) = reopen_after_kill(&directory, open, 4);
    assert_eq!(
        after.found().ledger,
        [told, LedgerRow::corrupt_epoch(41, earlier(7))]
    );
    assert_eq!(sequences(&mut after), [2, 2]);
}

#[test]
fn a_new_file_that_was_not_taken_up_yet_declares_what_it_lacks() {
    let directory = Directory::new("declared-new");
    rotten(&directory, &[(earlier(7), 1), (earlier(7), 2)]);
    let mut open = directory.open(2);
    let old = open.file.take();
    let paths = open.paths.clone();
    let new = salvage::replace(&paths, old, &[], BYTES_MAX, incarnation(3)).unwrap();
    new.file.close().unwrap();
    // As a power cut between the two renames leaves it.
    fs::rename(directory.file(), directory.0.join("queue.new")).unwrap();
    let open = directory.open(4);
    assert_eq!(
        open.found().ledger,
        [LedgerRow::corrupt_epoch(1, earlier(7))]
    );
    close(open);
}

#[test]
fn a_second_rebuild_declares_no_epoch_again() {
    let directory = Directory::new("declared-twice");
    rotten(&directory, &[(earlier(7), 1)]);
    let open = directory.open(2);
    let mut file = open.file;
    for (rebuild, declared) in [(3, vec![1]), (4, vec![])] {
        let held = [earlier(7)];
        let new = salvage::replace(
            &open.paths,
            file.take(),
            &held,
            BYTES_MAX,
            incarnation(rebuild),
        )
        .unwrap();
        assert_eq!(new.declared, declared);
        let ledger = &new.started.facts.ledger;
        assert_eq!(*ledger, [LedgerRow::corrupt_epoch(1, earlier(7))]);
        file = Some(new.file);
    }
}

#[test]
fn a_file_that_cannot_be_opened_or_is_gone_costs_the_epochs_that_the_core_holds() {
    for ruined in [Some(vec![b'x'; 9_000]), None] {
        let directory = Directory::new("gone");
        let mut open = directory.open(1);
        let epoch = open.found().epoch;
        let ops = vec![insert(epoch, 1, 300)];
        assert_eq!(commit(&mut open, ops), CommitOutcome::Done);
        let paths = open.paths.clone();
        close(open);
        match ruined {
            Some(bytes) => fs::write(directory.file(), bytes).unwrap(),
            None => fs::remove_file(directory.file()).unwrap(),
        }
        let mut worker = Worker {
            paths,
            bytes_max: BYTES_MAX,
            file: None,
            whose: Whose::Known,
        };
        match worker.carry_out(rebuild(9, &[epoch])) {
            Some(Outcome::Rebuilt {
                copied, declared, ..
            }) => assert_eq!((copied, declared), (vec![], vec![1])),
            other => panic!("{other:?}"),
        }
        worker.carry_out(Request::Close);
        let open = directory.open(10);
        assert_eq!(open.found().ledger, [LedgerRow::corrupt_epoch(1, epoch)]);
        close(open);
    }
}

#[test]
fn a_start_declares_what_a_file_held_of_which_nothing_can_be_read() {
    for ruined in [
        Some(vec![b'x'; 9_000]),
        Some(vec![b'S']),
        Some(Vec::new()),
        None,
    ] {
        let directory = Directory::new("unreadable");
        let mut open = directory.open(1);
        let told = LedgerRow::corrupt_epoch(7, earlier(40));
        let ops = vec![Op::LedgerPut(told), insert(earlier(41), 1, 300)];
        assert_eq!(commit(&mut open, ops), CommitOutcome::Done);
        close(open);
        close(directory.open(2));
        match &ruined {
            Some(bytes) => fs::write(directory.file(), bytes).unwrap(),
            None => fs::remove_file(directory.file()).unwrap(),
        }
        let open = directory.open(3);
        assert_eq!(
            open.found().epoch,
            Epoch {
                incarnation: incarnation(3),
                start: 1
            }
        );
        let declared: Vec<Epoch> = open.found().ledger.iter().map(|row| row.epoch).collect();
        // The last run, and what it found.
        let last = Epoch {
            incarnation: incarnation(1),
            start: 2,
        };
        for epoch in [last, earlier(40), earlier(41)] {
            assert!(declared.contains(&epoch), "{epoch} of {declared:?}");
        }
        close(open);
        let open = directory.open(4);
        assert_eq!(open.found().ledger.len(), declared.len(), "once");
        close(open);
    }
}

#[test]
fn a_file_whose_columns_are_called_otherwise_is_damaged() {
    let directory = Directory::new("columns");
    for (number, column) in (1..).zip(["trusted_unix_s", "first_ordinal", "settled_ordinal"]) {
        let mut open = directory.open(number);
        let epoch = open.found().epoch;
        assert_eq!(
            commit(&mut open, vec![insert(epoch, 1, 300)]),
            CommitOutcome::Done
        );
        close(open);
        let mut bytes = fs::read(directory.file()).unwrap();
        let name = column.as_bytes();
        let mut begins = 0..bytes.len() - name.len();
        while let Some(at) = begins.find(|at| bytes[*at..].starts_with(name)) {
            bytes[at] ^= 1;
        }
        fs::write(directory.file(), bytes).unwrap();
        let open = directory.open(number + 100);
        let declared: Vec<Epoch> = open.found().ledger.iter().map(|row| row.epoch).collect();
        assert!(
            declared.contains(&epoch),
            "{column}: {epoch} of {declared:?}"
        );
        close(open);
    }
}

#[test]
fn an_entry_beside_the_queue_that_is_damaged_costs_no_other() {
    let directory = Directory::new("entry");
    let mut open = directory.open(1);
    let ops = (41..44).map(|start| insert(earlier(start), 1, 300));
    assert_eq!(commit(&mut open, ops.collect()), CommitOutcome::Done);
    close(open);
    close(directory.open(2));
    let beside = directory.0.join("queue.epochs");
    let mut bytes = fs::read(&beside).unwrap();
    // Incarnation, start, checksum.
    let mut entries = bytes.chunks_exact_mut(20);
    let entry = entries.find(|entry| entry[8..12] == 42_u32.to_le_bytes());
    entry.unwrap()[3] ^= 1;
    bytes.extend_from_slice(&[9; 7]);
    fs::write(&beside, bytes).unwrap();
    fs::remove_file(directory.file()).unwrap();
    let open = directory.open(3);
    let declared: Vec<Epoch> = open.found().ledger.iter().map(|row| row.epoch).collect();
    assert!(!declared.contains(&earlier(42)), "{declared:?}");
    for epoch in [earlier(41), earlier(43)] {
        assert!(declared.contains(&epoch), "{epoch} of {declared:?}");
    }
    close(open);
}

#[test]
fn the_queue_of_earlier_runs_is_left_alone_by_a_run_that_could_not_read_it() {
    let directory = Directory::new("later");
    let mut open = directory.open(1);
    let epoch = open.found().epoch;
    let ops = vec![insert(epoch, 1, 300)];
    assert_eq!(commit(&mut open, ops), CommitOutcome::Done);
    let paths = open.paths.clone();
    close(open);
    let mut worker = Worker::new(paths, BYTES_MAX, None);
    for _ in 0..2 {
        let outcome = worker.carry_out(rebuild(9, &[]));
        assert!(matches!(outcome, Some(Outcome::RebuildFailed)));
    }
    worker.carry_out(Request::Close);
    let mut open = directory.open(10);
    assert_eq!(sequences(&mut open), [1]);
    close(open);
}

#[test]
fn a_run_that_began_without_a_file_takes_an_empty_one() {
    let directory = Directory::new("empty");
    let open = directory.open(1);
    let paths = open.paths.clone();
    close(open);
    let mut worker = Worker::new(paths, BYTES_MAX, None);
    let outcome = worker.carry_out(rebuild(9, &[]));
    assert!(matches!(outcome, Some(Outcome::Rebuilt { .. })));
    worker.carry_out(Request::Close);
}

#[test]
fn a_power_cut_between_the_two_renames_of_a_rebuild_loses_nothing() {
    let directory = Directory::new("renames");
    let mut open = directory.open(1);
    let epoch = open.found().epoch;
    assert_eq!(
        commit(&mut open, vec![insert(epoch, 1, 9)]),
        CommitOutcome::Done
    );
    close(open);
    fs::rename(directory.file(), directory.0.join("queue.new")).unwrap();
    let mut open = directory.open(2);
    assert_eq!(sequences(&mut open), [1]);
    close(open);
}

#[test]
fn a_half_made_copy_from_before_a_power_cut_is_made_anew() {
    let directory = Directory::new("half");
    fs::create_dir(&directory.0).unwrap();
    fs::write(directory.file(), b"no database at all").unwrap();
    fs::write(directory.0.join("queue.new"), b"neither").unwrap();
    let open = directory.open(3);
    assert_eq!(open.found().epoch.incarnation.get(), 3);
    assert!(!directory.0.join("queue.new").exists());
    close(open);
}

#[test]
fn the_trusted_time_survives_and_rides_along() {
    let directory = Directory::new("trusted");
    let mut open = directory.open(1);
    open.file.as_mut().unwrap().set_trusted_unix_s(1_000_000);
    assert_eq!(commit(&mut open, Vec::new()), CommitOutcome::Done);
    close(open);
    let open = directory.open(2);
    assert_eq!(open.found().trusted_unix_s, 1_000_000);
    close(open);
}

#[test]
fn the_log_is_copied_back_before_it_grows_long() {
    let directory = Directory::new("wal");
    let mut open = directory.open(1);
    let epoch = open.found().epoch;
    for sequence in 1..200 {
        let ops = vec![
            insert(epoch, sequence, 30_000),
            Op::DeleteBatches {
                epoch,
                first: Sequence(1),
                last: Sequence(sequence),
            },
        ];
        let outcome = commit_as(&mut open, Durability::Behind, ops);
        assert_eq!(outcome, CommitOutcome::Done);
    }
    let wal = fs::metadata(directory.0.join("queue.db-wal"))
        .unwrap()
        .len();
    assert!(wal < 2 * (1 << 20), "{wal}");
    close(open);
}

#[test]
fn a_directory_that_cannot_be_made_is_a_matter_of_configuration() {
    let error = OpenQueue::open(Path::new("/proc/returnpath"), BYTES_MAX, incarnation(1));
    assert!(error.unwrap_err().is_configuration());
}
