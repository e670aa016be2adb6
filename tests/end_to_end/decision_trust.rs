//! Nobody but the operator puts an ad on a screen: decisions and configuration
//! that a box must refuse, published to its own topic by someone who may.

use std::time::Duration;

use anyhow::ensure;
use prost::Message as _;
use returnpath_agent::clock;
use returnpath_shared::wire::{self, Stage};
use returnpath_tests::{
    agent::Agent, mqtt_client::MqttClient, pki::Identity, player::Player, signer::Signer,
    wait::wait_until,
};

use crate::{
    decided::{decision_id, reached},
    event, market,
    scene::{Losses, Scene, play},
};

const LIMIT: Duration = Duration::from_secs(60);

const LEAD_MS: u64 = 120_000;

/// The life of a decision whose end a test waits for: many times what it takes
/// to the box.
const SHORT_MS: u64 = 10_000;

/// Someone who may publish to boxes, but for the operator's key.
struct Intruder {
    client: MqttClient,
}

impl Intruder {
    /// A collector's decide role that went bad: may publish decisions.
    fn new(scene: &Scene) -> Self {
        Self::with(scene, scene.pki.decide("collector-b"), "collector-b-decide")
    }

    /// Someone with the operator's certificate: may publish configuration.
    fn steering(scene: &Scene) -> Self {
        Self::with(scene, scene.pki.operator(), "operator")
    }

    fn with(scene: &Scene, identity: Identity, client_id: &str) -> Self {
        Self {
            client: MqttClient {
                port: scene.mosquitto.port(),
                authority: scene.pki.authority(),
                identity: Some(identity),
                client_id: client_id.to_owned(),
            },
        }
    }

    async fn publish(&self, device: &str, kind: &str, payload: &[u8]) -> anyhow::Result<()> {
        let topic = format!("rp/v1/{device}/{kind}");
        let output = self.client.publish(&topic, payload).await?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    }

    async fn decide(&self, device: &str, signed: &wire::SignedDecision) -> anyhow::Result<()> {
        self.publish(device, "decisions", &signed.encode_to_vec())
            .await
    }
}

/// A good decision for slot 0 of `break_id` of `box-1`.
fn decision(break_id: &str) -> wire::Decision {
    let boot_id = clock::boot_id();
    wire::Decision {
        decision_id: decision_id("box-1", boot_id, break_id, 0),
        device_id: "box-1".to_owned(),
        break_id: break_id.to_owned(),
        slot: 0,
        number: 1,
        expiry_boot_id: boot_id,
        expiry_uptime_ms: clock::uptime_ms() + LEAD_MS,
        creative: Some(wire::Creative {
            creative_id: "forged".to_owned(),
            url: "https://creatives.example/forged.mp4".to_owned(),
            media_type: "video/mp4".to_owned(),
            duration_ms: 30_000,
        }),
    }
}

/// Waits until the agent has counted so many refusals for a reason.
async fn refused(agent: &Agent, reason: &str, count: u64) -> anyhow::Result<()> {
    counted(agent, &format!("/decisions/refused/{reason}"), count).await
}

/// Waits until a number of the agent's status is `count`.
async fn counted(agent: &Agent, pointer: &str, count: u64) -> anyhow::Result<()> {
    wait_until(&format!("{count} at {pointer}"), LIMIT, async || {
        let status = agent.status().await?;
        let found = status.pointer(pointer).and_then(serde_json::Value::as_u64);
        ensure!(found.unwrap_or(0) == count, "{status}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_box_refuses_what_is_not_meant_for_it_and_shows_nothing_of_it() -> anyhow::Result<()> {
    play("decision-refused", async |scene| {
        scene.open_market(&market::three()).await?;
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        let mut player = Player::follow(&agent).await?;
        // The link is up, and the box subscribed, once its own decision came.
        let opportunity = event::ad_break("own", LEAD_MS, &[30_000]);
        client.expect("accepted", &opportunity).await?;
        let own = player.decision("own", 0).await?.decision;
        let story = reached(scene, &own.decision_id, &[Stage::Acknowledged]).await?;

        let intruder = Intruder::new(scene);
        let operator = Signer::load(&scene.pki.signing_key("decision-a"))?;
        let stranger = Signer::load(&scene.pki.signing_key("decision-b"))?;
        let configurer = Signer::load(&scene.pki.signing_key("config-a"))?;

        // Signed by nobody whom the box trusts.
        let mut posing = stranger.decision(&decision("b1"));
        intruder.decide("box-1", &posing).await?;
        refused(&agent, "forged", 1).await?;
        // The same under the name of the operator's key.
        posing.key_id = operator.key_id();
        intruder.decide("box-1", &posing).await?;
        refused(&agent, "forged", 2).await?;
        // Keys of configuration decide nothing.
        intruder
            .decide("box-1", &configurer.decision(&decision("b1")))
            .await?;
        refused(&agent, "forged", 3).await?;
        // One bit of a good one changed.
        let mut changed = operator.decision(&decision("b1"));
        let mut bytes = changed.decision.to_vec();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        changed.decision = bytes.into();
        intruder.decide("box-1", &changed).await?;
        refused(&agent, "forged", 4).await?;
        // Signed by the right key for the wrong purpose.
        let good = decision("b1").encode_to_vec();
        let mispurposed = wire::SignedDecision {
            signature: operator.sign("returnpath.config.v1", &good).into(),
            key_id: operator.key_id(),
            decision: good.into(),
        };
        intruder.decide("box-1", &mispurposed).await?;
        refused(&agent, "forged", 5).await?;

        // Good, for another box.
        let mut foreign = decision("b1");
        foreign.device_id = "box-2".to_owned();
        foreign.decision_id = decision_id("box-2", foreign.expiry_boot_id, "b1", 0);
        intruder
            .decide("box-1", &operator.decision(&foreign))
            .await?;
        refused(&agent, "foreign", 1).await?;

        // Good, too late; good, in another boot.
        let mut late = decision("b2");
        late.expiry_uptime_ms = clock::uptime_ms() - 1;
        intruder.decide("box-1", &operator.decision(&late)).await?;
        refused(&agent, "expired", 1).await?;

        // Another ad for the slot that has one.
        let mut second = decision("own");
        second.decision_id.clone_from(&own.decision_id);
        intruder
            .decide("box-1", &operator.decision(&second))
            .await?;
        refused(&agent, "superseded", 1).await?;

        // What cannot be read at all.
        intruder
            .publish("box-1", "decisions", b"\xff\xff\xff")
            .await?;
        refused(&agent, "malformed", 1).await?;

        // The recorded one again, to the byte: quietly ignored.
        let signed = story.decided.signed.clone().unwrap_or_default();
        let repeated = agent.status().await?["decisions"]["repeated"].as_u64();
        intruder.decide("box-1", &signed).await?;
        counted(&agent, "/decisions/repeated", repeated.unwrap_or(0) + 1).await?;

        let handed = player.handed();
        assert_eq!(handed.len(), 1, "{handed:?}");
        // What is not the operator's is not told to the cloud either; what is,
        // is told with its reason.
        let story = reached(scene, &own.decision_id, &[Stage::Acknowledged]).await?;
        assert!(!story.has(Stage::Expired), "{:?}", story.stages);
        health_tells(scene, &agent).await?;
        scene.settle(Losses::None).await
    })
    .await
}

/// Ad events of refused decisions stand in `rp.ads`.
async fn health_tells(scene: &Scene, agent: &Agent) -> anyhow::Result<()> {
    let device = agent.device().as_str();
    wait_until("the refusals to be told", LIMIT, async || {
        let mut told = Vec::new();
        for (_, refined) in scene.refined().await? {
            let kind = refined.event.and_then(|event| event.kind);
            if refined.device_id == device
                && let Some(wire::event::Kind::AdEvent(ad)) = kind
                && ad.kind() == wire::ad_event::Kind::DecisionRefused
            {
                told.push(ad.refusal);
            }
        }
        told.sort();
        ensure!(told == ["expired", "superseded"], "{told:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_decision_played_back_after_its_time_is_shown_to_nobody() -> anyhow::Result<()> {
    play("decision-replayed", async |scene| {
        let _collector = scene.running_collector().await?;
        let mut agent = scene.running_agent("box-1").await?;
        let mut player = Player::follow(&agent).await?;
        let intruder = Intruder::new(scene);
        let operator = Signer::load(&scene.pki.signing_key("decision-a"))?;
        agent.linked().await?;

        let mut short = decision("b1");
        short.expiry_uptime_ms = clock::uptime_ms() + SHORT_MS;
        let signed = operator.decision(&short);
        intruder.decide("box-1", &signed).await?;
        let decision = player.decision("b1", 0).await?.decision;
        let mut client = scene.client(&agent).await?;
        let shown = event::ad("KIND_START", &decision);
        client.expect("durable", &shown).await?;
        wait_until("it to expire", LIMIT, async || {
            let status = agent.status().await?;
            ensure!(status["decisions"]["open"] == 0, "{status}");
            Ok(())
        })
        .await?;
        intruder.decide("box-1", &signed).await?;
        refused(&agent, "replayed", 1).await?;
        // Not even by an agent that has forgotten all it knew in memory.
        agent.kill()?;
        agent.start().await?;
        let after = Player::follow(&agent).await?;
        agent.linked().await?;
        intruder.decide("box-1", &signed).await?;
        wait_until("it to be refused", LIMIT, async || {
            let status = agent.status().await?;
            let refused = &status["decisions"]["refused"];
            ensure!(
                refused["expired"] == 1 || refused["replayed"] == 1,
                "{status}"
            );
            Ok(())
        })
        .await?;
        assert_eq!(player.handed().len(), 1);
        assert!(after.handed().is_empty(), "{:?}", after.handed());
        scene.settle(Losses::Declared).await
    })
    .await
}

#[tokio::test]
async fn both_keys_are_good_while_they_are_changed() -> anyhow::Result<()> {
    play("decision-rotation", async |scene| {
        scene.open_market(&market::three()).await?;
        let keys = ["decision-a", "decision-b"].map(|name| scene.pki.signing_key(name));
        let [old, new] = [Signer::load(&keys[0])?, Signer::load(&keys[1])?];
        let mut both = scene.agent("box-1")?;
        both.trust_decision_keys(&keys)?;
        both.start().await?;
        let mut only_old = scene.agent("box-2")?;
        only_old.start().await?;
        let mut clients = [scene.client(&both).await?, scene.client(&only_old).await?];
        let mut players = [
            Player::follow(&both).await?,
            Player::follow(&only_old).await?,
        ];

        let mut collector = scene.running_collector().await?;
        for client in &mut clients {
            let before = event::ad_break("before", LEAD_MS, &[30_000]);
            client.expect("accepted", &before).await?;
        }
        for player in &mut players {
            let decision = player.decision("before", 0).await?.decision;
            let story = reached(scene, &decision.decision_id, &[Stage::Acknowledged]).await?;
            assert_eq!(signed_by(&story.decided), old.key_id());
        }

        assert!(collector.terminate(LIMIT).await?.success());
        if let Some(deciding) = &mut scene.deciding {
            deciding.signing_key = keys[1].clone();
        }
        scene.configure(&collector)?;
        collector.start().await?;
        for client in &mut clients {
            let after = event::ad_break("after", LEAD_MS, &[30_000]);
            client.expect("accepted", &after).await?;
        }
        let decision = players[0].decision("after", 0).await?.decision;
        let story = reached(scene, &decision.decision_id, &[Stage::Acknowledged]).await?;
        assert_eq!(signed_by(&story.decided), new.key_id());
        refused(&only_old, "forged", 1).await?;
        assert_eq!(players[1].handed().len(), 1, "{:?}", players[1].handed());
        let unknown = decision_id("box-2", clock::boot_id(), "after", 0);
        reached(scene, &unknown, &[Stage::Pushed]).await?;
        scene.settle(Losses::None).await
    })
    .await
}

fn signed_by(decided: &wire::Decided) -> String {
    let signed = decided.signed.clone().unwrap_or_default();
    signed.key_id
}

#[tokio::test]
async fn signed_configuration_is_obeyed_and_brings_new_keys() -> anyhow::Result<()> {
    play("config-signed", async |scene| {
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        agent.linked().await?;
        let mut client = scene.client(&agent).await?;
        let mut player = Player::follow(&agent).await?;
        let intruder = Intruder::new(scene);
        let steering = Intruder::steering(scene);
        let operator = Signer::load(&scene.pki.signing_key("config-a"))?;
        let stranger = Signer::load(&scene.pki.signing_key("config-b"))?;
        let new = Signer::load(&scene.pki.signing_key("decision-b"))?;
        let config = |version| wire::Config {
            version,
            device_id: "box-1".to_owned(),
            batch_interval_ms: Some(2_000),
            decision_keys: vec![new.public_key().into()],
            ..wire::Config::default()
        };
        let send = async |signed: wire::SignedConfig| {
            let bytes = signed.encode_to_vec();
            steering.publish("box-1", "config", &bytes).await
        };

        send(stranger.config(&config(9))).await?;
        counted(&agent, "/config/refused/forged", 1).await?;
        send(operator.config(&wire::Config {
            device_id: "box-2".to_owned(),
            ..config(9)
        }))
        .await?;
        counted(&agent, "/config/refused/foreign", 1).await?;
        counted(&agent, "/config/version", 0).await?;

        send(operator.config(&config(5))).await?;
        counted(&agent, "/config/version", 5).await?;
        intruder
            .decide("box-1", &new.decision(&decision("by-new")))
            .await?;
        player.decision("by-new", 0).await?;
        let old = Signer::load(&scene.pki.signing_key("decision-a"))?;
        intruder
            .decide("box-1", &old.decision(&decision("by-old")))
            .await?;
        refused(&agent, "forged", 1).await?;

        // A lower version is older, whoever sends it again.
        send(operator.config(&wire::Config {
            version: 4,
            ..wire::Config::default()
        }))
        .await?;
        send(operator.config(&config(6))).await?;
        counted(&agent, "/config/version", 6).await?;
        intruder
            .decide("box-1", &new.decision(&decision("still-new")))
            .await?;
        let decision = player.decision("still-new", 0).await?.decision;
        let shown = event::ad("KIND_START", &decision);
        client.expect("durable", &shown).await?;
        scene.settle(Losses::None).await
    })
    .await
}
