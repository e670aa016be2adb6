//! Boxes, two topics and a collector that fails: whatever happens, and in
//! whatever order, each event comes out exactly once or is rejected with its
//! reason.
//!
//! The model keeps what the boxes built and hold, what stands in the topics
//! and what Kafka has committed; the partition under test sees only records.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, sample::Index};
use returnpath_refinery::{Counts, Limits, Output, UPTIME_AHEAD_MAX_MS, WAIT_MS};
use returnpath_shared::{
    BatchId, Epoch, Lane, ProofKey, Sequence,
    wire::{self, RejectionReason, event},
};

use crate::running::{
    self, BOOT, Batch, Changelog, NOW_UNIX_MS, Out, Running, Short, epoch, snapshot,
};

mod accounts;

const BOXES: usize = 2;

#[derive(Clone, Debug)]
enum Action {
    /// A box builds a batch of such events.
    Build(usize, Vec<u8>),
    /// A box sends one of the batches it holds, for the first time or again.
    Send(usize, Index, Lane),
    /// A receipt for a batch that Kafka has reaches the box.
    Receipt(usize, Index),
    /// A box drops a batch that it holds, and will declare it or not.
    Evict(usize, Index, bool),
    /// The agent starts anew on its queue file.
    Start(usize),
    /// So it does, and of the run before it holds nothing above one of its
    /// batches; it will say so.
    Crash(usize, Index),
    /// The queue file is lost; its batches are salvaged into a new one, or not.
    LoseFile(usize, Salvage),
    /// The collector reads the next record of a lane.
    Read(Lane),
    /// Time passes, for those that wait.
    Pass(u64),
    Commit,
    Abort,
    /// Another node takes the partition over, without a word.
    TakeOver,
}

#[derive(Clone, Copy, Debug)]
enum Salvage {
    All,
    Nothing,
}

fn lane() -> impl Strategy<Value = Lane> {
    prop_oneof![Just(Lane::Live), Just(Lane::Backlog)]
}

fn action() -> impl Strategy<Value = Action> {
    let which = || 0..BOXES;
    let index = any::<Index>;
    prop_oneof![
        8 => (which(), prop::collection::vec(any::<u8>(), 1..4))
            .prop_map(|(which, events)| Action::Build(which, events)),
        12 => (which(), index(), lane())
            .prop_map(|(which, index, lane)| Action::Send(which, index, lane)),
        6 => (which(), index()).prop_map(|(which, index)| Action::Receipt(which, index)),
        2 => (which(), index(), any::<bool>())
            .prop_map(|(which, index, declares)| Action::Evict(which, index, declares)),
        1 => which().prop_map(Action::Start),
        1 => (which(), index()).prop_map(|(which, index)| Action::Crash(which, index)),
        1 => (which(), prop_oneof![Just(Salvage::All), Just(Salvage::Nothing)])
            .prop_map(|(which, salvage)| Action::LoseFile(which, salvage)),
        16 => lane().prop_map(Action::Read),
        2 => (1..2 * WAIT_MS).prop_map(Action::Pass),
        4 => Just(Action::Commit),
        2 => Just(Action::Abort),
        1 => Just(Action::TakeOver),
    ]
}

/// One box: what its agent would keep.
struct ModelBox {
    incarnations: u64,
    now: Epoch,
    next_sequence: u64,
    next_ordinal: u64,
    held: BTreeMap<BatchId, Built>,
    /// Every batch ever built: its first ordinal and how many events.
    built: BTreeMap<BatchId, (u64, u64)>,
    /// What the next batch declares.
    owed: Vec<event::Kind>,
    declarations: u64,
    /// The running boot, and when it began.
    boot_id: u64,
    booted_unix_ms: i64,
    /// When each event was accepted, in the uptime of its run.
    accepted: BTreeMap<Epoch, Vec<(u64, Told)>>,
    /// Has sent batches of an earlier queue file: the collector may learn of
    /// the two in either order.
    mixes_files: bool,
}

/// A batch as it was built.
#[derive(Clone)]
struct Built {
    boot_id: u64,
    first_ordinal: u64,
    events: Vec<wire::Event>,
}

impl ModelBox {
    fn new(which: usize) -> Self {
        Self {
            incarnations: 1,
            now: epoch(incarnation(which, 1), 1),
            next_sequence: 1,
            next_ordinal: 1,
            held: BTreeMap::new(),
            built: BTreeMap::new(),
            owed: Vec::new(),
            declarations: 0,
            boot_id: BOOT,
            booted_unix_ms: NOW_UNIX_MS - 1_000_000,
            accepted: BTreeMap::new(),
            mixes_files: false,
        }
    }

    fn begin(&mut self, epoch: Epoch) {
        self.now = epoch;
        self.next_sequence = 1;
        self.next_ordinal = 1;
    }

    fn uptime_ms(&self, unix_ms: i64) -> u64 {
        (unix_ms - self.booted_unix_ms).unsigned_abs()
    }

    fn nth_held(&self, index: &Index) -> Option<BatchId> {
        (!self.held.is_empty()).then(|| *index.get(&self.held.keys().copied().collect::<Vec<_>>()))
    }

    /// Drops a batch; its declaration.
    fn evict(&mut self, id: BatchId) -> event::Kind {
        let Built {
            first_ordinal,
            events,
            ..
        } = self.held.remove(&id).unwrap();
        event::Kind::Ledger(wire::Ledger {
            reason: wire::DropReason::QueueFull as i32,
            first_batch: Some(id.into()),
            last_sequence: id.sequence.0,
            first_ordinal,
            event_count: events.len() as u64,
            ..wire::Ledger::default()
        })
    }

    /// Of the running epoch only what is up to `id` was durable.
    fn crash(&mut self, id: BatchId) -> event::Kind {
        let lost = |held: &BatchId| held.epoch == id.epoch && *held > id;
        self.held.retain(|held, _| !lost(held));
        let (first_ordinal, events) = self.built[&id];
        event::Kind::UncleanStop(wire::UncleanStop {
            epoch: Some(id.epoch.into()),
            last_known_ordinal: first_ordinal + events - 1,
            last_known_sequence: id.sequence.0,
        })
    }

    /// The declarations that the next batch carries.
    fn owed(&mut self, uptime_ms: u64) -> Vec<wire::Event> {
        let owed = std::mem::take(&mut self.owed);
        let owed = owed.into_iter().map(|kind| {
            self.declarations += 1;
            wire::Event {
                uptime_ms,
                client_id: format!("own/{}", self.declarations),
                kind: Some(kind),
            }
        });
        owed.collect()
    }

    fn oldest_held(&self) -> Vec<BatchId> {
        let mut oldest: BTreeMap<_, BatchId> = BTreeMap::new();
        for id in self.held.keys() {
            oldest.entry(id.epoch.incarnation).or_insert(*id);
        }
        oldest.into_values().collect()
    }
}

/// Random, as on a box: later files do not have higher numbers.
fn incarnation(which: usize, count: u64) -> u64 {
    (count + which as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

fn name(which: usize) -> String {
    format!("box-{which}")
}

/// An event at this uptime, of a kind that `seed` chooses. Proofs are often
/// such as were told before.
fn event(seed: u8, uptime_ms: u64) -> wire::Event {
    let small = seed / 16;
    let service_id = u32::from(small % 4) + 1;
    let channel = Some(wire::Channel {
        service_id,
        ..wire::Channel::default()
    });
    let source = wire::Source::Live as i32;
    let mut client_id = String::new();
    let kind = match seed % 16 {
        0..4 => event::Kind::Tune(wire::Tune {
            channel,
            source,
            ..wire::Tune::default()
        }),
        4..7 => event::Kind::ViewingHeartbeat(wire::ViewingHeartbeat {
            channel,
            source,
            ..wire::ViewingHeartbeat::default()
        }),
        7 => event::Kind::Power(wire::Power {
            state: i32::from(small % 4) + 1,
            ..wire::Power::default()
        }),
        8 => event::Kind::Display(wire::Display {
            state: i32::from(small % 3) + 1,
            ..wire::Display::default()
        }),
        9 => event::Kind::Boot(wire::Boot {
            firmware: format!("f{small}"),
            ..wire::Boot::default()
        }),
        10 | 11 => {
            client_id = ["a", "b", "c"][usize::from(small % 3)].into();
            event::Kind::Consent(wire::Consent {
                personalised_ads: i32::from(small % 2) + 1,
                version: small.to_string(),
                ..wire::Consent::default()
            })
        }
        12 | 13 => event::Kind::AdEvent(wire::AdEvent {
            kind: wire::ad_event::Kind::Start as i32,
            decision_id: format!("d{}", small % 8),
            ..wire::AdEvent::default()
        }),
        14 => event::Kind::AdOpportunity(wire::AdOpportunity {
            break_id: "b".into(),
            start_uptime_ms: uptime_ms + 1,
            duration_ms: 1,
            ..wire::AdOpportunity::default()
        }),
        _ => return Short::Custom.event(),
    };
    wire::Event {
        uptime_ms,
        client_id,
        kind: Some(kind),
    }
}

/// How far ahead of its acceptance each other event lies.
const AHEAD_MS: u64 = UPTIME_AHEAD_MAX_MS;

/// An event of a box.
type Told = (String, BatchId, u64);

struct World {
    boxes: Vec<ModelBox>,
    topics: BTreeMap<Lane, Vec<(BatchId, Batch)>>,
    /// Now: boxes and bridges have one clock.
    unix_ms: i64,
    running: Running,
    incarnations_max: u64,
    /// Next offset to read, now and as committed.
    position: BTreeMap<Lane, usize>,
    committed_position: BTreeMap<Lane, usize>,
    committed_state: Changelog,
    open: Vec<Out>,
    refined: BTreeSet<Told>,
    rejected: BTreeSet<Told>,
    /// Rejected alone: told before by another batch.
    repeats: BTreeSet<Told>,
    /// Proofs refined, by box.
    proofs: BTreeSet<(String, ProofKey)>,
    /// Everything refined, in the order of coming out.
    committed: Vec<wire::Refined>,
    counts: Counts,
}

impl World {
    fn new(limits: Limits) -> Self {
        let zero = || Lane::ALL.into_iter().map(|lane| (lane, 0)).collect();
        Self {
            boxes: (0..BOXES).map(ModelBox::new).collect(),
            topics: Lane::ALL.into_iter().map(|lane| (lane, vec![])).collect(),
            unix_ms: NOW_UNIX_MS,
            running: Running::with_limits(limits),
            incarnations_max: limits.incarnations_max as u64,
            position: zero(),
            committed_position: zero(),
            committed_state: Changelog::new(),
            open: Vec::new(),
            refined: BTreeSet::new(),
            rejected: BTreeSet::new(),
            repeats: BTreeSet::new(),
            proofs: BTreeSet::new(),
            committed: Vec::new(),
            counts: Counts::default(),
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Build(which, events) => {
                let model = &mut self.boxes[*which];
                let id = BatchId {
                    epoch: model.now,
                    sequence: Sequence(model.next_sequence),
                };
                let mut built = Built {
                    boot_id: model.boot_id,
                    first_ordinal: model.next_ordinal,
                    events: Vec::new(),
                };
                for seed in events {
                    self.unix_ms += 25 * i64::from(*seed);
                    let uptime_ms = model.uptime_ms(self.unix_ms);
                    let told = (name(*which), id, model.next_ordinal);
                    let accepted = model.accepted.entry(model.now).or_default();
                    accepted.push((uptime_ms, told));
                    let ahead_ms = u64::from(seed / 16 % 2) * AHEAD_MS;
                    built.events.push(event(*seed, uptime_ms + ahead_ms));
                    model.next_ordinal += 1;
                }
                let uptime_ms = model.uptime_ms(self.unix_ms);
                for event in model.owed(uptime_ms) {
                    let told = (name(*which), id, model.next_ordinal);
                    let accepted = model.accepted.entry(model.now).or_default();
                    accepted.push((uptime_ms, told));
                    built.events.push(event);
                    model.next_ordinal += 1;
                }
                let events = built.events.len() as u64;
                model.built.insert(id, (built.first_ordinal, events));
                model.held.insert(id, built);
                model.next_sequence += 1;
            }
            Action::Send(which, index, lane) => self.send(*which, index, *lane),
            Action::Receipt(which, index) => {
                let key = name(*which).into_bytes();
                let model = &mut self.boxes[*which];
                if let Some(id) = model.nth_held(index)
                    && self
                        .topics
                        .values()
                        .flatten()
                        .any(|(sent, batch)| *sent == id && batch.key == key)
                {
                    model.held.remove(&id);
                }
            }
            Action::Evict(which, index, declares) => {
                let model = &mut self.boxes[*which];
                if let Some(id) = model.nth_held(index) {
                    let declaration = model.evict(id);
                    model.owed.extend(declares.then_some(declaration));
                }
            }
            Action::Start(which) => self.start(*which),
            Action::Crash(which, index) => {
                let model = &mut self.boxes[*which];
                if let Some(id) = model.nth_held(index)
                    && id.epoch == model.now
                {
                    let declaration = model.crash(id);
                    model.owed.push(declaration);
                }
                self.start(*which);
            }
            Action::LoseFile(which, salvage) => {
                // Longer than bridges' clocks differ.
                self.unix_ms += 120_000;
                let model = &mut self.boxes[*which];
                // No more files than an envelope can name.
                if model.incarnations < 8 {
                    model.incarnations += 1;
                    model.begin(epoch(incarnation(*which, model.incarnations), 1));
                    if matches!(salvage, Salvage::Nothing) {
                        model.held.clear();
                    }
                }
            }
            Action::Read(lane) => self.read(*lane),
            Action::Pass(ms) => {
                let out = self.running.pass_ms(*ms);
                self.take(out);
            }
            Action::Commit => self.commit(),
            Action::Abort => {
                self.running.partition.abort();
                self.read_again();
            }
            Action::TakeOver => {
                self.running.partition = self.running.restored();
                self.read_again();
            }
        }
    }

    fn start(&mut self, which: usize) {
        let model = &mut self.boxes[which];
        if model.now.start.is_multiple_of(2) {
            model.boot_id += 1;
            model.booted_unix_ms = self.unix_ms;
        }
        model.begin(Epoch {
            start: model.now.start + 1,
            ..model.now
        });
    }

    fn send(&mut self, which: usize, index: &Index, lane: Lane) {
        if let Some(id) = self.boxes[which].nth_held(index) {
            self.send_batch(which, id, lane);
        }
    }

    fn send_batch(&mut self, which: usize, id: BatchId, lane: Lane) {
        let model = &mut self.boxes[which];
        let built = model.held[&id].clone();
        model.mixes_files |= id.epoch.incarnation != model.now.incarnation;
        self.unix_ms += 1;
        let batch = Batch {
            key: name(which).into_bytes(),
            boot_id: built.boot_id,
            ..Batch::of(id)
                .declares(model.now, &model.oldest_held())
                .first_ordinal(built.first_ordinal)
                .carries(built.events)
                .received_unix_ms(self.unix_ms)
                .envelope(|envelope| {
                    envelope.boot_id = model.boot_id;
                    envelope.uptime_ms = model.uptime_ms(self.unix_ms);
                    envelope.unix_ms = self.unix_ms;
                })
                .lane(lane)
        };
        self.topics.entry(lane).or_default().push((id, batch));
    }

    fn read(&mut self, lane: Lane) {
        let position = self.position[&lane];
        if let Some((_, batch)) = self.topics[&lane].get(position) {
            let out = self.running.refine_at(batch, position as i64);
            self.position.insert(lane, position + 1);
            self.take(out);
        }
    }

    /// Outputs of the open transaction: nothing that a box holds may be given
    /// up as retired.
    fn take(&mut self, out: Out) {
        for rejected in &out.rejected {
            let others = [RejectionReason::StateBound, RejectionReason::Repeated];
            if others.contains(&rejected.reason()) {
                continue;
            }
            assert_eq!(rejected.reason(), RejectionReason::Retired, "{rejected:?}");
            let key = String::from_utf8(rejected.key.to_vec()).unwrap();
            let which = (0..BOXES).find(|which| name(*which) == key).unwrap();
            let id = BatchId::try_from(rejected.batch.unwrap()).unwrap();
            assert!(
                !self.boxes[which].held.contains_key(&id),
                "{key} holds {id} and may send it"
            );
        }
        self.open.push(out);
        self.assert_settled();
    }

    /// Nothing that an opportunity calls settled is still to come.
    fn assert_settled(&self) {
        let asked = self
            .open
            .last()
            .into_iter()
            .flat_map(|out| &out.opportunities);
        for opportunity in asked.filter(|asked| asked.settled_uptime_ms > 0) {
            let refined = opportunity.refined.as_ref().unwrap();
            let which = (0..BOXES).find(|which| name(*which) == refined.device_id);
            let id = BatchId::try_from(refined.batch.unwrap()).unwrap();
            for (uptime_ms, told) in &self.boxes[which.unwrap()].accepted[&id.epoch] {
                assert!(
                    *uptime_ms >= opportunity.settled_uptime_ms || self.came_out(told),
                    "{told:?} is missing before {opportunity:?}"
                );
            }
        }
    }

    /// Whether an event has been refined or rejected, the open transaction
    /// included.
    fn came_out(&self, event: &Told) -> bool {
        let (device, id, ordinal) = event;
        let before = [&self.refined, &self.repeats, &self.rejected];
        before.iter().any(|out| out.contains(event))
            || self.open.iter().any(|out| {
                let refined = out.refined.iter();
                let mut refined =
                    refined.map(|refined| told(&refined.device_id, refined.batch, refined.ordinal));
                refined.any(|told| told == *event)
                    || out.rejected.iter().any(|rejected| {
                        let ordinals = rejected.first_ordinal
                            ..rejected.first_ordinal + u64::from(rejected.event_count);
                        rejected.key == device.as_bytes()
                            && rejected.batch == Some((*id).into())
                            && (rejected.ordinal == *ordinal || ordinals.contains(ordinal))
                    })
            })
    }

    fn commit(&mut self) {
        self.counts += self.running.commit();
        for lane in Lane::ALL {
            let waiting = self.running.partition.lowest_waiting_offset(lane);
            let next = waiting.map_or(self.position[&lane], |offset| offset as usize);
            self.committed_position.insert(lane, next);
        }
        for out in std::mem::take(&mut self.open) {
            for refined in &out.refined {
                let told = told(&refined.device_id, refined.batch, refined.ordinal);
                assert!(self.refined.insert(told.clone()), "{told:?} came twice");
                let event = refined.event.clone().unwrap();
                if let Some(key) = ProofKey::of(&event) {
                    let proof = (refined.device_id.clone(), key);
                    assert!(self.proofs.insert(proof), "{told:?} is a repeat");
                }
            }
            self.committed.extend(out.refined);
            for rejected in &out.rejected {
                let device = String::from_utf8(rejected.key.to_vec()).unwrap();
                if rejected.index.is_some() {
                    let told = told(&device, rejected.batch, rejected.ordinal);
                    assert!(self.repeats.insert(told.clone()), "{told:?} came twice");
                }
                for index in 0..u64::from(rejected.event_count) {
                    let ordinal = rejected.first_ordinal + index;
                    self.rejected.insert(told(&device, rejected.batch, ordinal));
                }
            }
        }
        self.committed_state = snapshot(&self.running.partition);
        assert_eq!(
            snapshot(&self.running.restored()),
            self.committed_state,
            "the changelog is not the state"
        );
        self.assert_accounts();
    }

    fn read_again(&mut self) {
        assert_eq!(
            snapshot(&self.running.partition),
            self.committed_state,
            "something of the open transaction stayed"
        );
        assert_eq!(self.running.partition.waiting(), 0);
        self.position = self.committed_position.clone();
        self.open.clear();
    }

    /// Reads everything to its end, and lets nothing wait.
    fn drain(&mut self) {
        for lane in Lane::ALL {
            while self.position[&lane] < self.topics[&lane].len() {
                self.read(lane);
            }
        }
        let out = self.running.pass_ms(WAIT_MS);
        self.take(out);
        assert_eq!(self.running.partition.waiting(), 0);
        assert_eq!(self.running.partition.poll_timeout(), None);
        self.commit();
        for lane in Lane::ALL {
            assert_eq!(self.committed_position[&lane], self.topics[&lane].len());
        }
    }

    /// The profiles are what the refined events say, read in the order in
    /// which they happened.
    fn assert_profiles(&self) {
        for (which, model) in self.boxes.iter().enumerate() {
            let order = |refined: &wire::Refined| {
                let id = BatchId::try_from(refined.batch.unwrap()).unwrap();
                let file = (1..=model.incarnations)
                    .find(|count| incarnation(which, *count) == id.epoch.incarnation.get());
                (file, id.epoch.start, refined.ordinal)
            };
            let device = name(which);
            let of_box = self.committed.iter();
            let mut told: Vec<_> = of_box
                .filter(|refined| refined.device_id == device)
                .collect();
            if told.is_empty() {
                continue;
            }
            told.sort_by_key(|refined| order(refined));
            let known = running::profile(&self.running.partition, &device);
            let shown = Expected::shown(&told);
            assert_eq!(Expected::known_shown(&known), shown, "{device}");
            // Of files that are forgotten nobody knows the order any more.
            let knows_all_files = model.incarnations <= self.incarnations_max;
            if !model.mixes_files && knows_all_files {
                assert_eq!(Expected::known(&known), Expected::of(&told), "{device}");
            }
        }
    }

    /// Everything that Kafka has came out.
    fn assert_complete(&self) {
        assert!(self.refined.is_disjoint(&self.repeats));
        for (id, batch) in self.topics.values().flatten() {
            let device = String::from_utf8(batch.key.clone()).unwrap();
            for index in 0..batch.events.len() as u64 {
                let told = (device.clone(), *id, batch.first_ordinal + index);
                let out = [&self.refined, &self.repeats, &self.rejected];
                assert!(
                    out.iter().any(|out| out.contains(&told)),
                    "{told:?} is lost"
                );
            }
        }
        let counts = &self.counts;
        let forgotten = counts.epochs_forgotten + counts.holes_forgotten;
        let retired = counts.rejected(RejectionReason::Retired);
        assert!(forgotten > 0 || retired == 0, "{counts:?}");
    }
}

/// What a profile must say, whatever the order of delivery.
#[derive(PartialEq, Default, Debug)]
struct Expected {
    viewed_service_id: Option<u32>,
    consent: Option<wire::Consent>,
    firmware: String,
    boot_id: u64,
    power: i32,
    display: i32,
}

impl Expected {
    /// By what a box said, in the order in which it happened.
    fn of(told: &[&wire::Refined]) -> Self {
        let mut expected = Self::default();
        let mut viewed_in = 0;
        for refined in told {
            let mut view = |channel: Option<wire::Channel>, expected: &mut Self| {
                expected.viewed_service_id = channel.map(|channel| channel.service_id);
                viewed_in = refined.boot_id;
            };
            match refined.event.clone().unwrap().kind.unwrap() {
                event::Kind::Tune(tune) => view(tune.channel, &mut expected),
                event::Kind::ViewingHeartbeat(beat) => view(beat.channel, &mut expected),
                event::Kind::Power(power) => {
                    expected.power = power.state;
                    if power.state() != wire::power::State::On {
                        view(None, &mut expected);
                    }
                }
                event::Kind::Display(display) => expected.display = display.state,
                event::Kind::Consent(consent) => expected.consent = Some(consent),
                event::Kind::Boot(boot) => {
                    expected.firmware = boot.firmware;
                    expected.boot_id = refined.boot_id;
                    if viewed_in != refined.boot_id {
                        expected.viewed_service_id = None;
                    }
                }
                event::Kind::TrickPlay(_)
                | event::Kind::UserActivity(_)
                | event::Kind::AdOpportunity(_)
                | event::Kind::AdEvent(_)
                | event::Kind::Custom(_)
                | event::Kind::Health(_)
                | event::Kind::Ledger(_)
                | event::Kind::UncleanStop(_) => {}
            }
        }
        expected
    }

    fn known(profile: &wire::DeviceProfile) -> Self {
        let viewing = profile.viewing.as_ref();
        Self {
            viewed_service_id: viewing.map(|viewing| viewing.channel.as_ref().unwrap().service_id),
            consent: profile.consent.clone(),
            firmware: profile.firmware.clone(),
            boot_id: profile.boot_id,
            power: profile.power,
            display: profile.display,
        }
    }

    /// Decisions of which the ad was shown; fewer than are kept.
    fn shown(told: &[&wire::Refined]) -> BTreeSet<String> {
        let kinds = told.iter().map(|refined| refined.event.as_ref().unwrap());
        kinds
            .filter_map(|event| match &event.kind {
                Some(event::Kind::AdEvent(ad)) => Some(ad.decision_id.clone()),
                _ => None,
            })
            .collect()
    }

    fn known_shown(profile: &wire::DeviceProfile) -> BTreeSet<String> {
        let recent = profile.recent_impressions.iter();
        recent.map(|shown| shown.decision_id.clone()).collect()
    }
}

fn told(device: &str, batch: Option<wire::BatchId>, ordinal: u64) -> Told {
    let id = BatchId::try_from(batch.unwrap()).unwrap();
    (device.to_owned(), id, ordinal)
}

/// Bounds that a short history comes to.
fn limits() -> impl Strategy<Value = Limits> {
    let files = 2_usize..5;
    let held = (1_usize..4, 0_usize..3, 1_usize..4, 0_usize..3);
    let declared = (0_usize..3, 0_usize..3);
    let tiny = (files, held, declared).prop_map(
        |(
            incarnations_max,
            (epochs_max, released_epochs_max, holes_max, released_holes_max),
            (declared_epochs_max, declared_ranges_max),
        )| Limits {
            incarnations_max,
            epochs_max,
            released_epochs_max,
            holes_max,
            released_holes_max,
            declared_epochs_max,
            declared_ranges_max,
            ..Limits::DEFAULT
        },
    );
    prop_oneof![tiny, Just(Limits::DEFAULT)]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_024,
        // One failing history is enough; shrinking long ones takes minutes.
        max_shrink_iters: 4_096,
        ..ProptestConfig::default()
    })]

    #[test]
    fn each_event_comes_out_once_whatever_fails(
        limits in limits(),
        actions in prop::collection::vec(action(), 1..300),
    ) {
        let mut world = World::new(limits);
        for action in &actions {
            world.act(action);
        }
        world.drain();
        world.assert_complete();
        world.assert_profiles();
        world.settle();
    }

    #[test]
    fn any_bytes_are_answered_and_leave_the_good_alone(
        key in prop::collection::vec(any::<u8>(), 0..8),
        value in prop::collection::vec(any::<u8>(), 0..64),
        flip in any::<(Index, u8)>(),
    ) {
        let mut running = Running::new();
        let mut broken = Batch::new(1).value();
        let at = flip.0.index(broken.len());
        broken[at] ^= flip.1;
        let mut out = Output::new();
        let bytes = [(&key[..], &value), (b"box-9", &value), (b"box-9", &broken)];
        for (offset, (key, value)) in bytes.into_iter().enumerate() {
            let record = returnpath_refinery::RawRecord {
                key,
                value,
                lane: Lane::Live,
                received_unix_ms: NOW_UNIX_MS,
                offset: offset as i64,
            };
            running.partition.refine(&record, 0, &mut out);
            running.partition.flush(&mut out);
        }
        let good = running.refine(&Batch::new(1));
        prop_assert_eq!(good.refined_ordinals(), [1]);
        running::read(&out);
        let state = snapshot(&running.partition);
        running.commit();
        prop_assert_eq!(snapshot(&running.restored()), state);
    }
}
