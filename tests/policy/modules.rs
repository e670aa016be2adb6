//! Rules about modules: data flows one way between those that stand side by
//! side at the top of a crate.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use returnpath_tests::place::workspace;

/// Crates whose modules must not form a circle.
const CRATES: [&str; 8] = [
    "agent",
    "agent/delivery",
    "agent/slots",
    "collector",
    "collector/decision",
    "collector/refinery",
    "collector/transaction",
    "shared",
];

/// Modules of the collector, and those that each must not know although no
/// circle would come of it.
const STRANGERS: [(&str, &[&str]); 5] = [
    // The engine of two roles serves a third without a change.
    (
        "exactly_once",
        &["refine", "decide", "bridge", "mqtt", "steering"],
    ),
    ("mqtt", &["bridge", "decide", "kafka", "steering"]),
    ("kafka", &["bridge", "decide", "mqtt", "refine"]),
    ("refine", &["decide", "mqtt"]),
    ("decide", &["refine"]),
];

/// Each module at the top of a crate, and the modules beside it that it names.
fn modules(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let root = workspace().join(folder).join("src");
    let mut modules: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let named = named_below(&path);
        modules.entry(name).or_default().extend(named);
    }
    // They name every module, and none names them.
    modules.remove("lib");
    modules.remove("main");
    let known: BTreeSet<String> = modules.keys().cloned().collect();
    for (module, named) in &mut modules {
        named.retain(|other| other != module && known.contains(other));
    }
    modules
}

/// What the Rust files at or below a path name behind `crate::`. Tests may see
/// their module as a part of the whole.
fn named_below(path: &Path) -> BTreeSet<String> {
    if path.file_stem().is_some_and(|stem| stem == "tests") {
        return BTreeSet::new();
    }
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        return entries
            .flat_map(|entry| named_below(&entry.unwrap().path()))
            .collect();
    }
    if path.extension().is_none_or(|extension| extension != "rs") {
        return BTreeSet::new();
    }
    let text = fs::read_to_string(path).unwrap();
    let code: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .take_while(|line| !line.ends_with("mod tests {"))
        .collect();
    let code = code.join("\n");
    let places = code.match_indices("crate::");
    // Not another word that ends so.
    let places = places.filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric()));
    places
        .flat_map(|(at, word)| first_names(&code[at + word.len()..]))
        .collect()
}

/// The first names of a path, or of each path of a group in braces.
fn first_names(text: &str) -> Vec<String> {
    let Some(group) = text.strip_prefix('{') else {
        return vec![first_name(text)];
    };
    let mut names = vec![first_name(group)];
    let mut depth = 0_u32;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(first_name(&group[at + 1..])),
            _ => {}
        }
    }
    names
}

fn first_name(text: &str) -> String {
    text.trim_start()
        .chars()
        .take_while(|character| character.is_alphanumeric() || *character == '_')
        .collect()
}

/// What is left once all modules are taken away that name nothing that is left.
fn circle(mut modules: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    loop {
        let left: BTreeSet<String> = modules.keys().cloned().collect();
        for named in modules.values_mut() {
            named.retain(|other| left.contains(other));
        }
        modules.retain(|_, named| !named.is_empty());
        if modules.len() == left.len() {
            return modules;
        }
    }
}

#[test]
fn modules_at_the_top_of_a_crate_form_no_circle() {
    for folder in CRATES {
        let modules = modules(folder);
        assert!(modules.len() > 1, "{folder}: {modules:?}");
        let circle = circle(modules);
        assert!(circle.is_empty(), "{folder}: among these: {circle:?}");
    }
}

#[test]
fn modules_of_the_collector_know_no_strangers() {
    let modules = modules("collector");
    for (module, strangers) in STRANGERS {
        let named = &modules[module];
        for stranger in strangers {
            assert!(modules.contains_key(*stranger), "there is no {stranger}");
            assert!(!named.contains(*stranger), "{module} names {stranger}");
        }
    }
}

#[test]
fn circles_are_found_and_trees_are_none() {
    let graph = |edges: &[(&str, &str)]| {
        let mut modules: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in edges {
            modules.entry((*to).into()).or_default();
            modules
                .entry((*from).into())
                .or_default()
                .insert((*to).into());
        }
        circle(modules).len()
    };
    assert_eq!(graph(&[("a", "b"), ("b", "c"), ("a", "c")]), 0);
    assert_eq!(graph(&[("a", "b"), ("b", "c"), ("c", "b")]), 3);
    assert_eq!(
        first_names("{a::b, c::{d, e}, f}; crate::g"),
        ["a", "c", "f"]
    );
    assert_eq!(first_names("a::b"), ["a"]);
}
