//! The box's flash is full, read-only, or breaks down: the agent goes on, says
//! so, tells its clients what is true, and mends itself once it can.

use std::time::Duration;

use anyhow::ensure;
use returnpath_tests::{
    agent::Agent,
    client::Client,
    disk::{Access, LoopDisk},
    wait::wait_until,
};
use serde_json::Value;

use crate::{
    event,
    scene::{Losses, Scene, play},
};

/// Small enough to be filled at once, with room for ext4's own.
const FLASH_BYTES: u64 = 16 << 20;

/// A rolled back commit is tried again after 60 s at most, and a file that
/// could not be opened after that long for the first time.
const MENDED_LIMIT: Duration = Duration::from_secs(100);

/// A batch, its flush interval, and what a loaded machine adds.
const NOTICED_LIMIT: Duration = Duration::from_secs(60);

/// More than what is allocated to the queue file already.
const PROOFS_MAX: u32 = 200;

/// A box whose flash is a file system of its own, not started.
fn box_with_disk(scene: &Scene) -> anyhow::Result<(LoopDisk, Agent)> {
    let agent = scene.agent("box-1")?;
    let flash = agent.flash();
    let disk = LoopDisk::mount(&flash.with_extension("image"), FLASH_BYTES, &flash)?;
    Ok((disk, agent))
}

/// Tells of impressions until one is answered with `status`.
async fn until_answered(client: &mut Client, name: &str, status: &str) -> anyhow::Result<()> {
    let mut last = None;
    for number in 0..PROOFS_MAX {
        let answer = client
            .send(&event::impression(&format!("{name}-{number}")))
            .await?;
        if answer.status == status {
            return Ok(());
        }
        last = Some(answer);
    }
    anyhow::bail!("no impression was answered {status}, the last one {last:?}")
}

/// Waits until an impression is durable again.
async fn until_mended(client: &mut Client) -> anyhow::Result<()> {
    let mut number = 0;
    wait_until("proof to be durable again", MENDED_LIMIT, async || {
        number += 1;
        let impression = event::impression(&format!("mended-{number}"));
        let answer = client.send(&impression).await?;
        ensure!(answer.status == "durable", "{answer:?}");
        Ok(())
    })
    .await
}

async fn status_until(
    agent: &Agent,
    what: &str,
    mut holds: impl FnMut(&Value) -> bool,
) -> anyhow::Result<()> {
    wait_until(what, NOTICED_LIMIT, async || {
        let status = agent.status().await?;
        ensure!(holds(&status), "{status}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_box_whose_flash_is_full_says_so_and_writes_again_once_there_is_room()
-> anyhow::Result<()> {
    play("disk-full", async |scene| {
        scene.mosquitto.kill()?;
        let (disk, mut agent) = box_with_disk(scene)?;
        agent.start().await?;
        let mut client = scene.client(&agent).await?;
        let before = event::impression("before");
        client.expect("durable", &before).await?;
        disk.fill()?;
        // Kept in memory, and told so.
        until_answered(&mut client, "full", "accepted").await?;
        client.expect("accepted", &event::tune(1)).await?;
        let status = agent.status().await?;
        ensure!(status["flash"]["commitsFailed"] != 0, "{status}");
        // What was durable is known again.
        client.expect("durable", &before).await?;
        disk.empty()?;
        until_mended(&mut client).await?;
        // And what was held in memory went down with it.
        agent.kill()?;
        agent.start().await?;
        scene.mosquitto.resume().await?;
        let _collector = scene.running_collector().await?;
        scene.settle(Losses::Declared).await
    })
    .await
}

#[tokio::test]
async fn a_box_that_starts_on_a_read_only_flash_writes_down_what_it_holds_once_it_can()
-> anyhow::Result<()> {
    play("disk-read-only", async |scene| {
        scene.mosquitto.kill()?;
        let (disk, mut agent) = box_with_disk(scene)?;
        disk.remount(Access::ReadOnly)?;
        agent.start().await?;
        let mut client = scene.client(&agent).await?;
        client.expect("accepted", &event::tune(1)).await?;
        client
            .expect("accepted", &event::impression("in-memory"))
            .await?;
        status_until(&agent, "the loss of the file to be told", |status| {
            status["queue"]["storageGood"] == false
        })
        .await?;
        disk.remount(Access::ReadWrite)?;
        until_mended(&mut client).await?;
        let status = agent.status().await?;
        ensure!(status["queue"]["storageGood"] == true, "{status}");
        // A power cut now loses nothing of what was held in memory.
        agent.kill()?;
        agent.start().await?;
        scene.mosquitto.resume().await?;
        let _collector = scene.running_collector().await?;
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn a_box_whose_flash_breaks_down_sends_from_memory() -> anyhow::Result<()> {
    play("disk-broken", async |scene| {
        let _collector = scene.running_collector().await?;
        let (disk, mut agent) = box_with_disk(scene)?;
        agent.start().await?;
        let mut client = scene.client(&agent).await?;
        client
            .expect("durable", &event::impression("before"))
            .await?;
        disk.break_down()?;
        // Its receipt comes after the flush interval, so that it is written.
        client.expect("accepted", &event::tune(1)).await?;
        status_until(&agent, "the loss of the file to be told", |status| {
            status["queue"]["storageGood"] == false
        })
        .await?;
        for number in 0..5 {
            client.expect("accepted", &event::tune(number + 2)).await?;
            let impression = event::impression(&format!("broken-{number}"));
            client.expect("durable", &impression).await?;
        }
        scene.settle(Losses::None).await
    })
    .await
}
