//! The power goes at every point of a life, again and again.
//!
//! The queue's real code runs under the real delivery core on a disk that
//! records what it is asked to write. Then for every point of that record the
//! disk is laid out as a power cut may leave it, the real start-up code opens
//! it, and everything that was promised before that point is asked for:
//!
//! - the start works;
//! - an event that was answered `durable` is in the file or in the cloud;
//! - one that was answered `accepted` is too, or the box declares it lost;
//! - a batch holds the bytes that its id was given to, and no epoch comes twice;
//! - a slot that was bound, so that its decision may have been handed over, is
//!   bound to that decision, and the cloud's configuration is no older.
//!
//! Where the medium is damaged besides, what was durable may be missing too, as
//! long as the box says so.

use super::{
    disk::{
        Change, Disk, Random,
        medium::{Image, Luck, lay_out},
    },
    *,
};

mod life;

use life::{BYTES_MAX, Life, Record, Trouble};

/// Lays images out and opens them, always in the same place.
struct Starts {
    directory: Directory,
    disk: std::sync::Arc<Disk>,
    incarnations: u64,
    count: u64,
    /// Starts on which no batch of an earlier run could be read.
    unreadable: u64,
}

impl Starts {
    fn new() -> Self {
        let directory = Directory::new("start");
        fs::create_dir(&directory.0).unwrap();
        let disk = Disk::watch_forgetfully(&directory.0.canonicalize().unwrap());
        Self {
            directory,
            disk,
            incarnations: 1 << 32,
            count: 0,
            unreadable: 0,
        }
    }

    /// Opens what a cut at this position left, and asks for what was promised.
    fn check(&mut self, image: &Image, at: usize, record: &Record, medium: State, told: &str) {
        lay_out(image, &self.directory.0);
        self.incarnations += 1;
        self.count += 1;
        let opened = OpenQueue::open(&self.directory.0, BYTES_MAX, incarnation(self.incarnations));
        let mut open = opened.unwrap_or_else(|error| panic!("{told}: no start: {error:?}"));
        let found = open.found().clone();
        let seen = record.epochs.iter();
        let mut seen = seen.filter(|(position, _)| *position <= at);
        assert!(
            seen.all(|(_, epoch)| *epoch != found.epoch),
            "{told}: {} was used before",
            found.epoch
        );
        let mut held = rows(&mut open);
        let mut unreadable = Vec::new();
        held.retain(|row| {
            let Some(bytes) = open.file.as_mut().unwrap().load(row.id) else {
                assert_eq!(medium, State::Damaged, "{told}: {} cannot be read", row.id);
                unreadable.push(*row);
                return false;
            };
            check_batch(row.id, &bytes, at, record, medium, told);
            true
        });
        let is_new = !record.knows(found.epoch.incarnation);
        self.unreadable += u64::from(is_new && held.is_empty());
        let promises = Promises {
            at,
            record,
            found: &found,
            held: &held,
            unreadable: &unreadable,
            medium,
        };
        promises.check_events(told);
        if medium == State::Sound {
            check_way_back(&found, at, record, told);
        }
        // It is a queue like any other.
        if medium == State::Sound && self.count.is_multiple_of(32) {
            let ops = vec![insert(found.epoch, 1, 300)];
            assert_eq!(commit(&mut open, ops), CommitOutcome::Done, "{told}");
            close(open);
            self.incarnations += 1;
            let next = incarnation(self.incarnations);
            let mut open = OpenQueue::open(&self.directory.0, BYTES_MAX, next).unwrap();
            assert_eq!(rows(&mut open).len(), held.len() + 1, "{told}");
        }
    }
}

/// What beside the power has happened to the medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Sound,
    Damaged,
}

fn check_batch(id: BatchId, bytes: &Bytes, at: usize, record: &Record, medium: State, told: &str) {
    let written = record.written.get(&id);
    assert!(
        written.is_some_and(|written| written.contains(bytes)),
        "{told}: {id} holds what was never written"
    );
    // A damaged log brings back what the file held before.
    let sent = record.sent.get(&id).filter(|_| medium == State::Sound);
    assert!(
        sent.is_none_or(|(position, sent)| *position > at || sent == bytes),
        "{told}: {id} was sent and came back as something else"
    );
}

/// What was promised before a cut, and what a start found after it.
struct Promises<'a> {
    at: usize,
    record: &'a Record,
    found: &'a Found,
    held: &'a [StoredBatch],
    /// Rows whose bytes are damaged: they are declared when they are to be sent.
    unreadable: &'a [StoredBatch],
    medium: State,
}

impl Promises<'_> {
    fn check_events(&self, told: &str) {
        for ((epoch, ordinal), taken) in &self.record.taken {
            let (epoch, ordinal) = (*epoch, *ordinal);
            if taken.at > self.at
                || self.is_over(taken.arrived_at)
                || covers(self.held, epoch, ordinal)
            {
                continue;
            }
            let declared = self.is_over(taken.declared_at)
                || self.ledgered(epoch, ordinal)
                || covers(self.unreadable, epoch, ordinal);
            let unclean = self.unclean(epoch, ordinal);
            if self.is_over(taken.durable_at) {
                assert!(
                    self.medium == State::Damaged && (declared || unclean),
                    "{told}: durable {epoch} {ordinal} is missing of {} batches; {:?}",
                    self.held.len(),
                    (self.found.epoch, &self.found.ledger, &self.found.unclean)
                );
            } else {
                assert!(
                    declared || unclean,
                    "{told}: {epoch} {ordinal} is missing and not declared"
                );
            }
        }
    }

    fn is_over(&self, position: Option<usize>) -> bool {
        position.is_some_and(|position| position <= self.at)
    }

    fn ledgered(&self, epoch: Epoch, ordinal: u64) -> bool {
        self.found.ledger.iter().any(|row| {
            let first = row.first_ordinal.0;
            row.epoch == epoch
                && (row.whole_epoch || (first..first + row.event_count).contains(&ordinal))
        })
    }

    fn unclean(&self, epoch: Epoch, ordinal: u64) -> bool {
        let mut rows = self.found.unclean.iter();
        rows.any(|row| row.epoch == epoch && row.settled.ordinal < ordinal)
    }
}

fn covers(batches: &[StoredBatch], epoch: Epoch, ordinal: u64) -> bool {
    batches.iter().any(|batch| {
        let first = batch.first_ordinal.0;
        batch.id.epoch == epoch && (first..first + u64::from(batch.events)).contains(&ordinal)
    })
}

fn check_way_back(found: &Found, at: usize, record: &Record, told: &str) {
    for (slot, (bound_at, row, forgotten_at)) in &record.bound {
        if *bound_at > at || forgotten_at.is_some_and(|forgotten_at| forgotten_at <= at) {
            continue;
        }
        let mut slots = found.slots.iter();
        let bound = slots.find(|found| found.slot == *slot);
        assert_eq!(bound, Some(row), "{told}: a slot that was bound");
    }
    let versions = record.config_versions.iter();
    let stored = versions.filter(|(position, _)| *position <= at);
    let version = stored.map(|(_, version)| *version).max();
    let found = found.config.as_ref().map(|config| config.version);
    assert!(
        found >= version,
        "{told}: {version:?} was stored, {found:?} is there"
    );
}

impl Drop for Starts {
    fn drop(&mut self) {
        self.disk.leave();
    }
}

/// What a run came to: a test that met nothing has shown nothing.
#[derive(Default, Debug)]
struct Totals {
    commits: u32,
    rebuilds: u32,
    changes: usize,
    cuts: u64,
    durable: usize,
}

/// Cuts at every position of several lives, each of which begins where a cut of
/// the last one left the medium.
fn cut_everywhere(seed: u64, trouble: Trouble, lives: u32, steps: u32) -> Totals {
    let mut random = Random::new(seed);
    let mut record = Record::default();
    let mut image = Image::new();
    let mut starts = Starts::new();
    let mut totals = Totals::default();
    for number in 0..lives {
        let mut life = Life::begin(&image, record.clone(), &mut random);
        for _ in 0..steps {
            life.step(trouble, &mut random);
        }
        if number % 2 == 1 {
            life.stop();
        }
        let changes = life.disk.changes();
        totals.commits += life.commits;
        totals.rebuilds += life.rebuilds;
        totals.changes += changes.len();
        let next = random.index(changes.len());
        let mut medium = life.medium.clone();
        for (index, change) in changes.iter().enumerate() {
            let at = index + 1;
            // What a flush point puts an end to is cut more often: all that
            // could be missing is missing here, or nowhere.
            let flushes = matches!(change, Change::Sync { .. } | Change::SyncDirectory);
            if flushes && !medium.is_settled() {
                for luck in [
                    Luck::Nothing,
                    Luck::Some { permille: 100 },
                    Luck::Some { permille: 500 },
                    Luck::Some { permille: 900 },
                ] {
                    let told = format!("seed {seed}, life {number}, before {index}, {luck:?}");
                    let cut = medium.cut(luck, &mut random);
                    starts.check(&cut, index, &life.record, State::Sound, &told);
                }
            }
            medium.apply(change, &mut random);
            let luck = match random.below(4) {
                0 => Luck::Everything,
                1 | 2 => Luck::TornLast,
                _ => Luck::Some {
                    permille: random.below(1_000),
                },
            };
            let told = format!("seed {seed}, life {number}, at {at}, {luck:?}");
            let cut = medium.cut(luck, &mut random);
            starts.check(&cut, at, &life.record, State::Sound, &told);
            if index == next {
                image = cut;
                record = life.record.clone();
                record.cut(at);
            }
        }
        let durable = life.record.taken.values();
        totals.durable += durable.filter(|taken| taken.durable_at.is_some()).count();
    }
    totals.cuts = starts.count;
    totals
}

#[test]
fn no_durable_event_is_missing_wherever_the_power_goes() {
    let totals = cut_everywhere(1, Trouble::Nothing, 1, 1_200);
    assert!(totals.commits > 150 && totals.durable > 200, "{totals:?}");
    assert_eq!(totals.rebuilds, 0);
}

#[test]
fn the_power_may_go_again_and_again() {
    let totals = cut_everywhere(2, Trouble::Nothing, 6, 100);
    assert!(totals.durable > 100, "{totals:?}");
}

#[test]
fn the_power_may_go_at_any_point_of_a_rebuild_after_a_sync_that_failed() {
    let totals = cut_everywhere(3, Trouble::Syncs, 6, 150);
    assert!(totals.rebuilds >= 4, "{totals:?}");
}

#[test]
fn a_run_tells_every_unclean_stop_that_its_file_holds() {
    let directory = Directory::new("many-starts");
    let mut open = OpenQueue::open(&directory.0, BYTES_MAX, incarnation(1)).unwrap();
    let epoch = open.found().epoch;
    let row = |start| StartRow {
        epoch: Epoch { start, ..epoch },
        settled: Settled::default(),
    };
    let ops = (1_000..1_600).map(|start| Op::StartPut(row(start)));
    assert_eq!(commit(&mut open, ops.collect()), CommitOutcome::Done);
    close(open);
    let files = fs::read_dir(&directory.0).unwrap().map(Result::unwrap);
    let files = files.map(|file| {
        let name = file.file_name().into_string().unwrap();
        (name, fs::read(file.path()).unwrap())
    });
    let image: Image = files.collect();
    let mut life = Life::begin(&image, Record::default(), &mut Random::new(1));
    // No more are asked for than are declared at once.
    assert_eq!(life.starts().len(), UNCLEAN_MAX + 2);
    life.pass_online(60_000);
    assert_eq!(life.starts().len(), 1, "its own");
}

/// A part of a file changes, or its end is gone.
fn damage(image: &mut Image, random: &mut Random) -> String {
    let names: Vec<String> = image.keys().cloned().collect();
    let name = &names[random.index(names.len())];
    let bytes = image.get_mut(name).unwrap();
    if bytes.is_empty() {
        return format!("{name} is empty");
    }
    let at = random.index(bytes.len());
    let length = [1, 16, 512, 4_096][random.index(4)].min(bytes.len() - at);
    let part = &mut bytes[at..at + length];
    let how = random.below(4);
    match how {
        0 => part.fill(0),
        1 => part.fill(0xff),
        2 => part
            .iter_mut()
            .for_each(|byte| *byte = random.next().to_le_bytes()[0]),
        _ => bytes.truncate(at),
    }
    format!("{name} was damaged at {at} for {length} ({how})")
}

/// How the last run before the damage ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// In order: the log was copied back.
    Stopped,
    /// By the power.
    Killed,
}

/// Tears of one box; each has three runs before them.
const TEARS_PER_BOX: u64 = 50;
const RUNS: u32 = 3;

/// Tears files of boxes, so often, and asks each time for what was promised.
fn tear(seed: u64, end: End, tears: u64) -> Starts {
    let mut random = Random::new(seed);
    let mut starts = Starts::new();
    for number in 0..tears.div_ceil(TEARS_PER_BOX) {
        let mut image = Image::new();
        let mut record = Record::default();
        for run in 1..=RUNS {
            let mut life = Life::begin(&image, record, &mut random);
            for _ in 0..random.below(160) {
                life.step(Trouble::Nothing, &mut random);
            }
            let stops = match end {
                End::Stopped => run == RUNS || random.chance(500),
                End::Killed => run != RUNS && random.chance(500),
            };
            if stops {
                life.stop();
            }
            let changes = life.disk.changes();
            let mut medium = life.medium.clone();
            for change in &changes {
                medium.apply(change, &mut random);
            }
            image = medium.cut(Luck::Everything, &mut random);
            record = life.record.clone();
            record.cut(changes.len());
        }
        for cut in 0..TEARS_PER_BOX {
            let mut image = image.clone();
            let damage = damage(&mut image, &mut random);
            let told = format!("{end:?}, seed {seed}, box {number}, cut {cut}: {damage}");
            starts.check(&image, 0, &record, State::Damaged, &told);
        }
    }
    starts
}

/// How many tears a test tries with a fresh seed; set to try more.
const TEARS_VARIABLE: &str = "RETURNPATH_TEARS";

fn tears() -> u64 {
    let tears = std::env::var(TEARS_VARIABLE).ok();
    tears.map_or(300, |tears| tears.parse().expect("a number of tears"))
}

/// Those with which something was missing once, and a fresh one.
fn tear_with_seeds(end: End, seeds: &[u64]) {
    for seed in seeds {
        tear(*seed, end, TEARS_PER_BOX);
    }
    let starts = tear(crate::clock::random_u64(), end, tears());
    // A damaged page of the schema makes all of a file unreadable, and these
    // files are hardly more than their schema.
    let (count, unreadable) = (starts.count, starts.unreadable);
    assert!(
        unreadable > 0 && unreadable * 2 < count,
        "{unreadable} of {count}"
    );
}

#[test]
fn what_a_tear_after_a_clean_stop_takes_is_declared() {
    // A text that was no UTF-8: the box went on without its file.
    tear_with_seeds(End::Stopped, &[1_809_681_638_288_498_369]);
}

#[test]
fn what_a_tear_after_an_unclean_stop_takes_is_declared() {
    tear_with_seeds(End::Killed, &[]);
}

#[test]
fn a_fresh_seed_finds_nothing_that_is_missing() {
    let seed = crate::clock::random_u64();
    for trouble in [Trouble::Nothing, Trouble::Syncs] {
        cut_everywhere(seed, trouble, 2, 60);
    }
}
