//! Collectors killed, joining and leaving, and transactions that abort.

use std::time::Duration;

use anyhow::ensure;
use returnpath_tests::{kafka::Refusal, wait::wait_until};

use crate::{
    event,
    flow::Flow,
    scene::{Losses, play},
};

/// A drain has a budget of 30 s; with Kafka at hand it takes a second.
const DRAIN_LIMIT: Duration = Duration::from_secs(40);

#[tokio::test]
async fn a_collector_killed_again_and_again_loses_and_doubles_nothing() -> anyhow::Result<()> {
    play("collector-killed", async |scene| {
        let mut collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut flow = Flow::start("collector-killed", scene.client(&agent).await?);
        for _ in 0..3 {
            flow.more(5).await?;
            collector.kill()?;
            flow.more(5).await?;
            collector.start().await?;
        }
        flow.stop().await?;
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn a_second_collector_joins_and_leaves_without_trace() -> anyhow::Result<()> {
    play("second-collector", async |scene| {
        let mut first = scene.running_collector().await?;
        let mut second = scene.collector("collector-b")?;
        let mut flows = Vec::new();
        let mut agents = Vec::new();
        // Several boxes, so that both collectors have partitions with work.
        for (name, device) in [("one", "box-1"), ("two", "box-2"), ("three", "box-3")] {
            let agent = scene.running_agent(device).await?;
            flows.push(Flow::start(name, scene.client(&agent).await?));
            agents.push(agent);
        }
        second.start().await?;
        for flow in &mut flows {
            flow.more(5).await?;
        }
        assert!(first.terminate(DRAIN_LIMIT).await?.success());
        for flow in &mut flows {
            flow.more(5).await?;
        }
        first.start().await?;
        second.kill()?;
        for flow in &mut flows {
            flow.more(5).await?;
        }
        for flow in flows {
            flow.stop().await?;
        }
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn an_aborted_transaction_leaves_nothing_behind() -> anyhow::Result<()> {
    play("aborted", async |scene| {
        let collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        client
            .expect("durable", &event::impression("before"))
            .await?;
        scene.settle(Losses::None).await?;

        // The raw topic takes the batch, the box gets its receipt, and every
        // transaction that would refine it is refused in its middle.
        let viewing = scene.topic("viewing");
        let refusing = scene.kafka.refuse(&viewing, Refusal::AllButMarkers).await?;
        client.expect("accepted", &event::tune(7)).await?;
        client
            .expect("durable", &event::impression("during"))
            .await?;
        wait_until("two aborts", Duration::from_secs(60), async || {
            let aborted = collector
                .metric("returnpath_refine_transactions_aborted_total")
                .await?;
            ensure!(aborted >= 2.0, "{aborted} aborts");
            Ok(())
        })
        .await?;
        let ads = scene.topic("ads");
        let standing = scene.kafka.records(&ads).await?.len();
        assert_eq!(standing, 1, "half a transaction is visible");

        scene.kafka.accept(refusing).await?;
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn sigterm_drains_and_ends_well() -> anyhow::Result<()> {
    play("sigterm", async |scene| {
        let mut collector = scene.running_collector().await?;
        let mut agent = scene.running_agent("box-1").await?;
        let mut flow = Flow::start("sigterm", scene.client(&agent).await?);
        flow.more(5).await?;
        let ended = collector.terminate(DRAIN_LIMIT).await?;
        assert!(ended.success(), "collector: {ended}");
        let mut client = flow.stop().await?;
        client.expect("accepted", &event::tune(9)).await?;
        let ended = agent.terminate(Duration::from_secs(20)).await?;
        assert!(ended.success(), "agent: {ended}");

        // What was only accepted is on flash too: a stop is no power cut.
        collector.start().await?;
        agent.start().await?;
        scene.settle(Losses::None).await
    })
    .await
}
