//! Boxes, two topics and a collector that fails: whatever happens, and in
//! whatever order, each event comes out exactly once or is rejected with its
//! reason.
//!
//! The model keeps what the boxes built and hold, what stands in the topics
//! and what Kafka has committed; the partition under test sees only records.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, sample::Index};
use returnpath_refinery::{Counts, Limits, Output, WAIT_MS};
use returnpath_shared::{
    BatchId, Epoch, Lane, Sequence,
    wire::{self, RejectionReason},
};

use crate::running::{self, Batch, Changelog, NOW_UNIX_MS, Out, Running, Short, epoch, snapshot};

const BOXES: usize = 2;

#[derive(Clone, Debug)]
enum Action {
    /// A box builds a batch of so many events.
    Build(usize, usize),
    /// A box sends one of the batches it holds, for the first time or again.
    Send(usize, Index, Lane),
    /// A receipt for a batch that Kafka has reaches the box.
    Receipt(usize, Index),
    /// A box drops a batch that it holds.
    Evict(usize, Index),
    /// The agent starts anew on its queue file.
    Start(usize),
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
        8 => (which(), 1_usize..4).prop_map(|(which, events)| Action::Build(which, events)),
        12 => (which(), index(), lane())
            .prop_map(|(which, index, lane)| Action::Send(which, index, lane)),
        6 => (which(), index()).prop_map(|(which, index)| Action::Receipt(which, index)),
        1 => (which(), index()).prop_map(|(which, index)| Action::Evict(which, index)),
        2 => which().prop_map(Action::Start),
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
    held: BTreeMap<BatchId, (u64, usize)>,
}

impl ModelBox {
    fn new(which: usize) -> Self {
        Self {
            incarnations: 1,
            now: epoch(incarnation(which, 1), 1),
            next_sequence: 1,
            next_ordinal: 1,
            held: BTreeMap::new(),
        }
    }

    fn begin(&mut self, epoch: Epoch) {
        self.now = epoch;
        self.next_sequence = 1;
        self.next_ordinal = 1;
    }

    fn nth_held(&self, index: &Index) -> Option<BatchId> {
        (!self.held.is_empty()).then(|| *index.get(&self.held.keys().copied().collect::<Vec<_>>()))
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

/// What a batch carries, always the same: longer ones tell a proof, often one
/// that was told before.
fn events_of(id: BatchId, count: usize) -> Vec<Short> {
    let mut events = vec![Short::Custom; count];
    if let Some(event) = events.get_mut(2) {
        *event = Short::Consent(["a", "b", "c"][id.sequence.0 as usize % 3]);
    }
    events
}

/// An event of a box.
type Told = (String, BatchId, u64);

struct World {
    boxes: Vec<ModelBox>,
    topics: BTreeMap<Lane, Vec<(BatchId, Batch)>>,
    received_unix_ms: i64,
    running: Running,
    /// Next offset to read, now and as committed.
    position: BTreeMap<Lane, usize>,
    committed_position: BTreeMap<Lane, usize>,
    committed_state: Changelog,
    open: Vec<Out>,
    refined: BTreeSet<Told>,
    rejected: BTreeSet<Told>,
    /// Rejected alone: told before by another batch.
    repeats: BTreeSet<Told>,
    /// Proofs refined, by box and client id.
    proofs: BTreeSet<(String, String)>,
    counts: Counts,
}

impl World {
    fn new(limits: Limits) -> Self {
        let zero = || Lane::ALL.into_iter().map(|lane| (lane, 0)).collect();
        Self {
            boxes: (0..BOXES).map(ModelBox::new).collect(),
            topics: Lane::ALL.into_iter().map(|lane| (lane, vec![])).collect(),
            received_unix_ms: NOW_UNIX_MS,
            running: Running::with_limits(limits),
            position: zero(),
            committed_position: zero(),
            committed_state: Changelog::new(),
            open: Vec::new(),
            refined: BTreeSet::new(),
            rejected: BTreeSet::new(),
            repeats: BTreeSet::new(),
            proofs: BTreeSet::new(),
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
                model.held.insert(id, (model.next_ordinal, *events));
                model.next_sequence += 1;
                model.next_ordinal += *events as u64;
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
            Action::Evict(which, index) => {
                let model = &mut self.boxes[*which];
                if let Some(id) = model.nth_held(index) {
                    model.held.remove(&id);
                }
            }
            Action::Start(which) => {
                let model = &mut self.boxes[*which];
                model.begin(Epoch {
                    start: model.now.start + 1,
                    ..model.now
                });
            }
            Action::LoseFile(which, salvage) => {
                // Longer than bridges' clocks differ.
                self.received_unix_ms += 120_000;
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

    fn send(&mut self, which: usize, index: &Index, lane: Lane) {
        let model = &self.boxes[which];
        let Some(id) = model.nth_held(index) else {
            return;
        };
        let (first_ordinal, events) = model.held[&id];
        self.received_unix_ms += 1;
        let batch = Batch {
            key: name(which).into_bytes(),
            ..Batch::of(id)
                .declares(model.now, &model.oldest_held())
                .first_ordinal(first_ordinal)
                .events(events_of(id, events))
                .received_unix_ms(self.received_unix_ms)
                .envelope(|envelope| envelope.unix_ms = self.received_unix_ms)
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
                let client_id = refined.event.clone().unwrap().client_id;
                if !client_id.is_empty() {
                    let proof = (refined.device_id.clone(), client_id);
                    assert!(self.proofs.insert(proof), "{told:?} is a repeat");
                }
            }
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

fn told(device: &str, batch: Option<wire::BatchId>, ordinal: u64) -> Told {
    let id = BatchId::try_from(batch.unwrap()).unwrap();
    (device.to_owned(), id, ordinal)
}

/// Bounds that a short history comes to.
fn limits() -> impl Strategy<Value = Limits> {
    let tiny = (1_usize..4, 0_usize..3, 1_usize..4, 0_usize..3).prop_map(
        |(epochs_max, released_epochs_max, holes_max, released_holes_max)| Limits {
            epochs_max,
            released_epochs_max,
            holes_max,
            released_holes_max,
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
