//! The box loses power, and the broker its memory.

use crate::{
    event,
    flow::Flow,
    scene::{Losses, play},
};

#[tokio::test]
async fn a_box_that_loses_power_while_online_keeps_what_was_durable() -> anyhow::Result<()> {
    play("power-online", async |scene| {
        let _collector = scene.running_collector().await?;
        let mut agent = scene.running_agent("box-1").await?;
        for cut in ["cut-1", "cut-2", "cut-3"] {
            let mut client = scene.client(&agent).await?;
            for number in 0..5 {
                client.expect("accepted", &event::tune(number + 1)).await?;
                let decision = format!("{cut}-{number}");
                client
                    .expect("durable", &event::impression(&decision))
                    .await?;
            }
            // Not in any batch that was sent, most likely: lost, and declared.
            client.expect("accepted", &event::tune(99)).await?;
            agent.kill()?;
            agent.start().await?;
        }
        scene.settle(Losses::Declared).await
    })
    .await
}

#[tokio::test]
async fn a_box_that_loses_power_while_offline_keeps_what_was_durable() -> anyhow::Result<()> {
    play("power-offline", async |scene| {
        scene.mosquitto.kill()?;
        let mut agent = scene.running_agent("box-1").await?;
        for cut in ["cut-1", "cut-2"] {
            let mut client = scene.client(&agent).await?;
            for number in 0..5 {
                client.expect("accepted", &event::tune(number + 1)).await?;
                let decision = format!("{cut}-{number}");
                client
                    .expect("durable", &event::impression(&decision))
                    .await?;
            }
            client.expect("accepted", &event::tune(99)).await?;
            agent.kill()?;
            agent.start().await?;
        }
        scene.mosquitto.resume().await?;
        let _collector = scene.running_collector().await?;
        scene.settle(Losses::Declared).await
    })
    .await
}

#[tokio::test]
async fn a_client_that_got_no_answer_before_the_power_cut_tells_again() -> anyhow::Result<()> {
    play("power-retry", async |scene| {
        let _collector = scene.running_collector().await?;
        let mut agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        // Handed in, perhaps sent, perhaps durable: the client never learns.
        client.hand_in(&event::impression("told-again")).await?;
        client.hand_in(&event::consent("told-again")).await?;
        agent.kill()?;
        agent.start().await?;
        let mut client = scene.client(&agent).await?;
        client
            .expect("durable", &event::impression("told-again"))
            .await?;
        client
            .expect("durable", &event::consent("told-again"))
            .await?;
        scene.settle(Losses::Declared).await
    })
    .await
}

#[tokio::test]
async fn a_broker_that_loses_its_memory_loses_nothing_of_ours() -> anyhow::Result<()> {
    play("broker-killed", async |scene| {
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut flow = Flow::start("broker-killed", scene.client(&agent).await?);
        for _ in 0..3 {
            flow.more(5).await?;
            scene.mosquitto.kill()?;
            flow.more(5).await?;
            scene.mosquitto.resume().await?;
        }
        flow.more(5).await?;
        flow.stop().await?;
        scene.settle(Losses::None).await
    })
    .await
}
