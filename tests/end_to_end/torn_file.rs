//! The flash under a queue tears while the box is off: a part of the queue's
//! file, or of its log, is cut off or holds something else. The box starts, sends
//! what can be read, and declares the rest.
//!
//! What the file loses is declared, whatever had been promised of it. The log is
//! another matter: SQLite takes what stands from the first damaged frame on for
//! never written, which is what a power cut leaves there, too. The box declares
//! an unclean stop, and that excuses what was only accepted. What was answered
//! `durable` is missing: a medium that loses what it confirmed is a real loss.
//! The audit must say so, and of nothing else.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use returnpath_shared::{Epoch, wire::RejectionReason};
use returnpath_tests::{
    agent::Agent,
    client::{Answer, Client},
    fleet::chance::Chance,
    process::panics,
    queue_file::{self, LogEnd, Places},
    tear::{Kind, Tear},
    wait::wait_until,
};
use serde_json::Value;
use tokio::task::{JoinSet, LocalSet};

use crate::{
    event,
    scene::{Losses, Scene, play},
    seed::with_seed,
};

/// Starts before the damage: the last one copies the log of the others to the
/// file, and leaves its own.
const RUNS: u32 = 2;

/// Each with ordinary events before it, enough to make a batch with it.
const PROOFS: u32 = 12;
const NOISE: u32 = 3;

/// Of random text, which packs to half of this.
const NOISE_CHARACTERS: usize = 400;

/// A clean stop: the last commit, and copying the log back.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// From the start of a box to the last receipt.
const SENT_LIMIT: Duration = Duration::from_secs(90);

/// From there to its place in the refined topics.
const REFINED_LIMIT: Duration = Duration::from_secs(60);

/// What is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    File,
    Log,
}

/// How the last run ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// By the power.
    Killed,
    /// In order: there is no log.
    Stopped,
}

/// What happens to a box.
#[derive(Clone, Copy, Debug)]
struct Case {
    end: End,
    part: Part,
    kind: Kind,
}

/// A box whose queue is damaged after [`RUNS`] runs.
struct TornBox {
    agent: Agent,
    /// Apart for logs, whose audit is not content.
    answers: PathBuf,
    part: Part,
    /// For messages.
    told: String,
    /// Where the damage begins; `None` where it changed nothing.
    torn_from: Option<usize>,
    /// Where the log ended when the box went off.
    log_end: LogEnd,
    proofs: Vec<Proof>,
    /// What can still be read.
    readable: Places,
}

/// An event that was answered `durable`, and how far the log reached before it
/// was handed in and after it was answered.
struct Proof {
    place: (Epoch, u64),
    before: LogEnd,
    after: LogEnd,
}

/// What must have become of a proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Kept,
    Lost,
    /// Something else was committed with it, so that it cannot be told from here.
    Either,
}

#[tokio::test]
async fn a_box_whose_flash_tears_sends_what_is_readable_and_declares_the_rest() -> anyhow::Result<()>
{
    with_seed("a_box_whose_flash_tears", tear).await
}

async fn tear(seed: u64) -> anyhow::Result<()> {
    play("torn-file", async |scene| {
        scene.mosquitto.kill()?;
        let mut boxes = torn_boxes(scene, seed).await?;
        scene.mosquitto.resume().await?;
        let _collector = scene.running_collector().await?;
        for torn in &mut boxes {
            let told = torn.told.clone();
            torn.start().await.context(told)?;
        }
        for torn in &boxes {
            torn.sent().await.with_context(|| torn.told.clone())?;
        }

        scene.settle(Losses::Torn).await?;
        wait_until("what is readable", REFINED_LIMIT, async || {
            let arrived = arrived(scene).await?;
            let mut boxes = boxes.iter();
            boxes.try_for_each(|torn| torn.check_readable(&arrived))
        })
        .await?;
        wait_until("the right verdicts", REFINED_LIMIT, async || {
            for part in [Part::File, Part::Log] {
                let (is_clean, verdicts) = verdicts(scene, &answers(scene, part)).await?;
                // A log that is gone takes proof with it, whatever was drawn.
                ensure!(is_clean == (part == Part::File), "{part:?}: {is_clean}");
                let mut boxes = boxes.iter().filter(|torn| torn.part == part);
                boxes.try_for_each(|torn| torn.check_verdict(&verdicts))?;
            }
            Ok(())
        })
        .await?;
        check_that_it_was_a_test(&boxes);
        for torn in &boxes {
            let log = torn.agent.log_path();
            ensure!(panics(&log)?.is_empty(), "{}", log.display());
        }
        Ok(())
    })
    .await
}

/// A box for each way in which its flash may tear; they live at once.
async fn torn_boxes(scene: &Scene, seed: u64) -> anyhow::Result<Vec<TornBox>> {
    let case = |end, part| move |kind| Case { end, part, kind };
    let somewhere = Kind::SOMEWHERE.into_iter();
    let cases = somewhere
        .clone()
        .chain(Kind::WHOLE)
        .map(case(End::Killed, Part::File))
        .chain(somewhere.clone().map(case(End::Stopped, Part::File)))
        .chain(
            somewhere
                .chain([Kind::Removed])
                .map(case(End::Killed, Part::Log)),
        );
    let mut seeds = Chance::new(seed);
    let here = LocalSet::new();
    let mut lives = JoinSet::new();
    for (number, case) in (1..).zip(cases) {
        let agent = scene.agent(&format!("box-{number}"))?;
        let answers = answers(scene, case.part);
        let chance = Chance::new(seeds.bits());
        lives.spawn_local_on(live(agent, answers, case, chance), &here);
    }
    here.run_until(lives.join_all()).await.into_iter().collect()
}

/// Where the answers of boxes go whose file, or log, is damaged.
fn answers(scene: &Scene, part: Part) -> PathBuf {
    match part {
        Part::File => scene.answers(),
        Part::Log => scene.answers().with_file_name("answers-of-torn-logs.jsonl"),
    }
}

/// A box without a link takes events until its power goes, twice, and then its
/// flash tears.
async fn live(
    mut agent: Agent,
    answers: PathBuf,
    case: Case,
    mut chance: Chance,
) -> anyhow::Result<TornBox> {
    let Case { end, part, kind } = case;
    let log = agent.flash().join("queue.db-wal");
    let mut proofs = Vec::new();
    for run in 1..=RUNS {
        agent.start().await?;
        let mut client = Client::connect(&agent, &answers).await?;
        for number in 1..=PROOFS {
            for _ in 0..NOISE {
                let noise = event::noise(&noise(&mut chance));
                client.expect("accepted", &noise).await?;
            }
            let before = LogEnd::read(&log)?;
            let impression = event::impression(&format!("run-{run}-{number}"));
            let answer = client.expect("durable", &impression).await?;
            proofs.push(Proof {
                place: place(&answer)?,
                before,
                after: LogEnd::read(&log)?,
            });
        }
        // In memory alone, most likely.
        client.expect("accepted", &event::tune(run)).await?;
        match end {
            End::Stopped if run == RUNS => drop(agent.terminate(STOP_LIMIT).await?),
            End::Killed | End::Stopped => agent.kill()?,
        }
    }

    let log_end = LogEnd::read(&log)?;
    let file = agent.flash().join("queue.db");
    let (path, size) = match part {
        Part::File => (&file, usize::try_from(fs::metadata(&file)?.len())?),
        Part::Log => (&log, log_end.bytes()),
    };
    let tear = Tear::draw(kind, size, &mut chance);
    let torn_from = tear.inflict(path)?;
    let readable = queue_file::readable(&agent.flash(), &agent.flash().with_extension("copy"))
        .await
        .with_context(|| format!("{}: {tear}", path.display()))?;
    Ok(TornBox {
        told: format!(
            "{}, {end:?}: {} of {size} bytes {tear}",
            agent.device(),
            path.display()
        ),
        agent,
        answers,
        part,
        torn_from,
        log_end,
        proofs,
        readable,
    })
}

fn noise(chance: &mut Chance) -> String {
    let digits = (0..NOISE_CHARACTERS).map(|_| format!("{:x}", chance.below(16)));
    digits.collect()
}

fn place(answer: &Answer) -> anyhow::Result<(Epoch, u64)> {
    Ok((answer.epoch.parse()?, answer.ordinal.parse()?))
}

impl TornBox {
    /// Starts it on what is left, and has it take events as any other.
    async fn start(&mut self) -> anyhow::Result<()> {
        self.agent.start().await?;
        let mut client = Client::connect(&self.agent, &self.answers).await?;
        client.expect("accepted", &event::tune(99)).await?;
        let impression = event::impression("afterwards");
        let answer = client.expect("durable", &impression).await?;
        let (epoch, _) = place(&answer)?;
        let mut before = self.proofs.iter();
        ensure!(
            before.all(|proof| proof.place.0 != epoch),
            "{epoch} was used before"
        );
        Ok(())
    }

    /// Waits until the cloud has what it held, and what it declares.
    async fn sent(&self) -> anyhow::Result<()> {
        wait_until("the last receipt", SENT_LIMIT, async || {
            let status = self.agent.status().await?;
            let queue = &status["queue"];
            let held = [
                &queue["backlog"]["batches"],
                &queue["proof"]["batches"],
                &queue["ledgerRows"],
            ];
            ensure!(held.iter().all(|held| **held == 0), "{queue}");
            Ok(())
        })
        .await
    }

    fn check_readable(&self, arrived: &BTreeMap<String, Places>) -> anyhow::Result<()> {
        let nothing = Places::new();
        let arrived = arrived.get(self.agent.device().as_str());
        let missing = &self.readable - arrived.unwrap_or(&nothing);
        ensure!(missing.is_empty(), "{}: {missing:?}", self.told);
        Ok(())
    }

    /// What the audit says of it is what happened to it.
    fn check_verdict(&self, verdicts: &BTreeMap<String, Value>) -> anyhow::Result<()> {
        let told = &self.told;
        let verdict = verdicts.get(self.agent.device().as_str());
        let verdict = verdict.with_context(|| format!("no verdict on {told}"))?;
        for class in ["ordinary", "proof"] {
            ensure!(verdict[class]["duplicated"] == 0, "{told}: {verdict:#}");
            ensure!(
                verdict[class]["rejected"] == Value::Object(serde_json::Map::new()),
                "{told}: {verdict:#}"
            );
        }
        let mut missing = Places::new();
        for range in verdict["missing"].as_array().context("no list")? {
            ensure!(range["class"] != "ordinary", "{told}: {range}");
            let epoch: Epoch = range["epoch"].as_str().context("no epoch")?.parse()?;
            let ordinal = |field: &str| range[field].as_u64().context("no ordinal");
            let ordinals = ordinal("firstOrdinal")?..=ordinal("lastOrdinal")?;
            // The agent's own events are no promise to anybody.
            if range["class"] == "proof" {
                missing.extend(ordinals.map(|ordinal| (epoch, ordinal)));
            }
        }
        let declared = verdict["proof"]["declared"].as_object();
        let declared = declared.context("no reasons")?;
        match self.part {
            Part::File => {
                ensure!(missing.is_empty(), "{told}: {missing:?}");
                let mut reasons = declared.keys();
                ensure!(
                    reasons.all(|reason| reason == "corrupt"),
                    "{told}: {declared:?}"
                );
            }
            Part::Log => {
                ensure!(declared.is_empty(), "{told}: {declared:?}");
                for proof in &self.proofs {
                    let is_missing = missing.contains(&proof.place);
                    let is_right = match self.fate(proof) {
                        Fate::Kept => !is_missing,
                        Fate::Lost => is_missing,
                        Fate::Either => true,
                    };
                    ensure!(
                        is_right,
                        "{told}: {:?} is missing: {is_missing}, expected {:?}",
                        proof.place,
                        self.fate(proof)
                    );
                }
                let known: Places = self.proofs.iter().map(|proof| proof.place).collect();
                ensure!(missing.is_subset(&known), "{told}: {missing:?}");
            }
        }
        Ok(())
    }

    /// What must have become of a proof when the log is damaged.
    fn fate(&self, proof: &Proof) -> Fate {
        let written = [proof.before, proof.after].map(|end| end.within(self.log_end));
        match self.torn_from {
            None => Fate::Kept,
            Some(from) if written[1] <= from => Fate::Kept,
            Some(from) if written[0] >= from => Fate::Lost,
            Some(_) => Fate::Either,
        }
    }

    fn count(&self, fate: Fate) -> usize {
        let proofs = self.proofs.iter();
        proofs.filter(|proof| self.fate(proof) == fate).count()
    }
}

/// What stands in the refined topics, box by box, and what stands there already
/// under another place: an agent tells of an unclean stop again after a restart.
async fn arrived(scene: &Scene) -> anyhow::Result<BTreeMap<String, Places>> {
    let refined = scene.refined().await?.into_iter();
    let refined = refined.map(|(_, record)| (record.device_id, record.batch, record.ordinal));
    let rejected = scene.rejected().await?.into_iter();
    let repeated = rejected
        .filter(|record| record.reason() == RejectionReason::Repeated)
        .map(|record| {
            let device = String::from_utf8_lossy(&record.key).into_owned();
            (device, record.batch, record.ordinal)
        });
    let mut arrived: BTreeMap<String, Places> = BTreeMap::new();
    for (device, batch, ordinal) in refined.chain(repeated) {
        let epoch = batch.and_then(|batch| batch.epoch);
        let epoch = epoch.context("an event without epoch")?.try_into()?;
        arrived.entry(device).or_default().insert((epoch, ordinal));
    }
    Ok(arrived)
}

/// Whether the audit of these answers ends well, and what it says box by box.
async fn verdicts(
    scene: &Scene,
    answers: &Path,
) -> anyhow::Result<(bool, BTreeMap<String, Value>)> {
    let path = answers.to_string_lossy();
    let output = scene.operator.command(&["audit", "--json", &path]).await?;
    let verdict: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let boxes = verdict["boxes"].as_array().context("no boxes")?;
    let by_device = boxes.iter().map(|of_box| {
        let device = of_box["device"].as_str().context("a box without name")?;
        Ok((device.to_owned(), of_box.clone()))
    });
    let by_device = by_device.collect::<anyhow::Result<_>>()?;
    Ok((output.status.success(), by_device))
}

/// Something was lost and something was left, in files and in logs: damage that
/// hits nothing, or everything, shows nothing.
fn check_that_it_was_a_test(boxes: &[TornBox]) {
    for part in [Part::File, Part::Log] {
        let of_part = || boxes.iter().filter(|torn| torn.part == part);
        let readable: usize = of_part().map(|torn| torn.readable.len()).sum();
        assert!(readable > 0, "nothing was left of any {part:?}");
    }
    let logs = || boxes.iter().filter(|torn| torn.part == Part::Log);
    for fate in [Fate::Kept, Fate::Lost] {
        let count: usize = logs().map(|torn| torn.count(fate)).sum();
        assert!(count > 0, "no proof of a torn log was {fate:?}");
    }
}
