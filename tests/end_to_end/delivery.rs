//! Without any fault: everything arrives, once, in its topic, and in time.

use std::time::Duration;

use anyhow::ensure;
use returnpath_shared::{Kind, wire::TimeQuality};
use returnpath_tests::{agent::Settings, wait::wait_until};

use crate::{
    event,
    scene::{Losses, play},
};

#[tokio::test]
async fn events_of_all_streams_arrive_once_each_where_they_belong() -> anyhow::Result<()> {
    play("delivery", async |scene| {
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        for (status, event) in [
            ("accepted", event::tune(1)),
            ("accepted", event::opportunity("break-1")),
            ("durable", event::impression("decision-1")),
            ("durable", event::quartile("decision-1")),
            ("durable", event::consent("consent-1")),
            ("accepted", event::custom("operator.seen")),
        ] {
            client.expect(status, &event).await?;
        }
        scene.settle(Losses::None).await?;

        let refined = scene.refined().await?;
        let stands = |topic: &str, kind: Kind| {
            refined.iter().any(|(stream, refined)| {
                *stream == topic && refined.event.as_ref().and_then(Kind::of) == Some(kind)
            })
        };
        assert!(stands("viewing", Kind::Tune));
        assert!(stands("ads", Kind::AdOpportunity));
        assert!(stands("ads", Kind::AdEvent));
        assert!(stands("health", Kind::Consent));
        assert!(stands("health", Kind::Boot));
        assert!(stands("custom", Kind::Custom));
        for (_, refined) in &refined {
            assert_eq!(refined.device_id, "box-1");
            // Whether this machine's clock is synchronised is not ours to say;
            // an event is dated to within a minute either way.
            assert_ne!(refined.time_quality(), TimeQuality::Unspecified);
            let age_ms = refined.received_unix_ms - refined.event_unix_ms;
            assert!((-1_000..60_000).contains(&age_ms), "{refined:?}");
        }
        assert!(scene.rejected().await?.is_empty());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_proof_told_twice_arrives_once() -> anyhow::Result<()> {
    play("told-twice", async |scene| {
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        let first = client.expect("durable", &event::impression("d")).await?;
        let again = client.expect("durable", &event::impression("d")).await?;
        assert_eq!(
            (&again.epoch, &again.ordinal),
            (&first.epoch, &first.ordinal)
        );
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn an_urgent_event_takes_the_open_batch_along_at_once() -> anyhow::Result<()> {
    play("urgent", async |scene| {
        let _collector = scene.running_collector().await?;
        // Far longer than the limit below: without urgency nothing would come.
        let settings = Settings {
            batch_interval_ms: 300_000,
        };
        let mut agent = scene.agent_with("box-1", settings)?;
        agent.start().await?;
        let mut client = scene.client(&agent).await?;
        let tune = client.expect("accepted", &event::tune(1)).await?;
        let opportunity = client
            .expect("accepted", &event::opportunity("break-1"))
            .await?;
        let limit = Duration::from_secs(30);
        wait_until("the tune and the opportunity", limit, async || {
            let refined = scene.refined().await?;
            let find = |ordinal: &str| {
                refined
                    .iter()
                    .find(|(_, refined)| refined.ordinal.to_string() == ordinal)
                    .map(|(_, refined)| refined.batch)
            };
            let (tune, opportunity) = (find(&tune.ordinal), find(&opportunity.ordinal));
            ensure!(tune.is_some(), "no tune");
            ensure!(opportunity.is_some(), "no opportunity");
            assert_eq!(tune, opportunity, "the opportunity overtook the tune");
            Ok(())
        })
        .await?;
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn wrong_events_are_refused_with_their_field_and_hurt_no_other() -> anyhow::Result<()> {
    play("wrong-events", async |scene| {
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        client.expect("accepted", &event::tune(1)).await?;
        for (field, wrong) in [
            ("tune.source", serde_json::json!({"tune": {}})),
            (
                "adEvent.decisionId",
                serde_json::json!({"adEvent": {"kind": "KIND_START"}}),
            ),
        ] {
            let answer = client.expect("refused", &wrong).await?;
            assert!(answer.field.contains(field), "{wrong}: {answer:?}");
        }
        for kind in ["boot", "ledger", "uncleanStop", "noSuchKind"] {
            client
                .expect("refused", &serde_json::json!({ kind: {} }))
                .await?;
        }
        client.expect("durable", &event::impression("d")).await?;
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn the_audit_finds_an_answer_without_event() -> anyhow::Result<()> {
    let audited = play("lie", async |scene| {
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        let answer = client.expect("durable", &event::impression("d")).await?;
        scene.settle(Losses::None).await?;
        scene.keep_accepted("box-1", answer.epoch.parse()?, 1_000_000)
    })
    .await;
    let said = format!("{:#}", audited.unwrap_err());
    assert!(said.contains("missing 1, duplicated 0"), "{said}");
    Ok(())
}
