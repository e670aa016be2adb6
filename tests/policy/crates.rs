//! Rules about crates: their lints and what they depend on.

use std::{collections::BTreeSet, fs, process::Command};

use returnpath_tests::place::workspace;
use serde_json::Value;

/// The cores that decide, and the folders of their sources.
const PURE: [(&str, &str); 5] = [
    ("returnpath-delivery", "agent/delivery"),
    ("returnpath-slots", "agent/slots"),
    ("returnpath-decision", "collector/decision"),
    ("returnpath-refinery", "collector/refinery"),
    ("returnpath-transaction", "collector/transaction"),
];

/// What a pure crate may name in its own `[dependencies]`: the wire messages
/// and crates that only compute.
const PURE_DEPENDENCIES: [&str; 12] = [
    "bytes",
    "miniz_oxide",
    "percent-encoding",
    "prost",
    "psl",
    "returnpath-shared",
    "returnpath-transaction",
    "serde",
    "serde_json",
    "sha2",
    "thiserror",
    "url",
];

/// Crates that bring sockets, files, threads, clocks or randomness. None may
/// stand below a pure crate, however far.
const IMPURE: [&str; 14] = [
    "getrandom",
    "hyper",
    "mio",
    "rand",
    "rdkafka",
    "reqwest",
    "ring",
    "rumqttc-v5-next",
    "rusqlite",
    "rustix",
    "rustls",
    "socket2",
    "time",
    "tokio",
];

/// Our crates, and those of ours that each may use: box and cloud share the
/// protocol alone, and no core knows another.
const DIRECTIONS: [(&str, &[&str]); 8] = [
    ("returnpath-shared", &[]),
    ("returnpath-delivery", &["returnpath-shared"]),
    ("returnpath-slots", &["returnpath-shared"]),
    (
        "returnpath-agent",
        &[
            "returnpath-delivery",
            "returnpath-shared",
            "returnpath-slots",
        ],
    ),
    ("returnpath-transaction", &[]),
    (
        "returnpath-decision",
        &["returnpath-shared", "returnpath-transaction"],
    ),
    (
        "returnpath-refinery",
        &["returnpath-shared", "returnpath-transaction"],
    ),
    (
        "returnpath-collector",
        &[
            "returnpath-decision",
            "returnpath-refinery",
            "returnpath-shared",
            "returnpath-transaction",
        ],
    ),
];

/// What `cargo metadata` says about the workspace, without the network.
fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// The packages of this workspace.
fn members(metadata: &Value) -> Vec<&Value> {
    array(&metadata["packages"])
        .iter()
        .filter(|package| array(&metadata["workspace_members"]).contains(&package["id"]))
        .collect()
}

#[test]
fn every_crate_inherits_the_lints_of_the_workspace() {
    let metadata = metadata();
    let members = members(&metadata);
    assert!(members.len() >= 6);
    for package in members {
        let manifest = text(&package["manifest_path"]);
        let inherits = fs::read_to_string(manifest)
            .unwrap()
            .split("\n[")
            .any(|table| table.starts_with("lints]\nworkspace = true"));
        assert!(inherits, "{manifest} lacks `[lints] workspace = true`");
    }
}

#[test]
fn every_crate_of_the_repository_belongs_to_the_workspace() {
    let metadata = metadata();
    let members: BTreeSet<_> = members(&metadata)
        .into_iter()
        .map(|package| text(&package["manifest_path"]).to_owned())
        .collect();
    let mut open = vec![workspace()];
    while let Some(directory) = open.pop() {
        let manifest = directory.join("Cargo.toml");
        // A fuzz crate is a workspace of its own: it needs another compiler.
        let is_crate = fs::read_to_string(&manifest)
            .is_ok_and(|text| text.contains("[package]") && !text.contains("[workspace]"));
        assert!(
            !is_crate || members.contains(manifest.to_str().unwrap()),
            "{} is no member",
            manifest.display()
        );
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                open.push(path);
            }
        }
    }
}

#[test]
fn the_pure_crates_are_no_std_and_depend_on_nothing_that_does_io() {
    let metadata = metadata();
    for (name, folder) in PURE {
        let root = workspace().join(folder).join("src/lib.rs");
        assert!(
            fs::read_to_string(&root).unwrap().contains("#![no_std]"),
            "{} is not no_std",
            root.display()
        );
        let package = members(&metadata)
            .into_iter()
            .find(|package| package["name"] == name)
            .unwrap();
        for dependency in array(&package["dependencies"]) {
            let wanted = text(&dependency["name"]);
            // `kind` is null for what the library itself uses.
            assert!(
                !dependency["kind"].is_null() || PURE_DEPENDENCIES.contains(&wanted),
                "{name} depends on {wanted}"
            );
        }
        for below in dependencies_below(&metadata, &package["id"]) {
            assert!(!IMPURE.contains(&below.as_str()), "{name} leads to {below}");
        }
    }
}

/// Names of all packages that `id` links, however far down.
fn dependencies_below(metadata: &Value, id: &Value) -> BTreeSet<String> {
    let nodes = array(&metadata["resolve"]["nodes"]);
    let mut open = vec![id];
    let mut seen = vec![];
    while let Some(id) = open.pop() {
        if seen.contains(&id) {
            continue;
        }
        seen.push(id);
        let node = nodes.iter().find(|node| node["id"] == *id).unwrap();
        for dependency in array(&node["deps"]) {
            let is_linked = array(&dependency["dep_kinds"])
                .iter()
                .any(|kind| kind["kind"].is_null());
            if is_linked {
                open.push(&dependency["pkg"]);
            }
        }
    }
    array(&metadata["packages"])
        .iter()
        .filter(|package| seen.contains(&&package["id"]))
        .map(|package| text(&package["name"]).to_owned())
        .collect()
}

#[test]
fn only_tests_depend_on_the_tests() {
    for package in members(&metadata()) {
        for dependency in array(&package["dependencies"]) {
            assert!(
                dependency["name"] != "returnpath-tests",
                "{} depends on the tests",
                package["name"]
            );
        }
    }
}

#[test]
fn our_crates_use_each_other_in_one_direction() {
    let metadata = metadata();
    for package in members(&metadata) {
        let name = text(&package["name"]);
        let directions = DIRECTIONS.iter().find(|(from, _)| *from == name);
        let Some((_, allowed)) = directions else {
            // What tests may use everything.
            let tests = ["returnpath-fuzz", "returnpath-tests"];
            assert!(tests.contains(&name), "{name} has no direction");
            continue;
        };
        for dependency in array(&package["dependencies"]) {
            let used = text(&dependency["name"]);
            assert!(
                !used.starts_with("returnpath-") || allowed.contains(&used),
                "{name} uses {used}"
            );
        }
    }
}

#[test]
fn versions_stand_in_the_workspace_only() {
    for package in members(&metadata()) {
        let manifest = text(&package["manifest_path"]);
        let text = fs::read_to_string(manifest).unwrap();
        let own_version = text
            .split("\n[")
            .filter(|table| {
                table
                    .lines()
                    .next()
                    .is_some_and(|name| name.contains("dependencies"))
            })
            .flat_map(str::lines)
            .find(|line| line.contains("version =") || line.contains(" = \""));
        assert!(own_version.is_none(), "{manifest}: {own_version:?}");
    }
}
