//! Boxes that are away, come back, forget, or live in 1970.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use returnpath_agent::clock;
use returnpath_decision::PLAY_GRACE_MS;
use returnpath_refinery::UPTIME_AHEAD_MAX_MS;
use returnpath_shared::wire::{Stage, TimeQuality};
use returnpath_tests::{cable::Cable, market::Behaviour, player::Player, wait::wait_until};

use crate::{
    decided::{decision_id, reached, replay, stories},
    event,
    market::{self, TROUBLED},
    scene::{Losses, Scene, play},
};

const LEAD_MS: u64 = 300_000;

const LIMIT: Duration = Duration::from_secs(60);

/// From an opportunity to a break that passes while a test waits: many times
/// what a decision takes.
const MISSED_LEAD_MS: u64 = 6_000;

/// When an opportunity of the box says that whatever was not told of a decision
/// never will be, in ms after its expiry.
const SETTLED_AFTER_MS: u64 = PLAY_GRACE_MS + UPTIME_AHEAD_MAX_MS;

/// Has decide wait for the troubled aggregator, until it is released or its
/// deadline passes.
async fn hold(scene: &Scene) -> anyhow::Result<()> {
    scene
        .market()?
        .aggregator(TROUBLED)?
        .behave(Behaviour::Holds)
        .await
}

async fn release(scene: &Scene) -> anyhow::Result<()> {
    scene
        .market()?
        .aggregator(TROUBLED)?
        .behave(Behaviour::Fine)
        .await
}

fn asked(scene: &Scene) -> anyhow::Result<u64> {
    Ok(scene.market()?.aggregator(TROUBLED)?.counts().asked)
}

async fn is_asked(scene: &Scene, count: u64) -> anyhow::Result<()> {
    wait_until("the aggregator to be asked", LIMIT, async || {
        let asked = asked(scene)?;
        ensure!(asked >= count, "{asked} of {count}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_box_that_comes_back_and_asks_again_gets_what_was_recorded() -> anyhow::Result<()> {
    play("box-asks-again", async |scene| {
        scene.open_market(&market::three()).await?;
        let _collector = scene.running_collector().await?;
        let mut agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        hold(scene).await?;
        let opportunity = event::ad_break("break-1", LEAD_MS, &[30_000]);
        client.expect("accepted", &opportunity).await?;
        is_asked(scene, 1).await?;
        // It is decided while the box is away, and pushed to nobody.
        agent.kill()?;
        release(scene).await?;
        let id = decision_id("box-1", clock::boot_id(), "break-1", 0);
        let first = reached(scene, &id, &[]).await?;

        agent.start().await?;
        let mut player = Player::follow(&agent).await?;
        let mut client = scene.client(&agent).await?;
        client.expect("accepted", &opportunity).await?;
        let decision = player.decision("break-1", 0).await?.decision;
        assert_eq!(decision, first.decision()?);
        let story = reached(scene, &id, &[Stage::Pushed, Stage::Acknowledged]).await?;
        assert_eq!(story.decided, first.decided, "decided again");

        // Asked for a third time, bound already: the player is not disturbed.
        client.expect("accepted", &opportunity).await?;
        let next = event::ad_break("break-2", LEAD_MS, &[30_000]);
        client.expect("accepted", &next).await?;
        player.decision("break-2", 0).await?;
        assert_eq!(player.handed().len(), 2, "{:?}", player.handed());
        assert_eq!(asked(scene)?, 2, "asked for once each");
        assert_eq!(stories(scene).await?.len(), 2);
        // A player that begins to follow now gets what is open, as it was.
        let mut late = Player::follow(&agent).await?;
        assert_eq!(late.decision("break-1", 0).await?.decision, decision);
        scene.settle(Losses::Declared).await
    })
    .await
}

#[tokio::test]
async fn a_link_lost_while_it_is_decided_costs_the_box_no_ad() -> anyhow::Result<()> {
    play("box-link-lost", async |scene| {
        scene.open_market(&market::three()).await?;
        let _collector = scene.running_collector().await?;
        let cable = Cable::lay(scene.mosquitto.port()).await?;
        let mut agent = scene.agent_behind(&cable, "box-1")?;
        agent.start().await?;
        agent.linked().await?;
        let mut client = scene.client(&agent).await?;
        let mut player = Player::follow(&agent).await?;
        hold(scene).await?;
        let opportunity = event::ad_break("break-1", LEAD_MS, &[30_000]);
        client.expect("accepted", &opportunity).await?;
        is_asked(scene, 1).await?;
        cable.pull();
        release(scene).await?;
        let id = decision_id("box-1", clock::boot_id(), "break-1", 0);
        let first = reached(scene, &id, &[]).await?;
        assert!(!first.has(Stage::Pushed), "{:?}", first.stages);

        // Nobody but the agent knows of it, and it asks by itself.
        cable.plug();
        let decision = player.decision("break-1", 0).await?.decision;
        assert_eq!(decision, first.decision()?);
        let story = reached(scene, &id, &[Stage::Pushed, Stage::Acknowledged]).await?;
        assert_eq!(story.decided, first.decided, "decided again");
        assert_eq!(agent.status().await?["decisions"]["askedAgain"], 1);
        assert_eq!(asked(scene)?, 1, "aggregators are asked once");
        assert_eq!(stories(scene).await?.len(), 1);
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn an_agent_killed_after_it_bound_a_slot_hands_over_the_same_again() -> anyhow::Result<()> {
    play("box-killed-bound", async |scene| {
        scene.open_market(&market::three()).await?;
        let _collector = scene.running_collector().await?;
        let mut agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        let mut player = Player::follow(&agent).await?;
        let opportunity = event::ad_break("break-1", LEAD_MS, &[30_000]);
        client.expect("accepted", &opportunity).await?;
        let decision = player.decision("break-1", 0).await?.decision;
        agent.kill()?;
        agent.start().await?;
        // From its flash: nobody sent it again.
        let mut player = Player::follow(&agent).await?;
        assert_eq!(player.decision("break-1", 0).await?.decision, decision);
        let mut client = scene.client(&agent).await?;
        let shown = event::ad("KIND_START", &decision);
        client.expect("durable", &shown).await?;
        let all = [Stage::Pushed, Stage::Acknowledged, Stage::Shown];
        let story = reached(scene, &decision.decision_id, &all).await?;
        assert_eq!(story.stages.len(), all.len(), "{:?}", story.stages);
        assert_eq!(player.handed().len(), 1, "{:?}", player.handed());
        scene.settle(Losses::Declared).await
    })
    .await
}

#[tokio::test]
async fn a_box_offline_during_its_break_lets_it_pass_and_has_the_next() -> anyhow::Result<()> {
    play("box-offline", async |scene| {
        scene.open_market(&market::three()).await?;
        let _collector = scene.running_collector().await?;
        let mut agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        hold(scene).await?;
        let opportunity = event::ad_break("missed", MISSED_LEAD_MS, &[30_000]);
        client.expect("accepted", &opportunity).await?;
        is_asked(scene, 1).await?;
        let ended = agent.terminate(LIMIT).await?;
        assert!(ended.success(), "{ended}");
        release(scene).await?;
        let id = decision_id("box-1", clock::boot_id(), "missed", 0);
        let story = reached(scene, &id, &[]).await?;
        let settled_ms = story.decision()?.expiry_uptime_ms + SETTLED_AFTER_MS;
        wait_until("all that could be shown of it", LIMIT, async || {
            let now_ms = clock::uptime_ms();
            ensure!(now_ms > settled_ms, "{now_ms} of {settled_ms}");
            Ok(())
        })
        .await?;

        agent.start().await?;
        let mut player = Player::follow(&agent).await?;
        let mut client = scene.client(&agent).await?;
        let next = event::ad_break("next", LEAD_MS, &[30_000]);
        client.expect("accepted", &next).await?;
        let decision = player.decision("next", 0).await?.decision;
        let shown = event::ad("KIND_START", &decision);
        client.expect("durable", &shown).await?;
        reached(scene, &decision.decision_id, &[Stage::Shown]).await?;
        assert_eq!(player.handed().len(), 1, "{:?}", player.handed());
        // What it never saw ends in the books too, with the first opportunity
        // for which the box holds nothing of an earlier run: once what was sent
        // of it has left its flash for good, as it has after a stop in order.
        wait_until("the box to have told everything", LIMIT, async || {
            let status = agent.status().await?;
            let held = ["ordinary", "proof"].map(|class| &status["queue"][class]["batches"]);
            ensure!(held == [0, 0], "{}", status["queue"]);
            Ok(())
        })
        .await?;
        let ended = agent.terminate(LIMIT).await?;
        assert!(ended.success(), "{ended}");
        agent.start().await?;
        let mut player = Player::follow(&agent).await?;
        let mut client = scene.client(&agent).await?;
        let last = event::ad_break("last", LEAD_MS, &[30_000]);
        client.expect("accepted", &last).await?;
        let missed = reached(scene, &id, &[Stage::Expired]).await?;
        assert!(!missed.has(Stage::Shown), "{:?}", missed.stages);
        player.decision("last", 0).await?;
        assert_eq!(replay(scene).await?, 3);
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn a_box_in_1970_has_its_ad_and_shows_it() -> anyhow::Result<()> {
    play("box-1970", async |scene| {
        scene.open_market(&market::three()).await?;
        let _collector = scene.running_collector().await?;
        let mut agent = scene.agent("box-1")?;
        agent.start_in_1970().await?;
        let mut client = scene.client(&agent).await?;
        let mut player = Player::follow(&agent).await?;
        let opportunity = event::ad_break("break-1", LEAD_MS, &[30_000]);
        client.expect("accepted", &opportunity).await?;
        let decision = player.decision("break-1", 0).await?.decision;
        let shown = event::ad("KIND_START", &decision);
        client.expect("durable", &shown).await?;
        let id = &decision.decision_id;
        let all = [Stage::Pushed, Stage::Acknowledged, Stage::Shown];
        let story = reached(scene, id, &all).await?;
        let opportunity = story.decided.opportunity.clone().unwrap_or_default();
        let refined = opportunity
            .refined
            .context("an opportunity without event")?;
        assert_eq!(refined.time_quality(), TimeQuality::Bounded);
        scene.settle(Losses::None).await
    })
    .await
}
