//! Rules about the text of files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use returnpath_tests::place::workspace;

/// Folders that hold what is built, downloaded or left behind.
const NOT_OURS: [&str; 3] = ["target", ".git", ".work"];

/// A library, and the files and folders of production code that may name it.
const KNOWN_BY: [(&str, &[&str]); 5] = [
    ("reqwest", &["collector/src/decide/http"]),
    // Signatures, digests, and what TLS is made with.
    (
        "ring",
        &[
            // Its tests sign.
            "agent/src/steering",
            "agent/src/trust",
            "agent/src/link/tls",
            "collector/src/decide/config/complete",
            "collector/src/decide/http",
            "collector/src/decide/pseudonym",
            "collector/src/mqtt/tls",
            "collector/src/signing",
        ],
    ),
    ("rusqlite", &["agent/src/queue"]),
    (
        "rumqttc",
        &[
            "agent/src/link",
            "collector/src/bridge",
            // For the TLS acceptor of a server under test.
            "collector/src/decide/http/tests",
            "collector/src/decide/push",
            "collector/src/mqtt",
            "collector/src/steering/publish",
        ],
    ),
    (
        "rdkafka",
        &[
            "collector/src/audit",
            "collector/src/bridge",
            "collector/src/completeness",
            "collector/src/decisions",
            "collector/src/exactly_once",
            "collector/src/kafka",
            "collector/src/steering/boxes",
            "collector/src/tail",
            "collector/src/topics",
        ],
    ),
];

/// Folders of the programs that ship.
const PRODUCTION: [&str; 3] = ["agent", "collector", "shared"];

/// Words that say nothing about what a file owns.
const EMPTY_NAMES: [&str; 7] = [
    "common", "helper", "helpers", "manager", "misc", "util", "utils",
];

/// All files of the project below `directory`, relative to the workspace.
fn files(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![workspace().join(directory)];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !NOT_OURS.contains(&name.as_str()) {
                    open.push(path);
                }
            } else {
                found.push(path.strip_prefix(workspace()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    let bytes = fs::read(workspace().join(path)).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Lines of Rust that are not comments, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Whether a line names a crate: a path that begins with it or leads through it,
/// not another word that ends so, as `String::` does for `ring`.
fn names(line: &str, library: &str) -> bool {
    let is_of_word = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(library).any(|(at, _)| {
        !line[..at].ends_with(is_of_word) && line[at + library.len()..].starts_with("::")
    })
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

fn assert_none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn only_the_named_files_know_each_library() {
    let mut broken = Vec::new();
    for path in PRODUCTION.into_iter().flat_map(files) {
        let ships = path.components().any(|part| part.as_os_str() == "src");
        if !is_rust(&path) || !ships {
            continue;
        }
        let text = read(&path);
        for (library, places) in KNOWN_BY {
            // `agent/src/queue` stands for queue.rs and the folder queue/.
            let allowed = places.iter().any(|place| {
                path.with_extension("") == Path::new(place) || path.starts_with(place)
            });
            for (number, line) in code(&text) {
                if !allowed && names(line, library) {
                    broken.push(format!("{}:{number}: {library}", path.display()));
                }
            }
        }
    }
    assert_none("a library is named outside its files", &broken);
}

#[test]
fn nothing_of_a_developers_machine_stands_in_the_repository() {
    // Put together here, so that this file does not hold them itself.
    let patterns = [
        ["/wo", "rk/"].concat(),
        ["/ro", "ot/"].concat(),
        ["/ho", "me/"].concat(),
        ["../sha", "red"].concat(),
    ];
    let mut broken = Vec::new();
    for path in files("") {
        let text = read(&path);
        for (index, line) in text.lines().enumerate() {
            for pattern in &patterns {
                if line.contains(pattern.as_str()) {
                    broken.push(format!("{}:{}: {pattern}", path.display(), index + 1));
                }
            }
        }
    }
    assert_none("a path that exists on one machine only", &broken);
}

#[test]
fn file_names_say_what_they_own() {
    let mut broken = Vec::new();
    for path in files("") {
        let named_empty = path
            .components()
            .map(|part| Path::new(part.as_os_str()).with_extension(""))
            .any(|part| EMPTY_NAMES.iter().any(|name| part == Path::new(name)));
        if named_empty || path.ends_with("mod.rs") {
            broken.push(path.display().to_string());
        }
    }
    assert_none("a file named after nothing, or mod.rs", &broken);
}

#[test]
fn tests_wait_for_conditions_and_never_for_a_time() {
    let mut broken = Vec::new();
    for path in files("") {
        let is_test = path
            .components()
            .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "end_to_end");
        // The one place that waits between two looks, and the programs below
        // tests/src that are no tests.
        if !is_rust(&path) || !is_test || path.starts_with("tests/src") {
            continue;
        }
        for (number, line) in code(&read(&path)) {
            // A pause between two looks at a condition is named so.
            let waits = line.contains(["sle", "ep("].concat().as_str());
            if waits && !line.contains("(LOOK") {
                broken.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert_none("a test waits for a time", &broken);
}

#[test]
fn every_expected_warning_says_why() {
    let mut broken = Vec::new();
    for path in files("") {
        if !is_rust(&path) {
            continue;
        }
        for (number, line) in code(&read(&path)) {
            let line = line.trim_start();
            if line.starts_with("#[allow") || line.starts_with("#![allow") {
                broken.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert_none("`allow` outlives its cause; use `expect`", &broken);
}
