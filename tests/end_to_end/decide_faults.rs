//! Decide and refine killed between every two steps of the way back: one slot
//! gets one decision, and the box gets it.
//!
//! Two collectors share the work, so that each step can be stopped alone:
//! `collector-a` bridges (and mostly refines), `collector-b` decides.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use returnpath_agent::clock;
use returnpath_shared::wire::{self, NoFill, Stage};
use returnpath_tests::{
    agent::Agent,
    client::Client,
    collector::Collector,
    kafka::Refusal,
    market::{Behaviour, Terms},
    player::Player,
    pushes::Pushes,
    wait::wait_until,
};

use crate::{
    decided::{Story, decision_id, reached, replay, stories},
    event,
    market::{self, TROUBLED},
    scene::{Losses, Scene, play},
};

/// Breaks begin so much later that a killed collector's sessions may time out.
const LEAD_MS: u64 = 300_000;

/// How long aggregators have, in ms, and all of them together: while one holds
/// its answer back, a test does what it came for.
const DEADLINE_MS: u32 = 10_000;

const STEP_LIMIT: Duration = Duration::from_secs(60);

/// One box and two collectors.
struct Loop {
    /// `collector-a`.
    front: Collector,
    /// `collector-b`.
    decide: Collector,
    agent: Agent,
    client: Client,
    player: Player,
    pushes: Pushes,
}

impl Loop {
    /// Everything but the collectors is running.
    async fn set(scene: &mut Scene) -> anyhow::Result<Self> {
        let terms = Terms {
            deadline_ms: DEADLINE_MS,
            ..Terms::default()
        };
        scene.open_market_on(&market::three(), &terms).await?;
        let agent = scene.running_agent("box-1").await?;
        Ok(Self {
            front: scene.collector("collector-a")?,
            decide: scene.collector("collector-b")?,
            client: scene.client(&agent).await?,
            player: Player::follow(&agent).await?,
            pushes: Pushes::watch(&scene.mosquitto, &scene.pki).await?,
            agent,
        })
    }

    async fn signal(&mut self, break_id: &str) -> anyhow::Result<()> {
        let opportunity = event::ad_break(break_id, LEAD_MS, &[30_000]);
        self.client.expect("accepted", &opportunity).await?;
        Ok(())
    }

    /// The box has the decision of `break_id`, shows it, and everyone knows.
    /// Returns what was pushed for it, all of it the same.
    async fn comes_to_its_end(&mut self, scene: &Scene, break_id: &str) -> anyhow::Result<usize> {
        let decision = self.is_shown(break_id).await?;
        self.is_known(scene, &decision).await
    }

    /// The box has the decision of `break_id`, and shows it.
    async fn is_shown(&mut self, break_id: &str) -> anyhow::Result<wire::Decision> {
        let decision = self.player.decision(break_id, 0).await?.decision;
        let shown = event::ad("KIND_START", &decision);
        self.client.expect("durable", &shown).await?;
        Ok(decision)
    }

    /// All that became of a decision that was shown is recorded, once; that it
    /// was pushed, once a push at most.
    async fn is_known(&self, scene: &Scene, decision: &wire::Decision) -> anyhow::Result<usize> {
        let id = &decision.decision_id;
        let all = [Stage::Pushed, Stage::Acknowledged, Stage::Shown];
        let story = reached(scene, id, &all).await?;
        let pushed = self.pushed_as_recorded(id, &story)?;
        let of = |stage| story.stages.iter().filter(|it| it.stage() == stage).count();
        assert!(of(Stage::Pushed) <= pushed, "{:?}", story.stages);
        let others = story.stages.len() - of(Stage::Pushed);
        assert_eq!(others, all.len() - 1, "{:?}", story.stages);
        assert_eq!(story.decision()?, *decision);
        let handed = self.player.handed();
        let times = handed.iter().filter(|one| one.decision.decision_id == *id);
        assert_eq!(times.count(), 1, "handed over more than once: {handed:?}");
        Ok(pushed)
    }

    /// Everything that was pushed for a decision is what was recorded, to the
    /// byte.
    fn pushed_as_recorded(&self, id: &str, story: &Story) -> anyhow::Result<usize> {
        use prost::Message as _;
        let signed = story.decided.signed.clone().context("nothing was signed")?;
        let recorded = signed.encode_to_vec();
        let pushed = self.pushes.of(id);
        for one in &pushed {
            ensure!(one.payload == recorded, "{one:?} is not {recorded:?}");
        }
        Ok(pushed.len())
    }
}

/// Waits until `topic` has so many records.
async fn stands_in(scene: &Scene, topic: &str, count: usize) -> anyhow::Result<()> {
    let topic = scene.topic(topic);
    wait_until(
        &format!("{count} records in {topic}"),
        STEP_LIMIT,
        async || {
            let found = scene.kafka.records(&topic).await?.len();
            ensure!(found >= count, "{found}");
            Ok(())
        },
    )
    .await
}

/// Has the troubled aggregator hold its answers back.
async fn holds(scene: &Scene) -> anyhow::Result<()> {
    let troubled = scene.market()?.aggregator(TROUBLED)?;
    troubled.behave(Behaviour::Holds).await
}

/// Has it answer, also those who wait.
async fn answers(scene: &Scene) -> anyhow::Result<()> {
    let troubled = scene.market()?.aggregator(TROUBLED)?;
    troubled.behave(Behaviour::Fine).await
}

/// Waits until the troubled aggregator has been asked `count` times.
async fn is_asked(scene: &Scene, count: u64) -> anyhow::Result<()> {
    let troubled = scene.market()?.aggregator(TROUBLED)?;
    wait_until("the aggregator to be asked", STEP_LIMIT, async || {
        let asked = troubled.counts().asked;
        ensure!(asked >= count, "{asked} of {count}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn refine_killed_before_and_after_it_reads_an_opportunity() -> anyhow::Result<()> {
    play("refine-killed", async |scene| {
        let mut it = Loop::set(scene).await?;
        it.front.start_roles("bridge").await?;
        it.signal("break-1").await?;
        stands_in(scene, "raw", 1).await?;
        // Killed once its opportunity stands, and again while it is asked for.
        it.decide.start_roles("refine").await?;
        stands_in(scene, "opportunities", 1).await?;
        it.decide.kill()?;
        holds(scene).await?;
        it.decide.start_roles("refine,decide").await?;
        is_asked(scene, 1).await?;
        it.decide.kill()?;
        answers(scene).await?;
        it.decide.start_roles("refine,decide").await?;
        it.comes_to_its_end(scene, "break-1").await?;
        ends_well(scene, 1).await
    })
    .await
}

#[tokio::test]
async fn decide_killed_before_it_reads_an_opportunity() -> anyhow::Result<()> {
    play("decide-killed-before", async |scene| {
        let mut it = Loop::set(scene).await?;
        it.front.start_roles("bridge,refine").await?;
        it.decide.start_roles("decide").await?;
        it.decide.kill()?;
        it.signal("break-1").await?;
        stands_in(scene, "opportunities", 1).await?;
        it.decide.start_roles("decide").await?;
        it.comes_to_its_end(scene, "break-1").await?;
        ends_well(scene, 1).await
    })
    .await
}

#[tokio::test]
async fn decide_killed_while_it_asks() -> anyhow::Result<()> {
    play("decide-killed-asking", async |scene| {
        let mut it = Loop::set(scene).await?;
        it.front.start_roles("bridge,refine").await?;
        it.decide.start_roles("decide").await?;
        for (turn, break_id) in (1..).zip(["break-1", "break-2"]) {
            holds(scene).await?;
            it.signal(break_id).await?;
            // Asked once before it is killed, and once after.
            is_asked(scene, 2 * turn - 1).await?;
            it.decide.kill()?;
            let recorded = stories(scene).await?.len();
            assert_eq!(recorded as u64, turn - 1, "recorded before it was answered");
            it.decide.start_roles("decide").await?;
            is_asked(scene, 2 * turn).await?;
            answers(scene).await?;
            it.comes_to_its_end(scene, break_id).await?;
        }
        ends_well(scene, 2).await
    })
    .await
}

#[tokio::test]
async fn decide_killed_between_its_record_and_the_push() -> anyhow::Result<()> {
    play("decide-killed-recorded", async |scene| {
        let mut it = Loop::set(scene).await?;
        it.front.start_roles("bridge,refine").await?;
        it.decide.start_roles("decide").await?;
        holds(scene).await?;
        it.signal("break-1").await?;
        is_asked(scene, 1).await?;
        // Recorded it can be, pushed it cannot.
        scene.mosquitto.kill()?;
        answers(scene).await?;
        let id = only_decision(scene).await?;
        assert!(!stories(scene).await?[&id].has(Stage::Pushed));
        it.decide.kill()?;
        scene.mosquitto.resume().await?;
        it.pushes = Pushes::watch(&scene.mosquitto, &scene.pki).await?;
        it.decide.start_roles("decide").await?;
        // Once more where the box, whose broker was gone too, asks again before
        // it has it.
        let pushed = it.comes_to_its_end(scene, "break-1").await?;
        assert!((1..=2).contains(&pushed), "{pushed}");
        let asked = scene.market()?.aggregator(TROUBLED)?.counts().asked;
        assert_eq!(asked, 1, "what is recorded is not asked for again");
        ends_well(scene, 1).await
    })
    .await
}

#[tokio::test]
async fn decide_killed_between_the_push_and_its_acknowledgement() -> anyhow::Result<()> {
    play("decide-killed-pushed", async |scene| {
        let mut it = Loop::set(scene).await?;
        it.front.start_roles("bridge").await?;
        let mut refine = scene.collector("collector-c")?;
        refine.start_roles("refine").await?;
        it.decide.start_roles("decide").await?;
        holds(scene).await?;
        it.signal("break-1").await?;
        is_asked(scene, 1).await?;
        // What the box answers waits in Kafka, and decide does not hear of it.
        refine.kill()?;
        answers(scene).await?;
        let decision = it.player.decision("break-1", 0).await?.decision;
        let id = &decision.decision_id;
        let story = reached(scene, id, &[Stage::Pushed]).await?;
        assert!(!story.has(Stage::Acknowledged), "{:?}", story.stages);
        for times in 2..=3 {
            it.decide.kill()?;
            it.decide.start_roles("decide").await?;
            it.pushes.wait_for(id, times).await?;
        }
        refine.start_roles("refine").await?;
        let pushed = it.comes_to_its_end(scene, "break-1").await?;
        assert!(pushed >= 3, "{pushed}");
        let asked = scene.market()?.aggregator(TROUBLED)?.counts().asked;
        assert_eq!(asked, 1, "what is recorded is not asked for again");
        ends_well(scene, 1).await
    })
    .await
}

#[tokio::test]
async fn decide_killed_after_the_acknowledgement_pushes_nothing_again() -> anyhow::Result<()> {
    play("decide-killed-acknowledged", async |scene| {
        let mut it = Loop::set(scene).await?;
        it.front.start_roles("bridge,refine").await?;
        it.decide.start_roles("decide").await?;
        it.signal("break-1").await?;
        let first = it.player.decision("break-1", 0).await?.decision;
        reached(scene, &first.decision_id, &[Stage::Acknowledged]).await?;
        it.decide.kill()?;
        it.decide.start_roles("decide").await?;
        // A later one has passed, so a second push of the first would have.
        it.signal("break-2").await?;
        it.comes_to_its_end(scene, "break-2").await?;
        assert_eq!(it.comes_to_its_end(scene, "break-1").await?, 1);
        ends_well(scene, 2).await
    })
    .await
}

#[tokio::test]
async fn decide_killed_between_the_impression_and_its_record() -> anyhow::Result<()> {
    play("decide-killed-shown", async |scene| {
        let mut it = Loop::set(scene).await?;
        it.front.start_roles("bridge,refine").await?;
        it.decide.start_roles("decide").await?;
        it.signal("break-1").await?;
        let first = it.player.decision("break-1", 0).await?.decision;
        reached(scene, &first.decision_id, &[Stage::Acknowledged]).await?;
        it.decide.kill()?;
        let ads = scene.kafka.records(&scene.topic("ads")).await?.len();
        it.client
            .expect("durable", &event::ad("KIND_START", &first))
            .await?;
        it.client
            .expect("durable", &event::ad("KIND_COMPLETE", &first))
            .await?;
        stands_in(scene, "ads", ads + 2).await?;
        it.decide.start_roles("decide").await?;
        let all = [
            Stage::Pushed,
            Stage::Acknowledged,
            Stage::Shown,
            Stage::Completed,
        ];
        let story = reached(scene, &first.decision_id, &all).await?;
        assert_eq!(story.stages.len(), all.len(), "{:?}", story.stages);
        ends_well(scene, 1).await
    })
    .await
}

#[tokio::test]
async fn decide_killed_again_and_again_decides_every_slot_once() -> anyhow::Result<()> {
    play("decide-killed-often", async |scene| {
        let mut it = Loop::set(scene).await?;
        it.front.start_roles("bridge,refine").await?;
        it.decide.start_roles("decide").await?;
        const ROUNDS: usize = 4;
        const BREAKS: usize = 5;
        let name = |round, number| format!("break-{round}-{number}");
        for round in 0..ROUNDS {
            for number in 0..BREAKS {
                it.signal(&name(round, number)).await?;
            }
            // Wherever it is with them.
            it.decide.kill()?;
            it.decide.start_roles("decide").await?;
        }
        let mut shown = Vec::new();
        for round in 0..ROUNDS {
            for number in 0..BREAKS {
                shown.push(it.is_shown(&name(round, number)).await?);
            }
        }
        for decision in &shown {
            it.is_known(scene, decision).await?;
        }
        it.agent.check_running()?;
        ends_well(scene, ROUNDS * BREAKS).await
    })
    .await
}

#[tokio::test]
async fn a_decide_that_slept_through_its_succession_decides_nothing() -> anyhow::Result<()> {
    play("decide-frozen", async |scene| {
        let mut it = Loop::set(scene).await?;
        it.front.start_roles("bridge,refine").await?;
        it.decide.start_roles("decide").await?;
        holds(scene).await?;
        it.signal("break-1").await?;
        is_asked(scene, 1).await?;
        // With a call under way, and an answer that it finds when it wakes.
        it.decide.freeze();
        let mut heir = scene.collector("collector-c")?;
        heir.start_roles("decide").await?;
        is_asked(scene, 2).await?;
        answers(scene).await?;
        it.comes_to_its_end(scene, "break-1").await?;
        it.decide.thaw();
        wait_until("both to share the work", STEP_LIMIT, async || {
            for collector in [&it.decide, &heir] {
                let partitions = collector.metric("returnpath_decide_partitions").await?;
                ensure!((1.0..4.0).contains(&partitions), "{partitions} partitions");
            }
            Ok(())
        })
        .await?;
        it.signal("break-2").await?;
        it.comes_to_its_end(scene, "break-2").await?;
        ends_well(scene, 2).await
    })
    .await
}

#[tokio::test]
async fn a_decision_that_kafka_does_not_take_is_shown_to_nobody() -> anyhow::Result<()> {
    play("decide-aborted", async |scene| {
        let mut it = Loop::set(scene).await?;
        it.front.start_roles("bridge,refine").await?;
        it.decide.start_roles("decide").await?;
        let topic = scene.topic("decisions");
        let refusing = scene.kafka.refuse(&topic, Refusal::AllButMarkers).await?;
        it.signal("break-1").await?;
        // Undone, read again and asked again, over and over.
        is_asked(scene, 2).await?;
        let aborted = "returnpath_decide_transactions_aborted_total";
        assert!(it.decide.metric(aborted).await? >= 1.0);
        let id = decision_id("box-1", clock::boot_id(), "break-1", 0);
        assert_eq!(it.pushes.of(&id), []);
        scene.kafka.accept(refusing).await?;
        it.comes_to_its_end(scene, "break-1").await?;
        ends_well(scene, 1).await
    })
    .await
}

#[tokio::test]
async fn kafka_killed_while_a_decision_is_committed_leaves_one_or_none() -> anyhow::Result<()> {
    play("decide-kafka-killed", async |scene| {
        let mut it = Loop::set(scene).await?;
        it.front.start_roles("bridge,refine").await?;
        it.decide.start_roles("decide").await?;
        for break_id in ["break-1", "break-2"] {
            let asked = scene.market()?.aggregator(TROUBLED)?.counts().asked;
            holds(scene).await?;
            it.signal(break_id).await?;
            is_asked(scene, asked + 1).await?;
            // It finds nobody who could tell what became of its commit.
            scene.kafka.freeze();
            answers(scene).await?;
            scene.kafka.kill()?;
            scene.kafka.resume().await?;
            it.comes_to_its_end(scene, break_id).await?;
        }
        ends_well(scene, 2).await
    })
    .await
}

#[tokio::test]
async fn an_opportunity_found_too_late_expires_with_a_record() -> anyhow::Result<()> {
    play("decide-too-late", async |scene| {
        let mut it = Loop::set(scene).await?;
        it.front.start_roles("bridge,refine").await?;
        let opportunity = event::ad_break("break-1", 0, &[500]);
        it.client.expect("accepted", &opportunity).await?;
        stands_in(scene, "opportunities", 1).await?;
        wait_until("the slot to be past", STEP_LIMIT, async || {
            let now = clock::uptime_ms();
            let start: u64 = opportunity["adOpportunity"]["startUptimeMs"]
                .as_str()
                .context("its start")?
                .parse()?;
            // Later than the slot's start by more than decide's `late_ms`.
            ensure!(now > start + 3_000, "{now}");
            Ok(())
        })
        .await?;
        it.decide.start_roles("decide").await?;
        let id = only_decision(scene).await?;
        let story = &stories(scene).await?[&id];
        let choice = story.decided.choice.unwrap_or_default();
        assert_eq!(choice.no_fill(), NoFill::Expired);
        assert_eq!(story.decided.signed, None);
        let asked = scene.market()?.aggregators().iter();
        assert_eq!(asked.map(|one| one.counts().asked).sum::<u64>(), 0);
        it.signal("break-2").await?;
        it.comes_to_its_end(scene, "break-2").await?;
        assert!(it.pushes.of(&id).is_empty(), "it was pushed");
        ends_well(scene, 2).await
    })
    .await
}

/// Waits for the one decision that is recorded.
async fn only_decision(scene: &Scene) -> anyhow::Result<String> {
    wait_until("a decision to be recorded", STEP_LIMIT, async || {
        let all = stories(scene).await?;
        ensure!(all.len() == 1, "{} are", all.len());
        all.into_keys().next().context("there is one")
    })
    .await
}

/// So many slots were decided, once each; the audit is content.
async fn ends_well(scene: &Scene, decided: usize) -> anyhow::Result<()> {
    let all = stories(scene).await?;
    assert_eq!(all.len(), decided, "{:?}", all.keys());
    assert_eq!(replay(scene).await?, decided as u64);
    for aggregator in scene.market()?.aggregators() {
        let counts = aggregator.counts();
        assert_eq!(
            counts.not_understood,
            0,
            "{}: {counts:?}",
            aggregator.name()
        );
    }
    let of_nobody = |decision: &wire::Decision| decision.creative.is_none();
    for story in all.values().filter(|story| story.decided.signed.is_some()) {
        assert!(!of_nobody(&story.decision()?), "{:?}", story.decided);
    }
    scene.settle(Losses::None).await
}
