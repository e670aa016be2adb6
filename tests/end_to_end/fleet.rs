//! Many boxes at once: the simulated fleet on the real brokers.

use std::{fs::File, thread, time::Duration};

use anyhow::{anyhow, ensure};
use returnpath_tests::{
    fleet::{AdSource, Fleet, FleetSettings, Load, moment::Moment, write_answers},
    wait::wait_until,
};
use tokio::sync::mpsc;

use crate::scene::{Losses, play};

const LIMIT: Duration = Duration::from_secs(120);

/// Until everything is receipted: ordinary batches wait up to 30 s for theirs,
/// and what a dead broker swallowed is sent again after 45 s.
const DRAIN_LIMIT: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_households_arrive_whole_though_the_broker_dies_in_their_midst() -> anyhow::Result<()>
{
    play("fleet", async |scene| {
        let _collector = scene.running_collector().await?;
        let (answers, answered) = mpsc::channel(1_024);
        let file = File::create(scene.answers())?;
        let writer = thread::spawn(move || write_answers(answered, file));
        let settings = FleetSettings {
            broker: format!("localhost:{}", scene.mosquitto.port()).parse()?,
            boxes: 50,
            prefix: "household-".into(),
            seed: 7,
            load: Load::Viewers {
                from: Moment::parse("20:05")?,
                speed: 60,
                ads: AdSource::MadeUp,
            },
        };
        let mut fleet = Fleet::start(&settings, &scene.pki, &answers)?;
        drop(answers);
        fleet.connected(LIMIT).await?;
        wait_until("impressions to be durable", LIMIT, async || {
            let durable = fleet.counts().events_durable;
            ensure!(durable >= 200, "{durable}");
            Ok(())
        })
        .await?;

        scene.mosquitto.kill()?;
        let before = fleet.counts().events_accepted;
        wait_until("events while there is no broker", LIMIT, async || {
            let accepted = fleet.counts().events_accepted;
            ensure!(accepted >= before + 100, "{accepted} after {before}");
            Ok(())
        })
        .await?;
        scene.mosquitto.resume().await?;
        fleet.connected(LIMIT).await?;

        fleet.drain(DRAIN_LIMIT).await?;
        let counts = fleet.stop().await;
        assert!(counts.connections_lost >= 50, "{counts:?}");
        assert_eq!(counts.events_repeated + counts.events_refused, 0);
        assert_eq!(counts.events_busy + counts.events_not_durable, 0);
        writer
            .join()
            .map_err(|_| anyhow!("the writer of answers panicked"))??;
        scene.settle(Losses::None).await
    })
    .await
}
