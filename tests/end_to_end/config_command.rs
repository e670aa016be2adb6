//! A person steers boxes with `returnpath-collector config`: signs, looks,
//! publishes, and no one else can.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use prost::Message as _;
use returnpath_agent::clock;
use returnpath_shared::wire;
use returnpath_tests::{
    agent::Agent,
    mqtt_client::MqttClient,
    pki::{Identity, SigningKey},
    place,
    player::Player,
    process,
    signer::Signer,
    wait::wait_until,
};
use serde_json::Value;

use crate::{
    decided::decision_id,
    event,
    scene::{Losses, Scene, play},
};

const LIMIT: Duration = Duration::from_secs(60);

/// Exit codes of the command.
const DONE: i32 = 0;
const FAILED: i32 = 1;
const WRONG_FILE: i32 = 65;
const WRONG_CONFIGURATION: i32 = 78;

/// Where a person sits: a folder with a configuration of the command, the
/// certificate that it names, and what was signed.
struct Desk {
    directory: PathBuf,
}

impl Desk {
    /// Of someone with this certificate.
    fn of(scene: &Scene, identity: &Identity) -> anyhow::Result<Self> {
        let directory = place::fresh_directory("desk")?;
        let topic = scene.topic("raw");
        let prefix = topic.strip_suffix(".raw").context("a topic's name")?;
        let text = format!(
            "\
node_id = \"desk\"

[kafka]
brokers = [\"{kafka}\"]
topic_prefix = \"{prefix}\"
development = true
plaintext = true

[bridge]
brokers = [\"localhost:{port}\"]
tls = {{ ca = \"{ca}\", certificate = \"{certificate}\", key = \"{key}\" }}

[steering]
config_keys = \"{keys}\"

[steering.mqtt]
brokers = [\"localhost:{port}\"]
tls = {{ ca = \"{ca}\", certificate = \"{certificate}\", key = \"{key}\" }}
",
            kafka = scene.kafka.address(),
            port = scene.mosquitto.port(),
            ca = scene.pki.authority().display(),
            certificate = identity.certificate.display(),
            key = identity.key.display(),
            keys = scene.pki.signing_key("config-a").public.display(),
        );
        fs::write(directory.join("collector.toml"), text)?;
        Ok(Self { directory })
    }

    /// Of the operator.
    fn new(scene: &Scene) -> anyhow::Result<Self> {
        Self::of(scene, &scene.pki.operator())
    }

    /// Runs `config` with these arguments, and looks at its exit code.
    async fn config(&self, arguments: &[&str], expected: i32) -> anyhow::Result<Output> {
        let program = place::binary("returnpath-collector")?;
        let all = ["--config", "collector.toml", "config"];
        let all = all.iter().chain(arguments);
        let output = process::output(&program, all, &self.directory, LIMIT).await?;
        ensure!(
            output.status.code() == Some(expected),
            "config {arguments:?}: {output:?}"
        );
        Ok(output)
    }

    /// Signs settings: the name of the file with the message.
    async fn sign(&self, settings: &str, key: &SigningKey) -> anyhow::Result<String> {
        let name = format!("{:x}", fs::read_dir(&self.directory)?.count());
        fs::write(self.directory.join("settings.toml"), settings)?;
        let key = path(&key.private)?;
        self.config(&["sign", "settings.toml", "--key", key, "-o", &name], DONE)
            .await?;
        Ok(name)
    }

    /// Publishes, and says what became of each box, in their order.
    async fn publish(
        &self,
        message: &str,
        arguments: &[&str],
        expected: i32,
    ) -> anyhow::Result<Vec<(String, String)>> {
        let all = [&["publish", message, "--json"], arguments].concat();
        let output = self.config(&all, expected).await?;
        let text = String::from_utf8(output.stdout)?;
        let outcome = |line| {
            let object: Value = serde_json::from_str(line)?;
            let text = |key: &str| object[key].as_str().map(str::to_owned);
            text("device")
                .zip(text("outcome"))
                .with_context(|| format!("an outcome, not {line}"))
        };
        text.lines().map(outcome).collect()
    }
}

fn path(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path of UTF-8")
}

fn outcomes(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = pairs.iter();
    owned
        .map(|&(device, outcome)| (device.to_owned(), outcome.to_owned()))
        .collect()
}

async fn obeys(agent: &Agent, version: u64) -> anyhow::Result<()> {
    wait_until("the configuration to be obeyed", LIMIT, async || {
        let status = agent.status().await?;
        ensure!(status["config"]["version"] == version, "{status}");
        Ok(())
    })
    .await
}

/// A good decision of `box-1`.
fn decision(break_id: &str) -> wire::Decision {
    let boot_id = clock::boot_id();
    wire::Decision {
        decision_id: decision_id("box-1", boot_id, break_id, 0),
        device_id: "box-1".to_owned(),
        break_id: break_id.to_owned(),
        number: 1,
        expiry_boot_id: boot_id,
        expiry_uptime_ms: clock::uptime_ms() + 120_000,
        ..wire::Decision::default()
    }
}

#[tokio::test]
async fn what_a_person_signs_and_publishes_boxes_obey_also_those_that_come_later()
-> anyhow::Result<()> {
    play("config-command", async |scene| {
        let _collector = scene.running_collector().await?;
        let here = scene.running_agent("box-1").await?;
        let mut client = scene.client(&here).await?;
        client
            .expect("durable", &event::impression("the link is up"))
            .await?;
        let mut player = Player::follow(&here).await?;
        let desk = Desk::new(scene)?;
        let config = scene.pki.signing_key("config-a");
        let new = scene.pki.signing_key("decision-b");
        let settings = format!(
            "version = 5\nbatch_interval_ms = 2000\ndecision_keys = \"{}\"\n",
            path(&new.public)?
        );
        let message = desk.sign(&settings, &config).await?;
        let keys = path(&config.public)?;
        desk.config(&["show", &message, "--keys", keys], DONE)
            .await?;

        let both = ["--device", "box-2", "--device", "box-1"];
        let dry = [&both[..], &["--dry-run"]].concat();
        assert_eq!(
            desk.publish(&message, &dry, DONE).await?,
            outcomes(&[("box-1", "would_publish"), ("box-2", "would_publish")])
        );
        let retained = async || {
            let away = scene.mqtt_client("box-2")?;
            away.retained("rp/v1/box-2/config").await
        };
        assert_eq!(retained().await?, None, "a dry run publishes nothing");

        assert_eq!(
            desk.publish(&message, &both, DONE).await?,
            outcomes(&[("box-1", "published"), ("box-2", "published")])
        );
        obeys(&here, 5).await?;
        ensure!(retained().await?.is_some(), "the broker keeps it");
        let away = scene.running_agent("box-2").await?;
        obeys(&away, 5).await?;

        // The key that it brought is in force.
        let role = MqttClient {
            port: scene.mosquitto.port(),
            authority: scene.pki.authority(),
            identity: Some(scene.pki.decide("collector-b")),
            client_id: "collector-b-decide".to_owned(),
        };
        let signed = Signer::load(&new)?.decision(&decision("by-new"));
        let output = role
            .publish("rp/v1/box-1/decisions", &signed.encode_to_vec())
            .await?;
        ensure!(output.status.success(), "{output:?}");
        player.decision("by-new", 0).await?;

        // Every box that refine has heard of.
        let mut client = scene.client(&away).await?;
        client
            .expect("durable", &event::impression("box-2 is heard of"))
            .await?;
        let message = desk.sign("version = 6", &config).await?;
        wait_until("both boxes to be known", LIMIT, async || {
            let known = desk
                .publish(&message, &["--all", "--dry-run"], DONE)
                .await?;
            ensure!(known.len() == 2, "{known:?}");
            Ok(())
        })
        .await?;
        assert_eq!(
            desk.publish(&message, &["--all"], DONE).await?,
            outcomes(&[("box-1", "published"), ("box-2", "published")])
        );
        obeys(&here, 6).await?;
        obeys(&away, 6).await?;

        // For one box by its name: no other need be told.
        let settings = "version = 7\ndevice_id = \"box-2\"";
        let message = desk.sign(settings, &config).await?;
        assert_eq!(
            desk.publish(&message, &[], DONE).await?,
            outcomes(&[("box-2", "published")])
        );
        obeys(&away, 7).await?;
        obeys(&here, 6).await?;
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn what_boxes_would_refuse_is_not_published_and_nobody_else_may() -> anyhow::Result<()> {
    play("config-command-refused", async |scene| {
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        client
            .expect("durable", &event::impression("the link is up"))
            .await?;
        let desk = Desk::new(scene)?;
        let config = scene.pki.signing_key("config-a");
        let stranger = scene.pki.signing_key("config-b");
        let to_box_1 = ["--device", "box-1"];

        // By a key that no box trusts; for another box; no message at all.
        let forged = desk.sign("version = 8", &stranger).await?;
        let keys = path(&config.public)?;
        desk.config(&["show", &forged, "--keys", keys], FAILED)
            .await?;
        desk.publish(&forged, &to_box_1, WRONG_FILE).await?;
        let settings = "version = 8\ndevice_id = \"box-2\"";
        let foreign = desk.sign(settings, &config).await?;
        desk.publish(&foreign, &to_box_1, WRONG_FILE).await?;
        desk.publish("settings.toml", &to_box_1, WRONG_FILE).await?;
        let good = desk.sign("version = 9", &config).await?;
        desk.publish(&good, &[], FAILED).await?;

        // The broker lets no role and no box steer others.
        let device = scene.pki.device(&"box-2".parse()?)?;
        for identity in [
            scene.pki.collector("collector-b"),
            scene.pki.decide("collector-b"),
            device,
        ] {
            let other = Desk::of(scene, &identity)?;
            let message = other.sign("version = 10", &config).await?;
            assert_eq!(
                other.publish(&message, &to_box_1, FAILED).await?,
                outcomes(&[("box-1", "refused")])
            );
        }
        // And someone without a certificate that can be read steers nobody.
        let nobody = Desk::of(
            scene,
            &Identity {
                certificate: desk.directory.join("none.pem"),
                key: desk.directory.join("none.key"),
            },
        )?;
        let message = nobody.sign("version = 10", &config).await?;
        nobody
            .publish(&message, &to_box_1, WRONG_CONFIGURATION)
            .await?;

        // What was refused reached no box: the next version is the first.
        desk.publish(&good, &to_box_1, DONE).await?;
        obeys(&agent, 9).await?;
        let status = agent.status().await?;
        assert_eq!(status["config"]["refused"], serde_json::json!({}));
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn without_a_broker_nothing_is_called_published() -> anyhow::Result<()> {
    play("config-command-no-broker", async |scene| {
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        client
            .expect("durable", &event::impression("the link is up"))
            .await?;
        let desk = Desk::new(scene)?;
        let message = desk
            .sign("version = 2", &scene.pki.signing_key("config-a"))
            .await?;
        scene.mosquitto.kill()?;
        let to_box_1 = ["--device", "box-1"];
        assert_eq!(
            desk.publish(&message, &to_box_1, FAILED).await?,
            outcomes(&[("box-1", "unconfirmed")])
        );
        scene.mosquitto.resume().await?;
        desk.publish(&message, &to_box_1, DONE).await?;
        obeys(&agent, 2).await?;
        scene.settle(Losses::None).await
    })
    .await
}
