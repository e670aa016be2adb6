//! Long outages: what the queue held is sent fast and whole, the viewer goes
//! on meanwhile, and what a full queue dropped is told exactly.
//!
//! The outage itself is lived through by the agent's core and queue file on a
//! clock of ours ([`returnpath_tests::bench::outage`]); the real agent then
//! starts on that file.

use std::time::Duration;

use anyhow::ensure;
use returnpath_shared::wire::{DropReason, event::Kind};
use returnpath_tests::bench::{drain, outage::configured, urgent, week::events_in};

use crate::scene::{Losses, play};

/// As the benchmark does: the budget of the flash is asked elsewhere.
const WITHOUT_FLASH_BUDGET: &str = "[queue]\nflash_bytes_per_day_max = 0";

#[tokio::test]
async fn hours_of_backlog_drain_fast_and_live_events_do_not_wait_for_them() -> anyhow::Result<()> {
    play("drain", async |scene| {
        let mut agent = scene.agent("box-1")?;
        let config = configured(WITHOUT_FLASH_BUDGET)?;
        let (flash, answers) = (agent.flash(), scene.answers());
        let held = drain::fill(agent.device(), &flash, &config, events_in(6), &answers).await?;
        let _collector = scene.running_collector().await?;
        let arrivals = urgent::arrivals(&scene.kafka.address(), &scene.topic("ads"))?;
        agent.start().await?;
        agent.linked().await?;
        let mut client = scene.client(&agent).await?;
        let outcome = drain::watch(&agent, &mut client, &arrivals, held).await?;
        // The benchmark has a machine to itself and holds both to the promise;
        // here other tests run beside it.
        let rate = outcome.per_second();
        ensure!(rate >= 500.0, "{rate:.0} events/s");
        let half = outcome.live.percentile(50);
        ensure!(half <= Duration::from_secs(1), "{}", outcome.live);
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn a_queue_that_was_full_for_hours_tells_exactly_what_it_dropped() -> anyhow::Result<()> {
    play("queue-full", async |scene| {
        let mut agent = scene.agent("box-1")?;
        let config = configured(&format!("{WITHOUT_FLASH_BUDGET}\nbatches_max = 160"))?;
        let (flash, answers) = (agent.flash(), scene.answers());
        let held = drain::fill(agent.device(), &flash, &config, events_in(4), &answers).await?;
        let dropped = held.status.dropped;
        ensure!(dropped.queue_full > 1_000, "{dropped:?}");
        ensure!(held.batches() <= 160, "{}", held.batches());

        let _collector = scene.running_collector().await?;
        agent.start().await?;
        scene.settle(Losses::Declared).await?;
        let (mut declared, mut arrived) = (0, 0);
        for (_, refined) in scene.refined().await? {
            match refined.event.and_then(|event| event.kind) {
                Some(Kind::Ledger(ledger)) => {
                    assert_eq!(ledger.reason(), DropReason::QueueFull);
                    declared += ledger.event_count;
                }
                Some(Kind::Boot(_)) | None => {}
                Some(_) => arrived += 1,
            }
        }
        // Boot events of the outage may be among what was dropped.
        assert_eq!(declared, dropped.queue_full);
        let taken = held.status.events_accepted;
        assert!(
            (taken - 2..=taken).contains(&(arrived + declared)),
            "{arrived} and {declared} of {taken}"
        );
        Ok(())
    })
    .await
}
