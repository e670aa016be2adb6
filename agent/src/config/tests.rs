use super::*;

/// The least that a file must say.
const LEAST: &str = r#"
[identity]
certificate = "c"
private_key = "k"
ca = "a"
[link]
brokers = ["b"]
"#;

fn problems(text: &str) -> Vec<String> {
    match parse(text) {
        Err(ConfigError::Values(problems)) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("{text}: {other:?}"),
    }
}

/// `LEAST` with one more line in a section of its own or an existing one.
fn with(section: &str, line: &str) -> String {
    let header = format!("[{section}]\n");
    if LEAST.contains(&header) {
        LEAST.replace(&header, &format!("{header}{line}\n"))
    } else {
        format!("{LEAST}{header}{line}\n")
    }
}

#[test]
fn the_example_is_a_configuration_without_unknown_keys() {
    let loaded = parse(EXAMPLE).unwrap();
    assert_eq!(loaded.unknown, Vec::<String>::new());
    assert_eq!(loaded.config.batch.interval, Duration::from_secs(5));
}

#[test]
fn what_is_left_out_stands_in_the_example() {
    let mut expected = parse(EXAMPLE).unwrap().config;
    let loaded = parse(LEAST).unwrap();
    expected.identity.files = loaded.config.identity.files.clone();
    expected.link.brokers = loaded.config.link.brokers.clone();
    assert_eq!(loaded.config, expected);
}

#[test]
fn every_needed_key_is_named_at_once() {
    let problems = problems("");
    assert_eq!(problems.len(), NEEDED.len());
    for (problem, key) in problems.iter().zip(NEEDED) {
        assert!(
            problem.starts_with(key) && problem.ends_with("(needed)"),
            "{problem}"
        );
    }
}

#[test]
fn unknown_keys_are_reported_and_ignored() {
    let text = format!("future = 1\n{}[queue]\nage = 3\n[decide]\nx = 1\n", LEAST);
    let loaded = parse(&text).unwrap();
    assert_eq!(loaded.unknown, ["decide", "future", "queue.age"]);
}

#[test]
fn wrong_values_are_refused_with_key_and_accepted_form() {
    for (section, line, expected) in [
        (
            "batch",
            "interval_ms = 999",
            "batch.interval_ms: expected an integer from 1000 to 300000",
        ),
        (
            "batch",
            "interval_ms = \"5s\"",
            "batch.interval_ms: expected an integer from 1000 to 300000",
        ),
        (
            "batch",
            "bytes_max = 49153",
            "batch.bytes_max: expected an integer from 1024 to 49152",
        ),
        (
            "intake",
            "mode = \"0888\"",
            "intake.mode: expected an octal mode from \"0000\" to \"0777\"",
        ),
        (
            "intake",
            "mode = \"1777\"",
            "intake.mode: expected an octal mode from \"0000\" to \"0777\"",
        ),
        ("intake", "socket = \"\"", "intake.socket: expected a path"),
        (
            "intake",
            "clients_max = 0",
            "intake.clients_max: expected an integer from 1 to 1024",
        ),
        (
            "intake",
            "allow = [1]",
            "intake.allow: expected a list of at most 64 tables",
        ),
        (
            "intake",
            "allow = [{}]",
            "intake.allow[0].uid: expected an integer from 0 to 4294967295 (needed)",
        ),
        (
            "queue",
            "bytes_max = -1",
            "queue.bytes_max: expected an integer from 1048576 to 1073741824",
        ),
        (
            "queue",
            "proof_sync = \"never\"",
            "queue.proof_sync: expected \"grouped\" or \"always\"",
        ),
        (
            "identity",
            "device = \"a/b\"",
            "identity.device: expected \"\", or 1 to 64 of A-Z a-z 0-9 _ -",
        ),
        (
            "log",
            "level = \"loud\"",
            "log.level: expected error, warn, info, debug or trace",
        ),
        (
            "link",
            "window_batches_max = 65",
            "link.window_batches_max: expected an integer from 1 to 64",
        ),
    ] {
        let problems = problems(&with(section, line));
        assert_eq!(
            problems.first().map(String::as_str),
            Some(expected),
            "{line}"
        );
    }
}

#[test]
fn nobody_can_be_allowed_the_agents_own_kinds() {
    for kinds in [
        r#"["boot"]"#,
        r#"["ledger"]"#,
        r#"["uncleanStop"]"#,
        r#"["film"]"#,
    ] {
        let line = format!("allow = [{{ uid = 7, kinds = {kinds} }}]");
        let problems = problems(&with("intake", &line));
        assert!(
            problems[0].starts_with("intake.allow[0].kinds"),
            "{problems:?}"
        );
    }
    let line = r#"allow = [{ uid = 7, kinds = ["tune", "adEvent"] }]"#;
    let config = parse(&with("intake", line)).unwrap().config;
    let expected = Allowance {
        decisions: false,
        uid: 7,
        kinds: vec![Kind::Tune, Kind::AdEvent],
    };
    assert_eq!(config.intake.allow, [expected]);
}

#[test]
fn broken_toml_and_sections_that_are_no_tables_are_refused() {
    assert!(matches!(parse("[intake"), Err(ConfigError::Syntax(_))));
    let problems = problems(&format!("queue = 1\n{LEAST}"));
    assert_eq!(problems, ["queue: expected a table"]);
}

#[test]
fn a_wrong_broker_address_is_refused() {
    let text = LEAST.replace(r#"["b"]"#, r#"["b:0"]"#);
    assert_eq!(
        problems(&text),
        ["link.brokers: expected a list of 1 to 8: host, host:port or [ipv6]:port"]
    );
}
