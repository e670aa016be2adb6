//! What cannot be refined is kept with its reason and its bytes, and stops
//! nothing beside it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use prost::Message as _;
use returnpath_shared::{
    Epoch, Incarnation,
    wire::{self, Codec, Receipt, RejectionReason},
};
use returnpath_tests::wait::wait_until;

use crate::{
    envelope::{INCARNATION, batch_of_the_future, envelope, event_of_the_future},
    event,
    scene::{Losses, play},
};

#[tokio::test]
async fn garbage_and_kinds_of_the_future_are_kept_and_stop_nothing() -> anyhow::Result<()> {
    play("rejection", async |scene| {
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        client
            .expect("durable", &event::impression("before"))
            .await?;

        let broken = scene.mqtt_client("box-9")?;
        let garbage = b"\xff\xffno envelope at all".to_vec();
        let unknown_codec = envelope(1, 77, b"?".to_vec());
        let future = envelope(2, Codec::Identity.into(), batch_of_the_future(10));
        for payload in [&garbage, &unknown_codec, &future] {
            broken.publish("rp/v1/box-9/events/live", payload).await?;
        }
        client
            .expect("durable", &event::impression("after"))
            .await?;

        wait_until("three rejections", Duration::from_secs(60), async || {
            let count = scene.rejected().await?.len();
            ensure!(count >= 3, "{count} rejections");
            Ok(())
        })
        .await?;
        let rejected = scene.rejected().await?;
        assert_eq!(rejected.len(), 3, "{rejected:?}");
        let of = |reason: RejectionReason| {
            rejected
                .iter()
                .find(|rejected| rejected.reason() == reason)
                .with_context(|| format!("{reason:?} is not among {rejected:?}"))
        };
        for (reason, payload) in [
            (RejectionReason::Envelope, &garbage),
            (RejectionReason::Codec, &unknown_codec),
            (RejectionReason::UnknownKind, &future),
        ] {
            let rejected = of(reason)?;
            assert_eq!(rejected.key[..], b"box-9"[..]);
            // Of a single event its own bytes, around it the envelope's head.
            if reason != RejectionReason::UnknownKind {
                assert_eq!(rejected.envelope[..], payload[..], "{reason:?}");
            }
            assert!(!rejected.detail.is_empty());
        }
        // One event is of an unknown kind; its neighbours are refined.
        let unknown = of(RejectionReason::UnknownKind)?;
        assert_eq!((unknown.index, unknown.ordinal), (Some(1), 11));
        assert_eq!(unknown.event[..], event_of_the_future()[..]);
        let mut neighbours: Vec<_> = scene
            .refined()
            .await?
            .into_iter()
            .filter(|(_, refined)| refined.device_id == "box-9")
            .map(|(topic, refined)| (topic, refined.ordinal))
            .collect();
        neighbours.sort_unstable();
        assert_eq!(neighbours, [("viewing", 10), ("viewing", 12)]);
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn a_box_gets_a_receipt_once_kafka_has_its_batch() -> anyhow::Result<()> {
    play("receipt", async |scene| {
        let _collector = scene.running_collector().await?;
        let payload = envelope(1, Codec::Identity.into(), batch_of_the_future(1));
        let answer = scene
            .mqtt_client("box-9")?
            .request("rp/v1/box-9/events/live", &payload, "rp/v1/box-9/receipts")
            .await?;
        let receipt = Receipt::decode(&answer[..])?;
        let [range] = &receipt.confirmed[..] else {
            panic!("{receipt:?}");
        };
        let epoch = Epoch {
            incarnation: Incarnation::new(INCARNATION).context("never 0")?,
            start: 1,
        };
        let expected = wire::SequenceRange {
            epoch: Some(epoch.into()),
            first_sequence: 1,
            last_sequence: 1,
        };
        assert_eq!(range, &expected);
        let raw = scene.kafka.records(&scene.topic("raw")).await?;
        assert!(
            raw.iter()
                .any(|record| record.value.as_deref() == Some(&payload[..])),
            "receipted, and not in rp.raw as it was sent"
        );
        // The events around the one of an unknown kind.
        for ordinal in [1, 3] {
            scene.keep_accepted("box-9", epoch, ordinal)?;
        }
        scene.settle(Losses::None).await
    })
    .await
}
