//! A core on a bench: a good disk that remembers, and a link in the hands of
//! the test.

use std::{collections::BTreeMap, time::Duration};

use returnpath_delivery::{
    Acceptance, Answer, BootFacts, ClientToken, Commit, CommitOutcome, Config, Delivery,
    Durability, Effect, Input, Op, Pace, PubAckOutcome, Publish, Settled, Start, SyncPolicy,
    Unreadable, Uptime,
};
use returnpath_shared::{
    BatchId, Epoch, Incarnation, unpack,
    wire::{self, event},
};

use crate::disk::{Disk, File};

/// The settings of the example file, with a small queue.
pub(crate) fn config() -> Config {
    Config {
        pace: Pace {
            batch_interval: Duration::from_secs(5),
            window_batches_max: 32,
            backlog_rate: 50,
        },
        flush_interval: Duration::from_secs(60),
        sync: SyncPolicy::WhenNeeded,
        durable_after: Duration::from_millis(300),
        group_commit: Duration::from_millis(20),
        queue_bytes_max: 1024 * 1024,
        queue_batches_max: 64,
        age_max: Duration::from_secs(7 * 24 * 3_600),
        ram_bytes_max: 256 * 1024,
        live_age_max: Duration::from_secs(30),
        resend_after_prompt: Duration::from_secs(10),
        resend_after: Duration::from_secs(45),
        resend_after_max: Duration::from_secs(300),
        flash_bytes_per_day_max: Some(64 << 20),
        proof_ids_max: 64,
        ordinary_ids_max: 64,
    }
}

pub(crate) struct Bench {
    pub(crate) delivery: Delivery,
    pub(crate) now: Uptime,
    pub(crate) epoch: Epoch,
    pub(crate) disk: Disk,
    pub(crate) published: Vec<Publish>,
    pub(crate) commits: Vec<Commit>,
    pub(crate) answers: BTreeMap<ClientToken, Answer>,
    pub(crate) rebuild_wanted: bool,
    /// Rows by which the next rebuilt file declares whole epochs.
    pub(crate) declared: Vec<u64>,
    pub(crate) stopped: bool,
    /// How commits end.
    pub(crate) outcome: CommitOutcome,
    config: Config,
    boot_id: u64,
    next_token: u64,
}

impl Bench {
    pub(crate) fn new(config: Config) -> Self {
        let epoch = Epoch {
            incarnation: Incarnation::new(7).unwrap(),
            start: 1,
        };
        let mut disk = Disk::default();
        disk.synced.starts.insert(epoch, Settled::default());
        let now = Uptime(1_000);
        let delivery = Delivery::new(config.clone(), start(&disk.synced, epoch, 1), [], now);
        let mut bench = Self {
            delivery,
            now,
            epoch,
            disk,
            published: vec![],
            commits: vec![],
            answers: BTreeMap::new(),
            rebuild_wanted: false,
            declared: Vec::new(),
            stopped: false,
            outcome: CommitOutcome::Done,
            config,
            boot_id: 1,
            next_token: 1,
        };
        bench.drain();
        bench
    }

    /// Connected, with the boot event receipted: nothing is pending.
    pub(crate) fn connected(config: Config) -> Self {
        let mut bench = Self::new(config);
        bench.handle(Input::LinkUp);
        bench.pass(5_000);
        bench.receipt_all();
        assert_eq!(bench.delivery.poll_timeout(), None);
        bench
    }

    /// Disconnected, with the boot event receipted.
    pub(crate) fn offline(config: Config) -> Self {
        let mut bench = Self::connected(config);
        bench.handle(Input::LinkDown);
        bench
    }

    pub(crate) fn accept(&mut self, event: wire::Event) -> Acceptance {
        let token = ClientToken(self.next_token);
        self.next_token += 1;
        let acceptance = self.delivery.accept(event, token, self.now);
        self.drain();
        acceptance
    }

    /// Takes an ordinary event, offline, and waits until it is in the file in a
    /// batch of its own.
    pub(crate) fn flush(&mut self, event: wire::Event) {
        assert!(matches!(self.accept(event), Acceptance::Accepted { .. }));
        self.pass(60_000);
    }

    /// The answer to the last request, if it has come.
    pub(crate) fn last_answer(&self) -> Option<Answer> {
        self.answers.get(&ClientToken(self.next_token - 1)).copied()
    }

    pub(crate) fn handle(&mut self, input: Input<'_>) {
        self.delivery.handle(input, self.now);
        self.drain();
    }

    /// Lets time pass, waking the core only when it asked to be.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = Uptime(self.now.0 + ms);
        while let Some(at) = self.delivery.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.delivery.tick(self.now);
            self.drain();
        }
        self.now = end;
    }

    pub(crate) fn receipt(&mut self, ids: &[BatchId]) {
        let confirmed = ids
            .iter()
            .map(|id| wire::SequenceRange {
                epoch: Some(id.epoch.into()),
                first_sequence: id.sequence.0,
                last_sequence: id.sequence.0,
            })
            .collect();
        self.handle(Input::Receipt(&wire::Receipt {
            confirmed,
            refused: vec![],
        }));
    }

    /// Receipts everything published so far, and forgets it.
    pub(crate) fn receipt_all(&mut self) {
        let ids: Vec<BatchId> = self.published.drain(..).map(|publish| publish.id).collect();
        self.receipt(&ids);
    }

    pub(crate) fn puback(&mut self, id: BatchId, outcome: PubAckOutcome) {
        self.handle(Input::PubAck { id, outcome });
    }

    /// A link on which everything is receipted at once, for so long.
    pub(crate) fn pass_with_receipts(&mut self, ms: u64) {
        let end = self.now.0 + ms;
        while self.now.0 < end {
            self.pass(100.min(end - self.now.0));
            self.receipt_all();
        }
    }

    /// The power goes, and comes again in another boot.
    pub(crate) fn power_cut(&mut self) {
        self.disk.cut(0);
        self.start_again();
    }

    pub(crate) fn start_again(&mut self) {
        let file = self.disk.current();
        self.epoch.start += 1;
        self.boot_id += 1;
        self.now = Uptime(1_000);
        self.published.clear();
        self.commits.clear();
        self.stopped = false;
        let start = start(&file, self.epoch, self.boot_id);
        self.disk
            .synced
            .starts
            .insert(self.epoch, Settled::default());
        let recovered = file.order.iter().map(|id| file.batches[id].0);
        self.delivery = Delivery::new(self.config.clone(), start, recovered, self.now);
        self.drain();
    }

    /// Everything of the old file in a new one.
    pub(crate) fn rebuild(&mut self) {
        self.rebuild_and(CommitOutcome::Done);
    }

    /// The same, and how commits end from then on.
    pub(crate) fn rebuild_and(&mut self, outcome: CommitOutcome) {
        self.rebuild_wanted = false;
        self.outcome = outcome;
        self.epoch = Epoch {
            incarnation: Incarnation::new(self.epoch.incarnation.get() + 1).unwrap(),
            start: 1,
        };
        self.disk
            .synced
            .starts
            .insert(self.epoch, Settled::default());
        let copied = self.disk.current().order;
        let declared = std::mem::take(&mut self.declared);
        self.delivery
            .rebuilt(self.epoch, copied, declared, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.delivery.poll_effect() {
            match effect {
                Effect::Publish(publish) => self.published.push(publish),
                Effect::Commit(commit) => {
                    if self.outcome == CommitOutcome::Done {
                        self.disk.commit(&commit.ops, commit.durability);
                    }
                    let number = commit.number;
                    let outcome = self.outcome;
                    self.commits.push(commit);
                    self.delivery
                        .handle(Input::Committed { number, outcome }, self.now);
                }
                Effect::Load(id) => {
                    let file = self.disk.current();
                    let bytes = file.batches.get(&id).map(|(_, bytes)| bytes.clone());
                    let bytes = bytes.ok_or(Unreadable);
                    self.delivery.handle(Input::Loaded { id, bytes }, self.now);
                }
                Effect::Answer { token, answer } => {
                    self.answers.insert(token, answer);
                }
                Effect::ReadStarts => {
                    let rows = self.disk.current().starts();
                    self.delivery.handle(Input::Starts(rows), self.now);
                }
                Effect::Rebuild { .. } => self.rebuild_wanted = true,
                Effect::Stopped => self.stopped = true,
            }
        }
    }
}

fn start(file: &File, epoch: Epoch, boot_id: u64) -> Start {
    Start {
        epoch,
        boot_id,
        facts: BootFacts::default(),
        ledger: file.ledger.values().copied().collect(),
        proof_ids: file.proof_ids.values().copied().collect(),
        anchors: file.anchors.values().copied().collect(),
        unclean: file.unclean(epoch),
        powered: file.powered,
        seed: 1,
    }
}

/// The events that a publish carries.
pub(crate) fn events_of(publish: &Publish) -> Vec<event::Kind> {
    let batch = unpack(publish.codec as i32, publish.bytes.clone()).unwrap();
    batch
        .events
        .into_iter()
        .map(|event| event.kind.unwrap())
        .collect()
}

/// What a commit inserts and deletes, by sequence.
pub(crate) fn inserts(commit: &Commit) -> Vec<u64> {
    let inserted = commit.ops.iter().filter_map(|op| match op {
        Op::InsertBatch { batch, .. } => Some(batch.id.sequence.0),
        _ => None,
    });
    inserted.collect()
}

pub(crate) fn deletes(commit: &Commit) -> Vec<(u64, u64)> {
    let deleted = commit.ops.iter().filter_map(|op| match op {
        Op::DeleteBatches { first, last, .. } => Some((first.0, last.0)),
        _ => None,
    });
    deleted.collect()
}

pub(crate) fn is_synced(commit: &Commit) -> bool {
    commit.durability == Durability::Synced
}

fn event(kind: event::Kind) -> wire::Event {
    wire::Event {
        kind: Some(kind),
        ..wire::Event::default()
    }
}

pub(crate) fn tune() -> wire::Event {
    event(event::Kind::Tune(wire::Tune::default()))
}

pub(crate) fn opportunity() -> wire::Event {
    event(event::Kind::AdOpportunity(wire::AdOpportunity::default()))
}

pub(crate) fn ad(kind: wire::ad_event::Kind, decision_id: &str) -> wire::Event {
    event(event::Kind::AdEvent(wire::AdEvent {
        kind: kind as i32,
        decision_id: decision_id.into(),
        ..wire::AdEvent::default()
    }))
}

pub(crate) fn impression(decision_id: &str) -> wire::Event {
    ad(wire::ad_event::Kind::Start, decision_id)
}

pub(crate) fn quartile(decision_id: &str) -> wire::Event {
    ad(wire::ad_event::Kind::FirstQuartile, decision_id)
}

pub(crate) fn consent(measurement: wire::consent::Choice) -> wire::Event {
    let mut event = event(event::Kind::Consent(wire::Consent {
        measurement: measurement as i32,
        personalised_ads: wire::consent::Choice::OptedOut as i32,
        version: "1".into(),
    }));
    event.client_id = format!("consent-{measurement:?}");
    event
}

/// An event with so many bytes that do not compress.
pub(crate) fn custom(bytes: usize, seed: u64, client_id: &str) -> wire::Event {
    let mut state = seed;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap())
    };
    let value = (0..bytes).map(|_| noise()).collect();
    let mut event = event(event::Kind::Custom(wire::Custom {
        name: "operator.test".into(),
        attributes: [("noise".to_owned(), value)].into_iter().collect(),
        proof: false,
    }));
    event.client_id = client_id.into();
    event
}
