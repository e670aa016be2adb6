use super::*;

fn parse(text: &str) -> Result<Config, String> {
    let prefix = if text.contains("topic_prefix") {
        ""
    } else {
        "topic_prefix = \"rp\"\n"
    };
    toml::from_str(&format!("{prefix}{text}")).map_err(|error| error.message().to_owned())
}

#[test]
fn a_full_section_is_read() {
    let config = parse(
        r#"
        brokers = ["kafka-1:9093", "[::1]:9093"]
        topic_prefix = "tv"
        [tls]
        ca = "ca.pem"
        certificate = "c.pem"
        key = "c.key"
        [sasl]
        mechanism = "SCRAM-SHA-512"
        username = "collector"
        password_file = "password"
        "#,
    )
    .unwrap();
    assert_eq!(config.security.protocol(), "sasl_ssl");
    assert_eq!(config.topics.raw_backlog, "tv.raw.backlog");
    assert!(!config.development);
    assert_eq!(config.session_timeout, Duration::from_secs(10));
}

#[test]
fn wrong_sections_are_refused_with_their_key() {
    let tls = "[tls]\nca = \"ca\"\n";
    for (text, expected) in [
        ("plaintext = true", "brokers"),
        ("brokers = []\nplaintext = true", "brokers: expected"),
        ("brokers = [\"kafka\"]\nplaintext = true", "\"kafka\""),
        ("brokers = [\"kafka:0\"]\nplaintext = true", "\"kafka:0\""),
        ("brokers = [\"a:1,b:2\"]\nplaintext = true", "\"a:1,b:2\""),
        ("brokers = [\"a:1\"]", "tls: is needed"),
        (
            &format!("brokers = [\"a:1\"]\nplaintext = true\n{tls}"),
            "plaintext: is true",
        ),
        (
            &format!("brokers = [\"a:1\"]\n{tls}certificate = \"c\""),
            "tls.key: is needed",
        ),
        (
            &format!("brokers = [\"a:1\"]\n{tls}key = \"c\""),
            "tls.certificate: is needed",
        ),
        (
            "brokers = [\"a:1\"]\nplaintext = true\ntopic_prefix = \"a b\"",
            "topic_prefix: expected",
        ),
        (
            "brokers = [\"a:1\"]\nplaintext = true\nsession_timeout_ms = 999",
            "session_timeout_ms: expected 1000 to 300000, got \"999\"",
        ),
        (
            "brokers = [\"a:1\"]\nplaintext = true\nretries = 3",
            "unknown field `retries`",
        ),
        (
            "brokers = [\"a:1\"]\nplaintext = true\n[sasl]\nmechanism = \"PLAIN\"\nusername = \"u\"\npassword_file = \"p\"",
            "sasl.mechanism: PLAIN",
        ),
        (
            "brokers = [\"a:1\"]\nplaintext = true\n[sasl]\nmechanism = \"MAGIC\"\nusername = \"u\"\npassword_file = \"p\"",
            "unknown variant `MAGIC`",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(expected), "{text}\n→ {error}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_its_key() {
    let config = parse("brokers = [\"a:1\"]\n[tls]\nca = \"/nowhere/ca.pem\"").unwrap();
    let error = config.client_config("test").unwrap_err().to_string();
    assert_eq!(error, "kafka.tls.ca: cannot read /nowhere/ca.pem");
}

#[test]
fn the_password_is_read_without_its_newline_and_never_shown() {
    let path = std::env::temp_dir().join(format!("returnpath-password-{}", std::process::id()));
    fs::write(&path, "hunter2\n").unwrap();
    let config = parse(&format!(
        "brokers = [\"a:1\"]\nplaintext = true\n[sasl]\n\
         mechanism = \"SCRAM-SHA-256\"\nusername = \"u\"\npassword_file = {path:?}"
    ))
    .unwrap();
    let client = config.client_config("test").unwrap();
    assert_eq!(client.get("sasl.password"), Some("hunter2"));
    assert_eq!(client.get("security.protocol"), Some("sasl_plaintext"));
    assert!(!format!("{config:?}{client:?}").contains("hunter2"));
    fs::remove_file(path).unwrap();
}

#[test]
fn librdkafka_knows_every_setting() {
    let config = parse("brokers = [\"a:1\"]\nplaintext = true").unwrap();
    config
        .client_config("test")
        .unwrap()
        .create_native_config()
        .unwrap();
}
