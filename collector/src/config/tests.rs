use super::*;

/// The smallest file that can be used, with Kafka in plain text.
const SMALLEST: &str = r#"
    node_id = "a"
    kafka.brokers = ["localhost:9092"]
    kafka.plaintext = true
    bridge.brokers = ["localhost:8883"]
    bridge.tls = { ca = "ca.pem", certificate = "c.pem", key = "c.key" }
"#;

/// What a file that decides must hold besides.
const DECIDES: &str = r#"
    decide.signing_key = "d.key"
    decide.policy.currency = "EUR"
    decide.rules.hosts = ["cdn.example"]
    decide.mqtt.brokers = ["localhost:8883"]
    decide.mqtt.tls = { ca = "ca.pem", certificate = "d.pem", key = "d.key" }
    [[decide.aggregators]]
    name = "north"
    [decide.aggregators.parameters]
    method = "GET"
    url = "https://north.example/"
    sees = []
    [decide.aggregators.parameters.response]
    offers = ""
    [decide.aggregators.parameters.response.offer]
    creative_id = "/id"
    url = "/url"
    media_type = "/type"
    duration = { pointer = "/ms", unit = "ms" }
"#;

fn error(text: &str) -> String {
    Config::parse(text).unwrap_err().to_string()
}

fn deciding(more: &str) -> Result<decide::Config, String> {
    Config::parse(&format!("{more}\n{SMALLEST}\n{DECIDES}"))
        .map(|config| config.decide.unwrap())
        .map_err(|error| error.to_string())
}

#[test]
fn the_example_is_a_whole_configuration() {
    let config = Config::parse(EXAMPLE).unwrap();
    assert_eq!(config.node_id.as_str(), "collector-1");
    assert_eq!(config.decide.unwrap().aggregators.len(), 1);
    assert!(config.steering.is_some());
    assert!(config.kafka.security.tls.is_some());
}

#[test]
fn what_a_file_leaves_out_keeps_the_examples_value() {
    let config = Config::parse(&format!("drain_budget_seconds = 7\n{SMALLEST}")).unwrap();
    assert_eq!(config.drain_budget, Duration::from_secs(7));
    assert_eq!(config.bridge.linger, Duration::from_millis(25));
    assert_eq!(config.bridge.brokers.len(), 1);
    assert!(config.kafka.security.tls.is_none());
}

#[test]
fn keys_without_a_default_are_asked_for() {
    assert_eq!(
        error(""),
        "node_id: must be set; returnpath-collector.example.toml shows its form"
    );
    assert!(error("node_id = \"a\"").starts_with("kafka.brokers: must be set"));
    let without_key = SMALLEST.replace(", key = \"c.key\"", "");
    assert!(error(&without_key).starts_with("bridge.tls.key: must be set"));
}

#[test]
fn a_file_without_decide_decides_nothing_and_one_with_it_must_say_all() {
    assert!(Config::parse(SMALLEST).unwrap().decide.is_none());
    for key in REQUIRED_TO_DECIDE {
        let last = key.rsplit('.').next().unwrap();
        let without = DECIDES.replace(last, "x");
        let error = error(&format!("{SMALLEST}\n{without}"));
        let missing = REQUIRED_TO_DECIDE
            .iter()
            .any(|key| error.starts_with(&format!("{key}: must be set")));
        assert!(missing, "{key}\n{error}");
    }
}

#[test]
fn a_file_steers_boxes_only_where_it_says_how() {
    assert!(Config::parse(SMALLEST).unwrap().steering.is_none());
    let partly = format!("{SMALLEST}\nsteering.config_keys = \"config.pub\"");
    assert!(error(&partly).starts_with("steering.mqtt.brokers: must be set"));
}

#[test]
fn an_aggregator_keeps_the_defaults_that_it_does_not_set() {
    let defaults = deciding("").unwrap();
    let aggregator = &defaults.aggregators[0];
    assert_eq!(
        (aggregator.deadline_ms, aggregator.breaker.window_ms),
        (150, 2_000)
    );
    assert!(!aggregator.allow_private_addresses);
    assert!(aggregator.ca.is_none());
    assert!(defaults.cap.is_none());
    let moved = deciding("decide.aggregator_defaults.breaker.window_ms = 700").unwrap();
    let breaker = moved.aggregators[0].breaker;
    assert_eq!((breaker.window_ms, breaker.calls_min), (700, 20));
}

#[test]
fn a_policys_version_changes_with_what_bears_on_decisions_alone() {
    let version = |more: &str| deciding(more).unwrap().policy.version;
    let first = version("");
    assert_eq!(first.len(), 12);
    assert_eq!(version("decide.group = \"other\""), first);
    for more in [
        "decide.policy.kind = \"waterfall\"",
        "decide.rules.duration_tolerance_ms = 1",
        "decide.aggregator_defaults.deadline_ms = 99",
        "decide.cap = { impressions_max = 1, window_ms = 1 }",
    ] {
        assert_ne!(version(more), first, "{more}");
    }
    assert_eq!(version("decide.policy.version = \"mine\""), "mine");
}

#[test]
fn wrong_values_are_named_with_what_is_accepted() {
    for (line, expected) in [
        (
            "drain_budget_seconds = 0",
            "drain_budget_seconds: must be at least 1",
        ),
        (
            "drain_budget_seconds = \"1 s\"",
            "drain_budget_seconds: invalid type: string \"1 s\", expected u64",
        ),
        ("bridge.receive_maximum = 65536", "bridge.receive_maximum: "),
        ("bridge.linger_ms = -1", "bridge.linger_ms: "),
        (
            "bridge.quota.batches = 1",
            "bridge.quota.batches: unknown field `batches`, expected one of",
        ),
        (
            "bridge.share_group = \"a/b\"",
            "bridge.share_group: must be 1 to 64 of [A-Za-z0-9_-]",
        ),
        (
            "admin.listen = \"localhost\"",
            "admin.listen: invalid socket address",
        ),
        ("refiner = 1", "refiner: unknown field `refiner`"),
    ] {
        let error = error(&format!("{line}\n{SMALLEST}"));
        assert!(error.contains(expected), "{line}\n{error}");
    }
}

#[test]
fn wrong_values_of_deciding_are_named_with_their_aggregator() {
    for (line, expected) in [
        (
            "decide.policy.floor_price = 0.5",
            "decide.policy.floor_price: invalid type: floating point",
        ),
        (
            "decide.policy.floor_price = \"0,5\"",
            "decide.policy.floor_price: must be a decimal number in quotes",
        ),
        (
            "decide.policy.kind = \"best\"",
            "decide.policy.kind: unknown variant",
        ),
        (
            "decide.aggregator_defaults.deadline = 1",
            "decide.aggregators[0].deadline: unknown field",
        ),
        (
            "decide.aggregator_defaults.rate.burst = -1",
            "decide.aggregators[0].rate.burst: ",
        ),
        (
            "decide.aggregator_defaults.secrets = { a = { path = \"x\" } }",
            "decide.aggregators[0].secrets.a",
        ),
        (
            "decide.aggregator_defaults = 1",
            "decide.aggregator_defaults: unknown field",
        ),
        ("decide.mqtt.port = 1", "decide.mqtt.port: unknown field"),
    ] {
        let error = deciding(line).unwrap_err();
        assert!(error.starts_with(expected), "{line}\n{error}");
    }
}

#[test]
fn what_is_not_toml_is_named_by_its_line_and_not_repeated() {
    let error = error("node_id = \"a\"\npassword = hunter2\n");
    assert!(error.starts_with("line 2 is not TOML: "), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}
