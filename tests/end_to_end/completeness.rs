//! What `rp.completeness` says of a box, as the command tells it: a hole that
//! nothing explains, what the box then declares to another collector, and an
//! end without a clean stop.

use std::{
    process::Output,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use prost::Message as _;
use returnpath_shared::{
    Epoch, Incarnation,
    wire::{self, DropReason, event::Kind},
};
use returnpath_tests::wait::wait_until;
use serde_json::Value;

use crate::{
    envelope::{INCARNATION, envelope},
    event,
    scene::{Losses, Scene, play},
};

/// From a batch on its way to its account: a takeover of the partition passes
/// in it, on a loaded machine.
const TOLD_LIMIT: Duration = Duration::from_secs(120);

/// A box that drops batches by hand.
const LOSER: &str = "box-9";

/// The run of its agent.
fn start() -> anyhow::Result<Epoch> {
    Ok(Epoch {
        incarnation: Incarnation::new(INCARNATION).context("an incarnation is not 0")?,
        start: 1,
    })
}

/// Batch `sequence` with one event, whose ordinal is as high; the box holds
/// nothing older.
fn batch(sequence: u64, kind: Kind, client_id: &str) -> Vec<u8> {
    let batch = wire::Batch {
        boot_id: 5,
        first_ordinal: sequence,
        events: vec![wire::Event {
            uptime_ms: 50_000,
            client_id: client_id.into(),
            kind: Some(kind),
        }],
    };
    envelope(
        sequence,
        wire::Codec::Identity.into(),
        batch.encode_to_vec(),
    )
}

fn custom() -> Kind {
    Kind::Custom(wire::Custom {
        name: "operator.seen".into(),
        ..wire::Custom::default()
    })
}

/// Batches 2 and 3 were dropped.
fn ledger() -> Kind {
    Kind::Ledger(wire::Ledger {
        reason: DropReason::QueueFull.into(),
        first_batch: Some(wire::BatchId {
            epoch: Some(wire::Epoch {
                incarnation: INCARNATION,
                start: 1,
            }),
            sequence: 2,
        }),
        last_sequence: 3,
        first_ordinal: 2,
        event_count: 2,
        ..wire::Ledger::default()
    })
}

async fn send(scene: &Scene, sequence: u64, batch: &[u8]) -> anyhow::Result<()> {
    let topic = format!("rp/v1/{LOSER}/events/live");
    let output = scene.mqtt_client(LOSER)?.publish(&topic, batch).await?;
    ensure!(output.status.success(), "publish {sequence}: {output:?}");
    Ok(())
}

/// Runs the command until it ends with `code` and says `text`.
async fn told(scene: &Scene, arguments: &[&str], code: i32, text: &str) -> anyhow::Result<String> {
    let mut said = String::new();
    let arguments = [&["completeness"], arguments].concat();
    wait_until(text, TOLD_LIMIT, async || {
        let Output {
            status,
            stdout,
            stderr,
        } = scene.operator.command(&arguments).await?;
        said = String::from_utf8(stdout)?;
        let stderr = String::from_utf8_lossy(&stderr);
        ensure!(
            status.code() == Some(code) && said.contains(text),
            "{arguments:?}: {status}, expected {code}\n{said}{stderr}"
        );
        Ok(())
    })
    .await?;
    Ok(said)
}

#[tokio::test]
async fn a_hole_is_told_until_the_box_explains_it_to_another_collector() -> anyhow::Result<()> {
    play("completeness", async |scene| {
        let mut first = scene.running_collector().await?;
        let mut agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        client.expect("durable", &event::impression("d")).await?;
        // Nothing is told of who loses nothing.
        told(scene, &[], 0, "0 runs told of 0 boxes").await?;
        told(scene, &["--device", "box-1"], 0, "running").await?;

        for sequence in [1, 4] {
            send(scene, sequence, &batch(sequence, custom(), "")).await?;
            scene.keep_accepted(LOSER, start()?, sequence)?;
        }
        let unexplained = told(scene, &[], 1, "UNEXPLAINED").await?;
        ensure!(
            unexplained.contains("missing batches 2 to 3: 2 batches, 2 events"),
            "{unexplained}"
        );
        // The audit finds the same events, by the topics alone.
        let audit = scene.operator.command(&["audit", "--since", "1h"]).await?;
        let found = String::from_utf8(audit.stdout)?;
        ensure!(audit.status.code() == Some(1), "{}: {found}", audit.status);
        let missing = format!("missing: {LOSER} {} unanswered 2..=3", start()?);
        ensure!(found.contains(&missing), "{found}");

        // What comes from here on belongs to no stretch that ends here. Ages are
        // whole seconds, and counted when the command runs.
        let between = Instant::now();
        wait_until("two seconds more", TOLD_LIMIT, async || {
            ensure!(between.elapsed() >= Duration::from_secs(2), "not yet");
            Ok(())
        })
        .await?;

        first.kill()?;
        let mut second = scene.collector("collector-b")?;
        second.start().await?;
        send(scene, 5, &batch(5, ledger(), "ledger/1")).await?;
        let declared = told(
            scene,
            &["--device", LOSER],
            0,
            "declared: the queue was full",
        )
        .await?;
        ensure!(!declared.contains("UNEXPLAINED"), "{declared}");
        // What the first collector knew is known to the second.
        ensure!(declared.contains("arrived through batch 5"), "{declared}");

        agent.kill()?;
        agent.start().await?;
        let stopped = "ended without a clean stop";
        told(scene, &["--device", "box-1"], 0, stopped).await?;
        let lines = told(scene, &["--json"], 0, "\"uncleanStop\":true").await?;
        let record = lines
            .lines()
            .map(serde_json::from_str::<Value>)
            .find(|record| matches!(record, Ok(record) if record["deviceId"] == LOSER))
            .context("no record of the box that declared")??;
        ensure!(
            record["declared"][0]["reason"] == "DROP_REASON_QUEUE_FULL",
            "{record}"
        );
        ensure!(
            record["missing"][0]["missing"] == "MISSING_DECLARED",
            "{record}"
        );

        scene.settle(Losses::Declared).await?;
        let until = format!("{}s", between.elapsed().as_secs());
        let stretch = ["audit", "--since", "1h", "--until", &until];
        // What the box declares stands behind the stretch.
        let alone = [&stretch[..], &["--around", "0s"]].concat();
        let audit = scene.operator.command(&alone).await?;
        let found = String::from_utf8(audit.stdout)?;
        ensure!(audit.status.code() == Some(1), "{}: {found}", audit.status);
        ensure!(found.contains(&missing), "{found}");
        let audit = scene.operator.command(&stretch).await?;
        ensure!(audit.status.success(), "{audit:?}");
        let audit = scene.operator.command(&["audit", "--json"]).await?;
        ensure!(audit.status.success(), "{audit:?}");
        let verdict: Value = serde_json::from_slice(&audit.stdout)?;
        let boxes = verdict["boxes"].as_array().context("no boxes")?;
        let loser = boxes.iter().find(|of_box| of_box["device"] == LOSER);
        let excused = &loser.context("the box is not told")?["excused"][0];
        ensure!(
            (
                &excused["reason"],
                &excused["firstOrdinal"],
                &excused["lastOrdinal"]
            ) == (&"queue_full".into(), &2.into(), &3.into()),
            "{excused}"
        );
        Ok(())
    })
    .await
}
