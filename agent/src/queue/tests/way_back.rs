use super::*;

fn slot(index: u32) -> Slot {
    Slot {
        boot_id: u64::MAX - 1,
        break_id: "bréak".into(),
        index,
    }
}

fn row(index: u32, decision_id: &str) -> SlotRow {
    SlotRow {
        slot: slot(index),
        decision_id: decision_id.into(),
        expiry_uptime_ms: u64::MAX,
        signed: vec![7; 300].into(),
    }
}

fn config(version: u64) -> StoredConfig {
    StoredConfig {
        version,
        signed: vec![9; 100].into(),
    }
}

fn worker(open: OpenQueue) -> Worker {
    Worker::new(open.paths, BYTES_MAX, open.file)
}

fn bind(worker: &mut Worker, row: SlotRow) -> BindOutcome {
    match worker.carry_out(Request::Bind { number: 5, row }) {
        Some(Outcome::Bound {
            number: 5, outcome, ..
        }) => outcome,
        other => panic!("{other:?}"),
    }
}

fn store(worker: &mut Worker, version: u64) -> BindOutcome {
    match worker.carry_out(Request::StoreConfig(config(version))) {
        Some(Outcome::ConfigStored {
            version: stored,
            outcome,
        }) if stored == version => outcome,
        other => panic!("{other:?}"),
    }
}

/// What a directory holds, as a killed process left it.
fn found(directory: &Directory, worker: Worker) -> (Vec<SlotRow>, Option<StoredConfig>) {
    let open = OpenQueue {
        paths: worker.paths,
        bytes_max: BYTES_MAX,
        file: worker.file,
        found: OpenQueue::without_file(&directory.0, 0, incarnation(1)).found,
    };
    let (_copy, after) = reopen_after_kill(directory, open, 99);
    let found = after.found().clone();
    close(after);
    (found.slots, found.config)
}

#[test]
fn bound_slots_and_configuration_survive_a_kill() {
    let directory = Directory::new("bound");
    let mut worker = worker(directory.open(1));
    for row in [row(0, "a"), row(1, "b"), row(1, "c")] {
        assert_eq!(bind(&mut worker, row), BindOutcome::Done);
    }
    for version in [3, u64::MAX] {
        assert_eq!(store(&mut worker, version), BindOutcome::Done);
    }
    assert_eq!(
        found(&directory, worker),
        (vec![row(0, "a"), row(1, "c")], Some(config(u64::MAX)))
    );
}

#[test]
fn an_older_configuration_put_again_does_not_replace_a_newer_one() {
    let directory = Directory::new("versions");
    let mut worker = worker(directory.open(1));
    for version in [5, 1 << 63, 4] {
        assert_eq!(store(&mut worker, version), BindOutcome::Done);
    }
    let (_, config_found) = found(&directory, worker);
    assert_eq!(config_found, Some(config(1 << 63)));
}

#[test]
fn a_forgotten_slot_leaves_with_the_next_commit_and_costs_none() {
    let directory = Directory::new("forgotten");
    let mut worker = worker(directory.open(1));
    for index in 0..3 {
        assert_eq!(bind(&mut worker, row(index, "a")), BindOutcome::Done);
    }
    worker.carry_out(Request::Forget(slot(0)));
    let file = worker.file.as_ref().unwrap();
    let count = |file: &QueueFile| -> u32 {
        let sql = "SELECT count(*) FROM slot";
        let connection = file.connection();
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(file), 3);
    let commit = Commit {
        number: 1,
        durability: Durability::Behind,
        ops: Vec::new(),
    };
    worker.carry_out(Request::Commit(commit));
    assert_eq!(count(worker.file.as_ref().unwrap()), 2);
    // Forgotten and bound anew in one commit: it is bound.
    worker.carry_out(Request::Forget(slot(1)));
    assert_eq!(bind(&mut worker, row(1, "b")), BindOutcome::Done);
    let (rows, _) = found(&directory, worker);
    assert_eq!(rows, [row(1, "b"), row(2, "a")]);
}

#[test]
fn a_new_file_holds_the_bindings_and_the_configuration_of_the_old_one() {
    let directory = Directory::new("rebound");
    let mut worker = worker(directory.open(1));
    assert_eq!(bind(&mut worker, row(0, "a")), BindOutcome::Done);
    assert_eq!(store(&mut worker, 4), BindOutcome::Done);
    let outcome = worker.carry_out(rebuild(2, &[]));
    assert!(
        matches!(outcome, Some(Outcome::Rebuilt { .. })),
        "{outcome:?}"
    );
    assert_eq!(
        found(&directory, worker),
        (vec![row(0, "a")], Some(config(4)))
    );
}

#[test]
fn nothing_is_bound_without_a_file_that_can_be_trusted() {
    let directory = Directory::new("unbound");
    let mut worker = worker(directory.open(1));
    worker.file = None;
    assert_eq!(bind(&mut worker, row(0, "a")), BindOutcome::Failed);
    assert_eq!(store(&mut worker, 4), BindOutcome::Failed);
}

#[test]
fn on_a_full_medium_nothing_is_bound_and_the_file_stays_good() {
    let directory = Directory::new("full");
    let mut worker = worker(directory.open(1));
    assert_eq!(bind(&mut worker, row(0, "a")), BindOutcome::Done);
    let limit = |worker: &Worker, pages_max: u32| {
        // Never below the pages that there are.
        let file = worker.file.as_ref().unwrap();
        let sql = format!("PRAGMA max_page_count = {pages_max}");
        let set: u32 = file
            .connection()
            .query_row(&sql, [], |row| row.get(0))
            .unwrap();
        assert!(set >= pages_max);
    };
    limit(&worker, 1);
    let large = SlotRow {
        signed: vec![7; 64 * 1_024].into(),
        ..row(1, "b")
    };
    assert_eq!(bind(&mut worker, large.clone()), BindOutcome::Failed);
    assert!(!worker.file.as_ref().unwrap().is_damaged());
    limit(&worker, 1_000);
    assert_eq!(bind(&mut worker, large.clone()), BindOutcome::Done);
    let (rows, _) = found(&directory, worker);
    assert_eq!(rows, [row(0, "a"), large]);
}

#[test]
fn bindings_of_earlier_runs_are_left_alone_by_a_run_that_could_not_read_them() {
    let directory = Directory::new("bound-earlier");
    let mut earlier = worker(directory.open(1));
    assert_eq!(bind(&mut earlier, row(0, "a")), BindOutcome::Done);
    earlier.carry_out(Request::Close);
    let mut blind = Worker::new(earlier.paths, BYTES_MAX, None);
    let outcome = blind.carry_out(rebuild(9, &[]));
    assert!(
        matches!(outcome, Some(Outcome::RebuildFailed)),
        "{outcome:?}"
    );
    let open = directory.open(3);
    assert_eq!(open.found().slots, [row(0, "a")]);
    close(open);
}

#[test]
fn a_file_of_the_first_version_is_brought_forward_with_what_it_holds() {
    let directory = Directory::new("forward");
    fs::create_dir(&directory.0).unwrap();
    let mut old = Connection::open(directory.file()).unwrap();
    schema::migrate(&mut old, &schema::MIGRATIONS[..1]).unwrap();
    let sql = "INSERT INTO queue (id, incarnation, start) VALUES (0, 77, 4)";
    old.execute(sql, []).unwrap();
    drop(old);
    let mut worker = worker(directory.open(1));
    assert_eq!(bind(&mut worker, row(0, "a")), BindOutcome::Done);
    worker.carry_out(Request::Close);
    let open = directory.open(2);
    let epoch = open.found().epoch;
    assert_eq!((epoch.incarnation.get(), epoch.start), (77, 6));
    assert_eq!(open.found().slots, [row(0, "a")]);
    close(open);
}
