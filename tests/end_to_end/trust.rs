//! Who is who: a box reaches its own topics only, whatever it calls itself.

use std::time::Duration;

use anyhow::ensure;
use returnpath_tests::{mqtt_client::MqttClient, pki::DevelopmentPki, wait::wait_until};

use crate::{
    envelope::{batch_of_the_future, envelope},
    event,
    scene::{Losses, Scene, play},
};

/// From connecting to a line in the broker's log.
const LOG_LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_box_cannot_speak_as_another() -> anyhow::Result<()> {
    play("foreign-topic", async |scene| {
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        client.expect("durable", &event::impression("own")).await?;

        let thief = scene.mqtt_client("box-2")?;
        let forged = envelope(1, 1, batch_of_the_future(1));
        for topic in [
            "rp/v1/box-1/events/live",
            "rp/v1/box-1/events/backlog",
            "rp/v1/box-1/receipts",
            "rp/v1/box-1/config",
            "rp/v1/box-2/receipts",
        ] {
            let output = thief.publish(topic, &forged).await?;
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(error.contains("Not authorized"), "{topic}: {error:?}");
        }
        // On its own topic the same bytes are taken.
        thief.publish("rp/v1/box-2/events/live", &forged).await?;
        client
            .expect("durable", &event::impression("later"))
            .await?;
        scene.settle(Losses::None).await?;
        let raw = scene.topic("raw");
        wait_until("the box's own batch", LOG_LIMIT, async || {
            let standing = scene.kafka.records(&raw).await?;
            let of_forged: Vec<_> = standing
                .iter()
                .filter(|record| record.value.as_deref() == Some(&forged[..]))
                .map(|record| String::from_utf8_lossy(&record.key))
                .collect();
            ensure!(of_forged == ["box-2"], "{of_forged:?}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_box_with_anothers_client_id_is_still_itself() -> anyhow::Result<()> {
    play("foreign-client-id", async |scene| {
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        client
            .expect("durable", &event::impression("before"))
            .await?;

        let thief = MqttClient {
            client_id: "box-1".to_owned(),
            ..scene.mqtt_client("box-2")?
        };
        let mut listening = thief.subscribe("rp/v1/box-1/receipts")?;
        logged(scene, "box-2 1 rp/v1/box-1/receipts").await?;
        // Receipts for box-1 pass while the other listens.
        for number in 0..5 {
            let decision = format!("during-{number}");
            client
                .expect("durable", &event::impression(&decision))
                .await?;
        }
        wait_until("all receipts", Duration::from_secs(60), async || {
            let status = agent.status().await?;
            let queue = &status["queue"];
            let held = (&queue["ordinary"]["batches"], &queue["proof"]["batches"]);
            ensure!(held == (&0.into(), &0.into()), "{status}");
            Ok(())
        })
        .await?;
        listening.start_kill()?;
        let heard = listening.wait_with_output().await?;
        assert!(heard.stdout.is_empty(), "{heard:?}");

        let log = scene.mosquitto.log()?;
        assert!(
            !log.contains("already connected"),
            "someone was thrown off:\n{log}"
        );
        let connects = log.matches(" as box-1 ").count();
        assert_eq!(connects, 1, "box-1 had to connect again:\n{log}");
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn nobody_connects_without_a_certificate_of_our_authority() -> anyhow::Result<()> {
    play("strangers", async |scene| {
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        client
            .expect("durable", &event::impression("before"))
            .await?;

        let known = scene.mqtt_client("box-2")?;
        let elsewhere = returnpath_tests::place::fresh_directory("other-pki")?;
        let other = DevelopmentPki::create(&elsewhere, Duration::from_secs(3_600))?;
        let strangers = [
            MqttClient {
                identity: None,
                ..scene.mqtt_client("box-2")?
            },
            MqttClient {
                identity: Some(other.device(&"box-1".parse()?)?),
                ..scene.mqtt_client("box-2")?
            },
            // The broker's certificate is no client's.
            MqttClient {
                identity: Some(scene.pki.broker()),
                ..scene.mqtt_client("box-2")?
            },
        ];
        let topic = "rp/v1/box-2/events/live";
        assert!(known.publish(topic, b"x").await?.status.success());
        for stranger in strangers {
            let output = stranger.publish(topic, b"x").await?;
            assert!(!output.status.success(), "{:?}", stranger.identity);
        }
        client
            .expect("durable", &event::impression("after"))
            .await?;
        scene.settle(Losses::None).await
    })
    .await
}

/// Waits until the broker's log holds `text`.
async fn logged(scene: &Scene, text: &str) -> anyhow::Result<()> {
    wait_until(
        &format!("{text:?} in the broker's log"),
        LOG_LIMIT,
        async || {
            ensure!(scene.mosquitto.log()?.contains(text), "not there");
            Ok(())
        },
    )
    .await
}
