//! What a viewer is owed: nothing personal told without consent, and no
//! advertiser more often than the cap allows.

use std::collections::BTreeMap;

use anyhow::Context as _;
use returnpath_shared::wire::{OfferFault, Privacy, Stage};
use returnpath_tests::player::Player;

use crate::{
    ad_loop::last_ad_is,
    decided::{reached, replay, stories},
    event, market,
    scene::{Losses, play},
};

const LEAD_MS: u64 = 120_000;

#[tokio::test]
async fn without_consent_aggregators_are_told_of_the_break_and_nothing_of_the_viewer()
-> anyhow::Result<()> {
    play("viewer-opted-out", async |scene| {
        scene.open_market(&market::three()).await?;
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        let mut player = Player::follow(&agent).await?;

        // Nothing said; then in, out, and in again.
        let choices = [
            (None, Privacy::Contextual),
            (Some("CHOICE_OPTED_IN"), Privacy::Personalised),
            (Some("CHOICE_OPTED_OUT"), Privacy::Contextual),
            (Some("CHOICE_OPTED_IN"), Privacy::Personalised),
        ];
        let mut told: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
        for (number, (choice, privacy)) in choices.into_iter().enumerate() {
            if let Some(choice) = choice {
                let consent = event::consent_to_ads(&format!("c{number}"), choice);
                client.expect("durable", &consent).await?;
            }
            let break_id = format!("break-{number}");
            let opportunity = event::ad_break(&break_id, LEAD_MS, &[30_000]);
            client.expect("accepted", &opportunity).await?;
            let decision = player.decision(&break_id, 0).await?.decision;
            let shown = event::ad("KIND_START", &decision);
            client.expect("durable", &shown).await?;
            let story = reached(scene, &decision.decision_id, &[Stage::Shown]).await?;
            assert_eq!(story.decided.privacy(), privacy, "{break_id}");
            last_ad_is(scene, "box-1", &decision).await?;

            for aggregator in scene.market()?.aggregators() {
                let all = aggregator.asked();
                assert_eq!(all.len(), number + 1, "{}", aggregator.name());
                let asked = all.last().context("asked")?;
                assert!(!asked.mentions("box-1"), "the device id: {asked:?}");
                let names_viewer = ["viewer=", "x-viewer", "\"viewer\":{\"id\""];
                let is_named = names_viewer
                    .iter()
                    .any(|name| asked.mentions(name) || asked.headers.contains_key(*name));
                told.entry(aggregator.name()).or_default().push(is_named);
                if privacy == Privacy::Contextual {
                    assert!(!asked.mentions("last_"), "{asked:?}");
                    assert!(!asked.headers.contains_key("x-last-channel"), "{asked:?}");
                }
            }
        }
        for (name, named) in told {
            assert_eq!(named, [false, true, false, true], "{name}");
        }
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn no_advertiser_is_shown_more_often_than_its_cap_over_restarts() -> anyhow::Result<()> {
    play("viewer-capped", async |scene| {
        scene.open_market(&market::three()).await?;
        if let Some(deciding) = &mut scene.deciding {
            deciding.cap = Some((1, 3_600_000));
        }
        let mut collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        let mut player = Player::follow(&agent).await?;

        const BREAKS: usize = 24;
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut capped = 0;
        for number in 0..BREAKS {
            if number % 8 == 7 {
                collector.kill()?;
                collector.start().await?;
            }
            let break_id = format!("break-{number}");
            let opportunity = event::ad_break(&break_id, LEAD_MS, &[30_000]);
            client.expect("accepted", &opportunity).await?;
            let decision = player.decision(&break_id, 0).await?.decision;
            // Every other one is shown; the rest only reserved.
            if decision.creative.is_some() && number % 2 == 0 {
                let shown = event::ad("KIND_START", &decision);
                client.expect("durable", &shown).await?;
            }
            let story = reached(scene, &decision.decision_id, &[Stage::Acknowledged]).await?;
            let offers = story.decided.aggregators.iter().flat_map(|it| &it.offers);
            capped += offers.filter(|it| it.fault() == OfferFault::Capped).count();
            match story.chosen()? {
                Some(offer) => *seen.entry(offer.advertiser).or_default() += 1,
                None => assert_eq!(decision.creative, None),
            }
        }
        assert!(seen.values().all(|times| *times == 1), "{seen:?}");
        assert!(capped > 0, "nothing was capped, so nothing was tested");
        assert_eq!(stories(scene).await?.len(), BREAKS);
        assert_eq!(replay(scene).await?, BREAKS as u64);

        // A cap is a box's own.
        let other = scene.running_agent("box-2").await?;
        let mut client = scene.client(&other).await?;
        let mut player = Player::follow(&other).await?;
        let opportunity = event::ad_break("break-1", LEAD_MS, &[30_000]);
        client.expect("accepted", &opportunity).await?;
        let decision = player.decision("break-1", 0).await?.decision;
        let story = reached(scene, &decision.decision_id, &[Stage::Acknowledged]).await?;
        let mut offers = story.decided.aggregators.iter().flat_map(|it| &it.offers);
        assert!(offers.all(|it| it.fault() != OfferFault::Capped));
        scene.settle(Losses::None).await
    })
    .await
}
