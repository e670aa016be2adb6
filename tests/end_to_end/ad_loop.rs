//! The way back and forth again: opportunity on a box's socket → decision on
//! its socket → proof in Kafka.

use anyhow::{Context as _, ensure};
use prost::Message as _;
use returnpath_agent::clock;
use returnpath_shared::wire::{self, DeviceProfile, Privacy, Stage};
use returnpath_tests::{player::Player, wait::wait_until};

use crate::{
    decided::{decision_id, reached, replay, show, stories},
    event,
    market::{self, FAST, MIDDLING},
    scene::{Losses, Scene, play},
};

/// Breaks of these tests begin so much later that no machine is too slow.
const LEAD_MS: u64 = 120_000;

#[tokio::test]
async fn an_opportunity_comes_back_as_an_ad_that_is_shown_and_proven() -> anyhow::Result<()> {
    play("ad-loop", async |scene| {
        scene.open_market(&market::three()).await?;
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        let mut player = Player::follow(&agent).await?;
        let opt_in = event::consent_to_ads("c1", "CHOICE_OPTED_IN");
        client.expect("durable", &opt_in).await?;
        client.expect("accepted", &event::tune(1)).await?;

        let slots = [30_000, 15_000];
        let opportunity = event::ad_break("break-1", LEAD_MS, &slots);
        client.expect("accepted", &opportunity).await?;
        let boot_id = clock::boot_id();
        for (slot, duration_ms) in (0..).zip(slots) {
            let decision = player.decision("break-1", slot).await?.decision;
            let id = decision_id("box-1", boot_id, "break-1", slot);
            assert_eq!(decision.decision_id, id);
            assert_eq!(decision.device_id, "box-1");
            assert_eq!(decision.expiry_boot_id, boot_id);
            assert!(decision.expiry_uptime_ms > clock::uptime_ms());
            let creative = decision.creative.clone().context("nobody filled it")?;
            assert_eq!(creative.duration_ms, duration_ms);
            assert!(creative.url.starts_with("https://"), "{creative:?}");

            for kind in [
                "KIND_START",
                "KIND_FIRST_QUARTILE",
                "KIND_MIDPOINT",
                "KIND_THIRD_QUARTILE",
                "KIND_COMPLETE",
            ] {
                client
                    .expect("durable", &event::ad(kind, &decision))
                    .await?;
            }
            let all = [
                Stage::Pushed,
                Stage::Acknowledged,
                Stage::Shown,
                Stage::FirstQuartile,
                Stage::Midpoint,
                Stage::ThirdQuartile,
                Stage::Completed,
            ];
            let story = reached(scene, &id, &all).await?;
            assert_eq!(story.stages.len(), all.len(), "{:?}", story.stages);
            assert_eq!(story.decided.privacy(), Privacy::Personalised);
            assert_eq!(story.decision()?, decision);
            assert_eq!(story.decided.slot_duration_ms, duration_ms);
            assert_eq!(story.filled_by(), Some(highest(&story)?.as_str()));
            last_ad_is(scene, "box-1", &decision).await?;

            let text = show(scene, &[&id, "--device", "box-1"]).await?;
            for expected in [
                &id,
                "box-1",
                "break-1",
                FAST,
                "chosen",
                "acknowledged",
                "completed",
            ] {
                assert!(text.contains(expected), "{expected}\n{text}");
            }
            assert_eq!(
                show(scene, &[&id]).await?,
                text,
                "found without its box too"
            );
        }
        assert_eq!(player.handed().len(), slots.len(), "{:?}", player.handed());
        assert_eq!(replay(scene).await?, 2);
        let nobody = scene
            .operator
            .command(&["decisions", "show", &decision_id("box-1", 1, "none", 0)])
            .await?;
        assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn a_slot_that_nobody_fills_is_answered_too() -> anyhow::Result<()> {
    play("ad-no-fill", async |scene| {
        scene.open_market(&market::empty()).await?;
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        let mut player = Player::follow(&agent).await?;
        let opportunity = event::ad_break("break-1", LEAD_MS, &[30_000]);
        client.expect("accepted", &opportunity).await?;
        let decision = player.decision("break-1", 0).await?.decision;
        assert_eq!(decision.creative, None);
        let id = &decision.decision_id;
        let story = reached(scene, id, &[Stage::Pushed, Stage::Acknowledged]).await?;
        assert_eq!(story.filled_by(), None);
        assert_eq!(story.aggregator(FAST)?.outcome(), wire::Outcome::NoBid);
        assert_eq!(story.aggregator(MIDDLING)?.outcome(), wire::Outcome::NoBid);
        let text = show(scene, &[id]).await?;
        assert!(text.contains("nobody offered anything"), "{text}");
        assert_eq!(replay(scene).await?, 1);
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn many_boxes_get_their_own_ads() -> anyhow::Result<()> {
    play("ad-many", async |scene| {
        scene.open_market(&market::three()).await?;
        let mut first = scene.collector("collector-a")?;
        let mut second = scene.collector("collector-b")?;
        first.start().await?;
        second.start().await?;
        let devices = ["box-1", "box-2", "box-3", "box-4"];
        let mut boxes = Vec::new();
        for device in devices {
            let agent = scene.running_agent(device).await?;
            let client = scene.client(&agent).await?;
            let player = Player::follow(&agent).await?;
            boxes.push((agent, client, player));
        }
        for number in 0..5 {
            // The same name on every box: a break is a box's own.
            let break_id = format!("break-{number}");
            for (_, client, _) in &mut boxes {
                let opportunity = event::ad_break(&break_id, LEAD_MS, &[30_000]);
                client.expect("accepted", &opportunity).await?;
            }
            for (agent, client, player) in &mut boxes {
                let decision = player.decision(&break_id, 0).await?.decision;
                assert_eq!(decision.device_id, agent.device().as_str());
                client
                    .expect("durable", &event::ad("KIND_START", &decision))
                    .await?;
                reached(scene, &decision.decision_id, &[Stage::Shown]).await?;
            }
        }
        assert_eq!(stories(scene).await?.len(), devices.len() * 5);
        for (_, _, player) in &boxes {
            assert_eq!(player.handed().len(), 5);
        }
        assert_eq!(replay(scene).await?, 20);
        scene.settle(Losses::None).await
    })
    .await
}

/// Whose offer, of those that stand, has the highest price.
fn highest(story: &crate::decided::Story) -> anyhow::Result<String> {
    let mut best: Option<(i64, &str)> = None;
    for aggregator in &story.decided.aggregators {
        let stand = aggregator.offers.iter().filter(|offer| offer.fault == 0);
        let prices = stand.filter_map(|offer| offer.offer.as_ref()?.price_micros);
        for price in prices {
            if best.is_none_or(|(most, _)| price > most) {
                best = Some((price, &aggregator.name));
            }
        }
    }
    best.map(|(_, name)| name.to_owned())
        .context("no offer stands")
}

/// Waits until the profile of `device` says that this ad was shown last.
pub(crate) async fn last_ad_is(
    scene: &Scene,
    device: &str,
    decision: &wire::Decision,
) -> anyhow::Result<()> {
    let topic = scene.topic("devices");
    let limit = std::time::Duration::from_secs(60);
    wait_until("the ad to be the last shown", limit, async || {
        let profile = profile(scene, &topic, device).await?;
        let last = profile
            .recent_impressions
            .first()
            .context("none was shown")?;
        ensure!(last.decision_id == decision.decision_id, "{last:?}");
        Ok(())
    })
    .await
}

/// The latest profile of a box.
pub(crate) async fn profile(
    scene: &Scene,
    topic: &str,
    device: &str,
) -> anyhow::Result<DeviceProfile> {
    let records = scene.kafka.records(topic).await?;
    let mut of_box = records.iter().rev();
    let found = of_box.find(|record| record.key == device.as_bytes());
    let value = found.and_then(|record| record.value.as_ref());
    Ok(DeviceProfile::decode(&value.context("no profile")?[..])?)
}
