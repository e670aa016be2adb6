//! A box, its disk and its link, driven by actions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use returnpath_delivery::{
    Acceptance, Answer, BootFacts, ClientToken, Commit, CommitOutcome, Config, Delivery,
    Durability, Effect, FirstAnswer, Input, Op, Pace, PubAckOutcome, Publish, SendingClock,
    Settled, Start, SyncPolicy, Unreadable, Uptime,
};
use returnpath_shared::{
    BatchId, Class, Epoch, Incarnation, Lane, Ordinal, ProofKey, unpack,
    wire::{self, event},
};

use crate::{
    action::{Action, Broker, Client},
    cloud::{Cloud, Forgettable},
    disk::{Disk, File},
};

const QUEUE_BATCHES_MAX: usize = 24;
const QUEUE_BYTES_MAX: u64 = 16 * 1024 + 6 * 1024;
const RAM_BYTES_MAX: usize = 6 * 1024;
const WINDOW_MAX: u32 = 8;
const PROOF_IDS_MAX: usize = 16;
const FLASH_BYTES_PER_DAY_MAX: u64 = 8 << 20;

/// Bytes by which the agent's own events may pass the bound in RAM: they are
/// never turned away, and bounded by number.
const OWN_SLACK_BYTES: u64 = 16 * 1024;

fn config() -> Config {
    Config {
        pace: Pace {
            batch_interval: Duration::from_secs(5),
            window_batches_max: WINDOW_MAX,
            backlog_rate: 20,
        },
        flush_interval: Duration::from_secs(60),
        sync: SyncPolicy::WhenNeeded,
        durable_after: Duration::from_millis(300),
        group_commit: Duration::from_millis(20),
        queue_bytes_max: QUEUE_BYTES_MAX,
        queue_batches_max: QUEUE_BATCHES_MAX,
        age_max: Duration::from_secs(7_200),
        ram_bytes_max: RAM_BYTES_MAX,
        live_age_max: Duration::from_secs(30),
        resend_after_prompt: Duration::from_secs(10),
        resend_after: Duration::from_secs(45),
        resend_after_max: Duration::from_secs(300),
        // Spent every now and then.
        flash_bytes_per_day_max: Some(FLASH_BYTES_PER_DAY_MAX),
        proof_ids_max: PROOF_IDS_MAX,
        ordinary_ids_max: 16,
    }
}

/// What an id names: class, codec and bytes.
type Data = (Class, wire::Codec, Bytes);

/// What a client knows of an event that was taken.
struct Taken {
    epoch: Epoch,
    ordinal: Ordinal,
    durable: bool,
}

pub(crate) struct World {
    delivery: Delivery,
    seed: u64,
    now: Uptime,
    boot_id: u64,
    epoch: Epoch,
    disk: Disk,
    disk_answers: bool,
    commit: Option<Commit>,
    loads: VecDeque<BatchId>,
    rebuild_wanted: bool,
    rebuilds: u32,
    stopped: bool,
    link_up: bool,
    broker: Broker,
    in_air: Vec<Publish>,
    cloud: Cloud,
    unreceipted: Vec<BatchId>,
    receipted: Vec<BatchId>,
    forgettable: Forgettable,
    taken: Vec<Taken>,
    /// Requests that wait for an answer, and the event they were told of.
    waiting: BTreeMap<ClientToken, (Epoch, Ordinal)>,
    next_token: u64,
    next_client_id: u64,
    /// Proof events as sent.
    proofs: Vec<wire::Event>,
    /// What a repeat must be answered with.
    known: VecDeque<(ProofKey, Epoch, Ordinal)>,
    /// What ids were last used for.
    built: BTreeMap<BatchId, Data>,
    /// What was sent under them.
    sent: BTreeMap<BatchId, Data>,
    /// Published since the link came up.
    this_session: BTreeSet<BatchId>,
    last_first_published: BTreeMap<(Epoch, bool), BatchId>,
    /// Bad flash took these since the last new file; the next one declares
    /// them.
    lost_by_flash: BTreeSet<BatchId>,
    /// Could not be read once, and will not be after a crash.
    unreadable: BTreeSet<BatchId>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let epoch = Epoch {
            incarnation: Incarnation::new(1).unwrap(),
            start: 1,
        };
        let mut disk = Disk::default();
        disk.synced.starts.insert(epoch, Settled::default());
        let now = Uptime(5_000);
        let delivery = Delivery::new(config(), start(&disk.synced, epoch, 1, seed), [], now);
        let mut world = Self {
            delivery,
            seed,
            now,
            boot_id: 1,
            epoch,
            disk,
            disk_answers: true,
            commit: None,
            loads: VecDeque::new(),
            rebuild_wanted: false,
            rebuilds: 0,
            stopped: false,
            link_up: false,
            broker: Broker::Receipts,
            in_air: vec![],
            cloud: Cloud::default(),
            unreceipted: vec![],
            receipted: vec![],
            forgettable: Forgettable::default(),
            taken: vec![],
            waiting: BTreeMap::new(),
            next_token: 1,
            next_client_id: 1,
            proofs: vec![],
            known: VecDeque::new(),
            built: BTreeMap::new(),
            sent: BTreeMap::new(),
            this_session: BTreeSet::new(),
            last_first_published: BTreeMap::new(),
            lost_by_flash: BTreeSet::new(),
            unreadable: BTreeSet::new(),
        };
        world.drain();
        world
    }

    pub(crate) fn apply(&mut self, action: Action) {
        match action {
            Action::Accept(client) => self.accept(client),
            Action::Burst { client, events } => {
                for _ in 0..events {
                    self.accept(client);
                }
            }
            Action::Pass { ms } => self.pass(ms),
            Action::LinkUp => self.link(true),
            Action::LinkDown => self.link(false),
            Action::DiskAnswers(answers) => {
                self.disk_answers = answers;
                self.drain();
            }
            Action::CommitDone => self.finish_commit(),
            Action::CommitRolledBack => {
                if let Some(commit) = self.commit.take() {
                    self.committed(commit.number, CommitOutcome::RolledBack);
                }
            }
            Action::CommitFailed { landed, unreadable } => self.fail_commit(landed, unreadable),
            Action::RebuildFails => {
                if std::mem::take(&mut self.rebuild_wanted) {
                    self.handle(Input::RebuildFailed);
                }
            }
            Action::LoadDone => self.finish_load(),
            Action::LoadUnreadable => {
                if let Some(id) = self.loads.pop_front() {
                    self.unreadable.insert(id);
                    let bytes = Err(Unreadable);
                    self.handle(Input::Loaded { id, bytes });
                }
            }
            Action::Broker(broker) => {
                self.broker = broker;
                self.drain();
            }
            Action::Arrives { index } => {
                if let Some(publish) = pick(&mut self.in_air, index) {
                    let id = publish.id;
                    self.arrives(&publish);
                    let outcome = PubAckOutcome::Ok;
                    self.handle(Input::PubAck { id, outcome });
                }
            }
            Action::Lost { index } => drop(pick(&mut self.in_air, index)),
            Action::BrokerRefuses { index } => {
                if let Some(publish) = pick(&mut self.in_air, index) {
                    let outcome = PubAckOutcome::Refused(wire::RefusalReason::NotAllowed);
                    let id = publish.id;
                    self.handle(Input::PubAck { id, outcome });
                }
            }
            Action::BrokerRetry { index } => {
                if let Some(publish) = pick(&mut self.in_air, index) {
                    let outcome = PubAckOutcome::Retry;
                    let id = publish.id;
                    self.handle(Input::PubAck { id, outcome });
                }
            }
            Action::Receipt { index } => {
                if let Some(id) = pick(&mut self.unreceipted, index) {
                    self.receipt(&[id]);
                }
            }
            Action::LateReceipt { index } => {
                if let Some(id) = self.receipted.get(index).copied() {
                    self.receipt(&[id]);
                }
            }
            Action::CollectorRefuses { index } => {
                if let Some(publish) = pick(&mut self.in_air, index) {
                    let refusal = wire::Refusal {
                        batch: Some(publish.id.into()),
                        reason: wire::RefusalReason::TooLarge as i32,
                    };
                    self.handle(Input::Receipt(&wire::Receipt {
                        confirmed: vec![],
                        refused: vec![refusal],
                    }));
                }
            }
            Action::SenselessReceipt => self.senseless_receipt(),
            Action::ClockSynchronised { unix_ms } => {
                self.handle(Input::ClockSynchronised { unix_ms });
            }
            Action::Pace { window, rate } => self.handle(Input::Pace(Pace {
                batch_interval: Duration::from_secs(5),
                window_batches_max: window,
                backlog_rate: rate,
            })),
            Action::Crash {
                survive,
                commit_landed,
                same_boot,
            } => self.crash(survive, commit_landed, same_boot),
            Action::StopAndStart => self.stop_and_start(),
        }
    }

    pub(crate) fn invariants(&self) {
        self.invariant_no_durable_event_is_lost();
        self.invariant_a_power_cut_brings_back_only_what_was_sent();
        self.invariant_bounds_are_kept();
    }

    /// Under the name of a batch that was sent, the file holds that batch and
    /// no other: not a shorter one either, now or after a power cut.
    fn invariant_a_power_cut_brings_back_only_what_was_sent(&self) {
        for file in [&self.disk.synced, &self.disk.current()] {
            for (id, (batch, bytes)) in &file.batches {
                let sent = self.sent.get(id);
                assert!(
                    sent.is_none_or(|sent| *sent == (batch.class, batch.codec, bytes.clone())),
                    "{id} was sent, and the file holds something else"
                );
            }
        }
    }

    /// Even if the power went now and took everything that was not synced.
    fn invariant_no_durable_event_is_lost(&self) {
        for taken in self.taken.iter().filter(|taken| taken.durable) {
            let (epoch, ordinal) = (taken.epoch, taken.ordinal);
            assert!(
                self.cloud.has(epoch, ordinal)
                    || self.disk.synced.holds(epoch, ordinal)
                    || self.disk.synced.ledger_covers(epoch, ordinal)
                    || self.cloud.ledger_covers(epoch, ordinal)
                    || self.was_lost_by_flash(epoch, ordinal),
                "durable {epoch} {ordinal:?} is nowhere"
            );
        }
    }

    fn invariant_bounds_are_kept(&self) {
        let status = self.delivery.status(self.now);
        let batches = status.ordinary.batches + status.proof.batches;
        assert!(batches <= QUEUE_BATCHES_MAX as u64, "{status:?}");
        let bytes = status.ordinary.bytes + status.proof.bytes;
        assert!(bytes <= QUEUE_BYTES_MAX, "{status:?}");
        let ram_max = RAM_BYTES_MAX as u64 + OWN_SLACK_BYTES;
        assert!(status.unflushed_bytes <= ram_max, "{status:?}");
        assert!(status.in_flight <= WINDOW_MAX, "{status:?}");
        assert_eq!(status.waiting as usize, self.waiting.len());
    }

    /// With a good link, a good disk and a good cloud.
    pub(crate) fn come_to_rest(&mut self) {
        self.disk_answers = true;
        self.broker = Broker::Receipts;
        self.handle(Input::Pace(config().pace));
        self.link(false);
        self.link(true);
        for _ in 0..200 {
            if self.is_at_rest() {
                break;
            }
            self.pass(60_000);
        }
        let status = self.delivery.status(self.now);
        assert!(self.is_at_rest(), "never comes to rest: {status:?}");
    }

    fn is_at_rest(&self) -> bool {
        let status = self.delivery.status(self.now);
        status.ordinary.batches + status.proof.batches == 0
            && status.ledger_rows == 0
            && self.delivery.poll_timeout().is_none()
    }

    pub(crate) fn invariant_everything_is_accounted_for(&self) {
        assert!(self.waiting.is_empty(), "clients wait for ever");
        let file = self.disk.current();
        assert!(file.batches.is_empty() && file.ledger.is_empty());
        assert_eq!(file.starts.keys().collect::<Vec<_>>(), [&self.epoch]);
        for taken in &self.taken {
            let (epoch, ordinal) = (taken.epoch, taken.ordinal);
            let lost = !taken.durable && self.cloud.declared_lost(epoch, ordinal);
            assert!(
                lost || self.cloud.has(epoch, ordinal) || self.cloud.ledger_covers(epoch, ordinal),
                "{epoch} {ordinal:?} (durable: {}) is neither there nor declared",
                taken.durable
            );
        }
    }

    fn was_lost_by_flash(&self, epoch: Epoch, ordinal: Ordinal) -> bool {
        let lost = self.lost_by_flash.iter();
        lost.filter(|id| id.epoch == epoch).any(|id| {
            let (_, codec, bytes) = &self.built[id];
            let batch = unpack(*codec as i32, bytes.clone()).unwrap();
            let end = batch.first_ordinal + batch.events.len() as u64;
            (batch.first_ordinal..end).contains(&ordinal.0)
        })
    }

    fn accept(&mut self, client: Client) {
        let event = match client {
            Client::Repeat { back } => {
                let Some(event) = self.proofs.iter().rev().nth(back) else {
                    return;
                };
                event.clone()
            }
            _ => self.new_event(client),
        };
        let class = Class::of(&event);
        let key = ProofKey::of(&event);
        let token = ClientToken(self.next_token);
        self.next_token += 1;
        let known = self
            .known
            .iter()
            .find(|(known, _, _)| class == Class::Proof && Some(*known) == key)
            .map(|(_, epoch, ordinal)| (*epoch, *ordinal));
        let acceptance = self.delivery.accept(event.clone(), token, self.now);
        match acceptance {
            Acceptance::Accepted { epoch, ordinal } => {
                assert_eq!((class, known), (Class::Ordinary, None));
                self.take(epoch, ordinal);
            }
            Acceptance::Pending { epoch, ordinal } => {
                assert_eq!(class, Class::Proof);
                self.waiting.insert(token, (epoch, ordinal));
                if let Some(known) = known {
                    assert_eq!(known, (epoch, ordinal), "a repeat got another answer");
                } else {
                    self.take(epoch, ordinal);
                    self.known.push_back((key.unwrap(), epoch, ordinal));
                    if self.known.len() > PROOF_IDS_MAX {
                        self.known.pop_front();
                    }
                    self.proofs.push(event);
                }
            }
            Acceptance::Repeated {
                epoch,
                ordinal,
                answer,
            } => {
                assert_eq!(known, Some((epoch, ordinal)));
                if answer == FirstAnswer::Durable {
                    self.told_durable((epoch, ordinal));
                }
            }
            Acceptance::Busy => {}
            Acceptance::TooLarge { .. } => panic!("no event here is too large"),
        }
        self.drain();
    }

    fn take(&mut self, epoch: Epoch, ordinal: Ordinal) {
        self.taken.push(Taken {
            epoch,
            ordinal,
            durable: false,
        });
    }

    fn new_event(&mut self, client: Client) -> wire::Event {
        let id = self.next_client_id;
        self.next_client_id += 1;
        let client_id = format!("c{id}");
        let channel = Some(wire::Channel {
            network_id: 9_018,
            transport_stream_id: 0,
            service_id: u32::try_from(id % 60_000).unwrap() + 1,
            channel_id: String::new(),
        });
        let ad = |kind: wire::ad_event::Kind| {
            event::Kind::AdEvent(wire::AdEvent {
                kind: kind as i32,
                decision_id: format!("d{id}"),
                ..wire::AdEvent::default()
            })
        };
        let consent = |choice: wire::consent::Choice| {
            event::Kind::Consent(wire::Consent {
                measurement: choice as i32,
                personalised_ads: choice as i32,
                version: "1".into(),
            })
        };
        let (client_id, kind) = match client {
            Client::Tune | Client::Repeat { .. } => (
                String::new(),
                event::Kind::Tune(wire::Tune {
                    channel,
                    source: wire::Source::Live as i32,
                    ..wire::Tune::default()
                }),
            ),
            Client::Opportunity => (
                String::new(),
                event::Kind::AdOpportunity(wire::AdOpportunity {
                    break_id: format!("b{id}"),
                    start_uptime_ms: self.now.0,
                    duration_ms: 30_000,
                    channel,
                    source: wire::Source::Live as i32,
                    ..wire::AdOpportunity::default()
                }),
            ),
            Client::Impression => (String::new(), ad(wire::ad_event::Kind::Start)),
            Client::Quartile => (String::new(), ad(wire::ad_event::Kind::FirstQuartile)),
            Client::OptIn => (client_id, consent(wire::consent::Choice::OptedIn)),
            Client::OptOut => (client_id, consent(wire::consent::Choice::OptedOut)),
            Client::Custom { bytes } => (
                client_id,
                event::Kind::Custom(wire::Custom {
                    name: "operator.test".into(),
                    attributes: attributes(id, bytes),
                    proof: false,
                }),
            ),
        };
        wire::Event {
            uptime_ms: 0,
            client_id,
            kind: Some(kind),
        }
    }

    fn pass(&mut self, ms: u64) {
        let end = Uptime(self.now.0 + ms);
        let mut stuck = 0;
        while let Some(at) = self.delivery.poll_timeout().filter(|at| *at <= end) {
            stuck = if at > self.now { 0 } else { stuck + 1 };
            assert!(stuck < 20, "asks to be woken at {at:?} again and again");
            self.now = self.now.max(at);
            self.delivery.tick(self.now);
            self.drain();
        }
        self.now = end;
        self.delivery.tick(end);
        self.drain();
    }

    fn link(&mut self, up: bool) {
        self.link_up = up;
        self.this_session.clear();
        self.last_first_published.clear();
        self.handle(if up { Input::LinkUp } else { Input::LinkDown });
    }

    fn handle(&mut self, input: Input<'_>) {
        self.delivery.handle(input, self.now);
        self.drain();
    }

    fn receipt(&mut self, ids: &[BatchId]) {
        let confirmed = ids
            .iter()
            .map(|id| wire::SequenceRange {
                epoch: Some(id.epoch.into()),
                first_sequence: id.sequence.0,
                last_sequence: id.sequence.0,
            })
            .collect();
        self.receipted.extend(ids);
        self.handle(Input::Receipt(&wire::Receipt {
            confirmed,
            refused: vec![],
        }));
    }

    fn senseless_receipt(&mut self) {
        let epoch = Some(self.epoch.into());
        let range = |epoch, first_sequence, last_sequence| wire::SequenceRange {
            epoch,
            first_sequence,
            last_sequence,
        };
        let refusal = wire::Refusal {
            batch: None,
            reason: 77,
        };
        self.handle(Input::Receipt(&wire::Receipt {
            confirmed: vec![
                range(None, 1, u64::MAX),
                range(epoch, 5, 1),
                range(epoch, u64::MAX - 1, u64::MAX),
            ],
            refused: vec![refusal],
        }));
    }

    fn arrives(&mut self, publish: &Publish) {
        let envelope = publish.clone().into_envelope(SendingClock {
            uptime: self.now,
            unix_ms: 0,
            synchronised: false,
        });
        assert_eq!(envelope.id, Some(publish.id.into()));
        self.cloud.take(publish);
        self.unreceipted.push(publish.id);
    }

    fn committed(&mut self, number: u64, outcome: CommitOutcome) {
        self.handle(Input::Committed { number, outcome });
    }

    fn finish_commit(&mut self) {
        if let Some(commit) = self.commit.take() {
            self.disk.commit(&commit.ops, commit.durability);
            self.committed(commit.number, CommitOutcome::Done);
        }
    }

    fn finish_load(&mut self) {
        if let Some(id) = self.loads.pop_front() {
            let bytes = self
                .disk
                .current()
                .batches
                .get(&id)
                .map(|(_, bytes)| bytes.clone());
            let bytes = bytes.ok_or(Unreadable);
            self.handle(Input::Loaded { id, bytes });
        }
    }

    fn fail_commit(&mut self, landed: bool, unreadable: Option<usize>) {
        let Some(commit) = self.commit.take() else {
            return;
        };
        if landed {
            self.disk.commit(&commit.ops, commit.durability);
        }
        self.committed(commit.number, CommitOutcome::Failed);
        if let Some(index) = unreadable
            && self.rebuild_wanted
        {
            let mut file = self.disk.current();
            if let Some(id) = file.order.get(index).copied() {
                file.order.remove(index);
                file.batches.remove(&id);
                self.lost_by_flash.insert(id);
                self.disk.replace(file);
            }
        }
    }

    /// The shell's answer to a rebuild: everything that reads, in a new file.
    fn rebuild(&mut self) {
        self.rebuild_wanted = false;
        self.rebuilds += 1;
        self.epoch = Epoch {
            incarnation: Incarnation::new(u64::from(self.rebuilds) + 1).unwrap(),
            start: 1,
        };
        let mut file = self.disk.current();
        file.starts.insert(self.epoch, Settled::default());
        let copied = file.order.clone();
        let lost = std::mem::take(&mut self.lost_by_flash);
        let declared = file.declare(lost.iter().map(|id| id.epoch));
        self.disk.replace(file);
        self.loads.clear();
        // Without a file, what was in RAM was sent before what is read now.
        self.last_first_published.clear();
        self.delivery
            .rebuilt(self.epoch, copied, declared, self.now);
    }

    fn crash(&mut self, survive: usize, commit_landed: bool, same_boot: bool) {
        if let Some(commit) = self.commit.take()
            && commit_landed
            && survive >= self.disk.commits_behind()
        {
            self.disk.commit(&commit.ops, Durability::Behind);
        }
        self.disk.cut(survive.saturating_add(1));
        for id in std::mem::take(&mut self.unreadable) {
            if self.disk.synced.batches.remove(&id).is_some() {
                // Found unreadable before, and found again.
                self.disk.synced.order.retain(|known| *known != id);
                self.lost_by_flash.insert(id);
            }
        }
        if !same_boot {
            self.boot_id += 1;
            self.now = Uptime(3_000);
        }
        self.start();
    }

    fn stop_and_start(&mut self) {
        self.disk_answers = true;
        self.handle(Input::Stop);
        assert!(self.stopped, "stops when the disk answers");
        self.start();
    }

    fn start(&mut self) {
        self.waiting.clear();
        self.commit = None;
        self.loads.clear();
        self.rebuild_wanted = false;
        self.stopped = false;
        self.link_up = false;
        self.in_air.clear();
        self.this_session.clear();
        self.last_first_published.clear();
        self.disk.cut(usize::MAX);
        let lost = std::mem::take(&mut self.lost_by_flash);
        self.disk.synced.declare(lost.iter().map(|id| id.epoch));
        let file = self.disk.current();
        self.epoch.start += 1;
        self.seed = self.seed.wrapping_add(1);
        let start = start(&file, self.epoch, self.boot_id, self.seed);
        self.disk
            .synced
            .starts
            .insert(self.epoch, Settled::default());
        self.known = start
            .proof_ids
            .iter()
            .map(|id| (id.key, id.epoch, id.ordinal))
            .collect();
        let recovered = file.order.iter().map(|id| file.batches[id].0);
        self.delivery = Delivery::new(config(), start, recovered, self.now);
        self.drain();
    }

    /// Carries out effects, and what the disk and the broker do by themselves.
    fn drain(&mut self) {
        loop {
            while let Some(effect) = self.delivery.poll_effect() {
                self.effect(effect);
            }
            if self.disk_answers && self.commit.is_some() {
                self.finish_commit();
            } else if self.disk_answers && !self.loads.is_empty() {
                self.finish_load();
            } else if self.disk_answers && self.rebuild_wanted {
                self.rebuild();
            } else if self.broker == Broker::Receipts && !self.unreceipted.is_empty() {
                let ids = std::mem::take(&mut self.unreceipted);
                self.receipt(&ids);
            } else {
                return;
            }
        }
    }

    fn effect(&mut self, effect: Effect) {
        assert!(!self.stopped, "nothing follows Stopped");
        match effect {
            Effect::Publish(publish) => self.publish(publish),
            Effect::Commit(commit) => {
                assert!(self.commit.is_none(), "one commit is under way at most");
                for op in &commit.ops {
                    if let Op::InsertBatch { batch, bytes } = op {
                        let data = (batch.class, batch.codec, bytes.clone());
                        self.invariant_a_batch_only_grows(batch.id, data);
                    }
                }
                self.commit = Some(commit);
            }
            Effect::Load(id) => self.loads.push_back(id),
            Effect::ReadStarts => {
                let rows = self.disk.current().starts();
                self.delivery.handle(Input::Starts(rows), self.now);
            }
            Effect::Answer { token, answer } => {
                let told = self.waiting.remove(&token).expect("answered once");
                let (Answer::Durable { epoch, ordinal } | Answer::AcceptedOnly { epoch, ordinal }) =
                    answer;
                assert_eq!(told, (epoch, ordinal));
                if matches!(answer, Answer::Durable { .. }) {
                    self.told_durable(told);
                }
            }
            Effect::Rebuild { .. } => {
                assert!(!self.rebuild_wanted);
                self.rebuild_wanted = true;
            }
            Effect::Stopped => {
                self.stopped = true;
                assert!(self.waiting.is_empty(), "answered before it stops");
            }
        }
    }

    fn told_durable(&mut self, event: (Epoch, Ordinal)) {
        let taken = self
            .taken
            .iter_mut()
            .find(|taken| (taken.epoch, taken.ordinal) == event);
        taken.expect("was taken").durable = true;
    }

    fn publish(&mut self, publish: Publish) {
        assert!(self.link_up, "nothing is sent without a link");
        self.invariant_a_sent_name_is_never_used_for_other_data(&publish);
        self.invariant_the_window_is_kept();
        self.invariant_order_within_epoch_and_lane(&publish);
        self.forgettable
            .invariant_what_was_told_gone_never_returns(&publish);
        match self.broker {
            Broker::Holds => self.in_air.push(publish),
            Broker::Delivers | Broker::Receipts => self.arrives(&publish),
            Broker::Loses => {}
        }
    }

    fn invariant_a_sent_name_is_never_used_for_other_data(&mut self, publish: &Publish) {
        let data = (publish.class, publish.codec, publish.bytes.clone());
        self.built.insert(publish.id, data.clone());
        let first = self.sent.entry(publish.id).or_insert(data.clone());
        assert_eq!(*first, data, "{} is other data", publish.id);
    }

    /// What is written under a name begins with what was, and once it was sent
    /// it is the same for ever.
    fn invariant_a_batch_only_grows(&mut self, id: BatchId, data: Data) {
        if let Some(sent) = self.sent.get(&id) {
            assert_eq!(*sent, data, "{id} is other data than was sent");
        }
        if let Some((batch, bytes)) = self.disk.current().batches.get(&id) {
            let before = unpack(batch.codec as i32, bytes.clone()).unwrap();
            let after = unpack(data.1 as i32, data.2.clone()).unwrap();
            assert_eq!(before.boot_id, after.boot_id);
            assert_eq!(before.first_ordinal, after.first_ordinal);
            assert!(after.events.starts_with(&before.events), "{id} lost events");
        }
        self.built.insert(id, data);
    }

    fn invariant_the_window_is_kept(&self) {
        let status = self.delivery.status(self.now);
        assert!(status.in_flight <= status.window, "{status:?}");
    }

    fn invariant_order_within_epoch_and_lane(&mut self, publish: &Publish) {
        if !self.this_session.insert(publish.id) {
            return;
        }
        let lane = (publish.id.epoch, publish.lane == Lane::Live);
        let last = self.last_first_published.insert(lane, publish.id);
        assert!(
            last.is_none_or(|last| last < publish.id),
            "{} overtakes {last:?}",
            publish.id
        );
    }
}

fn start(file: &File, epoch: Epoch, boot_id: u64, seed: u64) -> Start {
    Start {
        epoch,
        boot_id,
        facts: BootFacts::default(),
        ledger: file.ledger.values().copied().collect(),
        proof_ids: file.proof_ids.values().copied().collect(),
        anchors: file.anchors.values().copied().collect(),
        unclean: file.unclean(epoch),
        powered: file.powered,
        seed,
    }
}

/// Bytes that do not compress, from a small generator.
fn attributes(id: u64, bytes: usize) -> BTreeMap<String, String> {
    let mut state = id;
    let value = (0..bytes.min(500))
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap())
        })
        .collect();
    [("noise".to_owned(), value)].into_iter().collect()
}

fn pick<T>(from: &mut Vec<T>, index: usize) -> Option<T> {
    (!from.is_empty()).then(|| {
        let index = index % from.len();
        from.remove(index)
    })
}
