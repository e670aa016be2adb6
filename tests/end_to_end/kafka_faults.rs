//! Kafka killed, refusing and frozen: nothing is receipted that is not there,
//! nothing is lost, nothing arrives twice.

use std::time::Duration;

use anyhow::ensure;
use returnpath_tests::{kafka::Refusal, wait::wait_until};

use crate::{
    event,
    flow::Flow,
    scene::{Losses, play},
};

#[tokio::test]
async fn kafka_killed_and_back_loses_and_doubles_nothing() -> anyhow::Result<()> {
    play("kafka-killed", async |scene| {
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut flow = Flow::start("kafka-killed", scene.client(&agent).await?);
        flow.more(5).await?;
        scene.kafka.kill()?;
        // Proof becomes durable on the box's flash.
        flow.more(5).await?;
        scene.kafka.resume().await?;
        flow.more(5).await?;
        flow.stop().await?;
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn kafka_frozen_and_thawed_loses_and_doubles_nothing() -> anyhow::Result<()> {
    play("kafka-frozen", async |scene| {
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut flow = Flow::start("kafka-frozen", scene.client(&agent).await?);
        flow.more(5).await?;
        scene.kafka.freeze();
        flow.more(10).await?;
        scene.kafka.thaw();
        flow.more(5).await?;
        flow.stop().await?;
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn what_kafka_refuses_has_no_receipt_and_arrives_when_it_takes_it() -> anyhow::Result<()> {
    play("kafka-refuses", async |scene| {
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        client
            .expect("durable", &event::impression("before"))
            .await?;
        scene.settle(Losses::None).await?;

        let raw = [scene.topic("raw"), scene.topic("raw.backlog")];
        let mut refusing = Vec::new();
        let mut standing = 0;
        for topic in &raw {
            refusing.push(scene.kafka.refuse(topic, Refusal::Everything).await?);
            standing += scene.kafka.records(topic).await?.len();
        }
        for number in 0..3 {
            let decision = format!("refused-{number}");
            client
                .expect("durable", &event::impression(&decision))
                .await?;
        }
        // The box has sent them, more than once, and still holds them.
        wait_until("a resend", Duration::from_secs(90), async || {
            let status = agent.status().await?;
            ensure!(status["batches"]["resent"] != 0, "{status}");
            Ok(())
        })
        .await?;
        let mut standing_now = 0;
        for topic in &raw {
            standing_now += scene.kafka.records(topic).await?.len();
        }
        assert_eq!(standing_now, standing, "Kafka took what it should refuse");

        for topic in refusing {
            scene.kafka.accept(topic).await?;
        }
        scene.settle(Losses::None).await
    })
    .await
}
