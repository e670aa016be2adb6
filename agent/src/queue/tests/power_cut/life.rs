//! A life of the real delivery core on the real queue code, on a recorded disk,
//! with a clock and a cloud that are simulated; and a record of everything that
//! was promised, and when.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use returnpath_delivery::{
    Acceptance, Answer, BootFacts, ClientToken, Config, Delivery, Effect, Input, Pace, Publish,
    Start, SyncPolicy, Unreadable, Uptime,
};
use returnpath_shared::{unpack, wire};

use super::super::{
    disk::{
        Disk, Random,
        medium::{Image, Medium, lay_out},
    },
    *,
};

pub(super) const BYTES_MAX: u64 = 8 << 20;

/// What goes wrong beside the power.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    Nothing,
    /// Some syncs fail.
    Syncs,
}

/// An event that the box took. Positions count the disk's changes.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) at: usize,
    pub(super) durable_at: Option<usize>,
    /// Kafka has it.
    pub(super) arrived_at: Option<usize>,
    /// The cloud was told that it is lost.
    pub(super) declared_at: Option<usize>,
}

/// Everything that must be true after any cut, with its positions.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) taken: BTreeMap<(Epoch, u64), Taken>,
    /// What was written under a name: a batch may grow until it is sent.
    pub(super) written: BTreeMap<BatchId, Vec<Bytes>>,
    /// What was first sent under it.
    pub(super) sent: BTreeMap<BatchId, (usize, Bytes)>,
    pub(super) epochs: Vec<(usize, Epoch)>,
    /// By slot, when it was bound and to what, and when it was given up.
    pub(super) bound: BTreeMap<Slot, (usize, SlotRow, Option<usize>)>,
    pub(super) config_versions: Vec<(usize, u64)>,
    incarnations: u64,
}

impl Record {
    pub(super) fn new_incarnation(&mut self) -> Incarnation {
        self.incarnations += 1;
        incarnation(self.incarnations)
    }

    /// Whether an epoch of this incarnation was begun.
    pub(super) fn knows(&self, incarnation: Incarnation) -> bool {
        let mut epochs = self.epochs.iter();
        epochs.any(|(_, epoch)| epoch.incarnation == incarnation)
    }

    /// The power went at this position: what came later never was, and the
    /// rest holds for ever.
    pub(super) fn cut(&mut self, at: usize) {
        let over = |position: &mut Option<usize>| {
            *position = position.filter(|position| *position <= at).map(|_| 0);
        };
        self.taken.retain(|_, taken| taken.at <= at);
        for taken in self.taken.values_mut() {
            taken.at = 0;
            over(&mut taken.durable_at);
            over(&mut taken.arrived_at);
            over(&mut taken.declared_at);
        }
        self.epochs.retain(|(position, _)| *position <= at);
        let epochs: BTreeSet<Epoch> = self.epochs.iter().map(|(_, epoch)| *epoch).collect();
        self.written.retain(|id, _| epochs.contains(&id.epoch));
        self.sent.retain(|_, (position, _)| *position <= at);
        for (position, _) in self.sent.values_mut() {
            *position = 0;
        }
        self.bound.retain(|_, (position, ..)| *position <= at);
        for (position, _, forgotten_at) in self.bound.values_mut() {
            *position = 0;
            over(forgotten_at);
        }
        self.config_versions.retain(|(position, _)| *position <= at);
        let epochs = self.epochs.iter_mut().map(|(position, _)| position);
        let versions = self
            .config_versions
            .iter_mut()
            .map(|(position, _)| position);
        for position in epochs.chain(versions) {
            *position = 0;
        }
    }
}

/// What the cloud does with a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cloud {
    Receipts,
    Silent,
    Loses,
}

pub(super) struct Life {
    pub(super) disk: Arc<Disk>,
    /// As it was before the first change.
    pub(super) medium: Medium,
    pub(super) record: Record,
    pub(super) commits: u32,
    pub(super) rebuilds: u32,
    _directory: Directory,
    worker: Worker,
    delivery: Delivery,
    now: Uptime,
    cloud: Cloud,
    receipts: Vec<BatchId>,
    waiting: BTreeSet<ClientToken>,
    last_token: u64,
    stopped: bool,
}

fn config() -> Config {
    Config {
        pace: Pace {
            batch_interval: Duration::from_secs(5),
            window_batches_max: 8,
            backlog_rate: 50,
        },
        flush_interval: Duration::from_secs(10),
        sync: SyncPolicy::WhenNeeded,
        durable_after: Duration::from_millis(300),
        group_commit: Duration::from_millis(20),
        queue_bytes_max: 256 * 1_024,
        queue_batches_max: 256,
        age_max: Duration::from_secs(3_600),
        ram_bytes_max: 64 * 1_024,
        live_age_max: Duration::from_secs(60),
        resend_after_prompt: Duration::from_secs(5),
        resend_after: Duration::from_secs(45),
        resend_after_max: Duration::from_secs(60),
        flash_bytes_per_day_max: None,
        proof_ids_max: 64,
        ordinary_ids_max: 64,
    }
}

fn start(found: &Found, boot_id: u64) -> Start {
    Start {
        epoch: found.epoch,
        boot_id,
        facts: BootFacts::default(),
        ledger: found.ledger.clone(),
        proof_ids: found.proof_ids.clone(),
        anchors: found.anchors.clone(),
        unclean: found.unclean.clone(),
        powered: found.powered,
        seed: boot_id,
    }
}

fn event(kind: wire::event::Kind) -> wire::Event {
    wire::Event {
        uptime_ms: 0,
        client_id: String::new(),
        kind: Some(kind),
    }
}

fn impression(number: u64) -> wire::Event {
    event(wire::event::Kind::AdEvent(wire::AdEvent {
        kind: wire::ad_event::Kind::Start as i32,
        decision_id: format!("decision-{number:x}"),
        ..wire::AdEvent::default()
    }))
}

/// Bytes that do not compress.
fn custom(random: &mut Random, bytes: u64, proof: bool) -> wire::Event {
    let mut character = || char::from(b'!' + u8::try_from(random.below(90)).unwrap());
    let noise = (0..bytes).map(|_| character()).collect();
    event(wire::event::Kind::Custom(wire::Custom {
        name: "power.cut".into(),
        attributes: [("noise".to_owned(), noise)].into_iter().collect(),
        proof,
    }))
}

impl Life {
    /// A box is powered whose medium holds this.
    pub(super) fn begin(image: &Image, mut record: Record, random: &mut Random) -> Self {
        let directory = Directory::new("life");
        fs::create_dir(&directory.0).unwrap();
        lay_out(image, &directory.0);
        let disk = Disk::watch(&directory.0.canonicalize().unwrap());
        let medium = Medium::new(image, &disk.names());
        let mut open = OpenQueue::open(&directory.0, BYTES_MAX, record.new_incarnation()).unwrap();
        let boot_id = random.next();
        // Nobody has seen this epoch before its start is durable.
        let epoch = open.found().epoch;
        record.epochs.push((disk.position(), epoch));
        // A new boot: nothing that was bound for the last one is asked for.
        let start = start(open.found(), boot_id);
        let now = Uptime(5_000);
        let delivery = open.each_batch(|batches| Delivery::new(config(), start, batches, now));
        let mut life = Self {
            worker: Worker::new(open.paths.clone(), BYTES_MAX, open.file.take()),
            disk,
            medium,
            record,
            commits: 0,
            rebuilds: 0,
            _directory: directory,
            delivery,
            now,
            cloud: Cloud::Silent,
            receipts: Vec::new(),
            waiting: BTreeSet::new(),
            last_token: 0,
            stopped: false,
        };
        life.drain();
        life
    }

    /// Does something, or lets time pass.
    pub(super) fn step(&mut self, trouble: Trouble, random: &mut Random) {
        match random.below(100) {
            0..20 => self.accept(impression(random.next())),
            20..30 => {
                let bytes = 20 + random.below(400);
                let event = custom(random, bytes, false);
                self.accept(event);
            }
            30..34 => {
                let bytes = 2_000 + random.below(12_000);
                let event = custom(random, bytes, true);
                self.accept(event);
            }
            34..38 => self.accept(event(wire::event::Kind::AdOpportunity(
                wire::AdOpportunity::default(),
            ))),
            38..44 => self.bind(random),
            44..46 => self.forget(random),
            46 => self.store_config(),
            47..50 => self.handle(Input::LinkUp),
            50..53 => self.handle(Input::LinkDown),
            53..58 => {
                self.cloud = [Cloud::Receipts, Cloud::Silent, Cloud::Loses][random.index(3)];
            }
            58 if trouble == Trouble::Syncs => self.disk.fail_syncs(1 + random.index(2) as u32),
            62..66 => self.pass(30_000 + random.below(60_000)),
            _ => self.pass(random.below(3_000)),
        }
    }

    /// For so long the cloud has and receipts what the box sends.
    pub(super) fn pass_online(&mut self, ms: u64) {
        self.cloud = Cloud::Receipts;
        self.handle(Input::LinkUp);
        self.pass(ms);
    }

    /// Starts in the file that have not ended cleanly, this one among them.
    pub(super) fn starts(&mut self) -> Vec<StartRow> {
        self.worker.file.as_mut().unwrap().starts().unwrap()
    }

    /// Everything goes down, and the file is closed in order.
    pub(super) fn stop(&mut self) {
        self.handle(Input::Stop);
        assert!(self.stopped);
        self.worker.carry_out(Request::Close);
    }

    fn accept(&mut self, event: wire::Event) {
        self.last_token += 1;
        let token = ClientToken(self.last_token);
        let acceptance = self.delivery.accept(event, token, self.now);
        let (Acceptance::Accepted { epoch, ordinal } | Acceptance::Pending { epoch, ordinal }) =
            acceptance
        else {
            self.drain();
            return;
        };
        if matches!(acceptance, Acceptance::Pending { .. }) {
            self.waiting.insert(token);
        }
        let taken = Taken {
            at: self.disk.position(),
            durable_at: None,
            arrived_at: None,
            declared_at: None,
        };
        self.record.taken.insert((epoch, ordinal.0), taken);
        self.drain();
    }

    fn handle(&mut self, input: Input<'_>) {
        self.delivery.handle(input, self.now);
        self.drain();
    }

    fn pass(&mut self, ms: u64) {
        let until = Uptime(self.now.0 + ms);
        while let Some(due) = self.delivery.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.delivery.tick(self.now);
            self.drain();
        }
        self.now = until;
    }

    /// Carries out what the core wants; the cloud does its part.
    fn drain(&mut self) {
        loop {
            while let Some(effect) = self.delivery.poll_effect() {
                self.carry_out(effect);
            }
            let Some(id) = self.receipts.pop() else {
                return;
            };
            let receipt = wire::Receipt {
                confirmed: vec![wire::SequenceRange {
                    epoch: Some(id.epoch.into()),
                    first_sequence: id.sequence.0,
                    last_sequence: id.sequence.0,
                }],
                refused: vec![],
            };
            self.delivery.handle(Input::Receipt(&receipt), self.now);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Commit(commit) => {
                self.commits += 1;
                for op in &commit.ops {
                    if let Op::InsertBatch { batch, bytes } = op {
                        let sent = self.record.sent.get(&batch.id);
                        assert!(sent.is_none_or(|(_, sent)| sent == bytes), "{}", batch.id);
                        let written = self.record.written.entry(batch.id).or_default();
                        written.push(bytes.clone());
                    }
                }
                match self.worker.carry_out(Request::Commit(commit)) {
                    Some(Outcome::Committed { number, outcome }) => {
                        let input = Input::Committed { number, outcome };
                        self.delivery.handle(input, self.now);
                    }
                    other => panic!("{other:?}"),
                }
            }
            Effect::Load(id) => match self.worker.carry_out(Request::Load(id)) {
                Some(Outcome::Loaded { id, bytes }) => {
                    let bytes = bytes.ok_or(Unreadable);
                    self.delivery.handle(Input::Loaded { id, bytes }, self.now);
                }
                other => panic!("{other:?}"),
            },
            Effect::ReadStarts => match self.worker.carry_out(Request::ReadStarts) {
                Some(Outcome::Starts(Some(rows))) => {
                    self.delivery.handle(Input::Starts(rows), self.now);
                }
                other => panic!("{other:?}"),
            },
            Effect::Publish(publish) => self.publish(&publish),
            Effect::Answer { token, answer } => {
                assert!(self.waiting.remove(&token));
                if let Answer::Durable { epoch, ordinal } = answer {
                    let at = self.disk.position();
                    let taken = self.record.taken.get_mut(&(epoch, ordinal.0)).unwrap();
                    taken.durable_at.get_or_insert(at);
                }
            }
            Effect::Rebuild { epochs } => self.rebuild(epochs),
            Effect::Stopped => self.stopped = true,
        }
    }

    fn rebuild(&mut self, epochs: Vec<Epoch>) {
        let request = Request::Rebuild {
            incarnation: self.record.new_incarnation(),
            epochs,
        };
        match self.worker.carry_out(request) {
            Some(Outcome::Rebuilt {
                epoch,
                copied,
                declared,
            }) => {
                self.rebuilds += 1;
                self.record.epochs.push((self.disk.position(), epoch));
                self.delivery.rebuilt(epoch, copied, declared, self.now);
                // As the shell does: what could not be copied is put in again.
                let bound = self.record.bound.values();
                let kept = bound.filter(|(.., forgotten)| forgotten.is_none());
                let rows: Vec<SlotRow> = kept.map(|(_, row, _)| row.clone()).collect();
                for row in rows {
                    self.worker.carry_out(Request::Bind { number: 0, row });
                }
            }
            Some(Outcome::RebuildFailed) => {
                self.delivery.handle(Input::RebuildFailed, self.now);
            }
            other => panic!("{other:?}"),
        }
    }

    fn publish(&mut self, publish: &Publish) {
        let at = self.disk.position();
        let sent = self.record.sent.entry(publish.id);
        let (_, sent) = sent.or_insert((at, publish.bytes.clone()));
        assert_eq!(*sent, publish.bytes, "{}", publish.id);
        if self.cloud == Cloud::Loses {
            return;
        }
        if self.cloud == Cloud::Receipts {
            self.receipts.push(publish.id);
        }
        let batch = unpack(publish.codec as i32, publish.bytes.clone()).unwrap();
        for (ordinal, event) in (batch.first_ordinal..).zip(&batch.events) {
            if let Some(taken) = self.record.taken.get_mut(&(publish.id.epoch, ordinal)) {
                taken.arrived_at.get_or_insert(at);
            }
            self.note_declarations(event, at);
        }
    }

    fn note_declarations(&mut self, event: &wire::Event, at: usize) {
        let (epoch, from, to) = match &event.kind {
            Some(wire::event::Kind::UncleanStop(stop)) => {
                (stop.epoch, stop.last_known_ordinal + 1, u64::MAX)
            }
            Some(wire::event::Kind::Ledger(ledger)) if ledger.whole_epoch => {
                let epoch = ledger.first_batch.and_then(|batch| batch.epoch);
                (epoch, 0, u64::MAX)
            }
            Some(wire::event::Kind::Ledger(ledger)) => {
                let epoch = ledger.first_batch.and_then(|batch| batch.epoch);
                let from = ledger.first_ordinal;
                (epoch, from, from + ledger.event_count - 1)
            }
            _ => return,
        };
        let epoch = Epoch::try_from(epoch.unwrap()).unwrap();
        for (_, taken) in self.record.taken.range_mut((epoch, from)..=(epoch, to)) {
            taken.declared_at.get_or_insert(at);
        }
    }

    fn bind(&mut self, random: &mut Random) {
        let row = SlotRow {
            slot: Slot {
                boot_id: random.next(),
                break_id: format!("break-{}", random.below(1_000)),
                index: u32::try_from(random.below(4)).unwrap(),
            },
            decision_id: format!("decision-{:x}", random.next()),
            expiry_uptime_ms: u64::MAX,
            signed: vec![7; 200 + random.index(600)].into(),
        };
        let request = Request::Bind {
            number: 1,
            row: row.clone(),
        };
        if let Some(Outcome::Bound { outcome, .. }) = self.worker.carry_out(request)
            && outcome == BindOutcome::Done
        {
            // From now on it may be handed over.
            let at = self.disk.position();
            self.record.bound.insert(row.slot.clone(), (at, row, None));
        }
    }

    fn forget(&mut self, random: &mut Random) {
        let at = self.disk.position();
        let slots: Vec<Slot> = self.record.bound.keys().cloned().collect();
        if slots.is_empty() {
            return;
        }
        let slot = &slots[random.index(slots.len())];
        if let Some((.., forgotten @ None)) = self.record.bound.get_mut(slot) {
            *forgotten = Some(at);
            self.worker.carry_out(Request::Forget(slot.clone()));
        }
    }

    fn store_config(&mut self) {
        let versions = &mut self.record.config_versions;
        let version = versions.last().map_or(1, |(_, version)| version + 1);
        let config = StoredConfig {
            version,
            signed: vec![9; 300].into(),
        };
        if let Some(Outcome::ConfigStored { outcome, .. }) =
            self.worker.carry_out(Request::StoreConfig(config))
            && outcome == BindOutcome::Done
        {
            versions.push((self.disk.position(), version));
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.disk.leave();
    }
}
