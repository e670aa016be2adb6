//! Every target over the kept corpus, its seeds, and mutations of both that are
//! new in each run; the input that fails is kept and named.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says by which input"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use returnpath_fuzz::{TARGETS, Target, mutation::Mutator};

/// Mutations of each target: seconds in all.
const MUTANTS: usize = 2_000;

/// Set to another number of mutations for a longer search.
const MUTANTS_VARIABLE: &str = "RETURNPATH_FUZZ_MUTANTS";

/// No input of these sizes may take longer. Far more than any does, because
/// the machine may be busy with something else.
const INPUT_TIME_MAX: Duration = Duration::from_secs(10);

/// The corpus is kept small, so that everyone can afford it.
const CORPUS_FILES_MAX: usize = 200;

/// As for [`CORPUS_FILES_MAX`].
const CORPUS_BYTES_MAX: u64 = 500 * 1024;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// Files of the corpus of one target, in the order of their names.
fn kept(target: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder().join(target)) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Writes the input down, should it fail.
struct Announcement<'a> {
    target: &'a str,
    input: &'a [u8],
}

impl Drop for Announcement<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let Self { target, input } = *self;
        let path = std::env::temp_dir().join(format!("returnpath-fuzz-{target}"));
        match fs::write(&path, input) {
            Ok(()) => eprintln!(
                "{target} failed for the {} bytes now in {}; run it alone by\n  \
                 tests/fuzz/run --input {1} {target}",
                input.len(),
                path.display()
            ),
            Err(error) => eprintln!("{target} failed for {input:?}, which {error}"),
        }
    }
}

fn run(target: &Target, input: &[u8]) {
    let announcement = Announcement {
        target: target.name,
        input,
    };
    let begun = Instant::now();
    (target.run)(input);
    let took = begun.elapsed();
    assert!(took < INPUT_TIME_MAX, "{took:?} for {} bytes", input.len());
    drop(announcement);
}

fn holds(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let mut inputs = (target.seeds)();
    assert!(!inputs.is_empty(), "{name} has nothing to begin with");
    inputs.extend(kept(name).iter().map(|path| fs::read(path).unwrap()));
    for input in &inputs {
        run(target, input);
    }
    let mutants = std::env::var(MUTANTS_VARIABLE).map_or(MUTANTS, |count| {
        count
            .parse()
            .unwrap_or_else(|error| panic!("{MUTANTS_VARIABLE}: {error}"))
    });
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut mutator = Mutator::new(u64::try_from(since.as_nanos()).unwrap_or_default());
    for _ in 0..mutants {
        run(target, &mutator.mutant(&inputs));
    }
}

macro_rules! holds_whatever_comes {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            holds(stringify!($name));
        })*

        #[test]
        fn every_target_is_run() {
            let run = BTreeSet::from([$(stringify!($name)),*]);
            assert_eq!(run, TARGETS.iter().map(|target| target.name).collect());
        }
    };
}

holds_whatever_comes! {
    aggregator_answer
    batch
    config
    decision
    intake_line
    opportunity
    raw_record
    receipt
    state
    topic
}

#[test]
fn the_corpus_is_small_and_of_known_targets() {
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            TARGETS.iter().any(|target| target.name == name),
            "{name} is no target"
        );
        for path in kept(&name) {
            files += 1;
            bytes += fs::metadata(path).unwrap().len();
        }
    }
    assert!(files <= CORPUS_FILES_MAX, "{files} files");
    assert!(bytes <= CORPUS_BYTES_MAX, "{bytes} bytes");
}

#[test]
fn a_mutator_repeats_itself_by_its_seed_and_differs_by_another() {
    let inputs = vec![b"{\"one\":1}".to_vec(), vec![0; 40]];
    let mutants = |seed| {
        let mut mutator = Mutator::new(seed);
        [(); 50].map(|()| mutator.mutant(&inputs))
    };
    assert_eq!(mutants(1), mutants(1));
    assert_ne!(mutants(1), mutants(2));
}
