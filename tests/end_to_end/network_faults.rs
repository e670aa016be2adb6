//! Networks that cut, swallow, crawl and lose packets, and a Kafka that hangs:
//! whoever is at an end notices, leaves the connection and comes back.

use std::time::Duration;

use anyhow::{bail, ensure};
use returnpath_tests::{
    agent::Agent,
    cable::Cable,
    collector::Collector,
    faults::{outage, reconnects, stage::Stage},
    kafka::Lease,
    place,
    process::output,
    wait::wait_until,
};

use crate::{
    flow::Flow,
    scene::{Losses, play},
};

/// From a fault to its being noticed: a keep-alive and its grace, on a loaded
/// machine.
const NOTICED_LIMIT: Duration = Duration::from_secs(90);

/// What is done to a cable, and what it is called.
type Fault = (&'static str, fn(&Cable));

const FAULTS: [Fault; 3] = [
    ("cut", Cable::pull),
    ("half-open", Cable::swallow),
    ("crawling", Cable::crawl),
];

#[tokio::test]
async fn a_box_leaves_a_link_that_is_cut_half_open_or_crawling() -> anyhow::Result<()> {
    play("box-network", async |scene| {
        let _collector = scene.running_collector().await?;
        let cable = Cable::lay(scene.mosquitto.port()).await?;
        let mut agent = scene.agent_behind(&cable, "box-1")?;
        agent.change("[link]", "[link]\nconnect_timeout_s = 3")?;
        agent.start().await?;
        agent.linked().await?;
        let mut flow = Flow::start("box-network", scene.client(&agent).await?);
        for (fault, spoil) in FAULTS {
            flow.more(2).await?;
            spoil(&cable);
            unlinked(&agent, fault).await?;
            // The box goes on meanwhile: proof becomes durable on its flash.
            flow.more(3).await?;
            cable.plug();
            agent.linked().await?;
        }
        flow.more(2).await?;
        flow.stop().await?;
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn a_collector_leaves_a_link_that_is_cut_half_open_or_crawling() -> anyhow::Result<()> {
    play("collector-network", async |scene| {
        let cable = Cable::lay(scene.mosquitto.port()).await?;
        let mut collector = scene.collector("collector-a")?;
        collector.change(
            &format!("brokers = [\"localhost:{}\"]", scene.mosquitto.port()),
            &format!("brokers = [\"localhost:{}\"]", cable.port()),
        )?;
        collector.start().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut flow = Flow::start("collector-network", scene.client(&agent).await?);
        for (fault, spoil) in FAULTS {
            flow.more(2).await?;
            spoil(&cable);
            connection(&collector, fault, 0.0).await?;
            flow.more(2).await?;
            cable.plug();
            connection(&collector, "plugged in again", 1.0).await?;
        }
        flow.more(2).await?;
        flow.stop().await?;
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn a_third_of_all_packets_lost_loses_no_event() -> anyhow::Result<()> {
    let program = place::binary("returnpath-faults")?;
    let arguments = ["loss", "--for", "10s", "--boxes", "3", "--json"];
    let limit = Duration::from_secs(400);
    let output = output(&program, arguments, &place::workspace(), limit).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{}\n{said}\n{error}",
        output.status
    );
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let number = |name: &str| report[name].as_f64().unwrap_or_default();
    let share = number("packetsLost") / number("packetsSeen");
    assert!((0.25..0.35).contains(&share), "{report:#}");
    assert!(number("receiptedDuring") > 0.0, "{report:#}");
    Ok(())
}

#[tokio::test]
async fn a_kafka_that_hangs_longer_than_every_timeout_costs_nothing() -> anyhow::Result<()> {
    let kafka = Lease::take().await?;
    let stage = Stage::set("kafka-hangs", &[kafka.address()]).await?;
    let settings = outage::Settings {
        // The longest that is left is the socket's, 15 s.
        span: Duration::from_secs(25),
        boxes: 3,
        deliver_within_s: Some(5),
    };
    let report = outage::hang(&kafka, &stage, settings, |_| {}).await?;
    assert!(report.is_clean(), "{report:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_loses_its_broker_at_once_comes_back_spread() -> anyhow::Result<()> {
    let kafka = Lease::take().await?;
    let settings = reconnects::Settings {
        boxes: 400,
        spread: Duration::from_secs(15),
        seed: 5,
    };
    let report = reconnects::run(&kafka, settings, |_| {}).await?;
    assert!(report.is_clean(), "{report:#?}");
    Ok(())
}

async fn unlinked(agent: &Agent, fault: &str) -> anyhow::Result<()> {
    let what = format!("the box to leave a link that is {fault}");
    wait_until(&what, NOTICED_LIMIT, async || {
        let status = agent.status().await?;
        ensure!(status["link"]["up"] == false, "{}", status["link"]);
        Ok(())
    })
    .await
}

async fn connection(collector: &Collector, fault: &str, wanted: f64) -> anyhow::Result<()> {
    let what = format!("the collector at a link that is {fault}");
    wait_until(&what, NOTICED_LIMIT, async || {
        let connected = collector.metric("returnpath_bridge_connected").await?;
        if (connected - wanted).abs() > 0.5 {
            bail!("connected {connected}, not {wanted}");
        }
        Ok(())
    })
    .await
}
