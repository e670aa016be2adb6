//! What the section's files and variables must hold, and what goes together.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

use super::*;
use crate::config::Config as Whole;

/// A folder for one test, gone with it.
struct Folder(PathBuf);

impl Folder {
    /// With all that the smallest section needs.
    fn new() -> Self {
        let random = getrandom::u64().unwrap();
        let folder = Self(std::env::temp_dir().join(format!("returnpath-decide-{random:016x}")));
        fs::create_dir(&folder.0).unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = CertificateParams::new(vec!["a".into()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        folder.write("own.pem", 0o644, &certificate.pem());
        folder.write("own.key", 0o600, &key.serialize_pem());
        let signing = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        folder.write("decision.key", 0o600, &signing.serialize_pem());
        folder.write("api-key", 0o600, "hunter2\n");
        folder.write("pseudonyms", 0o600, "0123456789abcdef");
        folder
    }

    fn write(&self, name: &str, mode: u32, text: &str) {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(folder: &Path) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    format!(
        r#"
node_id = "a"
kafka.brokers = ["localhost:9092"]
kafka.plaintext = true
bridge.brokers = ["localhost:8883"]
bridge.tls = {{ ca = "ca.pem", certificate = "c.pem", key = "c.key" }}
[decide]
signing_key = "{signing_key}"
policy.currency = "EUR"
rules.hosts = ["cdn.example"]
mqtt.brokers = ["localhost:8883"]
mqtt.tls = {{ ca = "{own}", certificate = "{own}", key = "{own_key}" }}
[[decide.aggregators]]
name = "north"
ca = "{own}"
pseudonym_secret = {{ file = "{pseudonyms}" }}
secrets.api_key = {{ file = "{api_key}" }}
[decide.aggregators.parameters]
method = "GET"
url = "https://north.example/"
sees = ["box.pseudonym"]
query.box = {{ field = "box.pseudonym" }}
headers.authorization = {{ secret = "api_key" }}
[decide.aggregators.parameters.response]
offers = ""
[decide.aggregators.parameters.response.offer]
creative_id = "/id"
url = "/url"
media_type = "/type"
duration = {{ pointer = "/ms", unit = "ms" }}
"#,
        signing_key = at("decision.key"),
        own = at("own.pem"),
        own_key = at("own.key"),
        pseudonyms = at("pseudonyms"),
        api_key = at("api-key"),
    )
}

/// What `check-config` says of it.
fn checked(text: &str) -> Result<(), String> {
    let config = Whole::parse(text).unwrap().decide.unwrap();
    check(&config).map_err(|error| mqtt::chain(&error))
}

#[test]
fn a_section_whose_files_are_there_can_be_used() {
    let folder = Folder::new();
    let config = Whole::parse(&text(&folder.0)).unwrap().decide.unwrap();
    let opened = config.open(Metrics::unobserved(&["north"])).unwrap();
    assert_eq!(opened.settings.aggregators[0].name, "north");
    let pseudonym = opened.pseudonyms.pseudonym("north", "box-1").unwrap();
    assert_eq!(pseudonym.len(), 64);
    assert_eq!(opened.pseudonyms.pseudonym("south", "box-1"), None);
    let printed = format!("{config:?}{opened:?}");
    assert!(!printed.contains("hunter2"), "{printed}");
    assert!(!printed.contains("0123456789abcdef"), "{printed}");
}

#[test]
fn what_does_not_go_together_is_named_by_its_key() {
    let folder = Folder::new();
    let whole = text(&folder.0);
    let pseudonyms = whole
        .lines()
        .find(|line| line.starts_with("pseudonym_secret"))
        .unwrap();
    for (from, to, expected) in [
        (
            pseudonyms,
            "",
            "decide.aggregators[0].pseudonym_secret: must be set, since parameters.sees has",
        ),
        (
            "sees = [\"box.pseudonym\"]\nquery.box = { field = \"box.pseudonym\" }",
            "sees = []",
            "decide.aggregators[0].pseudonym_secret: parameters.sees must have box.pseudonym",
        ),
        (
            "headers.authorization = { secret = \"api_key\" }",
            "",
            "decide.aggregators[0].secrets.api_key: no parameter uses it",
        ),
        (
            "secret = \"api_key\"",
            "secret = \"other\"",
            "decide.aggregators[0].secrets.api_key: no parameter uses it",
        ),
        (
            "secrets.api_key =",
            "secrets.other_key =",
            "decide.aggregators[0].secrets.other_key: no parameter uses it",
        ),
        (
            "policy.currency = \"EUR\"",
            "policy.currency = \"euro\"",
            "decide.policy.currency: ",
        ),
        (
            "name = \"north\"",
            "name = \"n o\"",
            "decide.aggregators[0].name: expected",
        ),
        (
            "name = \"north\"",
            "name = \"north\"\ndeadline_ms = 0",
            "decide.aggregators[0].deadline_ms: expected",
        ),
    ] {
        let changed = whole.replace(from, to);
        assert_ne!(changed, whole, "{from}");
        let error = checked(&changed).unwrap_err();
        assert!(error.starts_with(expected), "{from}\n{error}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named_by_key_and_path() {
    for (name, mode, held, key) in [
        ("decision.key", 0o644, None, "decide.signing_key: "),
        ("decision.key", 0o600, Some(""), "decide.signing_key: "),
        ("own.key", 0o600, Some(""), "decide.mqtt.tls.key: "),
        (
            "api-key",
            0o600,
            Some("hunter2\nhunter2"),
            "decide.aggregators[0].secrets.api_key: ",
        ),
        (
            "pseudonyms",
            0o600,
            Some(""),
            "decide.aggregators[0].pseudonym_secret: ",
        ),
    ] {
        let folder = Folder::new();
        let path = folder.0.join(name);
        let held = held.map_or_else(|| fs::read_to_string(&path).unwrap(), str::to_owned);
        folder.write(name, mode, &held);
        let error = checked(&text(&folder.0)).unwrap_err();
        assert!(error.starts_with(key), "{error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let folder = Folder::new();
    folder.write("pseudonyms", 0o600, "short");
    let error = checked(&text(&folder.0)).unwrap_err();
    let expected = "decide.aggregators[0].pseudonym_secret: expected at least 16 bytes";
    assert!(error.starts_with(expected), "{error}");
}
