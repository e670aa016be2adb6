//! Three Kafka nodes, as in production: with one dead everything goes on; with
//! two dead nothing is acknowledged, and nothing is lost once they are back.

use std::time::Duration;

use anyhow::ensure;
use returnpath_tests::{
    faults::{middleware::Middleware, stage::Stage},
    kafka::Cluster,
    process::tail,
    wait::wait_until,
};

/// From a node's death to others leading its partitions, transactions included.
const FAILOVER_LIMIT: Duration = Duration::from_secs(90);

/// From the last fault to everything in its place.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn with_too_few_kafka_nodes_nothing_is_acknowledged_and_nothing_lost() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().await?;
    // Without the development flag: the collector checks what it is given.
    let stage = Stage::set("kafka-cluster", &cluster.addresses()).await?;
    let mut collector = stage.collector("collector-a")?;
    collector.start().await?;
    let mut agent = stage.agent("box-1", stage.mosquitto.port())?;
    agent.start().await?;
    let middleware = Middleware::start(&agent, &stage.answers(), 1);
    let receipted = async || -> anyhow::Result<u64> {
        let status = agent.status().await?;
        Ok(status["batches"]["receipted"].as_u64().unwrap_or_default())
    };
    let grows = async |what: &str, from: u64| {
        wait_until(what, FAILOVER_LIMIT, async || {
            let count = receipted().await?;
            ensure!(count >= from + 5, "{count} receipts of {from} + 5");
            Ok(())
        })
        .await
    };
    grows("receipts from three nodes", 0).await?;

    cluster.nodes[0].kill()?;
    grows("receipts from two nodes", receipted().await?).await?;

    cluster.nodes[1].kill()?;
    // What Kafka had confirmed before is receipted within a second; then only
    // resends are seen. A window without a receipt in which the box sent again
    // is one in which the bridge had its chance.
    let before = wait_until("resends without a receipt", FAILOVER_LIMIT, async || {
        let (first, resent_before) = (receipted().await?, resent(&agent).await?);
        wait_until("resends", FAILOVER_LIMIT, async || {
            let resent = resent(&agent).await?;
            ensure!(
                resent >= resent_before + 3,
                "{resent} of {resent_before} + 3"
            );
            Ok(())
        })
        .await?;
        let last = receipted().await?;
        ensure!(first == last, "{first} receipts, then {last}");
        Ok(last)
    })
    .await?;
    assert_eq!(receipted().await?, before, "acknowledged by a minority");

    cluster.nodes[1].resume().await?;
    grows("receipts from two nodes again", before).await?;
    cluster.nodes[0].resume().await?;
    let handed = middleware.stop().await?;
    ensure!(handed.durable > 0, "{handed:?}");
    let audited = stage.audit(&[stage.answers()], SETTLE_LIMIT).await?;
    assert!(
        audited.is_clean(),
        "{audited}\n{}\n{}",
        tail(&collector.log_path()),
        tail(&agent.log_path())
    );
    // No box lost power: there is nothing to declare.
    assert_eq!(audited.ordinary.declared_total(), 0, "{audited}");
    assert_eq!(stage.panics()?, Vec::<String>::new());
    Ok(())
}

async fn resent(agent: &returnpath_tests::agent::Agent) -> anyhow::Result<u64> {
    let status = agent.status().await?;
    Ok(status["batches"]["resent"].as_u64().unwrap_or_default())
}
