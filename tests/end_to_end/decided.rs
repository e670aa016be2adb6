//! What stands in `rp.decisions`, and what must be true of it whatever was
//! killed: one decision a slot, and every choice comes out again.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use prost::Message as _;
use returnpath_shared::wire::{
    self, Decided, DecisionRecord, Progress, Stage, decision_record::What,
};
use returnpath_tests::wait::wait_until;
use ring::digest::{SHA256, digest};

use crate::scene::Scene;

/// From an event on the box to the record of its stage: a batch interval, two
/// transactions, a collector that has to come back first.
const STAGE_LIMIT: Duration = Duration::from_secs(120);

/// Records of `rp.decisions`, in the order of their partitions.
pub(crate) async fn records(scene: &Scene) -> anyhow::Result<Vec<DecisionRecord>> {
    let mut all = Vec::new();
    for record in scene.kafka.records(&scene.topic("decisions")).await? {
        let value = record.value.context("a decision record has a value")?;
        let decoded = DecisionRecord::decode(&value[..])?;
        ensure!(
            record.key == decoded.decision_id.as_bytes(),
            "the key of {decoded:?} is {:?}",
            String::from_utf8_lossy(&record.key)
        );
        all.push(decoded);
    }
    Ok(all)
}

/// How a decision was made, and the stages after it.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) decided: Decided,
    pub(crate) stages: Vec<Progress>,
}

impl Story {
    /// Whether a stage was reached.
    pub(crate) fn has(&self, stage: Stage) -> bool {
        self.stages.iter().any(|progress| progress.stage() == stage)
    }

    /// What became of asking an aggregator.
    pub(crate) fn aggregator(&self, name: &str) -> anyhow::Result<&wire::AggregatorRecord> {
        let mut all = self.decided.aggregators.iter();
        all.find(|one| one.name == name)
            .with_context(|| format!("{name} is not in {:?}", self.decided.aggregators))
    }

    /// Who filled the slot, if anyone.
    pub(crate) fn filled_by(&self) -> Option<&str> {
        let index = self.decided.choice.as_ref()?.aggregator?;
        let aggregator = self.decided.aggregators.get(usize::try_from(index).ok()?)?;
        Some(&aggregator.name)
    }

    /// The offer that was taken, if any.
    pub(crate) fn chosen(&self) -> anyhow::Result<Option<wire::Offer>> {
        let choice = self.decided.choice.unwrap_or_default();
        let (Some(aggregator), Some(offer)) = (choice.aggregator, choice.offer) else {
            return Ok(None);
        };
        let aggregators = &self.decided.aggregators;
        let aggregator = aggregators.get(usize::try_from(aggregator)?);
        let offer = aggregator.and_then(|it| it.offers.get(offer as usize));
        let offer = offer.context("the choice names no recorded offer")?;
        Ok(offer.offer.clone())
    }

    /// What the box is sent, decoded.
    pub(crate) fn decision(&self) -> anyhow::Result<wire::Decision> {
        let signed = self.decided.signed.as_ref();
        let signed = signed.context("nothing is sent to the box")?;
        Ok(wire::Decision::decode(signed.decision.clone())?)
    }
}

/// All decisions, by their ids. Fails when one was made twice, or has stages
/// and no beginning.
pub(crate) async fn stories(scene: &Scene) -> anyhow::Result<BTreeMap<String, Story>> {
    let mut made: BTreeMap<String, Decided> = BTreeMap::new();
    let mut stages: BTreeMap<String, Vec<Progress>> = BTreeMap::new();
    for record in records(scene).await? {
        let id = record.decision_id;
        match record.what.context("a decision record without what")? {
            What::Decided(decided) => {
                let before = made.insert(id.clone(), decided);
                ensure!(before.is_none(), "{id} was decided twice");
            }
            What::Progress(progress) => stages.entry(id).or_default().push(progress),
        }
    }
    if let Some(id) = stages.keys().find(|id| !made.contains_key(*id)) {
        anyhow::bail!("{id} has stages, and no record of how it was decided");
    }
    Ok(made
        .into_iter()
        .map(|(id, decided)| {
            let stages = stages.remove(&id).unwrap_or_default();
            (id, Story { decided, stages })
        })
        .collect())
}

/// Waits until a decision is recorded and has reached all of these stages.
pub(crate) async fn reached(scene: &Scene, id: &str, stages: &[Stage]) -> anyhow::Result<Story> {
    wait_until(
        &format!("{id} to reach {stages:?}"),
        STAGE_LIMIT,
        async || {
            let mut all = stories(scene).await?;
            let story = all.remove(id).context("it is not recorded")?;
            let missing = stages.iter().find(|stage| !story.has(**stage));
            ensure!(
                missing.is_none(),
                "{missing:?} is missing: {:?}",
                story.stages
            );
            Ok(story)
        },
    )
    .await
}

/// The id that the decision of a slot must have, computed here from the
/// contract in `decision.proto`.
pub(crate) fn decision_id(device: &str, boot_id: u64, break_id: &str, slot: u32) -> String {
    let mut bytes = device.as_bytes().to_vec();
    bytes.push(0);
    bytes.extend(boot_id.to_le_bytes());
    bytes.extend(break_id.as_bytes());
    bytes.push(0);
    bytes.extend(slot.to_le_bytes());
    let hash = digest(&SHA256, &bytes);
    hash.as_ref()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What `returnpath-collector decisions show` prints.
pub(crate) async fn show(scene: &Scene, arguments: &[&str]) -> anyhow::Result<String> {
    let command = [&["decisions", "show"], arguments].concat();
    let output = scene.operator.command(&command).await?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        output.status.success(),
        "decisions show: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// Has every recorded choice made again; fails when one comes out otherwise.
/// Returns how many there were.
pub(crate) async fn replay(scene: &Scene) -> anyhow::Result<u64> {
    let output = scene
        .operator
        .command(&["decisions", "replay", "--json"])
        .await?;
    ensure!(
        output.status.success(),
        "decisions replay: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    said["replayed"].as_u64().context("no count")
}
