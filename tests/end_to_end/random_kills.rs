//! Everything killed, in an order and at times that nobody chose.

use std::time::Duration;

use anyhow::Context as _;
use returnpath_tests::{
    agent::Agent,
    collector::Collector,
    faults::{
        middleware::{Handed, Middleware},
        plan::{self, Kind},
        storm::{Parts, Storm},
    },
    process::panics,
};

use crate::{
    scene::{Losses, play},
    seed::with_seed,
};

/// How long is killed. `tests/faults` does it for longer.
const SPAN: Duration = Duration::from_secs(30);

const BOXES: u64 = 4;

#[tokio::test]
async fn whatever_is_killed_in_any_order_loses_and_doubles_nothing() -> anyhow::Result<()> {
    with_seed("whatever_is_killed", kill_at_random).await
}

async fn kill_at_random(seed: u64) -> anyhow::Result<()> {
    play("random-kills", async |scene| {
        let mut collectors = [
            scene.collector("collector-a")?,
            scene.collector("collector-b")?,
        ];
        for collector in &mut collectors {
            collector.start().await?;
        }
        let mut agents = Vec::new();
        let mut middlewares = Vec::new();
        for number in 1..=BOXES {
            let agent = scene.running_agent(&format!("box-{number}")).await?;
            middlewares.push(Middleware::start(&agent, &scene.answers(), number));
            agents.push(agent);
        }

        let mut parts = Parts {
            kafka: &mut scene.kafka,
            mosquitto: &mut scene.mosquitto,
            collectors: &mut collectors,
            agents: &mut agents,
        };
        let kills = plan::kills(seed, &parts.all(), SPAN);
        let storm = Storm::rage(&mut parts, &kills, |_| {}).await?;
        for kind in Kind::ALL {
            assert!(storm.killed[&kind].times > 0, "no {}", kind.name());
        }

        let mut handed = Handed::default();
        for middleware in middlewares {
            handed.add(middleware.stop().await?);
        }
        let settled = scene.settle(Losses::Declared).await;
        settled.with_context(|| format!("{storm:#?}\n{handed:#?}"))?;
        let of_collectors = collectors.iter().map(Collector::log_path);
        for log in of_collectors.chain(agents.iter().map(Agent::log_path)) {
            assert_eq!(panics(&log)?, Vec::<String>::new(), "{}", log.display());
        }
        Ok(())
    })
    .await
}
