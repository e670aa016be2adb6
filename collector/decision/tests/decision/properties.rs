//! Boxes that show ads, go away and boot again, two topics that overtake each
//! other, aggregators that answer when they like, and a collector that fails:
//! whatever happens, and in whatever order, a slot gets one decision, no
//! decision is without its record, and no box sees an advertiser too often.
//!
//! The model keeps what the boxes did, what stands in the topics and what Kafka
//! has committed; the partition under test sees only records and answers.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, sample::Index};
use prost::Message as _;
use returnpath_decision::{Answer, Cap, Input, Limits, Push, replay};
use returnpath_shared::wire::{
    DecideState, Decided, Decision, DecisionRecord, Lane, NoFill, PolicyKind, Refined,
    SignedDecision, Stage, ad_event::Kind, decision_record::What,
};

use crate::running::{
    Changelog, NOW_UNIX_MS, Opp, Out, Running, SLOT_MS, body, settings, status, told,
};

const BOXES: usize = 2;
const CAP: Cap = Cap {
    impressions_max: 2,
    window_ms: 200_000,
};
/// How much later than a decision expires a slow player begins to show it.
const SLOW_MS: u64 = 3_000;

#[derive(Clone, Debug)]
enum Action {
    /// A box asks for the ads of a break, in so many slots, that begins so soon.
    Ask(usize, usize, u64),
    /// A box sends an earlier opportunity again, on its way for so long.
    AskAgain(Index, i64),
    /// What a box asked waits out an outage.
    AskLate(usize),
    /// The partition reads the next records.
    Read(Input, usize),
    /// A call ends.
    Answer(Index, u8),
    /// A decision reaches its box, which may be told so and acknowledge it.
    Deliver(Index),
    /// A box shows what it is bound to, well or badly.
    Show(Index, bool),
    /// What boxes have to say of their ads reaches the topic, so much of it.
    Tell(usize, usize),
    Boot(usize),
    Pass(u64),
    /// The transaction is complete, and Kafka asked to commit it.
    Seal,
    /// Kafka has committed what was sealed, or all that there is.
    Commit,
    Abort,
    /// The collector fails; whether Kafka had committed what was sealed.
    TakeOver(bool),
}

fn action() -> impl Strategy<Value = Action> {
    let which = || 0..BOXES;
    let index = any::<Index>;
    prop_oneof![
        10 => (which(), 1_usize..4, 0_u64..6_000)
            .prop_map(|(which, slots, ahead)| Action::Ask(which, slots, ahead)),
        4 => (index(), 0_i64..900).prop_map(|(which, way)| Action::AskAgain(which, way)),
        1 => which().prop_map(Action::AskLate),
        16 => (1_usize..6).prop_map(|count| Action::Read(Input::Opportunities, count)),
        14 => (1_usize..8).prop_map(|count| Action::Read(Input::Ads, count)),
        40 => (index(), any::<u8>()).prop_map(|(which, answer)| Action::Answer(which, answer)),
        30 => index().prop_map(Action::Deliver),
        30 => (index(), prop::bool::weighted(0.8))
            .prop_map(|(which, well)| Action::Show(which, well)),
        10 => (which(), 1_usize..8).prop_map(|(which, count)| Action::Tell(which, count)),
        1 => which().prop_map(Action::Boot),
        10 => (0_u64..150).prop_map(Action::Pass),
        3 => (1_000_u64..90_000).prop_map(Action::Pass),
        14 => Just(Action::Seal),
        20 => Just(Action::Commit),
        2 => Just(Action::Abort),
        1 => any::<bool>().prop_map(Action::TakeOver),
    ]
}

/// What a box is bound to.
struct Bound {
    decision: Decision,
    plays: u32,
}

struct ModelBox {
    name: String,
    boot_id: u64,
    booted_unix_ms: i64,
    bound: BTreeMap<String, Bound>,
    /// What happened to its ads and was not told yet, with its boot and uptime.
    untold: Vec<(u64, u64, Refined)>,
}

impl ModelBox {
    fn uptime_ms(&self, now_unix_ms: i64) -> u64 {
        u64::try_from(now_unix_ms - self.booted_unix_ms).unwrap()
    }

    /// How far it has told everything; 0 where an earlier boot has not.
    fn settled_uptime_ms(&self, now_unix_ms: i64) -> u64 {
        match self.untold.first() {
            None => self.uptime_ms(now_unix_ms),
            Some((boot_id, uptime_ms, _)) if *boot_id == self.boot_id => *uptime_ms,
            Some(_) => 0,
        }
    }

    fn happen(&mut self, kind: Kind, decision_id: &str, now_unix_ms: i64) {
        let event = told(&self.name, kind, decision_id);
        let uptime_ms = self.uptime_ms(now_unix_ms);
        self.untold.push((self.boot_id, uptime_ms, event));
    }
}

/// What Kafka was asked to commit.
struct Sealed {
    records: Vec<DecisionRecord>,
    position: BTreeMap<Input, usize>,
    changes: Changelog,
    state: Changelog,
}

struct World {
    running: Running,
    boxes: Vec<ModelBox>,
    opportunities: Vec<Opp>,
    ads: Vec<Refined>,
    sequence: u64,
    /// Next to read of each topic, now and as committed.
    position: BTreeMap<Input, usize>,
    committed_position: BTreeMap<Input, usize>,
    sealed: Option<Sealed>,
    /// Commits and aborts of one transaction after the next had done something.
    kept_ahead: usize,
    undone_ahead: usize,
    take_overs: usize,
    committed_state: Changelog,
    committed: Vec<DecisionRecord>,
    /// Everything ever pushed, by decision.
    pushed: BTreeMap<String, Push>,
    on_the_way: Vec<Push>,
    /// Decisions really shown, by box and advertiser, with when they were made.
    shown: BTreeMap<(String, String), BTreeMap<String, i64>>,
}

impl World {
    fn new(kind: PolicyKind, limits: Limits) -> Self {
        let mut settings = settings(kind, &["a", "b", "c"]);
        settings.cap = Some(CAP);
        let of_box = |which| ModelBox {
            name: format!("box-{which}"),
            boot_id: 1,
            booted_unix_ms: NOW_UNIX_MS - 1_000_000,
            bound: BTreeMap::new(),
            untold: Vec::new(),
        };
        Self {
            running: Running::with_limits(settings, limits),
            boxes: (0..BOXES).map(of_box).collect(),
            opportunities: Vec::new(),
            ads: Vec::new(),
            sequence: 0,
            position: BTreeMap::new(),
            committed_position: BTreeMap::new(),
            sealed: None,
            kept_ahead: 0,
            undone_ahead: 0,
            take_overs: 0,
            committed_state: Changelog::new(),
            committed: Vec::new(),
            pushed: BTreeMap::new(),
            on_the_way: Vec::new(),
            shown: BTreeMap::new(),
        }
    }

    fn now_unix_ms(&self) -> i64 {
        self.running.now.unix_ms
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Ask(which, slots, ahead_ms) => {
                let opp = self.opp(*which, *slots, *ahead_ms);
                self.publish(opp);
            }
            Action::AskAgain(which, way_ms) => self.ask_again(which, *way_ms),
            Action::AskLate(which) => {
                let opp = self.opp(*which, 1, 0);
                self.publish(Opp {
                    lane: Lane::Backlog,
                    ..opp
                });
            }
            Action::Read(input, count) => (0..*count).for_each(|_| self.read(*input)),
            Action::Answer(which, answer) => self.answer(which, *answer),
            Action::Deliver(which) => self.deliver(which),
            Action::Show(which, is_well) => self.show(which, *is_well),
            Action::Tell(which, count) => self.tell(*which, *count),
            Action::Boot(which) => {
                let now_unix_ms = self.now_unix_ms();
                let one = &mut self.boxes[*which];
                one.boot_id += 1;
                one.booted_unix_ms = now_unix_ms;
                one.bound.clear();
            }
            Action::Pass(ms) => {
                self.running.pass(*ms);
            }
            Action::Seal => self.seal(),
            Action::Commit => self.commit(),
            Action::Abort => {
                self.undone_ahead += usize::from(self.is_ahead());
                self.sealed = None;
                self.running.abort();
                self.position = self.committed_position.clone();
                assert_eq!(self.running.snapshot(), self.committed_state);
            }
            Action::TakeOver(is_committed) => self.take_over(*is_committed),
        }
    }

    fn opp(&mut self, which: usize, slots: usize, ahead_ms: u64) -> Opp {
        self.sequence += 1;
        let now_unix_ms = self.now_unix_ms();
        let one = &self.boxes[which];
        let uptime_ms = one.uptime_ms(now_unix_ms);
        Opp {
            device: one.name.clone(),
            break_id: format!("break-{}", self.sequence),
            boot_id: one.boot_id,
            uptime_ms,
            start_uptime_ms: uptime_ms + ahead_ms,
            slots,
            received_unix_ms: now_unix_ms,
            sent_uptime_ms: uptime_ms,
            settled_uptime_ms: one.settled_uptime_ms(now_unix_ms),
            sequence: self.sequence,
            ..Opp::new("")
        }
    }

    /// refine writes it to both topics, behind what was told before.
    fn publish(&mut self, opp: Opp) {
        self.ads.push(opp.refined());
        self.opportunities.push(opp);
    }

    fn ask_again(&mut self, which: &Index, way_ms: i64) {
        if self.opportunities.is_empty() {
            return;
        }
        let former = which.get(&self.opportunities).clone();
        let place = self.boxes.iter().position(|one| one.name == former.device);
        let again = self.opp(place.unwrap(), former.slots, 0);
        if again.boot_id != former.boot_id {
            return;
        }
        self.publish(Opp {
            break_id: former.break_id.clone(),
            start_uptime_ms: former.start_uptime_ms,
            uptime_ms: former.uptime_ms,
            sent_uptime_ms: again.sent_uptime_ms.saturating_sub(way_ms.unsigned_abs()),
            // What it said when it sent it is older than its arrival.
            settled_uptime_ms: 0,
            ..again
        });
    }

    fn read(&mut self, input: Input) {
        let position = self.position.entry(input).or_default();
        match input {
            Input::Opportunities => {
                let Some(opp) = self.opportunities.get(*position) else {
                    return;
                };
                let offset = i64::try_from(*position).unwrap();
                *position += 1;
                self.running.ask_at(opp, offset);
            }
            Input::Ads => {
                let Some(event) = self.ads.get(*position) else {
                    return;
                };
                *position += 1;
                self.running.ad(event);
            }
        }
    }

    fn answer(&mut self, which: &Index, answer: u8) {
        if self.running.calls.is_empty() {
            return;
        }
        let call = which.index(self.running.calls.len());
        let price = 1 + i32::from(answer) % 7;
        let answer = match answer % 8 {
            0 => body(""),
            1 => Answer::Timeout,
            2 => status(500),
            3 => body(&format!("{price},x.example,99\n0,y.example,{SLOT_MS}")),
            4 => body(&format!("{price},x.example,{SLOT_MS}")),
            5 => body(&format!(
                "{price},x.example,{SLOT_MS}\n2,y.example,{SLOT_MS}"
            )),
            _ => body(&format!(
                "{price},y.example,{SLOT_MS}\n2,z.example,{SLOT_MS}"
            )),
        };
        self.running.end(call, answer);
    }

    fn deliver(&mut self, which: &Index) {
        if self.on_the_way.is_empty() {
            return;
        }
        let push = self.on_the_way.remove(which.index(self.on_the_way.len()));
        self.running.step(|partition, lent, out| {
            partition.pushed(&push.device, &push.decision_id, lent.now, out);
        });
        let now_unix_ms = self.now_unix_ms();
        let signed = SignedDecision::decode(push.payload).unwrap();
        let decision = Decision::decode(signed.decision).unwrap();
        let mut boxes = self.boxes.iter_mut();
        let one = boxes.find(|one| one.name == decision.device_id).unwrap();
        let is_in_time = one.boot_id == decision.expiry_boot_id
            && one.uptime_ms(now_unix_ms) < decision.expiry_uptime_ms;
        let id = decision.decision_id.clone();
        if one.bound.contains_key(&id) {
            return;
        }
        if is_in_time {
            one.happen(Kind::DecisionAcknowledged, &id, now_unix_ms);
            one.bound.insert(id, Bound { decision, plays: 0 });
        } else {
            let mut refused = told(&one.name, Kind::DecisionRefused, &id);
            set_refusal(&mut refused);
            let uptime_ms = one.uptime_ms(now_unix_ms);
            one.untold.push((one.boot_id, uptime_ms, refused));
        }
    }

    fn show(&mut self, which: &Index, is_well: bool) {
        let now_unix_ms = self.now_unix_ms();
        let mut bound: Vec<(usize, String)> = Vec::new();
        for (place, one) in self.boxes.iter().enumerate() {
            let uptime_ms = one.uptime_ms(now_unix_ms);
            bound.extend(one.bound.iter().filter_map(|(id, bound)| {
                let can = bound.decision.creative.is_some()
                    && (bound.plays > 0 || uptime_ms <= bound.decision.expiry_uptime_ms + SLOW_MS);
                can.then(|| (place, id.clone()))
            }));
        }
        if bound.is_empty() {
            return;
        }
        let (place, id) = which.get(&bound).clone();
        let one = &mut self.boxes[place];
        if !is_well {
            one.happen(Kind::Error, &id, now_unix_ms);
            return;
        }
        one.happen(Kind::Start, &id, now_unix_ms);
        one.happen(Kind::Complete, &id, now_unix_ms);
        one.bound.get_mut(&id).unwrap().plays += 1;
        let device = one.name.clone();
        self.count_shown(device, &id);
    }

    /// An ad was on the screen: no matter what the collector knows, its cap
    /// must hold, counted from when each was decided.
    fn count_shown(&mut self, device: String, id: &str) {
        let mut records = self.committed.iter();
        let (decided, recorded_unix_ms) = records
            .find_map(|record| match &record.what {
                Some(What::Decided(decided))
                    if record.decision_id == id && decided.signed.is_some() =>
                {
                    Some((decided, record.recorded_unix_ms))
                }
                _ => None,
            })
            .expect("what is shown was recorded before");
        let advertiser = advertiser(decided).expect("an ad has an advertiser");
        let shown = self.shown.entry((device, advertiser)).or_default();
        shown.insert(id.to_owned(), recorded_unix_ms);
        let window_ms = i64::try_from(CAP.window_ms).unwrap();
        for last in shown.values() {
            let within = shown
                .values()
                .filter(|at| (last - window_ms + 1..=*last).contains(at));
            let count = within.count();
            assert!(
                count <= CAP.impressions_max as usize,
                "a cap is exceeded: {shown:?}"
            );
        }
    }

    fn tell(&mut self, which: usize, count: usize) {
        let one = &mut self.boxes[which];
        let count = count.min(one.untold.len());
        self.ads
            .extend(one.untold.drain(..count).map(|(_, _, event)| event));
    }

    /// Whether the open transaction has done something beyond the sealed one.
    fn is_ahead(&self) -> bool {
        self.sealed.is_some() && !self.running.output.is_empty()
    }

    fn seal(&mut self) {
        if self.sealed.is_some() {
            return;
        }
        let mut position = self.position.clone();
        let running = &mut self.running;
        if let Some(lowest) = running.lowest_unfinished() {
            let lowest = usize::try_from(lowest).unwrap();
            position.insert(Input::Opportunities, lowest);
        }
        running.partition.changes(&mut running.output);
        let out = Out::read(&running.output);
        running.output.clear();
        self.sealed = Some(Sealed {
            records: out.records,
            position,
            changes: out.state,
            state: running.snapshot(),
        });
    }

    /// Kafka has what was sealed.
    fn keep(&mut self) {
        if let Some(sealed) = self.sealed.take() {
            self.committed.extend(sealed.records);
            self.committed_position = sealed.position;
            self.running.changelog.extend(sealed.changes);
            self.committed_state = sealed.state;
        }
    }

    fn commit(&mut self) {
        self.seal();
        self.kept_ahead += usize::from(self.is_ahead());
        self.keep();
        self.running.pushes.clear();
        self.running.partition.commit(&mut self.running.pushes);
        self.push();
    }

    fn take_over(&mut self, is_committed: bool) {
        if is_committed {
            self.keep();
        }
        self.sealed = None;
        self.running.take_over();
        self.position = self.committed_position.clone();
        let restored = self.running.snapshot();
        assert_eq!(unpushed(&restored), unpushed(&self.committed_state));
        self.committed_state = restored;
        self.take_overs += 1;
        self.push();
    }

    fn push(&mut self) {
        for push in self.running.pushes.drain(..) {
            let id = push.decision_id.to_string();
            let is_recorded = self.committed.iter().any(|record| {
                record.decision_id == id
                    && matches!(&record.what, Some(What::Decided(decided))
                        if decided.signed.as_ref().map(SignedDecision::encode_to_vec)
                            == Some(push.payload.to_vec()))
            });
            assert!(is_recorded, "{id} is pushed without its record");
            let former = self.pushed.entry(id).or_insert_with(|| push.clone());
            assert_eq!(former.payload, push.payload, "a slot got two decisions");
            self.on_the_way.push(push);
        }
    }

    fn check(&self) {
        let mut written = unpushed(&self.running.changelog);
        written.retain(|_, state| *state != DecideState::default());
        let state = unpushed(&self.committed_state);
        assert_eq!(written, state, "the changelog is the state");
        for aggregator in 0..3 {
            let calls = self.running.calls.iter();
            let under_way = calls
                .filter(|call| call.id.aggregator == aggregator)
                .count();
            let counted = self.running.gates.under_way(aggregator);
            assert_eq!(counted as usize, under_way, "calls under way");
        }
    }

    /// Records, each looked at once.
    fn check_records(&self, limits: Limits) {
        let mut signed = BTreeSet::new();
        let mut decided_as: BTreeMap<&str, &Decided> = BTreeMap::new();
        let mut by_number = BTreeSet::new();
        let mut stages: BTreeMap<_, usize> = BTreeMap::new();
        for record in &self.committed {
            let id = record.decision_id.as_str();
            match record.what.as_ref().unwrap() {
                What::Decided(decided) => {
                    // What was not sent may be decided again: as expired when
                    // it was forgotten, or at all when there was no room.
                    let former = decided_as.insert(id, decided);
                    if let Some(former) = former {
                        let no_fill = former.choice.unwrap().no_fill();
                        let is_free = decided.signed.is_none() || no_fill == NoFill::StateBound;
                        assert!(is_free, "{id} was decided twice");
                    }
                    // Bounds this small forget a slot of a break before the
                    // others are decided: read again, it is expired.
                    let is_once = by_number.insert((id, decided.number));
                    assert!(is_once || limits != Limits::DEFAULT, "{id} twice by one");
                    if decided.signed.is_some() {
                        assert!(signed.insert(id), "{id} was signed twice");
                    }
                    assert_eq!(Some(replay(decided)), decided.choice);
                    assert_eq!(decided.aggregators.len(), 3);
                }
                What::Progress(progress) => {
                    assert!(decided_as.contains_key(id), "{id} goes on before it begins");
                    let times = stages.entry((id, progress.stage())).or_default();
                    *times += 1;
                    // Whoever takes over pushes again, and says so.
                    let is_again = progress.stage() == Stage::Pushed;
                    let times_max = 1 + if is_again { self.take_overs } else { 0 };
                    assert!(*times <= times_max, "{id}: {:?} again", progress.stage());
                }
            }
        }
    }

    /// Reads everything, answers everything, and commits.
    fn finish(&mut self) {
        for which in 0..BOXES {
            self.tell(which, usize::MAX);
        }
        for input in [Input::Opportunities, Input::Ads] {
            for _ in 0..=self.opportunities.len() + self.ads.len() {
                self.read(input);
            }
        }
        while !self.running.calls.is_empty() {
            self.running.end(0, body(""));
        }
        self.running.pass(1_000);
        assert_eq!(self.running.partition.under_way(), 0);
        if self.sealed.is_some() {
            self.commit();
        }
        self.commit();
        for opp in &self.opportunities {
            for slot in 0..u32::try_from(opp.slots).unwrap() {
                let id = opp.id(slot);
                let is_recorded = self.committed.iter().any(|record| record.decision_id == id);
                assert!(is_recorded, "{opp:?} slot {slot} has no record");
            }
        }
    }
}

fn set_refusal(refused: &mut Refined) {
    use returnpath_shared::wire::event;

    let event = refused.event.as_mut().and_then(|event| event.kind.as_mut());
    if let Some(event::Kind::AdEvent(ad)) = event {
        ad.refusal = "expired".into();
    }
}

/// A state without the knowledge which decisions were pushed.
fn unpushed(state: &Changelog) -> BTreeMap<&[u8], DecideState> {
    let unpushed = |bytes: &[u8]| {
        let mut state = DecideState::decode(bytes).unwrap();
        for open in &mut state.open {
            open.stages &= !(1 << Stage::Pushed as u32);
        }
        state
    };
    let entries = state.iter();
    entries
        .map(|(key, value)| (&key[..], unpushed(value)))
        .collect()
}

fn advertiser(decided: &Decided) -> Option<String> {
    let choice = decided.choice?;
    let aggregator = &decided.aggregators[choice.aggregator? as usize];
    let offer = aggregator.offers[choice.offer? as usize].offer.as_ref();
    offer.map(|offer| offer.advertiser.clone())
}

fn run(kind: PolicyKind, limits: Limits, actions: &[Action]) -> World {
    let mut world = World::new(kind, limits);
    for action in actions {
        world.act(action);
        world.check();
    }
    world.finish();
    world.check_records(limits);
    world
}

/// Bounds that a short history comes to.
const SMALL: Limits = Limits {
    open_decisions_max: 5,
    over_decisions_max: 2,
    exposures_max: 3,
};

fn kind() -> impl Strategy<Value = PolicyKind> {
    prop_oneof![Just(PolicyKind::Waterfall), Just(PolicyKind::HighestPrice)]
}

proptest! {
    #[test]
    fn a_slot_gets_one_decision_and_caps_hold(
        kind in kind(),
        actions in prop::collection::vec(action(), 1..300),
    ) {
        run(kind, Limits::DEFAULT, &actions);
    }

    #[test]
    fn they_hold_at_every_bound(
        kind in kind(),
        actions in prop::collection::vec(action(), 1..300),
    ) {
        run(kind, SMALL, &actions);
    }
}

#[test]
fn the_model_comes_to_what_it_is_made_for() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let actions = prop::collection::vec(action(), 300..400);
    let (mut filled, mut shown, mut capped, mut bound, mut expired) = (0, 0, 0, 0, 0);
    let (mut kept_ahead, mut undone_ahead) = (0, 0);
    for _ in 0..40 {
        let tree = actions.new_tree(&mut runner).unwrap();
        for limits in [Limits::DEFAULT, SMALL] {
            let actions = proptest::strategy::ValueTree::current(&tree);
            let world = run(PolicyKind::HighestPrice, limits, &actions);
            kept_ahead += world.kept_ahead;
            undone_ahead += world.undone_ahead;
            shown += world.shown.values().map(BTreeMap::len).sum::<usize>();
            for record in &world.committed {
                let Some(What::Decided(decided)) = &record.what else {
                    continue;
                };
                let no_fill = decided.choice.unwrap().no_fill();
                filled += usize::from(advertiser(decided).is_some());
                bound += usize::from(no_fill == NoFill::StateBound);
                expired += usize::from(no_fill == NoFill::Expired);
                let offers = decided.aggregators.iter().flat_map(|one| &one.offers);
                let is_capped = |fault| fault == returnpath_shared::wire::OfferFault::Capped;
                capped += offers.filter(|offer| is_capped(offer.fault())).count();
            }
        }
    }
    let reached = [filled, shown, capped, bound, expired, kept_ahead];
    assert!(reached.into_iter().all(|count| count >= 100), "{reached:?}");
    assert!(undone_ahead >= 20, "{undone_ahead}");
}
